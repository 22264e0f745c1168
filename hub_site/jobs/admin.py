from django.contrib import admin
from django.http import HttpRequest

from hub_site.jobs.models import Worker, WorkerRequest


@admin.register(Worker)
class WorkerAdmin(admin.ModelAdmin):
    """The workers that announced themselves within a day. They write their rows themselves."""

    list_display = ["name", "queue", "slots", "memory_mb", "has_cuda", "seen_at"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(WorkerRequest)
class WorkerRequestAdmin(admin.ModelAdmin):
    """Who wants which kind of worker. Delete a row once there is one, or there will be none."""

    list_display = ["owner", "has_cuda", "memory_mb", "base_name", "asked_at"]
    list_filter = ["has_cuda"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False
