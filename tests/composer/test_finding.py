"""Modules found by examples: who may search what, what is stored, what the page and the API show."""

import html
import json

import pytest
from django.test import Client
from rest_framework.test import APIClient

from composer.core.spec.examples import example_sha256
from composer.finding.selectors import found_modules
from composer.finding.services import example_search_ask
from composer.models import ExampleSearch, ScreenedLoss
from composer.playground.selectors import Requester
from composer.run.example_search import take_in
from composer.run.job_folder import write_search
from composer.run.runner import claim_next
from composer.task.demo_tasks import demo_tasks
from hub_site.common.errors import Refusal
from hub_site.jobs import leases
from hub_site.jobs.models import Status
from modules_registry.likeness import copies_of
from modules_registry.models import Module, Sketch, Version
from tests.composer.conftest import SHOTS

FIND = "/find/"
ASKED = {"examples": [{"input": "a", "output": "A"}], "sentence": "fruit"}
PASTED = "apple\tAPPLE\npear\tPEAR"
pytestmark = pytest.mark.usefixtures("wakes", "modules")


@pytest.fixture
def demo_base(base, monkeypatch):
    """The base of the tests stands for the demo world's."""
    monkeypatch.setattr("composer.finding.selectors.demo_base_name", lambda: base.name)
    monkeypatch.setattr("composer.finding.services.demo_base_name", lambda: base.name)
    return base


@pytest.fixture
def search(alice):
    return example_search_ask(requester=Requester(alice), sentence="fruit", examples=SHOTS)


def text_of(answer):
    return answer.content.decode()


def measured(search, losses, base_loss=2.0, answers=None):
    """Let a worker claim the search and tell what it measured."""
    claimed = leases.claim(ExampleSearch, search.pk, worker="tests")
    rows = [{"name": name, "loss_nats": loss, "n_shots": n} for name, (loss, n) in losses.items()]
    events = [
        {"event": "base", "loss_nats": base_loss},
        {"event": "alone", "modules": rows},
        {"event": "answers", "base": "plain", "modules": answers or {}},
    ]
    take_in(claimed, events)
    leases.finish(claimed, Status.DONE)
    claimed.refresh_from_db()
    return claimed


def test_a_search_holds_the_modules_that_fit_the_most_promising_first(search):
    assert search.modules[0]["name"] == "bob/fruit"
    assert {row["name"] for row in search.modules} == {"bob/first", "bob/fruit", "bob/upper"}
    assert (search.n_fitting, search.modules[0]["shared"]) == (3, ["fruit"])


def test_a_quick_place_takes_it_before_any_composition(search, ask):
    ask()
    claimed = claim_next(is_quick=True)
    assert (claimed.pk, claimed.is_quick) == (search.pk, True)


def test_what_is_measured_orders_the_modules_and_tells_the_drop(search, alice):
    done = measured(
        search,
        {"bob/upper": (0.5, 3), "bob/first": (1.0, 3), "bob/fruit": (0.1, 1)},
        answers={"bob/upper": "APPLE"},
    )
    found = found_modules(done, alice)
    assert [module.name for module in found] == ["bob/upper", "bob/first", "bob/fruit"]
    assert (found[0].drop_nats, found[0].answer, found[2].loss_nats) == (1.5, "APPLE", None)


def test_a_module_that_was_hidden_meanwhile_is_not_shown(search, alice, bob):
    done = measured(search, {"bob/upper": (0.5, 3)})
    Module.objects.filter(name="upper").update(private=True)
    assert "bob/upper" not in {module.name for module in found_modules(done, alice)}
    assert "bob/upper" in {module.name for module in found_modules(done, bob)}


def test_modules_with_the_same_weights_are_one_entry(search, alice, bob):
    weights = Version.objects.get(module__name="upper").weights_sha256
    Version.objects.filter(module__name="first").update(weights_sha256=weights)
    done = measured(search, {"bob/upper": (0.5, 3), "bob/first": (0.5, 3), "bob/fruit": (0.7, 3)})
    found = [(module.name, module.same_weights) for module in found_modules(done, alice)]
    assert sorted(found[0][:1] + found[0][1]) == ["bob/first", "bob/upper"]
    assert found[1] == ("bob/fruit", ())
    Module.objects.filter(name=found[0][0].partition("/")[2]).update(private=True)
    assert found_modules(done, alice)[0].same_weights == ()  # the one that is left


def test_losses_stay_with_who_measured_them_and_a_visitor_s_with_nobody(search, demo_base, monkeypatch):
    told = {"event": "screened", "context": "c", "module": "m",
            "nats": {example_sha256(SHOTS[0]): 1.0, example_sha256(SHOTS[1]): 2.0}}  # fmt: skip
    monkeypatch.setattr("composer.run.events.ready_made_hashes", lambda: {example_sha256(SHOTS[1])})
    visitor = example_search_ask(requester=Requester(None, "session", "address"), examples=SHOTS)
    take_in(leases.claim(ExampleSearch, visitor.pk, worker="w"), [told])
    assert list(ScreenedLoss.objects.values_list("owner", "nats")) == [(None, 2.0)]
    take_in(leases.claim(ExampleSearch, search.pk, worker="w"), [told])
    assert set(ScreenedLoss.objects.values_list("owner", "nats")) == {(None, 2.0), (search.owner_id, 1.0)}


def test_the_job_s_folder_has_what_the_core_reads_and_known_losses(search, alice, tmp_path):
    version = Version.objects.get(module__name="upper")
    ScreenedLoss.objects.create(
        owner=alice,
        context="c",
        module_sha256=version.weights_sha256,
        example_sha256=example_sha256(SHOTS[0]),
        nats=1.0,
    )
    folder = tmp_path / "job"
    folder.mkdir()
    write_search(search, Version.objects.in_bulk([version.pk]), folder)
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"find", "job.json", "examples.jsonl", "base/config.json"} <= names
    assert {"modules/0/adapter_model.safetensors", "modules/0/adapter_config.json"} <= names
    assert '"nats": {' in (folder / "screened.jsonl").read_text()


def test_the_page_takes_pasted_examples_and_shows_the_modules(browser_of, alice):
    browser = browser_of(alice)
    assert "Find modules by examples" in text_of(browser.get(f"{FIND}?q=fruit"))
    answer = browser.post(
        FIND, {"shots_text": PASTED, "sentence": "fruit", "base": "tests/tiny"}, follow=True
    )
    search = ExampleSearch.objects.get()
    assert answer.request["PATH_INFO"] == f"/find/{search.pk}/"
    assert "bob/fruit" in text_of(answer)
    assert search.pairs == [("apple", "APPLE"), ("pear", "PEAR")]
    page = text_of(browser.get(f"/compositions/new/?found={search.pk}"))
    assert "APPLE" in page
    assert browser.get("/compositions/new/?found=x").status_code == 404


def test_the_compose_form_s_examples_search_too(browser_of, alice):
    sent = {
        "shots_input": ["apple", ""],
        "shots_output": ["APPLE", ""],
        "base": "tests/tiny",
        "name": "a task",
    }
    browser_of(alice).post(FIND, sent)
    assert ExampleSearch.objects.get().pairs == [("apple", "APPLE")]


def test_the_part_that_changes_comes_only_when_it_is_new(browser_of, alice, search):
    browser, address = browser_of(alice), f"/find/{search.pk}/"
    page = text_of(browser.get(address, headers={"HX-Request": "true"}))
    known = page.partition("?known=")[2].partition('"')[0]
    assert browser.get(f"{address}?known={known}", headers={"HX-Request": "true"}).status_code == 204
    measured(search, {"bob/upper": (0.5, 3)})
    page = text_of(browser.get(f"{address}?known={known}", headers={"HX-Request": "true"}))
    assert "1.500" in page
    assert "hx-get" not in page


def test_a_visitor_searches_the_demo_base_and_nobody_else_sees_it(demo_base, browser_of, alice):
    visitor = Client()
    answer = visitor.post(FIND, {"shots_text": PASTED, "base": demo_base.name})
    address = answer.headers["Location"]
    assert visitor.get(address).status_code == 200
    begun = f"/compositions/new/?found={ExampleSearch.objects.get().pk}"
    assert f'href="{begun}"' in text_of(visitor.get(address))
    assert "APPLE" in text_of(visitor.get(begun))
    for other in (Client(), browser_of(alice)):
        assert other.get(begun).status_code == 404
    assert Client().get(address).status_code == browser_of(alice).get(address).status_code == 404


def test_without_an_account_other_bases_are_not_searched(base):
    page = text_of(Client().get(FIND))
    assert base.name not in page
    with pytest.raises(Refusal) as refused:
        example_search_ask(requester=Requester(None, "session", "address"), base=base.name, examples=SHOTS)
    assert refused.value.status == 401


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ({"shots_text": ""}, "Give at least one example"),
        ({"shots_text": "alone"}, "alone"),
        ({"shots_text": PASTED, "base": "none"}, "none"),
        ({"shots_text": "\n".join(f"{number}\tx" for number in range(21))}, "20"),
    ],
)
def test_what_cannot_be_searched_is_told_at_its_field(browser_of, alice, sent, said):
    answer = browser_of(alice).post(FIND, {"base": "tests/tiny"} | sent)
    assert answer.status_code == 422
    assert said in text_of(answer)
    assert not ExampleSearch.objects.exists()


def test_two_searches_at_once_are_the_most(alice, search, browser_of):
    example_search_ask(requester=Requester(alice), examples=SHOTS)
    answer = browser_of(alice).post(FIND, {"shots_text": PASTED, "base": "tests/tiny"})
    assert answer.status_code == 429
    assert answer.headers["Retry-After"]
    assert "not finished" in text_of(answer)


def test_the_api_answers_with_the_order_by_words_and_then_by_loss(api_of, alice, charlie):
    asked = api_of(alice).post(
        "/api/v1/find", {"examples": [{"input": "a", "output": "A"}], "sentence": "fruit"}
    )
    assert asked.status_code == 202
    assert asked.headers["RateLimit-Policy"] == '"searches";q=30;w=60'
    assert asked.headers["RateLimit"].startswith('"searches";r=29;t=')
    assert asked.data["modules"][0]["name"] == "bob/fruit"
    search = ExampleSearch.objects.get()
    measured(search, {"bob/upper": (0.5, 1)})
    answer = api_of(alice, scope="read").get(asked.headers["Location"])
    best = answer.data["modules"][0]
    assert (best["name"], best["loss_nats"], best["drop_nats"]) == ("bob/upper", 0.5, 1.5)
    assert (answer.data["is_finished"], answer.data["n_tried"]) == (True, 3)
    assert api_of(charlie).get(asked.headers["Location"]).status_code == 404


def test_a_program_without_an_account_searches_the_demo_base_as_the_page_does(
    demo_base, api_of, alice, settings
):
    settings.HUB_TRY_VISITORS_PER_MINUTE = 1
    visitor, elsewhere = APIClient(), APIClient(REMOTE_ADDR="192.0.2.7")
    asked = visitor.post("/api/v1/find", ASKED)
    assert (asked.status_code, asked.headers["RateLimit-Policy"]) == (202, '"searches";q=1;w=60')
    address = asked.headers["Location"]
    measured(ExampleSearch.objects.get(), {"bob/upper": (0.5, 1)})
    assert visitor.get(address).data["modules"][0]["name"] == "bob/upper"
    for other in (elsewhere, api_of(alice)):
        assert other.get(address).status_code == 404
    refused = visitor.post("/api/v1/find", ASKED)
    assert (refused.status_code, refused.data["error"]["code"]) == (429, "too_often")
    assert elsewhere.post("/api/v1/find", ASKED).status_code == 202
    assert not ExampleSearch.objects.exclude(owner=None).exists()


def test_without_an_account_a_program_searches_no_other_base_and_none_where_visitors_may_not(base, settings):
    refused = APIClient().post("/api/v1/find", ASKED | {"base": base.name})
    assert refused.status_code in (400, 401)
    settings.HUB_TRY_VISITORS_PER_MINUTE = 0
    assert APIClient().post("/api/v1/find", ASKED).status_code == 401
    assert not ExampleSearch.objects.exists()


def test_a_ready_made_task_fills_the_form_with_its_examples(browser_of, alice):
    task = next(iter(demo_tasks()))
    page = text_of(browser_of(alice).get(f"{FIND}?task={task.name}"))
    assert html.escape(task.sentence) in page
    for pair in task.shots[:20]:
        assert html.escape(json.dumps(pair.input, ensure_ascii=False)) in page
    assert browser_of(alice).get(f"{FIND}?task=none%00").status_code == 200


def test_weights_saved_again_with_other_metadata_are_the_same_weights(search, alice):
    sketch = Sketch.objects.create(delta_sha256="d" * 64, base_name="tests/tiny", norm=1.0)
    Version.objects.filter(module__name__in=["first", "upper"]).update(sketch=sketch)
    files = Version.objects.filter(sketch=sketch).values_list("weights_sha256", flat=True)
    assert len(set(files)) == 2
    done = measured(search, {"bob/upper": (0.5, 3), "bob/first": (0.5, 3), "bob/fruit": (0.7, 3)})
    found = found_modules(done, alice)
    assert len(found) == 2
    assert {found[0].name, *found[0].same_weights} == {"bob/first", "bob/upper"}
    for module in Module.objects.filter(current__sketch=sketch):  # the module's page says the same
        assert len(copies_of(module.current, alice).same) == 1


def test_the_page_says_how_many_answer_and_offers_the_others_to_be_tried(browser_of, alice, search):
    losses = {"bob/upper": (0.5, 3), "bob/first": (1.0, 3)}
    measured(search, losses, answers={"bob/upper": "APPLE"})
    page = text_of(browser_of(alice).get(f"/find/{search.pk}/"))
    assert "The best 10 answer the first example" in page
    assert page.count('data-label="Answer"') == 1
    assert 'href="/bob/first#try"' in page
