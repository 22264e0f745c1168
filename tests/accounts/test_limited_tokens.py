"""A token that is limited to one owner or one module is nobody's for everything else."""

import json

import pytest
from django.core import mail

from hub_site.accounts.models import ApiToken
from hub_site.accounts.selectors import token_find
from hub_site.accounts.services import organization_create, token_create
from hub_site.common.errors import Refusal
from tests.conftest import PASSWORD
from tests.factories import config_file, make_module, weights_file

pytestmark = pytest.mark.django_db

HIDDEN, OPEN = "alice/hidden", "alice/open"


@pytest.fixture
def library(alice):
    """An open and a hidden module of Alice's, and an organization that she founded."""
    make_module(alice, "hidden", private=True)
    make_module(alice, "open", seed=1)
    return organization_create(founder=alice, name="lab")


@pytest.fixture
def program(client, alice, library):
    """Send a request with a token of Alice's that is limited to an address; return its status and body."""

    def limited(limit):
        _, token = token_create(user=alice, label="x", scope="write", limited_to=limit)

        def send(method, address, body=None, kind="application/json"):
            data = body if kind != "application/json" else json.dumps(body or {})
            sent = {} if method in ("get", "head") else {"data": data, "content_type": kind}
            return getattr(client, method)(address, headers={"Authorization": f"Bearer {token}"}, **sent)

        return send

    return limited


@pytest.mark.parametrize(
    ("limit", "hidden", "seen", "changed", "elsewhere"),
    [
        ("", 200, 200, 200, 200),
        ("alice", 200, 200, 200, 403),
        (HIDDEN, 200, 200, 200, 403),
        (OPEN, 404, 200, 403, 403),
        ("lab", 404, 200, 403, 403),
        ("alice/hid", 404, 200, 403, 403),
    ],
)
def test_what_a_limited_token_may(program, limit, hidden, seen, changed, elsewhere):
    send = program(limit)
    assert send("get", f"/api/v1/modules/{HIDDEN}").status_code == hidden
    assert send("get", f"/api/models/{HIDDEN}").status_code == hidden
    assert send("get", f"/{HIDDEN}/resolve/main/adapter_config.json").status_code == hidden
    assert send("get", f"/api/v1/modules/{OPEN}").status_code == seen
    assert send("get", f"/api/models/{OPEN}").status_code == seen
    changes = send("patch", f"/api/v1/modules/{HIDDEN}", {"sentence": "Changed."})
    assert changes.status_code == changed
    settings = send("put", f"/api/models/{HIDDEN}/settings", {"private": True})
    assert settings.status_code == (changed if hidden == 200 else 404)
    for address in ("/api/v1/compositions", "/api/v1/drafts", "/api/v1/imports"):
        assert send("get", address).status_code == elsewhere
    assert send("get", "/api/v1/whoami").json()["limited_to"] == limit
    listed = [row["id"] for row in send("get", "/api/models").json()]
    assert (HIDDEN in listed) == (limit == "")
    listed = [row["id"] for row in send("get", "/api/models?author=alice").json()]
    assert (HIDDEN in listed) == (limit in ("", "alice"))


@pytest.mark.parametrize(
    ("limit", "owner", "status"),
    [("lab", "lab", 201), ("lab/new", "lab", 201), ("lab", "", 403), (OPEN, "lab", 403)],
)
def test_where_a_limited_token_may_publish(client, alice, library, limit, owner, status):
    _, token = token_create(user=alice, label="x", scope="write", limited_to=limit)
    body = {"name": "new", "sentence": "New.", "licence": "mit", "config_file": config_file()}
    body |= {"weights_file": weights_file()} | ({"namespace": owner} if owner else {})
    bearer = {"Authorization": f"Bearer {token}"}
    assert client.post("/api/v1/modules", body, headers=bearer).status_code == status
    made = client.post(
        "/api/repos/create",
        json.dumps({"name": "new2" if limit == "lab" else "new", "organization": owner or "alice"}),
        content_type="application/json",
        headers=bearer,
    )
    assert made.status_code == {201: 200, 403: 403}[status] or made.status_code == 409


def test_a_limited_token_moves_nothing_out_of_its_limit(program):
    send = program(HIDDEN)
    moved = send("post", "/api/repos/move", {"fromRepo": HIDDEN, "toRepo": "alice/elsewhere"})
    assert moved.status_code == 403
    assert (
        program("alice")("post", "/api/repos/move", {"fromRepo": HIDDEN, "toRepo": "alice/else"}).status_code
        == 200
    )


@pytest.mark.parametrize("limit", ["bob", "bob/x", "alice/--", "/x", "nobody-here"])
def test_a_token_is_limited_only_to_what_one_belongs_to(browser_of, alice, bob, limit):
    with pytest.raises(Refusal):
        token_create(user=alice, label="x", scope="read", limited_to=limit)
    page = browser_of(alice).post("/settings/tokens/", {"label": "x", "scope": "read", "limited_to": limit})
    assert page.context["form"].errors["limited_to"]
    assert not ApiToken.objects.exists()


def test_the_page_shows_what_a_token_is_limited_to(browser_of, alice):
    page = browser_of(alice).post("/settings/tokens/", {"label": "x", "scope": "read", "limited_to": "alice"})
    assert "only alice" in page.content.decode()


@pytest.mark.parametrize("wished", [True, False])
def test_a_new_password_revokes_the_tokens_if_wished(browser_of, client, alice, wished):
    password, new = PASSWORD, "another walk by the sea"
    for reset in (False, True):
        _, token = token_create(user=alice, label="x", scope="read")
        form = {"password1": new, "password2": new} | ({"revoke_tokens": "on"} if wished else {})
        if reset:
            client.post("/accounts/password/reset/", {"email": alice.email})
            link = next(word for word in mail.outbox[-1].body.split() if "/password/reset/key/" in word)
            address = client.get(link).headers["Location"]
            answer = client.post(address, form)
        else:
            browser = browser_of(alice)
            answer = browser.post("/accounts/password/change/", form | {"oldpassword": password})
        assert answer.status_code == 302
        assert (token_find(token) is None) == wished
        new = "yet another walk by the sea"
