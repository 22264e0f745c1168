"""What people tell staff about: modules, and reports that are shared by a private link."""

from django.conf import settings
from django.db import models
from django.db.models.functions import Now

from composer.models import Composition
from modules_registry.models import Module

NOTE_MAX = 2000  # characters of what somebody reports
REASON_MAX = 1000  # characters of what an owner is told
HASH_LENGTH = 64


class ReportQuerySet(models.QuerySet["Report"]):
    def waiting(self) -> "ReportQuerySet":
        return self.filter(settled_at=None)


class Report(models.Model):
    """Somebody tells staff that something is wrong with a module or with a shared composition.

    It waits until staff decide about the thing; the decision settles all reports about it.
    """

    class Reason(models.TextChoices):
        HARMFUL = "harmful", "It does harm: dangerous or hateful answers, or a hidden trigger"
        RIGHTS = "rights", "It is somebody else's work, or breaks its license"
        PERSONAL = "personal", "It holds somebody's personal data"
        MISLEADING = "misleading", "It is not what it says it is"
        SPAM = "spam", "It is advertising, or of no use to anybody"
        OTHER = "other", "Something else"

    module = models.ForeignKey(Module, on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    composition = models.ForeignKey(
        Composition, on_delete=models.CASCADE, null=True, blank=True, related_name="+"
    )
    reporter = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, null=True, blank=True, related_name="reports"
    )
    email = models.EmailField(blank=True)  # of a visitor without an account
    address_hash = models.CharField(max_length=HASH_LENGTH, blank=True)  # keyed: how often it has reported
    reason = models.CharField(max_length=10, choices=Reason)
    note = models.TextField(max_length=NOTE_MAX, blank=True)
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    settled_at = models.DateTimeField(null=True, blank=True)
    outcome = models.CharField(max_length=10, blank=True)  # the decision

    objects = ReportQuerySet.as_manager()

    class Meta:
        ordering = ["created_at"]
        constraints = [
            models.CheckConstraint(
                name="report_of_a_module_or_a_composition",
                condition=models.Q(module=None) ^ models.Q(composition=None),
            ),
            models.CheckConstraint(
                name="report_by_an_account_or_an_address",
                condition=models.Q(reporter__isnull=False) | ~models.Q(email=""),
            ),
            models.UniqueConstraint(
                name="report_once_per_account",
                fields=["reporter", "module", "composition"],
                condition=models.Q(settled_at=None, reporter__isnull=False),
                nulls_distinct=False,
            ),
        ]
        indexes = [
            models.Index(fields=["address_hash", "created_at"], name="report_of_address"),
            models.Index(fields=["created_at"], name="report_waiting", condition=models.Q(settled_at=None)),
        ]

    def __str__(self) -> str:
        return f"report {self.pk}"
