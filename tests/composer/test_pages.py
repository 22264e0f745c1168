"""The pages to compose on: what one can do, what one is told, and who may see it."""

import html
import io
import re
import shlex
import zipfile
from datetime import timedelta

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import get_commands
from django.utils import timezone

from composer import selectors
from composer.__main__ import build_parser
from composer.core.spec.choices import BUDGET_LIMIT, BUDGET_OF_METHOD
from composer.core.spec.example_files import read_examples
from composer.models import Composition, CompositionEvent
from composer.report.verdict import verdict_view
from composer.task.demo_tasks import demo_tasks
from hub_site.common.figures import figures
from hub_site.jobs import leases
from hub_site.jobs.models import Status
from hub_site.jobs.presence import announce
from modules_registry.demo_worlds import ENGLISH, demo_world
from tests.composer.conftest import SHOTS
from tests.factories import make_base
from tests.pages.rendered import collapsed

pytestmark = pytest.mark.usefixtures("wakes")  # nothing here reaches a broker

NEW = "/compositions/new/"


@pytest.fixture
def browser(browser_of, alice, modules):
    return browser_of(alice)


def filled(**changes):
    """What the browser sends for a form that is filled in."""
    form = {
        "form_key": "0f8b", "name": "Fruit", "sentence": "", "base": "tests/tiny", "selection": "all",
        "random_count": "20", "method": "exact", "search": "auto", "budget": "", "seed": "7",
        "shots_input": [pair.input for pair in SHOTS], "shots_output": [pair.output for pair in SHOTS],
        "shots_text": "", "held_out_text": "",
    }  # fmt: skip
    return form | changes


def page_of(response, status=200) -> str:
    assert response.status_code == status, response.content[:500]
    return response.content.decode()


def test_the_form_asks_and_leads_to_the_page_to_watch(browser):
    answer = browser.post(NEW, filled())
    composition = Composition.objects.get()
    assert answer.headers["Location"] == composition.get_absolute_url()
    assert composition.budget == BUDGET_OF_METHOD["exact"]
    assert composition.modules.count() == 3


def test_a_double_click_on_compose_makes_one_composition(browser, wakes, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        places = {browser.post(NEW, filled()).headers["Location"] for _ in range(2)}
    assert len(places) == len(wakes) == Composition.objects.count() == 1


def test_the_same_form_sent_again_with_another_seed_makes_another_composition(browser):
    browser.post(NEW, filled())
    browser.post(NEW, filled(seed="8"))
    assert Composition.objects.count() == 2


def test_rows_a_paste_and_a_file_add_up(browser):
    upload = SimpleUploadedFile("more.csv", b"input,output\nkiwi,KIWI\n")
    browser.post(NEW, filled(shots_text="lemon\tLEMON\n", shots_file=upload, held_out_text="fig\tFIG"))
    composition = Composition.objects.get()
    assert [pair.input for pair in selectors.few_shot_examples(composition)] == [
        "apple",
        "pear",
        "plum",
        "lemon",
        "kiwi",
    ]
    assert [pair.output for pair in selectors.held_out_examples(composition)] == ["FIG"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"shots_input": ["apple", "pear"], "shots_output": ["APPLE", ""]}, "Row 2 has no output"),
        ({"shots_input": [], "shots_output": []}, "Give at least one example"),
        ({"shots_text": '{"input": "a"}'}, "Line 1 has no output"),
        ({"held_out_text": '"unclosed,b'}, "a quotation mark does not close"),
        ({"seed": ""}, "The seed is a whole number from 0"),
        ({"budget": str(BUDGET_LIMIT + 1)}, f"The budget is a whole number from 1 to {BUDGET_LIMIT:,}."),
        ({"base": ""}, "Choose a base model."),
        ({"method": "magic"}, "There is no method “magic”."),
        ({"selection": "random", "random_count": "9"}, "9 modules cannot be drawn: 3 fit"),
        ({"selection": "chosen"}, "Choose at least one module"),
        ({"selection": "steps", "steps": "screen:20+best"}, "“screen:20+best” selects no modules"),
        ({"selection": "screen", "screen_count": "0"}, "The number of modules is a whole number from 1"),
        ({"objective": "exact_match"}, "The objective exact_match has no gradient"),
        ({"nevergrad": "One Plus"}, "Use letters, digits and _ only."),
        ({"rank": "2000"}, "rank must be auto, full or a whole number from 1 to 1024."),
        ({"rank": "small"}, "rank must be auto, full or a whole number from 1 to 1024."),
        ({"rank": "-8"}, "rank must be auto, full or a whole number from 1 to 1024."),
        ({"template": "Q:"}, "The template must contain {input}"),
        ({"max_new_tokens": "0"}, "The number of tokens is a whole number from 1"),
        ({"baselines": "some"}, "There is no choice “some”."),
        ({"selection": "chosen", "modules": ["bob/nothing"]}, "There is no module “bob/nothing” any more"),
        ({"held_out_from": "task:nothing"}, "no longer exist"),
        ({"held_out_from": "composition:../../etc"}, "no longer exist"),
    ],
)
def test_a_mistake_is_told_on_the_form_and_starts_nothing(browser, changes, sentence):
    page = page_of(browser.post(NEW, filled(**changes)), 422)
    assert sentence in page
    assert Composition.objects.count() == 0


ALL_ELSE = {
    "method": "lorahub", "objective": "exact_match", "batch_size": "2", "rank": "4", "template": "Q: {input}",
    "max_new_tokens": "32", "baselines": "thorough", "precision": "fp32", "device": "cpu", "budget": "12",
}  # fmt: skip


def test_everything_the_command_line_takes_is_kept_and_comes_back_in_the_next_form(browser):
    browser.post(
        NEW, filled(**ALL_ELSE, nevergrad="OnePlusOne", selection="steps", steps="random:3 + screen:2")
    )
    composition = Composition.objects.get()
    assert {name: str(getattr(composition, name)) for name in ALL_ELSE} == ALL_ELSE
    assert (composition.search, composition.selection) == ("nevergrad:OnePlusOne", "random:3+screen:2")
    form = browser.get(f"{NEW}?again={composition.pk}").context["form"]
    assert {name: str(form[name].value()) for name in ALL_ELSE} == ALL_ELSE
    assert form["nevergrad"].value() == "OnePlusOne"
    assert (form["selection"].value(), form["steps"].value()) == ("steps", "random:3+screen:2")
    assert form.is_advanced()


def test_an_untouched_form_asks_for_what_measured_best_and_shows_nothing_advanced(browser):
    assert not browser.get(NEW).context["form"].is_advanced()
    browser.post(NEW, filled(method="auto"))
    asked = Composition.objects.get()
    assert (asked.search, asked.objective, asked.selection) == ("auto", "loss", "all")
    assert (asked.precision, asked.device, asked.baselines) == ("auto", "auto", "always")
    assert (asked.rank, asked.batch_size, asked.template, asked.max_new_tokens) == (
        "auto",
        None,
        "auto",
        256,
    )


def test_what_was_typed_and_uploaded_is_still_there_after_a_mistake(browser):
    upload = SimpleUploadedFile("more.jsonl", b'{"input": "kiwi", "output": "KIWI"}')
    page = page_of(browser.post(NEW, filled(seed="", shots_file=upload)), 422)
    for word in ("apple", "PLUM", "kiwi", "KIWI"):
        assert f">{word}</textarea>" in page


@pytest.mark.parametrize("pasted", ["fig,FIG", "fig\tFIG", '{"input": "fig", "output": "FIG"}'])
def test_held_out_examples_of_two_kinds_come_back_as_one_text_that_means_the_same(browser, pasted):
    upload = SimpleUploadedFile("more.jsonl", b'{"input": "kiwi", "output": "KIWI"}')
    refused = browser.post(NEW, filled(budget="0", held_out_text=pasted, held_out_file=upload))
    kept = refused.context["form"]["held_out_text"].value()
    browser.post(NEW, filled(held_out_text=kept))
    held_out = selectors.held_out_examples(Composition.objects.get())
    assert [(pair.input, pair.output) for pair in held_out] == [("fig", "FIG"), ("kiwi", "KIWI")]


def test_a_held_out_file_beside_a_broken_text_is_asked_for_again(browser):
    upload = SimpleUploadedFile("more.jsonl", b'{"input": "kiwi", "output": "KIWI"}')
    page = page_of(browser.post(NEW, filled(held_out_text="fig", held_out_file=upload)), 422)
    assert "then choose this file again" in page


@pytest.mark.parametrize("field", ["shots_file", "held_out_file"])
@pytest.mark.parametrize("content", [b"\n", b"input,output\n", b"  \n\n"])
def test_a_file_without_examples_is_told_and_never_ignored(browser, field, content):
    page = page_of(browser.post(NEW, filled(**{field: SimpleUploadedFile("h.csv", content)})), 422)
    assert "“h.csv” holds no examples" in page
    assert Composition.objects.count() == 0


def test_an_uploaded_file_comes_back_without_the_empty_rows_above_it(browser):
    upload = SimpleUploadedFile("more.csv", b"kiwi,KIWI\n")
    blank = [""] * 5
    page = page_of(
        browser.post(NEW, filled(seed="", shots_input=blank, shots_output=blank, shots_file=upload)), 422
    )
    assert re.search(r'aria-label="Input of example 1">kiwi<', page)


def test_everything_that_is_wrong_is_told_at_once(browser):
    page = page_of(browser.post(NEW, filled(seed="x", budget="0", shots_input=[], shots_output=[])), 422)
    for sentence in (
        "Give at least one example",
        "The seed is a whole number",
        "The budget is a whole number",
    ):
        assert sentence in page
    assert "This field is required" not in page


def test_a_task_without_a_name_is_called_by_its_day(browser):
    browser.post(NEW, filled(name=" "))
    assert Composition.objects.get().name == f"Task of {timezone.now():%-d %b %Y}"


def test_a_header_typed_or_pasted_into_the_grid_is_no_example(browser):
    inputs, outputs = ["input", *(pair.input for pair in SHOTS)], ["output", *(pair.output for pair in SHOTS)]
    browser.post(NEW, filled(shots_input=inputs, shots_output=outputs))
    assert selectors.few_shot_examples(Composition.objects.get()) == SHOTS


def test_a_file_that_is_no_text_is_told_and_nothing_breaks(browser):
    page = page_of(
        browser.post(NEW, filled(shots_file=SimpleUploadedFile("a.csv", b"\x89PNG\r\n\x1a\n\x00"))), 422
    )
    assert "Line 1 is not UTF-8" in page


def test_a_demo_task_fills_the_form_with_one_click_and_brings_its_held_out_examples(browser, demo_bundle):
    task = demo_tasks()[0]
    page = page_of(browser.get(f"{NEW}?task={task.name}"))
    assert all(f">{pair.output}</textarea>" in page for pair in task.shots)
    assert f'value="task:{task.name}" checked' in page
    browser.post(NEW, filled(held_out_from=f"task:{task.name}"))
    assert len(selectors.held_out_examples(Composition.objects.get())) == len(task.held_out)


def test_ready_made_tasks_say_what_they_are_and_most_fold_away(browser, demo_bundle):
    page = page_of(browser.get(NEW))
    assert all(f"{task.sentence}." in page for task in demo_tasks())
    shown, folded = page.split('<details class="more"')[:2]
    assert 0 < shown.count('href="?task=') < 6 < folded.count('href="?task=')


def test_the_form_shows_how_the_demo_s_modules_saw_an_input(browser_of, alice, demo_bundle, tmp_path):
    task = demo_tasks()[0]
    make_base(tmp_path / "base", name=task.base)
    assert f"<code>{task.shots[0].input}</code>" in page_of(browser_of(alice).get(NEW))


def test_another_base_s_form_shows_no_input_of_the_demo(browser):
    assert "saw them" not in page_of(browser.get(NEW))


def test_modules_named_in_the_address_are_chosen_already(browser):
    page = page_of(browser.get(f"{NEW}?modules=bob/upper"))
    assert re.search(r'value="bob/upper" checked', page)
    assert not re.search(r'value="bob/first" checked', page)


def test_again_with_changes_begins_with_what_was_asked(browser, ask):
    earlier = ask(name="Earlier", selection="random:2", seed=99)
    page = page_of(browser.get(f"{NEW}?again={earlier.pk}"))
    assert 'value="Earlier"' in page
    assert 'value="99"' in page
    assert f'value="composition:{earlier.pk}" checked' in page


@pytest.mark.parametrize("which", ["00000000-0000-0000-0000-000000000000", "nonsense"])
def test_again_of_nothing_is_not_found(browser, which):
    assert browser.get(f"{NEW}?again={which}").status_code == 404


def test_without_a_base_the_page_says_what_is_missing(browser_of, alice):
    assert "Ask the site&#x27;s operator" in page_of(browser_of(alice).get(NEW))


def test_without_a_base_staff_are_told_the_command_that_there_is(browser_of, staff):
    page = page_of(browser_of(staff).get(NEW))
    (command,) = re.findall(r"or “./hub manage (\w+)”", page)
    assert command in get_commands()


def test_the_list_is_empty_with_a_way_on_and_then_shows_what_was_asked(browser, ask):
    assert "No compositions yet" in page_of(browser.get("/compositions/"))
    ask(name="Mine & yours")
    assert "Mine &amp; yours" in page_of(browser.get("/compositions/"))


def test_the_list_tells_a_finished_one_s_verdict_and_offers_its_adapter(browser, done):
    composition = done()
    page = page_of(browser.get("/compositions/"))
    assert "Use it" in page
    assert "50\u00a0% of 2 held-out right" in page
    assert f'href="{composition.get_absolute_url()}adapter.zip"' in page


def test_the_list_tells_the_loss_of_one_without_held_out_examples(browser, done):
    without_held_out(done())
    assert "few-shot loss 1.000" in page_of(browser.get("/compositions/"))


def test_a_composition_nobody_picks_up_says_so_on_its_page_and_in_the_api(browser, ask, api_of, alice):
    composition = ask()
    long_ago = timezone.now() - timezone.timedelta(seconds=90)
    Composition.objects.filter(pk=composition.pk).update(created_at=long_ago)
    page = page_of(browser.get(composition.get_absolute_url()))
    assert "No worker has picked it up for 9" in page
    assert "it starts by itself" in page
    address = f"/api/v1/compositions/{composition.pk}"
    said = api_of(alice).get(address).json()["missing_worker"]
    assert said.startswith("No worker has picked it up for 9")
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    assert api_of(alice).get(address).json()["missing_worker"] is None


def test_one_whose_worker_is_silent_says_so_on_its_page_and_in_the_api(browser, ask, api_of, alice):
    held = leases.claim(Composition, ask().pk, worker="w")
    address = f"/api/v1/compositions/{held.pk}"
    assert api_of(alice).get(address).json()["missing_worker"] is None
    Composition.objects.update(lease_until=timezone.now() + timedelta(seconds=9.5))  # of 20
    assert "Its worker has not answered for 1" in page_of(browser.get(held.get_absolute_url()))
    assert "has not answered for 1" in api_of(alice).get(address).json()["missing_worker"]
    leases.finish(held, Status.CANCELLED)
    assert api_of(alice).get(address).json()["missing_worker"] is None


def test_one_behind_others_that_nobody_picks_up_says_so_too(browser, ask):
    first, second = ask(seed=1), ask(seed=2)
    long_ago = timezone.now() - timezone.timedelta(minutes=10)
    Composition.objects.update(created_at=long_ago)
    Composition.objects.filter(pk=first.pk).update(created_at=long_ago - timezone.timedelta(seconds=1))
    page = page_of(browser.get(second.get_absolute_url()))
    assert "1 ahead in queue" in page
    assert "No worker has picked it up for 10 minutes" in page
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    page = page_of(browser.get(second.get_absolute_url()))
    assert "No worker" not in page


def test_one_whose_worker_went_away_says_since_when_and_that_it_goes_on(browser, ask):
    held = leases.claim(Composition, ask().pk, worker="w")
    leases.append_events(held, [CompositionEvent(kind="stage", detail={"stage": "load", "text": "Loading"})])
    now = timezone.now()
    Composition.objects.update(created_at=now - timezone.timedelta(hours=3))
    CompositionEvent.objects.update(at=now - timezone.timedelta(minutes=4, seconds=5))
    leases.hand_back(held)
    page = page_of(browser.get(held.get_absolute_url()))
    assert "the worker stopped" in page
    assert "No worker has picked it up for 4 minutes. Your request is safe: it goes on by itself" in page


def test_one_that_waits_for_the_site_says_for_what(browser, ask, api_of, alice):
    held = leases.claim(Composition, ask().pk, worker="w")
    leases.put_off(held, code="disk_full", reason="The site's disk is full.")
    page = collapsed(page_of(browser.get(held.get_absolute_url())))
    assert "The site&#x27;s disk is full. Nothing is lost; it resumes by itself." in page
    assert "A worker will start it" not in page
    told = api_of(alice).get(f"/api/v1/compositions/{held.pk}").json()
    assert (told["status"], told["put_off_reason"]) == ("queued", "The site's disk is full.")
    long_ago = timezone.now() - timedelta(minutes=5)
    Composition.objects.update(created_at=long_ago)
    assert "No worker" not in page_of(browser.get(held.get_absolute_url()))  # it is not due yet
    Composition.objects.update(due_at=long_ago)
    assert "No worker has picked it up for 5 minutes" in page_of(browser.get(held.get_absolute_url()))


def test_one_that_waits_for_the_site_says_when_it_is_tried_again_and_how_many_begin_before(
    browser, ask, api_of, alice
):
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    held, *others = (ask(seed=seed) for seed in range(3))
    Composition.objects.update(is_quick=True, estimated_s=8)
    leases.put_off(leases.claim(Composition, held.pk, worker="w"), code="disk_full", reason="Full.")
    Composition.objects.filter(pk=held.pk).update(due_at=timezone.now() + timedelta(minutes=10))
    page = collapsed(page_of(browser.get(held.get_absolute_url())))
    assert f"{len(others)} ahead in queue. The next attempt starts in about 10 min" in page
    assert "Next in queue" not in page
    told = api_of(alice).get(f"/api/v1/compositions/{held.pk}").json()["queue"]
    assert told == {"n_ahead": len(others), "wait_s": pytest.approx(600, abs=10)}


def test_a_composition_behind_others_says_how_many_and_when_it_begins(browser, ask):
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    compositions = [ask(seed=seed) for seed in range(4)]
    Composition.objects.update(is_quick=False, estimated_s=600)
    leases.claim(Composition, compositions[0].pk, worker="w")
    first, third = (collapsed(page_of(browser.get(compositions[n].get_absolute_url()))) for n in (1, 3))
    assert "Next in queue. Starts in about 10 min" in first
    assert "2 ahead in queue. Starts in about 30 min" in third


def test_a_running_composition_shows_its_stage_and_step(browser, ask):
    held = leases.claim(Composition, ask().pk, worker="w")
    progress = {"stage": "search", "stage_text": "Searching the weights", "steps_done": 3, "steps_planned": 9}
    progress["best_loss"] = 1.5
    leases.append_events(held, [], progress=progress)
    page = page_of(browser.get(f"{held.get_absolute_url()}progress/"))
    assert "Searching the weights" in page
    assert 'aria-label="Step 3 of 9"' in page
    assert "each without some of your examples" in page  # so that nobody takes it for the report's loss
    assert 'id="standing" hx-swap-oob="true"' in page  # the badge above it moves along


def test_after_cancel_the_page_says_cancelling_and_offers_no_second_cancel(browser, ask):
    held = leases.claim(Composition, ask().pk, worker="w")
    assert "Cancelling" not in page_of(browser.get(held.get_absolute_url()))
    page = page_of(browser.post(f"{held.get_absolute_url()}cancel/", follow=True))
    assert "Cancelling" in page
    assert f'action="{held.get_absolute_url()}cancel/"' not in page


BASELINE = {
    "key": "zero_shot", "label": "Base alone", "detail": "", "few_shot_loss_nats": 3.0,
    "left_out_loss_nats": None, "held_out_exact_match_percent": 12.5, "interval_percent": [2.0, 40.0],
    "cost": {"candidates": 1, "gradient_steps": 0, "seconds": 0.25},
}  # fmt: skip


def test_baselines_appear_as_they_are_measured_and_a_new_attempt_begins_anew(browser, ask):
    held = leases.claim(Composition, ask().pk, worker="w")
    leases.append_events(held, [CompositionEvent(kind="baseline", detail=BASELINE)])
    page = page_of(browser.get(f"{held.get_absolute_url()}progress/"))
    assert "Base alone" in page
    assert "12.5" in page
    Composition.objects.filter(pk=held.pk).update(generation=held.generation + 1)
    assert "Base alone" not in page_of(browser.get(f"{held.get_absolute_url()}progress/"))


def test_a_running_search_can_be_stopped_once_and_the_page_says_what_will_be_kept(browser, ask):
    composition = ask()
    stop = f'action="{composition.get_absolute_url()}stop/"'
    assert stop not in page_of(browser.get(composition.get_absolute_url()))  # nothing to keep in the queue
    leases.claim(Composition, composition.pk, worker="w")
    assert stop in page_of(browser.get(composition.get_absolute_url()))
    page = page_of(browser.post(f"{composition.get_absolute_url()}stop/", follow=True))
    assert stop not in page
    assert "the best weights so far become the adapter" in page


def test_one_that_was_begun_and_is_put_off_can_be_stopped_from_its_page(browser, ask):
    held = leases.claim(Composition, ask().pk, worker="w")
    leases.put_off(held, code="disk_full", reason="The site's disk is full.")
    address = held.get_absolute_url()
    assert f'action="{address}stop/"' in page_of(browser.get(address))
    page = page_of(browser.post(f"{address}stop/", follow=True))
    assert "It will stop when the next attempt starts" in " ".join(page.split())
    assert f'action="{address}stop/"' not in page


def test_a_stranger_cannot_stop_it(browser_of, charlie, ask):
    composition = leases.claim(Composition, ask().pk, worker="w")
    assert browser_of(charlie).post(f"{composition.get_absolute_url()}stop/").status_code == 404
    composition.refresh_from_db()
    assert not composition.stop_requested


def test_the_buttons_are_sent_anew_only_when_they_are_others(browser, ask):
    composition = ask()
    progress = f"{composition.get_absolute_url()}progress/"
    shown = re.search(r'name="actions" value="(\d+)"', page_of(browser.get(composition.get_absolute_url())))[
        1
    ]
    assert 'id="actions"' not in page_of(browser.get(f"{progress}?actions={shown}"))
    leases.claim(Composition, composition.pk, worker="w")
    assert 'id="actions" hx-swap-oob="true"' in page_of(browser.get(f"{progress}?actions={shown}"))


def test_an_adapter_that_was_finished_before_a_failure_is_still_offered(browser, done):
    composition = done()
    Composition.objects.filter(pk=composition.pk).update(status=Status.FAILED, error_code="deadline")
    page = page_of(browser.get(composition.get_absolute_url()))
    assert "The adapter was finished before that" in page
    assert browser.get(f"{composition.get_absolute_url()}adapter.zip").status_code == 200
    Composition.objects.filter(pk=composition.pk).update(status=Status.CANCELLED)
    assert browser.get(f"{composition.get_absolute_url()}adapter.zip").status_code == 404


def test_the_report_tells_costs_layers_and_what_was_left_out(browser, done):
    composition = done(rank=2)
    report = composition.report
    for row in report["baselines"]:
        row |= {"left_out_loss_nats": 2.25, "cost": {"candidates": 17, "gradient_steps": 40, "seconds": 1.5}}
    report |= {
        "schema": 2, "stopped": True, "device": "cuda", "precision": "bf16", "batch_size": None,
        "weights_by_layer": {"encoder.0.q": [1.0, 0.0, -0.5], "encoder.0.v": [0.125, 0.0, 0.0]},
        "modules_left_out": [{"name": "bob/odd", "reason": "changes x, which this base model does not have"}],
    }  # fmt: skip
    Composition.objects.filter(pk=composition.pk).update(report=report)
    page = page_of(browser.get(composition.get_absolute_url()))
    for said in (
        'data-label="Candidates scored">17<', 'data-label="Gradient steps">40<',
        'data-label="Left-out loss">2.250<',
        "You stopped the search early", "bf16 on cuda", "encoder.0.v",
        "<title>encoder.0.q: \u22120.500</title>",
        "It changes x, which this base model does not have.",
    ):  # fmt: skip
        assert said in page, said
    assert page.index('id="verdict-title"') < page.index("You stopped the search early")


def test_the_command_on_the_report_is_one_that_the_command_line_takes(browser, done):
    composition = done(selection="random:2+screen:1", method="lorahub", batch_size=2, rank=4,
                       sentence="It's all $HOME; `caps`", template="Q: {input}")  # fmt: skip
    line = browser.get(composition.get_absolute_url()).context["command"]
    variable, *words = shlex.split(line.replace("\\\n", ""))  # as a shell joins lines
    assert variable == "HF_ENDPOINT=http://testserver"
    assert words[:4] == ["python", "-m", "composer", "compose"]
    asked = build_parser().parse_args(words[3:])
    assert asked.modules == [f"{m.name}@{m.version.commit_id}" for m in composition.modules.all()]
    assert asked.base == f"{composition.base.name}@{composition.base.revision}"
    assert (asked.method, asked.select, asked.budget) == ("lorahub", "screen:1", composition.budget)
    assert (asked.batch_size, asked.rank, asked.seed) == (2, "4", composition.seed)
    assert (asked.task, asked.template) == (composition.sentence, composition.template)


def test_the_command_s_examples_are_those_the_child_was_given(browser, browser_of, charlie, done, tmp_path):
    composition = done()
    for file in ("examples.jsonl", "held_out.jsonl"):
        address = f"{composition.get_absolute_url()}{file}"
        (tmp_path / file).write_bytes(browser.get(address).content)
        assert browser_of(charlie).get(address).status_code == 404
    assert [pair.input for pair in read_examples(tmp_path / "examples.jsonl", 64)] == [
        "apple",
        "pear",
        "plum",
    ]
    assert [pair.input for pair in read_examples(tmp_path / "held_out.jsonl", 64)] == ["fig", "lime"]


def test_the_progress_of_a_finished_one_tells_the_verdict_leads_to_the_report_and_asks_no_more(browser, done):
    composition = done()
    answer = browser.get(f"{composition.get_absolute_url()}progress/")
    page = page_of(answer)
    assert answer.headers["HX-Reswap"] == "outerHTML"  # of the section that asked
    assert "hx-trigger" not in page
    assert "Verdict: Use it" in page
    assert figures(verdict_view(composition.report)["sentence"]) in html.unescape(page)
    assert f'href="{composition.get_absolute_url()}"' in page


def test_the_progress_of_one_that_failed_says_why_and_how_to_go_on(browser, ask):
    composition = leases.claim(Composition, ask().pk, worker="w")
    leases.finish(composition, Status.FAILED, error_code="deadline", error_message="It took too long.")
    page = page_of(browser.get(f"{composition.get_absolute_url()}progress/"))
    assert "It took too long." in page
    assert f"?again={composition.pk}" in page


def test_the_report_shows_verdict_race_weights_and_answers(browser, done):
    page = page_of(browser.get(done().get_absolute_url()))
    assert "Use the composition: it answers" in page
    assert "It is right on 1 of 2." not in page  # the core's words, which say no more
    assert "This composition" in page
    assert 'href="/bob/first"' in page
    assert "PeftModel.from_pretrained(base, &quot;fruit-in-capitals&quot;)" in page
    assert "export HF_ENDPOINT=http://testserver" in page  # where those lines find the base


def test_answers_cannot_break_the_report(browser, done):
    page = page_of(browser.get(done().get_absolute_url()))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_answers_are_filtered_to_differences_and_mistakes(browser, done):
    address = done().get_absolute_url()
    everything, different = (
        page_of(browser.get(f"{address}?show={show}"))
        .partition('id="predictions"')[2]
        .partition("paper-only")[0]
        for show in ("all", "different")
    )
    assert ">FIG</span>" in everything
    assert ">FIG</span>" not in different


def without_held_out(composition):
    for row in composition.report["baselines"]:
        row |= {"held_out_exact_match_percent": None, "interval_percent": None}
    composition.report |= {"predictions": [], "n_held_out": 0}
    composition.save(update_fields=["report"])
    return composition


def test_a_report_without_held_out_examples_compares_the_few_shot_losses(browser, done):
    page = page_of(browser.get(without_held_out(done()).get_absolute_url()))
    assert "add held-out examples to measure that" in " ".join(page.split())
    assert "The verdict does not rest on these bars" in page


def test_answers_are_offered_for_sharing_only_where_there_are_some(browser, done):
    composition = done()
    assert 'name="shows_answers"' in page_of(browser.get(composition.get_absolute_url()))
    without_held_out(composition)
    assert 'name="shows_answers"' not in page_of(browser.get(composition.get_absolute_url()))


def test_the_report_tells_the_adapter_s_rank_and_size(browser, done):
    page = page_of(browser.get(done().get_absolute_url()))
    assert re.search(r"Download the adapter\s+\([\d.]+\u00a0[kM]B\)", page)
    assert "r = 24, " in page


def test_a_failed_composition_says_why_and_offers_another_try(browser, ask):
    held = leases.claim(Composition, ask().pk, worker="w")
    leases.finish(held, Status.FAILED, error_code="deadline", error_message="It took too long.")
    page = page_of(browser.get(held.get_absolute_url()))
    assert "It took too long." in page
    assert f"?again={held.pk}" in page


def test_cancel_and_delete_by_their_buttons(browser, ask):
    composition = ask()
    browser.post(f"{composition.get_absolute_url()}cancel/")
    assert "You cancelled this composition" in page_of(browser.get(composition.get_absolute_url()))
    browser.post(f"{composition.get_absolute_url()}delete/")
    assert Composition.objects.count() == 0


def test_the_unpacked_adapter_is_in_the_folder_that_the_snippet_loads(browser, done, tmp_path):
    address = done().get_absolute_url()
    answer = browser.get(f"{address}adapter.zip")
    (tmp_path / "README.md").write_text("mine")
    with zipfile.ZipFile(io.BytesIO(b"".join(answer.streaming_content))) as archive:
        archive.extractall(tmp_path)
    (folder,) = set(re.findall(r"from_pretrained\(base, &quot;(.+?)&quot;\)", page_of(browser.get(address))))
    assert (tmp_path / folder / "adapter_config.json").is_file()
    assert (tmp_path / "README.md").read_text() == "mine"


PRIVATE = ["", "progress/", "events/", "adapter.zip"]


@pytest.mark.parametrize("path", PRIVATE)
@pytest.mark.parametrize("who", ["bob", "charlie", "staff"])
def test_nobody_but_its_owner_sees_a_composition(browser_of, request, done, who, path):
    person = request.getfixturevalue(who)
    assert browser_of(person).get(f"{done().get_absolute_url()}{path}").status_code == 404


@pytest.mark.parametrize("path", ["cancel/", "delete/"])
def test_nobody_but_its_owner_ends_or_deletes_it(browser_of, charlie, ask, path):
    assert browser_of(charlie).post(f"{ask().get_absolute_url()}{path}").status_code == 404
    assert Composition.objects.get().status == Status.QUEUED


def test_a_stranger_cannot_begin_with_or_measure_on_alices_examples(browser_of, charlie, ask):
    composition = ask()
    client = browser_of(charlie)
    assert client.get(f"{NEW}?again={composition.pk}").status_code == 404
    page = page_of(client.post(NEW, filled(held_out_from=f"composition:{composition.pk}")), 422)
    assert "no longer exist" in page


def test_who_is_not_signed_in_is_asked_to(client, ask):
    for address in ("/compositions/", ask().get_absolute_url()):
        assert client.get(address).headers["Location"].startswith("/accounts/login/")


@pytest.mark.parametrize(
    "field", ["base", "modules", "selection", "method", "search", "held_out_from", "form_key"]
)
def test_text_that_no_database_takes_is_refused_and_breaks_nothing(browser, field):
    page_of(browser.post(NEW, filled(**({"selection": "chosen"} | {field: "bob/\0first"}))), 422)
    assert Composition.objects.count() == 0


@pytest.mark.parametrize("query", ["task=%00", "again=%00", "modules=%00", "modules=bob/%ED%A0%80"])
def test_an_address_that_makes_no_sense_breaks_nothing(browser, query):
    assert browser.get(f"{NEW}?{query}").status_code in (200, 404)


def test_staff_see_how_the_work_goes_but_not_what_people_compose_from(browser_of, staff, ask):
    composition = ask()
    page = page_of(browser_of(staff).get(f"/admin/composer/composition/{composition.pk}/change/"))
    assert "queued" in page.lower()
    for private in ("apple", "APPLE", composition.name):
        assert private not in page


@pytest.fixture
def english_base(tmp_path):
    """The base model of the English library by name alone: its tasks are then offered."""
    return make_base(tmp_path / "english", name=demo_world(ENGLISH).listing["base"])


def test_tasks_of_the_english_library_are_offered_once_its_base_is_there(browser, tmp_path):
    before = demo_tasks()
    assert {task.base for task in before} == {"demo/tiny-t5"}
    make_base(tmp_path / "english", name="demo/smollm2-135m")
    after = demo_tasks()
    assert after[: len(before)] == before
    assert len(after) - len(before) >= 16
    assert len({task.name for task in after}) == len(after)


def test_tasks_of_another_base_fold_away_under_its_name(browser, english_base):
    page = page_of(browser.get(NEW))
    others = [task for task in demo_tasks() if task.base == english_base.name]
    heading = f'{len(others)} of <span class="mono">{english_base.name}</span>'
    assert page.index(heading) < page.index(others[0].name)


def test_a_task_of_another_base_chooses_that_base(browser_of, alice, english_base):
    task = next(task for task in demo_tasks() if task.base == english_base.name)
    page = page_of(browser_of(alice).get(f"{NEW}?task={task.name}"))
    assert f'<option value="{english_base.name}" selected>' in page
