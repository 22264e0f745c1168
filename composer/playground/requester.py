"""Who asks, as a request tells it. Sessions and addresses are kept as keyed hashes only."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from django.http import HttpRequest

from composer.playground.selectors import Requester
from hub_site.accounts.models import User
from hub_site.common.visitors import address_hash, keyed_hash

SECRET = "try_secret"  # in a visitor's session: the key to the answers


def requester_of(request: HttpRequest) -> Requester:
    """The account, or the browser; one that has asked nothing yet owns no question."""
    if isinstance(request.user, User):
        return Requester(request.user)
    return visitor(request, request.session.get(SECRET, ""))


@contextmanager
def requester_with_session(request: HttpRequest) -> Iterator[Requester]:
    """As requester_of; a visitor's browser is given its secret, unless what is asked inside is refused."""
    if isinstance(request.user, User):
        yield Requester(request.user)
        return
    secret = request.session.get(SECRET) or secrets.token_urlsafe()
    yield visitor(request, secret)
    request.session[SECRET] = secret


def visitor(request: HttpRequest, secret: str) -> Requester:
    return Requester(None, keyed_hash("session", secret) if secret else "", address_hash(request))
