"""Searches on functions whose lowest point is known."""

import math
import threading

import pytest
import torch

from composer.core.errors import InvalidJobError, NonFiniteLossError
from composer.core.search import Fits, fit_weights, search_greedy, search_nevergrad
from composer.core.select import parse_selectors, select_modules

TARGET = torch.tensor([0.8, -0.4, 0.0, 1.1])


def bowl(weights):
    return float(((torch.tensor(weights) - TARGET) ** 2).sum())


def test_nevergrad_starts_at_zero_and_finds_the_bottom_of_a_bowl():
    found = search_nevergrad(bowl, 4, budget=200)
    assert found.steps[0].weights == (0.0, 0.0, 0.0, 0.0)
    assert bowl(found.weights) < 0.01


def test_ngopt_at_twenty_modules_and_forty_steps_is_cobyla_and_probes_one_by_one():
    found = search_nevergrad(lambda w: sum((x - 0.3) ** 2 for x in w), 20, budget=40)
    assert found.optimizer == "NGOpt -> Cobyla"
    probed = [[x for x in step.weights if abs(x) > 1e-9] for step in found.steps[:4]]
    assert [len(p) for p in probed] == [0, 1, 2, 3]


def test_the_same_seed_gives_the_same_steps():
    runs = [search_nevergrad(bowl, 4, budget=30, seed=3, optimizer="CMA") for _ in range(2)]
    other = search_nevergrad(bowl, 4, budget=30, seed=4, optimizer="CMA")
    assert runs[0] == runs[1]
    assert runs[0].steps != other.steps


@pytest.mark.parametrize("optimizer", ["NGOpt", "CMA"])
def test_a_search_cut_short_anywhere_goes_on_to_the_same_end(optimizer):
    whole = search_nevergrad(bowl, 4, budget=30, optimizer=optimizer)
    for cut in (1, 7, 29, 30):
        scored = []

        def score(weights, scored=scored):
            scored.append(weights)
            return bowl(weights)

        resumed = search_nevergrad(score, 4, budget=30, optimizer=optimizer, recorded=whole.steps[:cut])
        assert resumed == whole
        assert len(scored) == 30 - cut


def test_the_record_of_another_search_is_refused():
    other = search_nevergrad(bowl, 4, budget=10, optimizer="CMA", seed=1)
    with pytest.raises(InvalidJobError):
        search_nevergrad(bowl, 4, budget=10, optimizer="CMA", seed=2, recorded=other.steps[:5])


def test_a_loss_that_is_no_number_is_never_recommended():
    found = search_nevergrad(lambda w: math.nan if w[0] > 0 else bowl(w), 4, budget=60)
    assert found.weights[0] <= 0
    with pytest.raises(NonFiniteLossError):
        search_nevergrad(lambda w: math.inf, 4, budget=20)


def test_an_interrupted_search_leaves_no_thread_behind():
    def stop(step):
        if step.number == 5:
            raise InterruptedError

    before = threading.active_count()
    with pytest.raises(InterruptedError) as kept:
        search_nevergrad(lambda w: sum(w), 20, budget=40, on_step=stop)
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(timeout=5)
    assert threading.active_count() <= before
    assert kept  # its traceback still holds the searcher's frame


def test_greedy_picks_what_the_task_needs_and_stops():
    needed = torch.tensor([1.0, 0.0, 1.0, 0.0])

    def score(weights):
        return (weights - needed).abs().sum(-1)

    found = search_greedy(
        score, score(torch.eye(4)).tolist(), nothing=float(score(torch.zeros(1, 4))), budget=40
    )
    assert found.weights == (1.0, 0.0, 1.0, 0.0)
    losses = [step.loss for step in found.steps]
    assert losses == sorted(losses, reverse=True)


def test_greedy_takes_nothing_where_nothing_helps():
    found = search_greedy(lambda w: 1 + w.sum(-1), [2.0, 3.0], nothing=1.0, budget=10)
    assert found.weights == (0.0, 0.0)


def test_fits_side_by_side_move_as_if_each_were_alone():
    def loss(weights):
        return ((weights - TARGET) ** 2).sum(-1)

    def fits(rows):
        return Fits(torch.zeros(2, 4)[rows], torch.ones(2, 4)[rows], torch.tensor([0.0, 2.0])[rows])

    both = fit_weights(loss, fits(slice(0, 2)), steps=300)
    for row in (0, 1):
        torch.testing.assert_close(
            both[row : row + 1], fit_weights(loss, fits(slice(row, row + 1)), steps=300)
        )
    torch.testing.assert_close(both[0], TARGET, atol=0.01, rtol=0)
    # At the lowest point of (w - t)² + 2·|w|/4 each weight is a quarter nearer to zero.
    torch.testing.assert_close(both[1], torch.tensor([0.55, -0.15, 0.0, 0.85]), atol=0.02, rtol=0)


def test_a_weight_that_is_not_free_stays_and_none_leaves_its_bounds():
    free = torch.tensor([[1.0, 0.0, 1.0, 1.0]])
    fits = Fits(torch.full((1, 4), 0.5), free, torch.zeros(1))
    weights = fit_weights(lambda w: -w.sum(-1), fits, steps=100, bound=1.5)
    assert weights[0].tolist() == [1.5, 0.5, 1.5, 1.5]


def test_selectors_follow_each_other():
    losses = [3.0, 1.0, 2.0, 0.5]
    assert select_modules(parse_selectors("all"), 4, seed=0, alone=list) == (0, 1, 2, 3)
    assert select_modules(parse_selectors("screen:2"), 4, seed=0, alone=lambda: losses) == (1, 3)
    drawn = select_modules(parse_selectors("random:3"), 4, seed=0, alone=list)
    assert len(drawn) == 3
    assert drawn == select_modules(parse_selectors("random:3"), 4, seed=0, alone=list)
    assert len(select_modules(parse_selectors("random:3+screen:1"), 4, seed=0, alone=lambda: losses)) == 1


@pytest.mark.parametrize(
    "text", ["", "best", "random", "random:0", "random:-1", "all:3", "screen:2+", "screen:x"]
)
def test_what_is_no_selector_is_refused(text):
    with pytest.raises(InvalidJobError):
        parse_selectors(text)
