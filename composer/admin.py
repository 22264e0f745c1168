from django.contrib import admin
from django.http import HttpRequest

from composer.models import Composition


@admin.register(Composition)
class CompositionAdmin(admin.ModelAdmin):
    """How the work goes, for whoever runs the site. Examples and reports stay their owner's."""

    list_display = [
        "id",
        "status",
        "owner",
        "base",
        "method",
        "worker",
        "crashes",
        "error_code",
        "created_at",
    ]
    list_filter = ["status", "method", "error_code"]
    search_fields = ["id", "owner__username"]
    fields = [
        "id", "status", "owner", "base", "method", "search", "objective", "selection", "budget",
        "batch_size", "seed", "precision", "device", "rank", "max_new_tokens", "baselines",
        "stage", "steps_done", "steps_planned", "worker", "lease_until", "generation", "crashes",
        "error_code", "error_message", "created_at", "started_at", "finished_at",
    ]  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Composition | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Composition | None = None) -> bool:
        return False
