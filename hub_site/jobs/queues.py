"""The queues of the site, whoever's rows wait in them: a model that has `queues` names its own."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from django.apps import apps
from django.db import models


@dataclass(frozen=True)
class Queue:
    """Rows that wait for the same workers.

    Args:
        name: stable, for programs: "compose-quick".
        label: for people.
        served_by: the queue of Celery whose workers take them.
        rows: have `status`, `started_at`, `finished_at`, `error_code` and `error_message`.
        since: the column that says since when a row waits.
    """

    name: str
    label: str
    served_by: str
    rows: models.QuerySet[Any]
    since: str = "due_at"


class Queued(Protocol):
    """A model whose rows wait in queues."""

    @classmethod
    def queues(cls) -> Iterable[Queue]:
        """Every row is in at most one of them."""


def queued_models() -> list[type[models.Model]]:
    return [model for model in apps.get_models() if callable(getattr(model, "queues", None))]


def all_queues() -> list[Queue]:
    """In the order of the apps."""
    return [queue for model in queued_models() for queue in cast(type[Queued], model).queues()]
