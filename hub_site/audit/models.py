from django.conf import settings
from django.db import models
from django.db.models.functions import Now


class AuditEntry(models.Model):
    """Who did what to which thing. Written once, never changed: triggers refuse UPDATE, DELETE and TRUNCATE.

    The site writes an entry in the transaction of the deed. What is done in the admin, a trigger on the
    admin's own log writes here.
    """

    at = models.DateTimeField(db_default=Now(), editable=False, db_index=True)
    actor = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True)
    action = models.CharField(max_length=60)  # "module.publish", "module.delete", …
    subject = models.CharField(max_length=200)  # "demo/french", a row's id, … as it was called then
    thing = models.CharField(max_length=100, blank=True)  # its row, whatever it is called: "user:3"
    detail = models.JSONField(default=dict, blank=True)

    class Meta:
        ordering = ["-at"]
        verbose_name_plural = "audit entries"
        indexes = [
            models.Index(fields=["thing", "-at"], name="audit_of_thing"),
            models.Index(fields=["actor", "-at"], name="audit_of_actor"),
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.subject}"
