import re

import pytest
from django.core import mail

from hub_site.accounts.models import ApiToken, Namespace, User
from hub_site.accounts.selectors import token_find
from hub_site.accounts.services import user_create

pytestmark = pytest.mark.django_db

PASSWORD = "a long and odd password 7"


def sign_up(client, username, **fields):
    form = {
        "username": username,
        "email": f"{username}@example.org",
        "password1": PASSWORD,
        "password2": PASSWORD,
    }
    return client.post("/accounts/signup/", form | fields)


def test_signing_up_makes_a_user_with_a_namespace_and_signs_in(client):
    answer = sign_up(client, "dora")
    assert answer.status_code == 302
    assert Namespace.objects.get(name="dora").user.username == "dora"
    assert client.get("/settings/tokens/").status_code == 200


def test_a_new_account_lands_on_the_home_page_with_a_first_step(client):
    assert sign_up(client, "dora")["Location"] == "/"
    first_step = 'Welcome, dora. A first step: <a href="/compositions/new/">'
    assert first_step in client.get("/").content.decode()
    client.post("/accounts/logout/")
    client.post("/accounts/login/", {"login": "dora", "password": PASSWORD})
    assert first_step not in client.get("/").content.decode()


@pytest.mark.parametrize("username", ["modules", "d0ra", "a b", "x--y"])
def test_a_bad_name_comes_back_with_a_sentence_and_no_account(client, username):
    user_create(username="dora")
    answer = sign_up(client, username)
    assert answer.status_code == 200
    assert answer.context["form"].errors["username"]
    assert User.objects.count() == 1


def test_signing_in_and_out(client):
    user_create(username="dora", password=PASSWORD)
    client.post("/accounts/login/", {"login": "dora", "password": PASSWORD})
    assert client.session.get("_auth_user_id")
    client.post("/accounts/logout/")
    assert not client.session.get("_auth_user_id")


@pytest.mark.parametrize("login", ["dora", "dora@example.org"])
def test_a_wrong_password_is_said_in_plain_words(client, login):
    user_create(username="dora", email="dora@example.org", password=PASSWORD)
    page = client.post("/accounts/login/", {"login": login, "password": "wrong"}).content.decode()
    assert "No account matches this name and password." in page
    assert "Username or e-mail" in page
    assert page.count(">Forgot your password?<") == 1


@pytest.mark.parametrize("address", ["/accounts/signup/", "/accounts/password/reset/"])
def test_e_mail_is_spelt_one_way(client, address):
    page = client.get(address).content.decode()
    assert "E-mail" in page
    assert not re.search(r">[^<]*\bEmail\b", page)


def test_a_forgotten_password_is_reset_by_mail(client):
    user = user_create(username="dora", email="dora@example.org", password=PASSWORD)
    client.post("/accounts/password/reset/", {"email": "dora@example.org"})
    link = re.search(r"http://[^/]+(/accounts/password/reset/key/\S+)", mail.outbox[0].body)[1]
    form = client.get(link, follow=True)
    changed = "another long password 8"
    client.post(form.request["PATH_INFO"], {"password1": changed, "password2": changed})
    user.refresh_from_db()
    assert user.check_password(changed)


def test_asking_to_reset_an_unknown_address_looks_the_same(client):
    user_create(username="dora", email="dora@example.org")
    known = client.post("/accounts/password/reset/", {"email": "dora@example.org"})
    unknown = client.post("/accounts/password/reset/", {"email": "nobody@example.org"})
    assert (known.status_code, known.headers["Location"]) == (
        unknown.status_code,
        unknown.headers["Location"],
    )


def reset_answer(client, address):
    return client.post("/accounts/password/reset/", {"email": address}, follow=True).content.decode()


def test_without_a_mail_server_no_letter_is_promised(client, settings):
    user_create(username="dora", email="dora@example.org")
    settings.MAIL_SERVER = None
    known, unknown = (reset_answer(client, f"{name}@example.org") for name in ("dora", "nobody"))
    assert "has no mail server" in known
    assert "on its way" not in known
    assert known == unknown
    settings.MAIL_SERVER = {"EMAIL_HOST": "mail.example.org"}
    assert "on its way" in reset_answer(client, "dora@example.org")


def test_a_token_is_shown_once(client):
    client.force_login(user_create(username="dora"))
    shown = client.post("/settings/tokens/", {"label": "laptop", "scope": "write", "days": ""})
    token = re.search(r"lh_[0-9A-Za-z]{48}", shown.content.decode())[0]
    assert token_find(token).label == "laptop"
    assert shown.headers["Cache-Control"] == "no-store"
    assert token not in client.get("/settings/tokens/").content.decode()


def test_revoking_is_a_button_and_takes_the_token_out_of_use(client):
    client.force_login(user_create(username="dora"))
    client.post("/settings/tokens/", {"label": "laptop", "scope": "read", "days": ""})
    token = ApiToken.objects.get()
    client.post(f"/settings/tokens/{token.pk}/revoke/")
    token.refresh_from_db()
    assert token.revoked_at is not None


def test_strangers_are_sent_to_sign_in(client):
    assert client.get("/settings/tokens/").headers["Location"].startswith("/accounts/login/")


def test_who_is_sent_to_sign_in_is_told_why_and_comes_to_the_page_asked_for(client):
    why = {"/accounts/login/": "Sign in to continue.", "/accounts/signup/": "Sign up to continue."}
    for page, sentence in why.items():
        assert sentence not in client.get(page).content.decode()
        assert sentence in client.get(f"{page}?next=/compositions/new/").content.decode()
    user_create(username="dora", password=PASSWORD)
    answer = client.post(
        "/accounts/login/", {"login": "dora", "password": PASSWORD, "next": "/compositions/new/"}
    )
    assert answer["Location"] == "/compositions/new/"
