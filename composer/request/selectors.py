"""What the compose form reads: drafts, earlier requests, held-out examples by name."""

from django.db.models import QuerySet

from composer.core.spec.examples import Example, is_storable
from composer.models import Composition, Draft
from composer.selectors import composition_named, held_out_examples
from composer.task.demo_tasks import demo_task
from hub_site.accounts.models import User


def find_held_out(source: str, owner: User | None) -> list[Example] | None:
    """Held-out examples by “task:<demo task>” or “composition:<own one's id>”; None if not there."""
    kind, _, name = source.partition(":")
    if kind == "task":
        task = demo_task(name)
        return list(task.held_out) if task else None
    composition = composition_named(owner, name)
    return held_out_examples(composition) if composition else None


def drafts_of(owner: User | None) -> QuerySet[Draft]:
    return Draft.objects.filter(owner=owner)


def draft_find(owner: User | None, key: str) -> Draft | None:
    return drafts_of(owner).filter(key=key).first() if is_storable(key) else None


def composition_sent_by(owner: User | None, form_key: str) -> Composition | None:
    """What became of a form: the last composition that was asked for with it."""
    if not form_key or not is_storable(form_key):
        return None
    sent = Composition.objects.filter(owner=owner, idempotency_key__startswith=f"{form_key}:")
    return sent.order_by("-created_at").first()
