from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from hub_site.accounts.models import ApiToken, Namespace, User
from hub_site.accounts.selectors import token_find
from hub_site.accounts.services import token_create, token_revoke, user_create
from hub_site.common.errors import Refusal

pytestmark = pytest.mark.django_db


def test_a_new_user_owns_the_namespace_of_the_same_name():
    user = user_create(username="dora", password="correct horse battery")
    assert user.namespace.name == "dora"
    assert user.check_password("correct horse battery")


@pytest.mark.parametrize("name", ["Dora", "d0ra", "DORA"])
def test_a_name_too_like_a_taken_one_is_refused_and_leaves_nothing(name):
    user_create(username="dora")
    with pytest.raises(Refusal) as refused:
        user_create(username=name)
    assert refused.value.code == "name_taken"
    assert User.objects.filter(username__iexact=name).exclude(username="dora").count() == 0
    assert Namespace.objects.count() == 1


@pytest.mark.parametrize(
    ("name", "code"), [("modules", "reserved_name"), ("a/b", "bad_name"), ("", "bad_name")]
)
def test_reserved_and_malformed_names_are_refused(name, code):
    with pytest.raises(Refusal) as refused:
        user_create(username=name)
    assert refused.value.code == code
    assert "username" in refused.value.fields


def test_a_weak_password_is_refused_with_the_reason():
    with pytest.raises(Refusal, match="too"):
        user_create(username="dora", password="12345")


def test_only_a_tokens_hash_is_kept():
    user = user_create(username="dora")
    row, token = token_create(user=user, label="laptop", scope="read")
    assert token.startswith("lh_")
    assert token not in str(ApiToken.objects.values().get())
    assert token_find(token) == row


def test_revoked_and_expired_tokens_are_not_found():
    user = user_create(username="dora")
    revoked, revoked_text = token_create(user=user, label="a", scope="read")
    expired, expired_text = token_create(user=user, label="b", scope="read", days=1)
    token_revoke(user=user, token_id=revoked.pk)
    ApiToken.objects.filter(pk=expired.pk).update(expires_at=timezone.now() - timedelta(seconds=1))
    assert token_find(revoked_text) is None
    assert token_find(expired_text) is None


def test_nobody_revokes_another_ones_token():
    dora, eve = user_create(username="dora"), user_create(username="eve")
    row, text = token_create(user=dora, label="laptop", scope="read")
    token_revoke(user=eve, token_id=row.pk)
    assert token_find(text) == row


def test_the_command_prints_a_token_that_works(capsys):
    call_command("create_user", "dora")
    assert "Password: " in capsys.readouterr().out
    call_command("create_token", "dora", scope="write", expires=30)
    token = token_find(capsys.readouterr().out.strip())
    assert token.may_write
    assert timezone.now() + timedelta(days=29) < token.expires_at < timezone.now() + timedelta(days=31)


def test_the_command_limits_a_token_to_one_module_of_the_user_s(capsys):
    user_create(username="dora")
    call_command("create_token", "dora", scope="write", limited_to="dora/french")
    token = token_find(capsys.readouterr().out.strip())
    assert (token.covers("dora/french"), token.covers("dora/spanish")) == (True, False)
    with pytest.raises(CommandError, match="You do not belong to “eve”"):
        call_command("create_token", "dora", scope="write", limited_to="eve")


def test_the_command_says_what_is_wrong():
    with pytest.raises(CommandError, match="There is no user"):
        call_command("create_token", "nobody-here", scope="read")
    with pytest.raises(CommandError, match="kept for the site"):
        call_command("create_user", "api")
