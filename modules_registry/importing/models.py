"""Requests to bring something in from a Hub: modules by anyone into their own names, base models by staff."""

from collections.abc import Iterable

from django.conf import settings
from django.db import models
from django.db.models import Count, Q
from django.urls import reverse

from hub_site.accounts.models import Namespace
from hub_site.accounts.names import NAME_LENGTH_MAX
from hub_site.jobs.models import Job
from hub_site.jobs.queues import Queue
from hub_site.notifications.models import Kind, Notice
from modules_registry.models import COMMIT_ID_LENGTH, BaseModel, Version

REPO_ID_LENGTH_MAX = 2 * NAME_LENGTH_MAX + 1
REVISION_LENGTH_MAX = 100


class ModuleImport(Job):
    """One request to import repositories as modules. Private to its owner.

    First its sources become items; then each item is imported or refused, one after the other.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="imports")
    namespace = models.ForeignKey(Namespace, on_delete=models.CASCADE, related_name="imports")
    sources = models.JSONField()  # as they were asked for: ["owner/name@revision", "owner"]
    base_name = models.CharField(max_length=REPO_ID_LENGTH_MAX, blank=True)  # in place of what configs name
    endpoint = models.CharField(max_length=200, blank=True)  # another Hub than the one this site reads
    is_listed = models.BooleanField(default=False)  # every source has become items

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"import {self.pk}"

    @classmethod
    def queues(cls) -> Iterable[Queue]:
        yield Queue("import", "Imports of modules", "transfer", cls.objects.all())

    def get_absolute_url(self) -> str:
        return reverse("modules_registry:importing:import", args=[self.pk])

    def notice(self) -> Notice:
        counted = self.items.aggregate(
            imported=Count("pk", filter=Q(state=ImportItem.State.IMPORTED)),
            refused=Count("pk", filter=Q(state=ImportItem.State.REFUSED)),
        )
        text = (
            f"The import of {self.title} is done: "
            f"{counted['imported']} imported, {counted['refused']} not imported."
            if self.is_done
            else f"The import of {self.title} has failed. {self.error_message}"
        )
        return Notice(self.owner_id, Kind.IMPORT, f"import:{self.pk}", text, self.get_absolute_url())

    @property
    def title(self) -> str:
        first, *more = self.sources
        return f"{first} and {len(more)} more" if more else str(first)


class ImportItem(models.Model):
    """One repository of an import. WAITING -> IMPORTED | UNCHANGED | REFUSED, once."""

    class State(models.TextChoices):
        WAITING = "waiting", "Waiting"
        IMPORTED = "imported", "Imported"
        UNCHANGED = "unchanged", "Was here already"
        REFUSED = "refused", "Not imported"

    job = models.ForeignKey(ModuleImport, on_delete=models.CASCADE, related_name="items")
    position = models.PositiveIntegerField()
    repo_id = models.CharField(max_length=REPO_ID_LENGTH_MAX)
    revision = models.CharField(max_length=REVISION_LENGTH_MAX, blank=True)  # asked for; empty: main
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    code = models.CharField(max_length=60, blank=True)
    message = models.TextField(blank=True)  # why it was refused
    version = models.ForeignKey(
        Version, on_delete=models.SET_NULL, null=True, blank=True, related_name="import_items"
    )
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(fields=["job", "position"], name="import_item_position_once"),
            models.UniqueConstraint(fields=["job", "repo_id"], name="import_item_repository_once"),
        ]

    def __str__(self) -> str:
        return self.repo_id

    @property
    def source(self) -> str:
        """As it is asked for."""
        return f"{self.repo_id}@{self.revision}" if self.revision else self.repo_id


class BaseImport(Job):
    """One request of staff to put a base model of the Hub into the library."""

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="base_imports")
    repo_id = models.CharField(max_length=REPO_ID_LENGTH_MAX)
    revision = models.CharField(max_length=REVISION_LENGTH_MAX, blank=True)
    sentence = models.CharField(max_length=300, blank=True)
    licence = models.CharField(max_length=60, blank=True)
    commit_id = models.CharField(
        max_length=COMMIT_ID_LENGTH, blank=True
    )  # what the revision was, when looked up
    bytes_done = models.PositiveBigIntegerField(default=0)
    bytes_planned = models.PositiveBigIntegerField(default=0)
    base = models.ForeignKey(
        BaseModel, on_delete=models.SET_NULL, null=True, blank=True, related_name="imports"
    )

    class Meta:
        ordering = ["-created_at"]

    def __str__(self) -> str:
        return f"base import {self.pk}"

    @classmethod
    def queues(cls) -> Iterable[Queue]:
        yield Queue("import-base", "Imports of base models", "transfer", cls.objects.all())

    def get_absolute_url(self) -> str:
        return reverse("admin:importing_baseimport_change", args=[self.pk])

    def notice(self) -> Notice:
        text = (
            f"The base model {self.repo_id} is in the library."
            if self.is_done
            else f"The import of the base model {self.repo_id} has failed. {self.error_message}"
        )
        return Notice(self.owner_id, Kind.IMPORT, f"base-import:{self.pk}", text, self.get_absolute_url())
