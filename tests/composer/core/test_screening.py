"""Every module alone: on one shot first where there are many, on all shots in the end, never twice."""

import json
import math

import pytest

from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.selection.screening import Screening, read_screened
from composer.core.spec.examples import Example
from composer.core.spec.selection import MANY
from tests.composer.core.tiny import EXAMPLES, make_base, make_module

N = MANY + 16


@pytest.fixture
def scene(tmp_path):
    base = make_base(tmp_path / "base")
    folders = [make_module(tmp_path / str(i), base, seed=i) for i in range(8)]
    stack = stack_modules([read_module(folders[i % 8], str(i)) for i in range(N)])
    model = FrozenBaseModel.load(base)
    model.hook(layer.path for layer in stack.layers)
    shots = [Example(*pair) for pair in EXAMPLES]
    return FewShotScorer(model, model.encode(shots)), stack, shots


def screening(scene, known=None, told=None):
    scorer, stack, shots = scene
    return Screening(
        scorer,
        stack,
        contexts=["the same"] * N,
        modules=[str(i) for i in range(N)],
        examples=shots,
        known=known or {},
        tell=(told if told is not None else []).append,
    )


def test_the_best_of_many_have_the_losses_of_all_shots_and_the_rest_are_left_out(scene):
    scorer, stack, _ = scene
    whole = token_mean(scorer.nats_of_singles(stack), scorer.label_tokens).tolist()
    scorer.candidates_scored = 0
    losses = screening(scene).losses(range(N), 8)
    kept = [i for i, loss in enumerate(losses) if math.isfinite(loss)]
    assert len(kept) == round(0.2 * N)
    assert [losses[i] for i in kept] == pytest.approx([whole[i] for i in kept], rel=1e-4)
    assert scorer.candidates_scored == N


def test_few_or_mostly_wanted_modules_are_all_scored_on_every_shot(scene):
    assert all(map(math.isfinite, screening(scene).losses(range(MANY - 1), 4)))
    assert all(map(math.isfinite, screening(scene).losses(range(N), N // 2)))


def test_what_was_told_once_is_not_scored_again(scene):
    scorer, _, _ = scene
    told = []
    first = screening(scene, told=told).losses(range(N), 8)
    known = read_screened(json.dumps(event) for event in told if event["event"] == "screened")
    scorer.candidates_scored = 0
    again = screening(scene, known=known).losses(range(N), 8)
    assert scorer.candidates_scored == 0
    assert again == pytest.approx(first)


def test_a_reader_is_told_block_by_block_how_well_each_does_and_again_once_it_is_known_better(
    scene, monkeypatch
):
    monkeypatch.setattr("composer.core.model.base_model.ROWS_AT_ONCE", 20)
    told = []
    losses = screening(scene, told=told).losses(range(N), 8)
    alone = [event for event in told if event["event"] == "alone"]
    assert len(alone) == N / 20 + 16 / (20 // len(EXAMPLES))  # block by block, not all at the end
    assert {event["of"] for event in alone} == {N}
    rows = [row for event in alone for row in event["modules"]]
    n_shots, finite = len(EXAMPLES), [i for i, loss in enumerate(losses) if math.isfinite(loss)]
    assert [row["n_shots"] for row in rows] == [1] * N + [n_shots] * len(finite)
    assert {row["name"] for row in rows[:N]} == {str(i) for i in range(N)}
    last = {row["name"]: row["loss_nats"] for row in rows}
    assert [last[str(i)] for i in finite] == pytest.approx([losses[i] for i in finite])


def test_a_reader_is_told_of_losses_that_were_known_before_too(scene):
    first, second = [], []
    screening(scene, told=first).losses(range(N), 8)
    known = read_screened(json.dumps(event) for event in first if event["event"] == "screened")
    screening(scene, known=known, told=second).losses(range(N), 8)
    assert sum(len(event["modules"]) for event in second if event["event"] == "alone") >= N


@pytest.mark.parametrize("wanted", [None, 8])
def test_what_is_asked_of_some_shots_depends_on_no_other(scene, wanted):
    scorer, stack, shots = scene
    numbers = [i for i in range(len(shots)) if i != int(scorer.label_tokens.argmax())]
    few = [shots[i] for i in numbers]
    alone = screening((FewShotScorer(scorer.base, scorer.base.encode(few)), stack, few))
    expected = alone.losses(range(N), wanted)
    assert screening(scene).losses(range(N), wanted, numbers=numbers) == pytest.approx(expected, rel=1e-4)
