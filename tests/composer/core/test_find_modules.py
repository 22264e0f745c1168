"""Modules alone on the examples, and what the best of them answer."""

import math

import pytest

from composer.core.job import find_modules
from composer.core.spec.choices import ANSWERS_OF_FOUND
from composer.core.spec.selection import MANY
from tests.composer.core.tiny import EXAMPLES, make_job


def events_of(folder):
    events = []
    find_modules(folder, events.append)
    return events


def by_name(events):
    return {row["name"]: row for event in events if event["event"] == "alone" for row in event["modules"]}


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_every_module_is_measured_beside_the_base_and_answers_the_first_example(tmp_path, kind):
    events = events_of(make_job(tmp_path / "job", kind=kind, max_new_tokens=4))
    (base,) = (event for event in events if event["event"] == "base")
    (answers,) = (event for event in events if event["event"] == "answers")
    losses = by_name(events)
    assert math.isfinite(base["loss_nats"])
    assert set(losses) == set(answers["modules"]) == {"alice/m0", "alice/m1", "alice/m2"}
    assert {row["n_shots"] for row in losses.values()} == {len(EXAMPLES)}
    assert isinstance(answers["base"], str)
    assert not (tmp_path / "job" / "out").exists()


def test_of_many_modules_the_best_alone_are_measured_on_all_examples_and_answer(tmp_path):
    events = events_of(make_job(tmp_path / "job", n_modules=MANY + 1, max_new_tokens=2))
    losses = by_name(events)
    measured = {name for name, row in losses.items() if row["n_shots"] == len(EXAMPLES)}
    assert len(losses) == MANY + 1
    assert len(measured) == 2 * ANSWERS_OF_FOUND
    (answers,) = (event for event in events if event["event"] == "answers")
    best = sorted(measured, key=lambda name: losses[name]["loss_nats"])[:ANSWERS_OF_FOUND]
    assert list(answers["modules"]) == best
