"""A visitor composes without an account: small, seldom, kept for a day, and after a sign-up for good."""

from datetime import timedelta

import pytest
from django.conf import settings as site_settings
from django.db.models.functions import Now
from django.test import Client

from composer.guests import guests_sweep
from composer.models import Composition, Draft
from composer.request.drafts import GUEST_DRAFT_CHARACTERS_MAX, GUEST_DRAFTS_MAX
from composer.share.services import share_of
from composer.timing.limits import GUEST_DEADLINE_S, deadline_s
from hub_site.accounts import guests
from hub_site.accounts.guests import guest_create, guest_find
from hub_site.accounts.models import Namespace, User
from hub_site.common.errors import Refusal
from hub_site.jobs.models import Status
from modules_registry.blobs import store
from tests.composer.test_pages import NEW, filled, page_of
from tests.conftest import PASSWORD

pytestmark = pytest.mark.usefixtures("wakes", "modules")  # nothing here reaches a broker

KEEP = "/compositions/drafts/"


@pytest.fixture
def compose(client):
    """Send the form as a visitor; returns the composition."""

    def send(**changes):
        answer = client.post(NEW, filled(**changes))
        assert answer.status_code == 302, answer.content[:500]
        return Composition.objects.get(pk=answer["Location"].rstrip("/").rpartition("/")[2])

    return send


def guests_there():
    return User.objects.filter(guest_until__isnull=False)


def sign_up(client, name="dora", **changes):
    form = {"username": name, "password1": PASSWORD, "password2": PASSWORD} | changes
    return client.post("/accounts/signup/", form)


def test_a_visitor_sees_the_form_and_looking_keeps_nothing(client):
    page = page_of(client.get(NEW))
    assert "Without an account" in page
    assert 'name="level" value="quick" checked' in page
    page_of(client.get(f"{NEW}modules/", {"base": "tests/tiny", "find": "upp"}))
    assert guests_there().count() == 0


def test_a_visitor_composes_and_nobody_else_sees_it(client, compose, browser_of, alice):
    composition = compose()
    (guest,) = guests_there()
    assert composition.owner == guest
    assert not Namespace.objects.filter(user=guest).exists()
    assert "Sign up" in page_of(client.get(composition.get_absolute_url()))
    assert "Fruit" in page_of(client.get("/compositions/"))
    assert Client().get(composition.get_absolute_url())["Location"].startswith("/accounts/login/")
    assert browser_of(alice).get(composition.get_absolute_url()).status_code == 404


def test_what_a_visitor_typed_and_composed_is_the_account_s_after_a_sign_up(client, compose):
    composition = compose()
    client.post(KEEP, filled(form_key="77aa", name="Half written"))
    answer = sign_up(client, next=f"{NEW}?draft=77aa")
    assert answer["Location"] == f"{NEW}?draft=77aa"
    assert "Half written" in page_of(client.get(answer["Location"]))
    composition.refresh_from_db()
    assert composition.owner.username == "dora"
    assert Draft.objects.get(key="77aa").owner == composition.owner
    assert "Only this browser can see it" not in page_of(client.get(composition.get_absolute_url()))


@pytest.mark.parametrize(
    ("page", "back"),
    [
        (f"{NEW}?task=fruit-upper", "?next=%2Fcompositions%2Fnew%2F%3Ftask%3Dfruit-upper"),
        ("/modules/?q=a&sort=name", "?next=%2Fmodules%2F%3Fq%3Da%26sort%3Dname"),
        ("/", ""),
        ("/accounts/login/", ""),
    ],
)
def test_whoever_signs_up_comes_back_where_that_helps(db, client, page, back):
    shown = page_of(client.get(page))
    assert f'href="/accounts/signup/{back}"' in shown
    assert shown.count('href="/accounts/signup/"') == (0 if back else shown.count('href="/accounts/signup/'))


def test_it_is_the_account_s_too_after_a_sign_in(client, compose, alice):
    composition = compose()
    client.post("/accounts/login/", {"login": "alice", "password": PASSWORD})
    composition.refresh_from_db()
    assert composition.owner == alice


def test_what_is_not_quick_needs_an_account_and_the_form_stays(client, settings):
    settings.HUB_COMPOSE_QUICK_S = 0
    page = page_of(client.post(NEW, filled(name="A long one")), 422)
    assert "Sign up for an account to go on" in page
    assert 'value="A long one"' in page
    assert not Composition.objects.exists()


def test_a_visitor_has_one_composition_at_a_time(client, compose):
    compose()
    assert "not finished yet" in page_of(client.post(NEW, filled(seed="8")), 422)


def test_an_address_composes_so_often_within_a_day_whatever_is_deleted(compose, client, settings):
    settings.HUB_VISITORS_COMPOSE_A_DAY = 2
    for seed in ("1", "2"):
        composition = compose(seed=seed)
        composition.owner.attempts.create(composition_id=composition.pk, is_quick=True)
        Composition.objects.filter(pk=composition.pk).delete()
    assert "have composed 2 times within a day" in page_of(client.post(NEW, filled(seed="3")), 422)
    assert "have composed 2 times" in page_of(Client().post(NEW, filled(seed="3")), 422)
    assert Client(REMOTE_ADDR="203.0.113.7").post(NEW, filled(seed="3")).status_code == 302


def test_visitors_together_have_so_many_unfinished(compose, client, monkeypatch):
    monkeypatch.setattr("composer.guests.UNFINISHED_MAX", 1)
    compose()
    assert "Busy" in page_of(Client(REMOTE_ADDR="203.0.113.7").post(NEW, filled()), 422)


def test_an_address_has_so_many_guests(db, monkeypatch):
    monkeypatch.setattr(guests, "OF_ADDRESS_MAX", 1)
    first = guest_create(address_hash="a")
    with pytest.raises(Refusal, match="Too many visitors"):
        guest_create(address_hash="a")
    guest_create(address_hash="b")
    User.objects.filter(pk=first.pk).update(guest_until=Now() - timedelta(seconds=1))
    guest_create(address_hash="a")


def test_where_visitors_may_not_compose_they_are_asked_to_sign_in(client, settings):
    settings.HUB_VISITORS_COMPOSE_A_DAY = 0
    assert client.get(NEW)["Location"].startswith("/accounts/login/")
    assert client.post(KEEP, filled())["Location"].startswith("/accounts/login/")
    assert guests_there().count() == 0


@pytest.mark.parametrize("path", ["publish/", "share/", "mail/"])
def test_a_guest_neither_publishes_nor_shares_nor_gets_mail(client, compose, path):
    composition = compose()
    address = composition.get_absolute_url()
    assert client.post(f"{address}{path}")["Location"].startswith("/accounts/login/")
    assert share_of(composition) is None


def test_a_guest_reads_the_report_and_downloads_the_adapter(client, done):
    page_of(client.post(KEEP, filled()))
    composition = done(owner=guests_there().get())
    page = page_of(client.get(composition.get_absolute_url()))
    assert "Only this browser can see it" in page
    assert "You need an account to publish" in page
    assert client.get(f"{composition.get_absolute_url()}adapter.zip").status_code == 200
    assert client.get(f"/try/compositions/{composition.pk}/").status_code == 200


def test_after_a_day_a_guest_goes_with_all_its_files(done, django_capture_on_commit_callbacks):
    guest = guest_create(address_hash="a")
    composition = done(owner=guest)
    sha256 = composition.files.get(path="adapter_model.safetensors").sha256
    guests_sweep()
    assert guest_find(guest.pk) == guest
    User.objects.filter(pk=guest.pk).update(guest_until=Now() - timedelta(seconds=1))
    assert guest_find(guest.pk) is None
    with django_capture_on_commit_callbacks(execute=True):
        guests_sweep()
    assert not User.objects.filter(pk=guest.pk).exists()
    assert not Composition.objects.exists()
    with pytest.raises(Exception, match=r"."):
        store().open(sha256)


def test_what_still_runs_when_the_day_is_over_is_cancelled_first(compose):
    composition = compose()
    Composition.objects.filter(pk=composition.pk).update(status=Status.RUNNING)
    guests_there().update(guest_until=Now() - timedelta(seconds=1))
    guests_sweep()
    composition.refresh_from_db()
    assert composition.cancel_requested
    Composition.objects.filter(pk=composition.pk).update(status=Status.CANCELLED)
    guests_sweep()
    assert not guests_there().exists()


def test_what_an_account_took_over_stays_when_the_guest_goes(client, compose):
    composition = compose()
    sign_up(client)
    guests_there().update(guest_until=Now() - timedelta(seconds=1))
    guests_sweep()
    assert not guests_there().exists()
    assert Composition.objects.get().pk == composition.pk


def test_a_guest_keeps_few_drafts_and_short_ones(client):
    for number in range(4):
        client.post(KEEP, filled(form_key=f"key{number}"))
    assert Draft.objects.count() == GUEST_DRAFTS_MAX
    said = page_of(client.post(KEEP, filled(sentence="", shots_text="x" * GUEST_DRAFT_CHARACTERS_MAX)))
    assert "Not saved: This is too long" in said


def test_a_guest_s_composition_is_stopped_sooner(alice):
    assert deadline_s(guest_create(address_hash="a")) == GUEST_DEADLINE_S
    assert deadline_s(alice) == site_settings.HUB_COMPOSE_DEADLINE_S


def test_nobody_signs_in_as_a_guest(client, compose):
    guest = compose().owner
    other = Client()
    other.post("/accounts/login/", {"login": guest.username, "password": ""})
    assert "_auth_user_id" not in other.session
