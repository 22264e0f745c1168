from django.contrib import admin

from hub_site.moderation.models import Report


@admin.register(Report)
class ReportAdmin(admin.ModelAdmin):
    """To look up what was settled. Staff decide on the site's own pages, which do all that belongs to it."""

    list_display = ["created_at", "reason", "module", "composition", "reporter", "email", "outcome"]
    list_filter = ["reason", "outcome"]
    list_select_related = ["module__namespace", "composition", "reporter"]

    def has_add_permission(self, request: object) -> bool:
        return False

    def has_change_permission(self, request: object, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: object, obj: object = None) -> bool:
        return False
