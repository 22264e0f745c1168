"""Somebody who guesses passwords is slowed down."""

import pytest
from django.core.cache import cache

from hub_site.settings import base
from tests.conftest import PASSWORD


def test_after_five_wrong_passwords_the_right_one_has_to_wait(client, alice, settings):
    settings.ACCOUNT_RATE_LIMITS = base.ACCOUNT_RATE_LIMITS
    cache.clear()
    for guess in range(5):
        client.post("/accounts/login/", {"login": "alice", "password": f"guess {guess}"})
    answer = client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    assert "_auth_user_id" not in client.session
    assert b"Too many failed" in answer.content
    cache.clear()


def test_four_wrong_passwords_are_forgiven(client, alice, settings):
    settings.ACCOUNT_RATE_LIMITS = base.ACCOUNT_RATE_LIMITS
    cache.clear()
    for guess in range(4):
        client.post("/accounts/login/", {"login": "alice", "password": f"guess {guess}"})
    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    assert client.session["_auth_user_id"] == str(alice.pk)
    cache.clear()


@pytest.mark.parametrize("body", [None, {"username": "stella", "password": PASSWORD}])
def test_the_admin_has_no_sign_in_of_its_own(client, staff, body):
    send = client.get if body is None else client.post
    answer = send("/admin/login/?next=/admin/", body)
    assert answer.headers["Location"] == "/accounts/login/?next=%2Fadmin%2F"
    assert "_auth_user_id" not in client.session


def test_who_is_no_staff_is_told_nothing_by_the_admin_and_staff_are_let_in(browser_of, alice, staff):
    assert browser_of(alice).get("/admin/", follow=True).status_code == 403
    assert browser_of(staff).get("/admin/").status_code == 200
    assert (
        browser_of(staff).post("/admin/login/", {"username": "a", "password": "b"}).headers["Location"]
        == "/admin/"
    )
