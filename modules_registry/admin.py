from typing import cast

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from hub_site.accounts.models import User
from hub_site.audit.services import audit_record
from modules_registry import blobs
from modules_registry.base_models import recheck_modules
from modules_registry.mirror.services import repository_queue
from modules_registry.models import (
    BaseAlias,
    BaseModel,
    HubRepository,
    Module,
    SynonymGroup,
    Tag,
    Version,
    VersionFile,
)
from modules_registry.tasks import sync_repository


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


@admin.register(BaseAlias)
class BaseAliasAdmin(admin.ModelAdmin):
    """Other names of a base model's weights. Modules that name one are composed on the base."""

    list_display = ["name", "base"]
    search_fields = ["name", "base__name"]
    autocomplete_fields = ["base"]

    def save_model(self, request: HttpRequest, obj: BaseAlias, form: object, change: bool) -> None:
        obj.save()
        audit_record(
            actor=cast(User, request.user), action="base_model.alias", subject=obj.base.name, alias=obj.name
        )
        count = recheck_modules(obj.base)
        if count:
            messages.success(request, f"Modules that can be composed on {obj.base.name} now: {count}.")


@admin.register(SynonymGroup)
class SynonymGroupAdmin(admin.ModelAdmin):
    """Words that mean the same in a search. A change counts at once."""

    list_display = ["words"]
    search_fields = ["words"]


@admin.register(HubRepository)
class HubRepositoryAdmin(ReadOnly):
    list_display = ["repo_id", "module", "status", "attempts", "due_at", "error_message"]
    list_select_related = ["module__namespace"]
    list_filter = ["status", "error_code"]
    search_fields = ["repo_id", "module__name"]
    actions = ["try_again"]

    @admin.action(description="Try again now", permissions=["view"])
    def try_again(self, request: HttpRequest, chosen: QuerySet[HubRepository]) -> None:
        if not blobs.has_remote_store():
            self.message_user(request, "This site keeps its files on its own disk.", messages.WARNING)
            return
        for repository in chosen.select_related("module__namespace"):
            repository_queue(repository.module, now=True)
            sync_repository.delay(str(repository.pk))
        self.message_user(request, f"{len(chosen)} asked for.")


admin.site.register(Tag)
