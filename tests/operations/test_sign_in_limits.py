"""Somebody who guesses passwords is slowed down."""

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
