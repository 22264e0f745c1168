"""The pages of imports, as Alice, a stranger and a visitor meet them."""

from datetime import timedelta
from html import unescape

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.utils import timezone

from hub_site.jobs.models import LEASE, Status
from modules_registry.importing import runner
from modules_registry.importing.models import ModuleImport
from modules_registry.importing.services import import_request
from modules_registry.models import Module
from tests.modules_registry.importing.repositories import repository

pytestmark = pytest.mark.django_db
NEW = "/modules/imports/new/"
LIST = "/modules/imports/"


def text(response):
    return unescape(response.content.decode())


def asked(alice, *sources):
    return import_request(owner=alice, namespace=alice.namespace, sources=sources, enqueue=False)


@pytest.fixture
def done(hub, alice, base):
    """A finished import of everything there."""
    job = asked(alice, "far")
    runner.import_run(job.pk)
    return job


def test_what_is_typed_and_what_is_in_the_list_is_queued(
    alice, browser_of, queued_ids, settings, django_capture_on_commit_callbacks
):
    settings.HUB_IMPORT_ENDPOINT = "https://huggingface.co"
    form = {
        "namespace": "alice",
        "sources": "far/one@v1\n\nhttps://huggingface.co/far/two/tree/main/\n",
        "list_file": SimpleUploadedFile("list.txt", b"# mine\r\nfar/three\r\nfar/one@v1\r\n"),
        "base": "google/flan-t5-large",
    }
    with django_capture_on_commit_callbacks(execute=True):
        response = browser_of(alice).post(NEW, form)
    job = ModuleImport.objects.get()
    assert response["Location"] == f"/modules/imports/{job.pk}/"
    assert job.sources == ["far/one@v1", "far/two@main", "far/three"]
    assert (job.owner, job.namespace, job.base_name) == (alice, alice.namespace, "google/flan-t5-large")
    assert queued_ids == [str(job.pk)]


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"sources": ""}, "sources", "Name a repository or an owner"),
        ({"sources": "../etc"}, "sources", "“../etc” is not a repository"),
        ({"sources": "https://elsewhere.example/far/one"}, "sources", "is not a repository"),
        ({"namespace": "bob"}, "namespace", "bob"),
        ({"base": "/home/me"}, "base", "names nothing on the Hub"),
        ({"list_file": SimpleUploadedFile("l", b"\xff\xfe")}, "list_file", "not plain text"),
        ({"list_file": SimpleUploadedFile("l", b"a/b\n" * 100_001)}, "list_file", "larger than 400 KB"),
    ],
)
def test_a_refused_wish_says_why_at_its_field_and_keeps_what_was_typed(
    alice, bob, browser_of, changes, field, sentence
):
    form = {"namespace": "alice", "sources": "far/one", "base": "a/kept-base"} | changes
    response = browser_of(alice).post(NEW, form)
    assert response.status_code == 422
    assert sentence in response.context["form"].errors[field][0]
    if field != "base":
        assert "a/kept-base" in text(response)
    assert not ModuleImport.objects.exists()


def test_the_page_says_what_became_of_each_repository_and_why(done, alice, browser_of):
    page = text(browser_of(alice).get(done.get_absolute_url()))
    for part in (
        'href="/alice/good"',
        "converted from",
        "far/wrong-rank",
        "far/harmful",
        "far/empty holds no adapter: it needs adapter_config.json",
        "Try the refused again",
    ):
        assert part in page
    for item in done.items.exclude(version=None):
        for repair in item.version.origin.repairs:
            assert repair["sentence"] in page
    assert "hx-get" not in page.partition('id="progress"')[2].partition(">")[0]


def test_one_state_can_be_looked_at_alone(done, alice, browser_of):
    page = text(browser_of(alice).get(f"{done.get_absolute_url()}?state=refused"))
    assert "far/harmful" in page
    assert "/alice/good" not in page
    assert browser_of(alice).get(f"{done.get_absolute_url()}?state=%00&page=x").status_code == 200


def test_the_page_moves_until_the_import_is_finished(hub, alice, base, browser_of):
    job, client = asked(alice, "far/good"), browser_of(alice)
    page = text(client.get(job.get_absolute_url()))
    assert f'hx-get="{job.get_absolute_url()}progress/"' in page
    assert '<noscript><meta http-equiv="refresh"' in page
    assert "Cancel" in page
    fragment = client.get(f"{job.get_absolute_url()}progress/")
    assert "Queued" in text(fragment)
    assert "<html" not in text(fragment)
    runner.import_run(job.pk)
    assert client.get(f"{job.get_absolute_url()}progress/")["HX-Refresh"] == "true"


def test_an_import_that_nobody_takes_says_so(alice, browser_of):
    job = asked(alice, "far/good")
    address = job.get_absolute_url()
    assert "no worker has picked it up" not in text(browser_of(alice).get(address))
    ModuleImport.objects.update(created_at=timezone.now() - timedelta(seconds=30))
    assert "no worker has picked it up" in text(browser_of(alice).get(address))
    last_beat = timezone.now() - timedelta(seconds=15)
    ModuleImport.objects.update(status=Status.RUNNING, lease_until=last_beat + LEASE)
    assert "Its worker has not answered for" in text(browser_of(alice).get(address))


def test_the_refused_are_tried_again_with_what_was_asked_for_them(done, hub, alice, base, browser_of):
    hub["far/empty"] = repository()
    response = browser_of(alice).post(f"{done.get_absolute_url()}again/")
    again = ModuleImport.objects.exclude(pk=done.pk).get()
    assert response["Location"] == again.get_absolute_url()
    assert again.sources == ["far/harmful", "far/empty"]
    runner.import_run(again.pk)
    assert [item.state for item in again.items.all()] == ["refused", "imported"]
    assert Module.objects.filter(name="empty").exists()


def test_what_came_in_whole_cannot_be_tried_again(hub, alice, base, browser_of):
    job = asked(alice, "far/good")
    client = browser_of(alice)
    again = f"{job.get_absolute_url()}again/"
    assert "It is not finished yet" in text(client.post(again, follow=True))
    runner.import_run(job.pk)
    page = text(client.post(again, follow=True))
    assert "Everything was imported" in page
    assert "Try the" not in page
    assert ModuleImport.objects.count() == 1


def test_a_waiting_import_is_cancelled_at_once(alice, browser_of):
    job, client = asked(alice, "far/good"), browser_of(alice)
    page = text(client.post(f"{job.get_absolute_url()}cancel/", follow=True))
    job.refresh_from_db()
    assert job.status == Status.CANCELLED
    assert "Cancelled" in page
    assert "Try again" in page


def test_my_imports_are_listed_with_what_became_of_them(done, alice, browser_of):
    assert "No imports yet" in text(
        browser_of(done.owner.__class__.objects.create(username="nobody")).get(LIST)
    )
    page = text(browser_of(alice).get(LIST))
    assert done.get_absolute_url() in page
    assert page.count('data-label="Refused" class="num">2<') == 1


@pytest.mark.parametrize("path", ["", "progress/", "cancel/", "again/"])
def test_nobody_else_sees_or_touches_an_import(alice, charlie, client, browser_of, path):
    job = asked(alice, "far/good")
    address = f"{job.get_absolute_url()}{path}"
    call = "post" if path in ("cancel/", "again/") else "get"
    assert getattr(browser_of(charlie), call)(address).status_code == 404
    assert getattr(client, call)(address)["Location"].startswith("/accounts/login/")
    job.refresh_from_db()
    assert (job.status, job.cancel_requested) == (Status.QUEUED, False)


def test_a_visitor_signs_in_before_importing(client, db):
    assert client.get(LIST)["Location"] == f"/accounts/login/?next={LIST}"
    assert client.get(NEW)["Location"] == f"/accounts/login/?next={NEW}"
    assert client.post(NEW, {"sources": "far/one"})["Location"].startswith("/accounts/login/")
    assert not ModuleImport.objects.exists()


@pytest.mark.parametrize("path", ["/modules/", "/modules/new/", "/help/hub/"])
def test_the_import_is_found_where_one_looks_for_it(alice, browser_of, path):
    assert f'href="{NEW}"' in text(browser_of(alice).get(path))


def test_too_many_unfinished_imports_are_refused_on_the_page(alice, browser_of, settings):
    settings.HUB_IMPORTS_UNFINISHED_MAX = 1
    asked(alice, "far/good")
    page = text(browser_of(alice).post(NEW, {"namespace": "alice", "sources": "far/one"}))
    assert "You have 1 imports waiting or running" in page
    assert ModuleImport.objects.count() == 1


def test_a_module_s_page_says_where_it_comes_from_even_after_another_card(done, alice, browser_of):
    client = browser_of(alice)
    module = Module.objects.get(name="wrong-rank")
    origin = module.current.origin
    client.post("/alice/wrong-rank/edit", {"sentence": "S", "licence": "mit", "card": "# Another\n"})
    module.refresh_from_db()
    assert module.current.number == 2
    page = text(client.get("/alice/wrong-rank"))
    for part in (origin.url, "far/wrong-rank", origin.weights_sha256, "adapter_model.bin", "converted"):
        assert part in page
    for repair in origin.repairs:
        assert repair["sentence"] in page


def test_an_uploaded_module_says_nothing_of_an_import(french, client):
    assert "Where it comes from" not in text(client.get("/alice/french"))
