"""Rows every app's rows stand on. Abstract only: this package owns no table."""

from django.db import models
from django.db.models.functions import Now


class TimeStamped(models.Model):
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        abstract = True
