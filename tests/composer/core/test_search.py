"""Searches on functions whose lowest point is known."""

import json
import math
import threading

import pytest
import torch

from composer.core.search.adam import ParallelFits, fit_weights
from composer.core.search.greedy import search_greedy
from composer.core.search.journal import (
    FitState,
    Journal,
    SearchRecord,
    SearchResult,
    read_record,
    state_event,
)
from composer.core.search.lbfgs import fit_lbfgs
from composer.core.search.nevergrad_search import search_nevergrad
from composer.core.selection.compatibility import joined_ranks, select_modules
from composer.core.spec.errors import InvalidJobError, NonFiniteLossError, SearchBrokeError, StopSearch
from composer.core.spec.selection import parse_selectors

TARGET = torch.tensor([0.8, -0.4, 0.0, 1.1])


def bowl(weights):
    return float(((torch.tensor(weights) - TARGET) ** 2).sum())


def bowls(tried):
    return [bowl(weights) for weights in tried]


def by_nevergrad(score=bowls, n=4, *, on_step=lambda step: None, recorded=(), **asked) -> SearchResult:
    return search_nevergrad(score, n, Journal(on_step, record=SearchRecord(recorded)), **asked)


def test_nevergrad_starts_at_zero_and_finds_the_bottom_of_a_bowl():
    found = by_nevergrad(budget=200)
    assert found.steps[0].weights == (0.0, 0.0, 0.0, 0.0)
    assert bowl(found.weights) < 0.01


def test_ngopt_at_twenty_modules_and_forty_steps_is_cobyla_and_probes_one_by_one():
    found = by_nevergrad(lambda tried: [sum((x - 0.3) ** 2 for x in w) for w in tried], 20, budget=40)
    assert found.optimizer == "NGOpt -> Cobyla"
    probed = [[x for x in step.weights if abs(x) > 1e-9] for step in found.steps[:4]]
    assert [len(p) for p in probed] == [0, 1, 2, 3]


@pytest.mark.parametrize("optimizer", ["FCMA", "NLOPT_LN_BOBYQA"])
def test_an_optimizer_that_wants_a_package_that_is_not_here_says_so(optimizer):
    with pytest.raises(SearchBrokeError, match=optimizer):
        by_nevergrad(n=3, budget=12, optimizer=optimizer)


def test_the_same_seed_gives_the_same_steps():
    runs = [by_nevergrad(budget=30, seed=3, optimizer="CMA") for _ in range(2)]
    other = by_nevergrad(budget=30, seed=4, optimizer="CMA")
    assert runs[0] == runs[1]
    assert runs[0].steps != other.steps


@pytest.mark.parametrize("optimizer", ["NGOpt", "CMA"])
def test_a_search_cut_short_anywhere_goes_on_to_the_same_end(optimizer):
    whole = by_nevergrad(budget=30, optimizer=optimizer)
    for cut in (1, 7, 29, 30):
        scored = []

        told = []

        def score(tried, scored=scored):
            scored.extend(tried)
            return bowls(tried)

        resumed = by_nevergrad(
            score, budget=30, optimizer=optimizer, recorded=whole.steps[:cut], on_step=told.append
        )
        assert resumed == whole
        assert [step.number for step in told] == list(range(cut + 1, 31))
        assert len(scored) - (30 - cut) in range(6)  # of a population cut in two, all are scored again


def test_the_record_of_another_search_is_refused():
    other = by_nevergrad(budget=10, optimizer="CMA", seed=1)
    with pytest.raises(InvalidJobError):
        by_nevergrad(budget=10, optimizer="CMA", seed=2, recorded=other.steps[:5])


def test_a_loss_that_is_no_number_is_never_recommended():
    found = by_nevergrad(lambda tried: [math.nan if w[0] > 0 else bowl(w) for w in tried], budget=60)
    assert found.weights[0] <= 0
    with pytest.raises(NonFiniteLossError):
        by_nevergrad(lambda tried: [math.inf for _ in tried], budget=20)


@pytest.mark.slow
def test_an_interrupted_search_leaves_no_thread_behind():
    def stop(step):
        if step.number == 5:
            raise InterruptedError

    before = threading.active_count()
    with pytest.raises(InterruptedError) as kept:
        by_nevergrad(lambda tried: [sum(w) for w in tried], 20, budget=40, on_step=stop)
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
        score, score(torch.eye(4)).tolist(), base_loss=float(score(torch.zeros(1, 4))), budget=40
    )
    assert found.weights == (1.0, 0.0, 1.0, 0.0)
    losses = [step.loss for step in found.steps]
    assert losses == sorted(losses, reverse=True)


def test_who_stops_greedy_choice_at_its_first_step_has_the_best_module_alone():
    def stop(_step):
        raise StopSearch

    journal = Journal(stop)
    with pytest.raises(StopSearch):
        search_greedy(lambda w: 5 - w.sum(-1), [3.0, 2.0, 4.0], base_loss=2.5, budget=10, journal=journal)
    assert journal.finish_early("greedy").weights == (0.0, 1.0, 0.0)


def test_greedy_takes_nothing_where_nothing_helps():
    found = search_greedy(lambda w: 1 + w.sum(-1), [2.0, 3.0], base_loss=1.0, budget=10)
    assert found.weights == (0.0, 0.0)


def test_fits_side_by_side_move_as_if_each_were_alone():
    def loss(weights):
        return ((weights - TARGET) ** 2).sum(-1)

    def fits(rows):
        return ParallelFits(torch.zeros(2, 4)[rows], torch.ones(2, 4)[rows], torch.tensor([0.0, 2.0])[rows])

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
    fits = ParallelFits(torch.full((1, 4), 0.5), free, torch.zeros(1))
    weights = fit_weights(lambda w: -w.sum(-1), fits, steps=100, bound=1.5)
    assert weights[0].tolist() == [1.5, 0.5, 1.5, 1.5]


def test_a_wish_to_stop_ends_a_search_with_its_best_step():
    def stop(step):
        if step.number == 9:
            raise StopSearch

    for optimizer in ("NGOpt", "CMA"):
        found = by_nevergrad(budget=30, optimizer=optimizer, on_step=stop)
        assert found.stopped
        assert len(found.steps) == 9
        assert bowl(found.weights) == min(step.loss for step in found.steps)


@pytest.mark.parametrize("optimizer", ["NGOpt", "CMA", "OnePlusOne", "DE", "PSO", "Cobyla", "MetaModel"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_in_few_dimensions_a_search_ends_well_or_says_that_it_failed(optimizer, n):
    found = by_nevergrad(
        lambda tried: [sum((x - 0.3) ** 2 for x in w) for w in tried], n, budget=40, optimizer=optimizer
    )
    assert len(found.steps) == 40 or "failed after" in found.optimizer
    assert sum((x - 0.3) ** 2 for x in found.weights) <= found.steps[0].loss


# --- gradient fits and their states -------------------------------------------


def slope(weights):
    return ((weights - TARGET) ** 2 * torch.tensor([1.0, 3.0, 0.2, 1.0])).sum(-1)


def fit_by_adam(journal, variant="dense"):
    fits = ParallelFits(torch.zeros(2, 4), torch.ones(2, 4), torch.tensor([0.05, 0.4]))
    return fit_weights(
        slope,
        fits,
        steps=47,
        variant=variant,
        journal=journal,
        on_weights=lambda w, losses: journal.note(w[0].tolist(), float(losses[0])),
    )


def fit_by_lbfgs(journal):
    def evaluate(point):
        weights = point.clone().requires_grad_(True)
        value = slope(weights.unsqueeze(0)).sum() + (weights**4).sum()
        return value.item(), torch.autograd.grad(value, weights)[0]

    return fit_lbfgs(evaluate, torch.zeros(4), evaluations=60, bound=1.5, journal=journal)


def told_by(fit, **known):
    """The result of a fit and every event it told, as the lines of a file."""
    lines = []

    def on_step(step):
        event = {"event": "step", "step": step.number, "weights": list(step.weights)}
        lines.append(json.dumps(event | {"loss": step.loss, "best_loss": step.best_loss}))

    journal = Journal(on_step, on_state=lambda state: lines.append(json.dumps(state_event(state))), **known)
    return fit(journal), lines, journal.steps


@pytest.mark.parametrize(
    "fit",
    [fit_by_adam, lambda j: fit_by_adam(j, "sparse"), lambda j: fit_by_adam(j, "positive"), fit_by_lbfgs],
    ids=["adam", "adam-sparse", "adam-positive", "lbfgs"],
)
def test_a_fit_cut_short_anywhere_goes_on_from_its_state_to_the_same_bits(fit):
    whole, lines, steps = told_by(fit)
    for cut in (1, 10, 11, 12, 25, len(lines) - 1, len(lines)):
        resumed, more, again = told_by(fit, record=read_record(lines[:cut]))
        assert torch.equal(resumed, whole)
        assert again == steps
        known = sum('"step"' in line[:20] for line in lines[:cut])
        assert sum('"step"' in line[:20] for line in more) == len(steps) - known


def test_a_state_is_kept_to_the_bit():
    numbers = torch.tensor([0.1, -0.0, 1e-45, math.inf, 3.0000002])
    state = FitState("f", 3, 2, {"a": numbers, "n": torch.tensor(7), "d": torch.tensor([0.1]).double()})
    stored = json.dumps(state_event(state), allow_nan=False)
    back = read_record([stored]).states["f"]
    for name, tensor in state.tensors.items():
        assert back.tensors[name].dtype == tensor.dtype
        assert back.tensors[name].numpy().tobytes() == tensor.numpy().tobytes()


def test_a_state_of_another_search_is_refused():
    _, lines, _ = told_by(fit_by_adam)

    def smaller(journal):
        return fit_weights(
            slope, ParallelFits(*torch.zeros(2, 1, 4), torch.zeros(1)), steps=47, journal=journal
        )

    with pytest.raises(InvalidJobError):
        told_by(smaller, record=read_record(lines))


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"event": "step"}', '{"event": "step", "step": 2}'])
def test_a_damaged_record_is_refused(line):
    with pytest.raises(InvalidJobError):
        read_record([line])


def test_the_sparse_fit_is_the_lasso():
    # (w - t)² + (penalty / 4)·|w| is lowest at t moved toward zero by penalty / 8.
    fits = ParallelFits(torch.zeros(1, 4), torch.ones(1, 4), torch.tensor([4.0]))
    weights = fit_weights(lambda w: ((w - TARGET) ** 2).sum(-1), fits, steps=600, variant="sparse")
    torch.testing.assert_close(weights[0], torch.tensor([0.3, 0.0, 0.0, 0.6]), atol=0.01, rtol=0)
    assert weights[0, 1] == 0
    assert weights[0, 2] == 0


def test_the_positive_fit_takes_nothing_away():
    fits = ParallelFits(torch.zeros(1, 4), torch.ones(1, 4), torch.zeros(1))
    weights = fit_weights(lambda w: ((w - TARGET) ** 2).sum(-1), fits, steps=600, variant="positive")
    torch.testing.assert_close(weights[0], TARGET.clamp(min=0), atol=0.01, rtol=0)


def test_lbfgs_finds_the_bottom_in_few_evaluations_and_stays_in_bounds():
    found, _, _ = told_by(lambda j: fit_lbfgs(valley, torch.zeros(3), evaluations=60, bound=1.5, journal=j))
    torch.testing.assert_close(found, torch.tensor([0.5, -1.0, 1.5]), atol=1e-3, rtol=0)


def valley(point):
    """Steep, shallow, and a bottom out of bounds."""
    weights = point.clone().requires_grad_(True)
    value = 50 * (weights[0] - 0.5) ** 2 + (weights[1] + 1) ** 2 + 0.1 * (weights[2] - 9) ** 2
    return value.item(), torch.autograd.grad(value, weights)[0]


# --- the choice of modules ----------------------------------------------------


LOSSES = [3.0, 1.0, 2.0, 0.5]
NEAR = [0.1, 0.9, 0.8, 0.2]


def selected(text, asked=None):
    def alone(indices, _wanted):
        if asked is not None:
            asked.extend(indices)
        return [LOSSES[i] for i in indices]

    return select_modules(
        parse_selectors(text), range(4), seed=0, alone=alone, near=lambda indices: [NEAR[i] for i in indices]
    )


def test_selectors_follow_each_other():
    assert selected("all") == (0, 1, 2, 3)
    assert selected("screen:2") == (1, 3)
    assert selected("near:2") == (1, 2)
    assert selected("near:3+screen:1") == (3,)
    assert selected("screen:3+near:1") == (1,)
    drawn = selected("random:3")
    assert len(drawn) == 3
    assert drawn == selected("random:3")


def test_only_modules_that_are_left_are_screened():
    asked = []
    kept = selected("random:2+screen:1", asked)
    assert len(asked) == 2
    assert set(kept) <= set(asked)
    selected("all", asked)
    assert len(asked) == 2


def test_ranks_are_joined_by_hand():
    joined = joined_ranks([[0.9, 0.5, 0.5], [1.0, 3.0, 2.0]])
    assert joined == pytest.approx([1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 62 + 1 / 62])


@pytest.mark.parametrize(
    "text",
    ["", "best", "random", "random:0", "random:-1", "near", "near:0", "all:3", "screen:2+", "screen:x"],
)
def test_what_is_no_selector_is_refused(text):
    with pytest.raises(InvalidJobError):
        parse_selectors(text)
