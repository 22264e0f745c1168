"""How tags are written: lower case, words joined by “-”."""

import re
import unicodedata
from collections.abc import Iterable

from hub_site.common.errors import Refusal

TAGS_MAX = 12
TAG_LENGTH_MAX = 40
TAG = re.compile(r"[^\W_]+(?:[-.+][^\W_]+)*")


def normalize_tags(tags: Iterable[str]) -> list[str]:
    """Fold tags to the one way they are written, in order and once each; refuse what is none."""
    folded = (normalize_tag(tag) for tag in tags)
    names = list(dict.fromkeys(filter(None, folded)))
    for name in names:
        if len(name) > TAG_LENGTH_MAX or not TAG.fullmatch(name):
            raise bad_tags(
                f"“{name[:60]}” cannot be a tag. Use letters and digits, words joined by “-”, at most 40."
            )
    if len(names) > TAGS_MAX:
        raise bad_tags(
            f"These are {len(names)} tags; {TAGS_MAX} are the most. Keep those that people would search for."
        )
    return names


def normalize_tag(tag: str) -> str:
    return re.sub(r"[\s_]+", "-", unicodedata.normalize("NFKC", tag).casefold().strip())


def bad_tags(message: str) -> Refusal:
    return Refusal("bad_tags", message, fields={"tags": [message]})
