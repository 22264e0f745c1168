"""Who asks, as a request tells it. Sessions and addresses are kept as keyed hashes only."""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager

from django.http import HttpRequest

from composer.playground.selectors import Requester
from hub_site.accounts.models import User
from hub_site.common.visitors import SECRET, address_hash, keyed_hash, session_hash


def requester_of(request: HttpRequest) -> Requester:
    """The account, or the browser; one that has asked nothing yet owns no question."""
    if isinstance(request.user, User):
        return Requester(request.user)
    return Requester(None, session_hash(request), address_hash(request))


def requester_by_address(request: HttpRequest) -> Requester:
    """The account, or a program without one: its address stands for a session."""
    if isinstance(request.user, User):
        return Requester(request.user)
    address = address_hash(request)
    return Requester(None, keyed_hash("program", address), address)


@contextmanager
def requester_with_session(request: HttpRequest) -> Iterator[Requester]:
    """As requester_of; a visitor's browser is given its secret, unless what is asked inside is refused."""
    if isinstance(request.user, User):
        yield Requester(request.user)
        return
    secret = request.session.get(SECRET) or secrets.token_urlsafe()
    yield Requester(None, keyed_hash("session", secret), address_hash(request))
    request.session[SECRET] = secret
