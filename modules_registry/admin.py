from django.contrib import admin
from django.http import HttpRequest

from modules_registry.models import BaseModel, Module, Tag, Version, VersionFile


class ReadOnly(admin.ModelAdmin):
    """Rows that belong to files: they change through the services, which change both."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class VersionFileInline(admin.TabularInline):
    model = VersionFile
    extra = 0


class VersionInline(admin.TabularInline):
    model = Version
    fk_name = "module"
    fields = ["number", "message", "author", "base_name", "rank", "size_bytes", "created_at"]
    extra = 0
    show_change_link = True


@admin.register(Module)
class ModuleAdmin(ReadOnly):
    list_display = ["full_name", "sentence", "licence", "updated_at", "deleted_at"]
    list_select_related = ["namespace"]
    list_filter = ["licence", "deleted_at"]
    search_fields = ["name", "namespace__name", "sentence"]
    inlines = [VersionInline]


@admin.register(Version)
class VersionAdmin(ReadOnly):
    list_display = ["module", "number", "commit_id", "author", "base_name", "rank", "created_at"]
    list_select_related = ["module__namespace", "author"]
    search_fields = ["commit_id", "weights_sha256", "module__name"]
    inlines = [VersionFileInline]


@admin.register(BaseModel)
class BaseModelAdmin(ReadOnly):
    list_display = ["name", "kind", "architecture", "parameters", "revision"]
    search_fields = ["name"]


admin.site.register(Tag)
