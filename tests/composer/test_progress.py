"""How long a composition will take, as its page says it."""

from datetime import UTC, datetime, timedelta

import pytest

from composer.models import Composition, CompositionEvent
from composer.run.events import progress_of
from composer.timing.progress import left_s, left_words, time_words
from composer.watch.progress import stage_step, stages_now
from hub_site.jobs import leases

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def running(ask):
    return leases.claim(Composition, ask().pk, worker="w")


def happened(composition, *events):
    """Store (seconds after noon, kind, detail) as a worker that told them then."""
    rows = [CompositionEvent(kind=kind, detail=detail) for _, kind, detail in events]
    stage = next((detail["stage"] for _, kind, detail in reversed(events) if kind == "stage"), "")
    steps = [detail for _, kind, detail in events if kind == "step"]
    progress = {"stage": stage}
    if steps:
        progress |= {"steps_done": steps[-1]["step"], "steps_planned": steps[-1]["budget"]}
    leases.append_events(composition, rows, progress=progress)
    for row, (seconds, _, _) in zip(rows, events, strict=True):
        CompositionEvent.objects.filter(pk=row.pk).update(at=NOON + timedelta(seconds=seconds))
    composition.refresh_from_db()


def stage(name):
    return "stage", {"stage": name, "text": name}


def step(number):
    return "step", {"step": number, "budget": 30, "loss": 1.0, "best_loss": 1.0, "weights": []}


def stages_at(composition, seconds):
    stages, _ = stages_now(composition, now=NOON + timedelta(seconds=seconds))
    return stages


def test_every_stage_says_how_long_it_took_or_will_take(running):
    happened(running, (0, *stage("load")), (2, *stage("screen")), (5, *stage("search")))
    stages = stages_at(running, 6)
    assert [(one.state, one.taken_s) for one in stages] == [
        ("done", 2.0), ("done", 3.0), ("current", None), *[("waiting", None)] * 3,
    ]  # fmt: skip
    assert all(one.left_s is not None for one in stages[2:])


def test_a_search_is_judged_by_its_own_pace(running):
    happened(running, (0, *stage("search")), *((float(n), *step(n)) for n in range(1, 11)))
    assert stages_at(running, 10)[2].left_s == pytest.approx(20.0)
    assert stages_at(running, 13)[2].left_s == pytest.approx(17.0)  # it goes down between two steps too


def test_steps_that_were_stored_together_do_not_look_fast(running):
    happened(running, (0, *stage("search")), *((10.0, *step(n)) for n in range(1, 11)))
    assert stages_at(running, 10)[2].left_s == pytest.approx(20.0)


def test_what_comes_is_judged_by_those_that_finished_here_scaled_by_how_much_there_is_to_do(ask, done):
    finished = done()  # of budget 30
    finished.report["seconds"] = {
        "load": 2.0, "screen": 9.0, "search": 30.0, "prune": 4.0, "export": 1.0, "evaluate": 10.0
    }  # fmt: skip
    finished.save(update_fields=["report"])
    running = leases.claim(Composition, ask(budget=60).pk, worker="w")
    happened(running, (0, *stage("load")))
    stages = stages_at(running, 0.5)
    # twice the budget: twice as long a search, and longer trainings
    *before, evaluate_s = [one.left_s for one in stages]
    assert before == pytest.approx([1.5, 9.0, 60.0, 4.0, 1.0])
    assert 10.0 < evaluate_s < 25.0
    assert left_s(stages) == pytest.approx(sum(before) + evaluate_s)


def test_an_attempt_that_begins_anew_does_not_count_the_time_of_the_one_before(running):
    happened(running, (0, *stage("load")), (2, *stage("search")))
    Composition.objects.filter(pk=running.pk).update(generation=running.generation + 1)
    running.refresh_from_db()
    happened(running, (100, *stage("load")), (101, *stage("screen")))
    assert stages_at(running, 102)[0].taken_s == 1.0


@pytest.mark.parametrize("name", ["load", "search", "prune", "evaluate"])
def test_a_stage_that_takes_far_longer_than_expected_has_no_moment_left(running, name):
    happened(running, (0, *stage(name)))
    current = [one for one in stages_at(running, 10_000) if one.state == "current"]
    assert [(one.is_late, one.left_s) for one in current] == [(True, None)]
    assert stage_step(current[0])["note"] == "longer than estimated"
    assert left_words(current) == "taking longer than estimated"


def test_a_step_that_takes_far_longer_than_those_before_has_no_moment_left(running):
    happened(running, (0, *stage("search")), *((float(n), *step(n)) for n in range(1, 30)))
    assert stages_at(running, 31)[2].left_s == 0.0
    assert stages_at(running, 300)[2].is_late


def test_making_it_small_is_a_stage_only_where_it_is_asked_for(running, ask):
    happened(running, (0, *stage("search")), (9, *stage("prune")))
    assert [(one.label, one.state) for one in stages_at(running, 10)][2:4] == [
        ("Search weights", "done"), ("Prune", "current"),
    ]  # fmt: skip
    whole = ask(rank="full")
    assert "Prune" not in [one.label for one in stages_at(whole, 0)]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "about 1 s"), (7.4, "about 7 s"), (43, "about 45 s"), (200, "about 3 min"), (5400, "about 1.5 h")],
)
def test_an_estimate_is_said_no_more_exactly_than_it_is_known(seconds, words):
    assert time_words(seconds) == words


def test_a_step_more_than_was_planned_is_planned():
    event = {"event": "step", "step": 15, "budget": 14, "best_loss": 1.0}
    assert progress_of(event)["steps_planned"] == 15
    assert progress_of(event | {"step": 3})["steps_planned"] == 14
