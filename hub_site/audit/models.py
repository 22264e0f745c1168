from django.conf import settings
from django.db import models


class AuditEntry(models.Model):
    """Who did what to which thing. Written once, never changed (a database trigger refuses both)."""

    at = models.DateTimeField(auto_now_add=True, db_index=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)
    action = models.CharField(max_length=60)  # "module.publish", "module.delete", …
    subject = models.CharField(max_length=200)  # "demo/french", a row's id, …
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-at"]
        verbose_name_plural = "audit entries"

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"
