from django.contrib import admin
from django.contrib.auth.admin import UserAdmin

from hub_site.accounts.models import ApiToken, Membership, Namespace, User

admin.site.register(User, UserAdmin)


@admin.register(Namespace)
class NamespaceAdmin(admin.ModelAdmin):
    list_display = ["name", "kind", "user", "created_at"]
    search_fields = ["name"]
    readonly_fields = ["key"]


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):
    list_display = ["namespace", "user", "role"]


@admin.register(ApiToken)
class ApiTokenAdmin(admin.ModelAdmin):
    list_display = ["user", "label", "scope", "expires_at", "revoked_at", "last_used_at"]
    readonly_fields = ["digest", "hint", "user"]
