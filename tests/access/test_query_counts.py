"""How many queries an address takes: every one that the site knows, for a visitor, an owner and staff."""

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from tests.access.test_matrix import filled_address, world  # noqa: F401
from tests.attacks.test_hostile_requests import ADDRESSES
from tests.composer.conftest import ask, base, done, modules, no_flushing, wakes  # noqa: F401

QUERIES_MAX = 12
SIGNED_IN = 3  # the session, the account, and how many notifications are unread
MORE = {
    "/api/v1/account/export": 17,  # everything of an account, a query for each kind of thing
    "/api/v1/account": 20,  # and how much of each there is
    "/settings/": 20,
    "/compositions/new/": 13,
    "/compositions/{composition_id}/": 16,  # one of them marks its notification as read
    "/try/{tryout_id}/": 23,
}


def queries_of(identity, address, things):
    filled = filled_address(address, things)
    client = identity.client_for(filled)
    with transaction.atomic(), CaptureQueriesContext(connection) as asked:
        client.get(filled)
        transaction.set_rollback(True)
    told = [query["sql"] for query in asked.captured_queries]
    return [sql for sql in told if "SAVEPOINT" not in sql]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_no_address_takes_more_than_twelve_queries(world):  # noqa: F811
    identities, things = world
    most = {}
    for address in ADDRESSES:
        for name in ("anonymous", "owner", "staff"):
            queries_of(identities[name], address, things)  # what is read once is read
            asked = len(queries_of(identities[name], address, things))
            most[address, name] = asked - (0 if name == "anonymous" else SIGNED_IN)
    too_many = {asked: n for asked, n in most.items() if n > MORE.get(asked[0], QUERIES_MAX)}
    assert not too_many, "\n".join(f"{n} {asked}" for asked, n in too_many.items())
