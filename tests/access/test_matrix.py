"""matrix.csv says who gets which answer: every address, method and identity. The site must answer so.

A row has a status for each identity. A method that has no row is unknown at that address.
A new address fails here until it has its rows: write what each identity should get.
"""

import copy
import csv
import json
import logging
import re
from pathlib import Path

import pytest
from django.contrib import admin
from django.db import transaction
from django.urls import URLPattern

from tests.access.world import BODIES, IDENTITIES, PARTS, make_identities, make_things
from tests.attacks.test_hostile_requests import ADDRESSES
from tests.composer.conftest import ask, base, done, modules, no_flushing, wakes  # noqa: F401

MATRIX = Path(__file__).with_name("matrix.csv")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
UNKNOWN_METHOD = 405
ASK_TO_SIGN_IN = 302
READ_BY_POST = {"/api/models/{repo}/paths-info/{revision}"}


def read_matrix():
    """The statuses of each (address, method), in the order of IDENTITIES."""
    with MATRIX.open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["address", "method", *IDENTITIES]
    matrix = {(row[0], row[1]): [int(status) for status in row[2:]] for row in rows}
    assert len(matrix) == len(rows)
    return matrix


def status_of(identity, address, method, things):
    """Send one request, and take back what it did, to the site and to the browser's cookies."""
    filled = filled_address(address, things)
    client, sent = identity.client_for(filled), {}
    if method != "GET":
        body = BODIES.get((address, method), {})
        is_page = method == "POST" and "/api/" not in filled
        sent = {"data": body} if is_page else {"data": json.dumps(body), "content_type": "application/json"}
    cookies = copy.deepcopy(client.cookies)
    with transaction.atomic():
        answer = getattr(client, method.lower())(filled, **sent)
        transaction.set_rollback(True)
    client.cookies = cookies
    return answer.status_code


def is_known(address, method, identities, things):
    """Whether an address takes a method: some pages ask who you are before they look at it, some after."""
    some = (identities[name] for name in ("anonymous", "owner"))
    return all(status_of(identity, address, method, things) != UNKNOWN_METHOD for identity in some)


def filled_address(address, things):
    parts = things | {part: text.format(**things) for part, text in PARTS.get(address, {}).items()}
    return re.sub(r"{(\w+)}", lambda part: parts[part[1]], address)


@pytest.fixture
def world(alice, staff, done, wakes):  # noqa: F811
    """The identities by name, and what there is to ask for."""
    logging.disable(logging.CRITICAL)  # of thousands of refusals
    identities = make_identities(alice, staff)
    yield identities, make_things(alice, done())
    logging.disable(logging.NOTSET)


def test_every_address_has_a_row_and_every_row_an_address():
    assert {address for address, _ in read_matrix()} == set(ADDRESSES)


def test_who_is_suspended_gets_no_more_than_a_visitor_anywhere():
    anonymous, suspended = IDENTITIES.index("anonymous"), IDENTITIES.index("suspended")
    for asked, statuses in read_matrix().items():
        refusal_of_a_token = 403
        assert statuses[suspended] in (statuses[anonymous], refusal_of_a_token), asked


def test_a_read_token_and_a_limited_token_change_nothing_that_the_write_token_may():
    columns = [IDENTITIES.index(name) for name in ("read token", "limited token", "write token")]
    for (address, method), statuses in read_matrix().items():
        read, limited, write = (statuses[column] for column in columns)
        is_change = method != "GET" and address.startswith("/api/") and address not in READ_BY_POST
        if is_change and "{" in address and write < 300:
            assert read >= 400, address
            assert limited >= 400, address


def walk(identities, things):
    """The statuses of each (address, method) that the site knows, in the order of IDENTITIES."""
    return {
        (address, method): [status_of(identity, address, method, things) for identity in identities.values()]
        for address in ADDRESSES
        for method in METHODS
        if is_known(address, method, identities, things)
    }


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_every_identity_gets_the_answer_of_the_matrix(world, tmp_path):
    found, declared = walk(*world), read_matrix()
    with (tmp_path / "found.csv").open("w", newline="") as file:
        csv.writer(file).writerows([*asked, *statuses] for asked, statuses in found.items())
    differing = {asked for asked in found.keys() | declared.keys() if found.get(asked) != declared.get(asked)}
    told = [(asked, declared.get(asked), found.get(asked)) for asked in sorted(differing)]
    assert told == [], f"what was found, to compare: {tmp_path / 'found.csv'}"


def admin_addresses():
    """The pages of the admin, with a row's number in place of its parameter."""
    for pattern in admin.site.urls[0]:
        for inner in pattern.url_patterns if not isinstance(pattern, URLPattern) else [pattern]:
            before = "" if inner is pattern else str(pattern.pattern)
            yield "/admin/" + re.sub(r"<[^>]+>", "1", f"{before}{inner.pattern}")


@pytest.mark.slow
def test_the_admin_is_for_staff_alone(world):
    identities, _ = world
    for address in admin_addresses():
        if "(?P" in address or address in ("/admin/login/", "/admin/logout/"):
            continue
        for name in IDENTITIES:
            if name != "staff":
                answer = identities[name].browser.get(address)
                assert answer.status_code == ASK_TO_SIGN_IN, (name, address)
                assert "login" in answer["Location"], (name, address)
