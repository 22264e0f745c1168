"""Which HUB_SECRET_KEY the site was prepared with: a mark in the database that only the same key makes.

A process with another one takes nobody's session and no private link, and says nothing of it by itself.
"""

from django.core.cache import cache
from django.utils.crypto import constant_time_compare, salted_hmac

NAME = "secret_key_mark"


def own_mark() -> str:
    return salted_hmac("hub_site.common.secret_key_mark", NAME, algorithm="sha256").hexdigest()


def leave_mark() -> None:
    """From now on the key of this process is that of the site."""
    cache.set(NAME, own_mark(), timeout=None)


def is_the_key_of_the_site() -> bool | None:
    """Whether this process has the key that the site was prepared with; None where no mark was left."""
    left = cache.get(NAME)
    return None if left is None else constant_time_compare(left, own_mark())
