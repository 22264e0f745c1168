"""The example report: the site makes it itself, once for each release, and everybody reads it."""

import re

import pytest

from composer.models import Composition
from composer.share import example
from composer.share.example import example_keep, example_link
from composer.share.services import share_withdraw
from composer.task.demo_tasks import demo_task
from hub_site.accounts.services import user_create
from hub_site.jobs.models import Status
from modules_registry.models import BaseModel
from tests.composer.test_pages import page_of
from tests.factories import config_file, make_base, make_module

pytestmark = pytest.mark.usefixtures("wakes")  # nothing here reaches a broker

EXAMPLE = "/compositions/example/"
TASK = "fruit-upper"


@pytest.fixture
def demo(db, tmp_path):
    """The demo account, and a module for a base that is called as the demo world's."""
    owner = user_create(username="demo")
    name = demo_task(TASK).base
    make_base(tmp_path / "base", name=name)
    make_module(owner, "fruit", config_file=config_file(base_model_name_or_path=name))
    return owner


@pytest.fixture
def finish(done):
    """Finish what the site has asked for, with the report of a stand-in for the core."""

    def end(composition):
        other = done()
        report = other.report
        other.delete()
        Composition.objects.filter(pk=composition.pk).update(
            status=Status.DONE, report=report, finished_at=other.finished_at
        )

    return end


def test_the_site_asks_for_its_example_once(demo):
    example_keep()
    example_keep()
    (made,) = Composition.objects.all()
    assert (made.owner, made.name, made.status) == (demo, TASK, Status.QUEUED)
    assert made.examples.filter(role="held_out").count() == len(demo_task(TASK).held_out)
    assert example_link() is None


def test_an_operator_can_do_without(demo, settings):
    settings.HUB_EXAMPLE_REPORT = "no"
    example_keep()
    assert not Composition.objects.exists()


def test_without_the_demo_s_base_model_there_is_none(db, client):
    user_create(username="demo")
    example_keep()
    assert not Composition.objects.exists()
    assert client.get(EXAMPLE).status_code == 404
    assert EXAMPLE not in page_of(client.get("/"))


def test_when_it_is_done_everybody_reads_it_and_the_home_page_leads_there(demo, client, finish):
    example_keep()
    finish(Composition.objects.get())
    example_keep()
    page = page_of(client.get(EXAMPLE))
    assert "Example report" in page
    assert "noindex" not in page
    assert "X-Robots-Tag" not in client.get(EXAMPLE)
    (download,) = set(re.findall(r'href="(/shared/[^"]+/report.json)"', page))
    assert client.get(download).status_code == 200
    told = client.get("/api/v1/example").json()
    assert client.get(told["api_url"].removeprefix("http://testserver")).json()["name"] == TASK
    home = page_of(client.get("/"))
    assert home.count(f'href="{EXAMPLE}"') >= 4  # the three drawings, and the sentence below them
    assert "50 %" in home


def test_a_new_release_makes_another_one_and_the_old_one_stands_until_then(demo, finish, monkeypatch):
    example_keep()
    first = Composition.objects.get()
    finish(first)
    example_keep()
    monkeypatch.setattr(example, "release", lambda: "99.0")
    example_keep()
    assert example_link().composition == first
    second = Composition.objects.exclude(pk=first.pk).get()
    finish(second)
    example_keep()
    assert example_link().composition == second
    assert list(Composition.objects.all()) == [second]


def test_a_withdrawn_link_is_made_again(demo, finish):
    example_keep()
    made = Composition.objects.get()
    finish(made)
    example_keep()
    share_withdraw(owner=demo, composition_id=made.pk)
    assert example_link() is None
    example_keep()
    assert example_link().composition == made


def test_one_that_failed_is_asked_for_again_after_some_hours(demo):
    example_keep()
    made = Composition.objects.get()
    Composition.objects.filter(pk=made.pk).update(status=Status.FAILED, finished_at=made.created_at)
    example_keep()
    assert Composition.objects.get() == made
    Composition.objects.filter(pk=made.pk).update(finished_at=made.created_at - 2 * example.TRIED_AGAIN_AFTER)
    example_keep()
    assert not Composition.objects.exists()
    example_keep()
    assert Composition.objects.get() != made


def test_the_task_of_a_library_that_is_loaded_goes_first(demo, tmp_path):
    assert example.example_task().name == TASK
    first = demo_task(TASK).base
    assert BaseModel.objects.get().name == first
    make_base(tmp_path / "english", name="demo/smollm2-135m")
    assert example.example_task().name == "en-past-quotes"


def test_somebody_else_s_composition_is_no_example(demo, done):
    done(idempotency_key=f"{example.KEY}x")
    assert example_link() is None
