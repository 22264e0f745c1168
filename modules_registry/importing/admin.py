from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from hub_site.accounts.models import User
from hub_site.common.errors import Refusal
from modules_registry.core.sizes import size_in_words
from modules_registry.importing.base_services import (
    base_import_again,
    base_import_cancel,
    base_import_request,
    require_model,
)
from modules_registry.importing.models import BaseImport


class BaseImportForm(forms.ModelForm):
    """What a base model of the Hub is asked for with."""

    class Meta:
        model = BaseImport
        fields = ["repo_id", "revision", "sentence", "licence"]
        labels = {"repo_id": "Model on the Hub"}
        help_texts = {
            "repo_id": "owner/name, like google/flan-t5-large",
            "revision": "A commit, branch or tag. Left empty: main. It is pinned when the work begins.",
            "sentence": "What it is, in one sentence.",
            "licence": "Such as apache-2.0. Left empty: as its card says.",
        }

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        try:
            require_model(cleaned.get("repo_id", ""), cleaned.get("revision", ""))
        except Refusal as refusal:
            raise forms.ValidationError(refusal.fields) from refusal
        return cleaned


@admin.register(BaseImport)
class BaseImportAdmin(admin.ModelAdmin):
    """Base models asked for: adding one queues the work, and the list says how far it is."""

    form = BaseImportForm
    list_display = [
        *("repo_id", "revision", "status", "progress", "put_off_reason", "error_message", "owner"),
        "created_at",
    ]
    list_select_related = ["owner"]
    list_filter = ["status"]
    search_fields = ["repo_id"]
    actions = ["cancel", "try_again"]

    def get_fields(self, request: HttpRequest, obj: BaseImport | None = None) -> list[Any]:
        asked = ["repo_id", "revision", "sentence", "licence"]
        became = ["status", "progress", "put_off_reason", "error_message", "commit_id", "base"]
        became += ["started_at", "finished_at"]
        return asked + became if obj else asked

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    @admin.display(description="Fetched")
    def progress(self, job: BaseImport) -> str:
        return (
            f"{size_in_words(job.bytes_done)} of {size_in_words(job.bytes_planned)}"
            if job.bytes_planned
            else "–"
        )

    def save_model(self, request: HttpRequest, obj: BaseImport, form: Any, change: bool) -> None:
        obj.pk = base_import_request(owner=who(request), **form.cleaned_data).pk
        obj.refresh_from_db()

    @admin.action(description="Cancel", permissions=["add"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[BaseImport]) -> None:
        for job in chosen:
            base_import_cancel(owner=who(request), import_id=job.pk)
        self.message_user(request, f"{len(chosen)} asked to end.")

    @admin.action(description="Try again", permissions=["add"])
    def try_again(self, request: HttpRequest, chosen: QuerySet[BaseImport]) -> None:
        unfinished = [job for job in chosen if not job.is_finished]
        if unfinished:
            self.message_user(
                request, f"{len(unfinished)} of them are not finished: wait or cancel.", messages.WARNING
            )
        again = [job for job in chosen if job.is_finished and not job.is_done]
        for job in again:
            base_import_again(owner=who(request), job=job)
        self.message_user(request, f"{len(again)} asked for again.")


def who(request: HttpRequest) -> User:
    assert isinstance(request.user, User)  # the admin lets nobody else in
    return request.user
