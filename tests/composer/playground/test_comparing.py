"""One question to several modules: their answers, and the base's, beside each other."""

import pytest
from django.test import Client

from composer.playground.models import TryOut
from hub_site.accounts.models import User
from hub_site.jobs.models import Status
from modules_registry.models import Module
from modules_registry.services import module_edit
from tests.factories import card_file, config_file, make_module
from tests.pages.test_pages import require_calm

HTMX = {"HX-Request": "true"}
NAMES = ("bob/upper", "bob/lower", "alice/plural", "alice/quote")

pytestmark = pytest.mark.usefixtures("queued_ids")


@pytest.fixture
def several(base, alice, bob):
    owners = {"alice": alice, "bob": bob}
    for seed, full_name in enumerate(NAMES):
        owner, _, name = full_name.partition("/")
        card = f"# {name}\n\n| input | output |\n|---|---|\n| `{name} it` | `x` |\n"
        make_module(owners[owner], name, seed=seed, card_file=card_file(card))


def address(*names: str) -> str:
    return "/try/compare/?" + "&".join(f"id={name}" for name in names)


def text_of(answer) -> str:
    return answer.content.decode()


def test_the_comparison_brings_the_box_by_its_address(client, several):
    page = text_of(client.get("/modules/compare/", {"id": NAMES[:2]}))
    assert 'hx-get="/try/compare/?id=bob%2Fupper&amp;id=bob%2Flower"' in page
    fragment = text_of(client.get(address(*NAMES[:2]), headers=HTMX))
    assert "<html" not in fragment
    assert 'name="input"' in fragment
    for example in ("upper it", "lower it"):
        assert f'value="{example}"' in fragment
    require_calm(text_of(client.get(address(*NAMES[:2]))))


@pytest.mark.parametrize("count", [2, 4])
def test_one_question_is_answered_by_each_and_by_the_base(client, several, run, count):
    names = NAMES[:count]
    waiting = text_of(client.post(address(*names), {"input": "<b>"}, headers=HTMX))
    tryouts = list(TryOut.objects.order_by("created_at"))
    assert [tryout.version.module.full_name for tryout in tryouts] == list(names)
    assert {tryout.input for tryout in tryouts} == {"<b>"}
    answers = "/try/answers/?" + "&".join(f"of={tryout.pk}" for tryout in tryouts)
    assert f'hx-get="{answers.replace("&", "&amp;")}&amp;known=queued-0' in waiting
    for tryout in tryouts:
        run(tryout)
    shown = text_of(client.get(f"{answers}&known=queued-0", headers=HTMX))
    assert "hx-get" not in shown
    assert shown.count("<figure") == count + 1
    assert "The base alone" in shown
    assert all(name in shown for name in names)
    assert "<b>" not in shown
    known = ".".join(["done"] * count)
    assert client.get(f"{answers}&known={known}", headers=HTMX).status_code == 204
    assert Client().get(answers).status_code == 404


def test_without_scripts_the_answers_have_a_page_that_comes_again_by_itself(client, several, run):
    asked = client.post(address(*NAMES[:2]), {"input": "apple"})
    page = text_of(client.get(asked.headers["Location"]))
    assert 'http-equiv="refresh"' in page
    require_calm(page)
    first, second = TryOut.objects.order_by("created_at")
    run(first)
    half = text_of(client.get(asked.headers["Location"]))
    assert half.count("<figure") == 2
    assert 'http-equiv="refresh"' in half
    run(second)
    whole = text_of(client.get(asked.headers["Location"]))
    assert 'http-equiv="refresh"' not in whole
    assert whole.count("<figure") == 3


def test_each_is_asked_in_its_own_template_and_the_base_in_each(client, several, run, alice, bob):
    module_edit(editor=bob, module=Module.objects.get(name="upper"), prompt_template="Upper: {input}")
    client.post(address(*NAMES[:2]), {"input": "apple"})
    for tryout in TryOut.objects.all():
        run(tryout)
    tryouts = TryOut.objects.order_by("created_at")
    assert tryouts[0].template != tryouts[1].template
    shown = text_of(client.get("/try/answers/", {"of": [tryout.pk for tryout in tryouts]}, headers=HTMX))
    assert shown.count("<figure") == 4
    assert "asked as bob/upper" in shown
    assert "Upper: apple" in shown


def test_what_is_over_a_limit_asks_nobody(client, several, settings):
    settings.HUB_TRY_VISITORS_PER_MINUTE = 1
    client.post(address(*NAMES[:2]), {"input": "apple"})  # together they count once
    asked = set(TryOut.objects.values_list("pk", flat=True))
    assert len(asked) == 2
    refused = client.post(address(*NAMES[:2]), {"input": "apple"}, headers=HTMX)
    assert refused.headers["HX-Retarget"] == "#try-refusal"
    assert "within a minute" in text_of(refused)
    page = client.post(address(*NAMES[:2]), {"input": "apple"})
    assert page.status_code == 429
    assert "within a minute" in text_of(page)
    assert set(TryOut.objects.values_list("pk", flat=True)) == asked


def test_modules_of_two_bases_or_of_none_here_are_not_asked_and_it_is_said_why(client, several, alice):
    make_module(alice, "foreign", config_file=config_file(base_model_name_or_path="far/away"))
    names = ("bob/upper", "alice/foreign")
    assert "far/away is not in this site" in text_of(client.get(address(*names), headers=HTMX))
    refused = client.post(address(*names), {"input": "apple"})
    assert refused.status_code == 409
    assert not TryOut.objects.exists()


@pytest.mark.parametrize(
    "names",
    [(), NAMES[:1], NAMES[:1] * 2, (*NAMES, "bob/none"), ("bob/upper", "bob/none"), ("%00", "bob/upper")],
)
def test_what_is_no_comparison_is_not_there(client, several, names):
    assert client.get(address(*names)).status_code == 404


@pytest.mark.parametrize("query", ["", "of=x", "of=%00", "of=00000000-0000-0000-0000-000000000000"])
def test_answers_that_are_none_of_the_asker_s_are_not_there(client, several, query):
    assert client.get(f"/try/answers/?{query}").status_code == 404


def test_a_private_module_is_asked_by_who_may_see_it_alone(client, several, browser_of, bob):
    Module.objects.filter(name="upper").update(private=True)
    assert client.get(address(*NAMES[:2])).status_code == 404
    assert browser_of(User.objects.get(username="bob")).get(address(*NAMES[:2])).status_code == 200


def test_what_is_not_measured_leads_to_a_search_by_examples(client, several):
    page = text_of(client.get("/modules/compare/", {"id": NAMES[:2]}))
    assert 'href="/find/?base=tests/tiny"' in page


def test_a_comparison_counts_as_one_question_of_those_within_a_minute(client, several, settings, run):
    settings.HUB_TRY_VISITORS_PER_MINUTE = 2
    for _ in range(2):
        assert client.post(address(*NAMES), {"input": "a"}, headers=HTMX).status_code == 200
        for tryout in TryOut.objects.exclude(status=Status.DONE):
            run(tryout)
    client.post(address(*NAMES), {"input": "a"}, headers=HTMX)
    assert TryOut.objects.count() == 2 * len(NAMES)
