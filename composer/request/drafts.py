"""Drafts of the compose form, kept for its owner."""

import re
from collections.abc import Mapping, Sequence

from django.db import transaction
from django.db.models.functions import Now

from composer.core.spec.examples import is_storable
from composer.models import Draft
from hub_site.accounts.models import User
from hub_site.common.errors import Refusal

DRAFTS_MAX, GUEST_DRAFTS_MAX = 20, 3  # of one owner; then the oldest is deleted
DRAFT_CHARACTERS_MAX, GUEST_DRAFT_CHARACTERS_MAX = 2_000_000, 200_000
DRAFT_KEY = re.compile(r"[0-9A-Za-z-]{1,36}", re.ASCII)


@transaction.atomic
def draft_keep(*, owner: User, key: str, fields: Mapping[str, Sequence[str]]) -> Draft:
    """Keep a form as it stands, in the place of what was kept of it before."""
    if not DRAFT_KEY.fullmatch(key):
        raise Refusal("bad_draft", "A draft's key has up to 36 letters, digits and dashes.", status=400)
    n_kept, n_characters = (
        (GUEST_DRAFTS_MAX, GUEST_DRAFT_CHARACTERS_MAX)
        if owner.is_guest
        else (DRAFTS_MAX, DRAFT_CHARACTERS_MAX)
    )
    values = [text for texts in fields.values() for text in texts]
    if sum(map(len, values)) > n_characters or not all(map(is_storable, [*fields, *values])):
        message = "This is too long for a draft, or is not text. You can still compose it."
        raise Refusal("draft_too_large", message, status=413)
    kept = {name: list(texts) for name, texts in fields.items()}
    defaults = {"fields": kept, "kept_at": Now()}
    draft, _ = Draft.objects.update_or_create(owner=owner, key=key, defaults=defaults)
    draft.refresh_from_db(fields=["kept_at"])  # Django leaves the expression on a row that it updates
    latest = Draft.objects.filter(owner=owner).values_list("pk", flat=True)[:n_kept]
    Draft.objects.filter(owner=owner).exclude(pk__in=list(latest)).delete()
    return draft


def draft_discard(*, owner: User, key: str) -> None:
    """Forget it; harmless twice."""
    if DRAFT_KEY.fullmatch(key):
        Draft.objects.filter(owner=owner, key=key).delete()
