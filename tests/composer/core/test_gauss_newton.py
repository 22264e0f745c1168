"""The default search, of the exact sum and of the method auto, on bases that are known."""

import json
from itertools import combinations

import pytest
import torch

from composer.core.methods.exact import ExactSum
from composer.core.methods.layerwise import Auto
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import LoraModule, read_module, stack_modules
from composer.core.search import gauss_newton
from composer.core.search.folds import FoldFits, fold_masks
from composer.core.search.gauss_newton import DEFAULTS, planned_steps, search_gauss_newton, steps_by_layer
from composer.core.search.journal import Journal, read_record, state_event
from composer.core.spec.errors import StopSearch
from composer.core.spec.examples import Example
from tests.composer.core.tiny import EXAMPLES, TARGETS, make_base, make_module

BUDGETS = [1, 8, 40, 100, 200, pytest.param(400, marks=pytest.mark.slow)]


def world(folder, kind="t5", extra=()):
    base = make_base(folder / "base", kind)
    modules = [
        read_module(make_module(folder / str(i), base, seed=i, targets=TARGETS[kind]), str(i))
        for i in range(4)
    ]
    stack = stack_modules([*extra, *modules])
    model = FrozenBaseModel.load(base)
    model.hook(layer.path for layer in stack.layers)
    return FewShotScorer(model, model.encode([Example(*pair) for pair in EXAMPLES])), stack


@pytest.fixture
def scorer(tmp_path):
    return world(tmp_path)


def known(scorer, stack):
    """What the search is told of modules alone and of none."""
    single_losses = token_mean(scorer.nats_of_singles(stack), scorer.label_tokens).tolist()
    base_loss = float(token_mean(scorer.nats_of_base(), scorer.label_tokens))
    return {"single_losses": single_losses, "base_loss": base_loss}


def method_of(name, stack):
    return Auto(stack) if name == "auto" else ExactSum(stack)


def loss_of(scorer, method, weights):
    nats = scorer.nats(method, torch.tensor([weights]))
    return float(token_mean(nats, scorer.label_tokens))


@pytest.mark.parametrize("name", ["exact", "auto"])
@pytest.mark.parametrize("budget", BUDGETS)
def test_it_keeps_to_any_budget_and_never_ends_worse_than_nothing(scorer, budget, name):
    scorer, stack = scorer
    method, facts = method_of(name, stack), known(scorer, stack)
    scorer.candidates_scored = scorer.gradient_steps = 0
    told = []
    found = search_gauss_newton(scorer, method, Journal(told.append), **facts, budget=budget)
    assert scorer.candidates_scored + 3 * scorer.gradient_steps <= budget
    assert len(told) <= planned_steps(budget, len(EXAMPLES), 4, by_layer=name == "auto") + 3  # greedy's
    assert loss_of(scorer, method, found.weights) <= facts["base_loss"] + 1e-6


@pytest.mark.parametrize("kind", ["t5", "llama", "gpt2", "qwen2"])
def test_every_fit_gets_better_on_every_architecture(tmp_path, kind):
    scorer, stack = world(tmp_path, kind)
    settings = gauss_newton.GaussNewtonSettings(penalty=0.05, noise=0.0, first_length=0.1)  # a derivative
    search = gauss_newton._Search(
        scorer, ExactSum(stack), Journal(lambda step: None), [9.0] * 4, 9.0, settings
    )
    fits = search.fit_modules(12)  # the map and one step
    at_zero = search.objective(search.logits.at_base.unsqueeze(0), torch.zeros(1, 4))
    for _ in range(6):  # the trust region has shrunk far enough by then
        search.step(fits)
    assert (search.objective(fits.logits, fits.weights) < at_zero).all()


@pytest.mark.parametrize("name", ["exact", "auto"])
@pytest.mark.parametrize("budget", [40, 120, 200])
def test_the_loss_of_each_step_is_the_few_shot_loss_of_its_weights(scorer, name, budget):
    scorer, stack = scorer
    method, facts = method_of(name, stack), known(scorer, stack)
    found = search_gauss_newton(scorer, method, Journal(lambda step: None), **facts, budget=budget)
    for step in found.steps[1:]:
        assert step.loss == pytest.approx(loss_of(scorer, method, step.weights), rel=1e-4)


@pytest.mark.parametrize("budget", [60, 100])
def test_each_left_out_example_is_scored_by_weights_that_never_saw_it(scorer, budget):
    """The loss of an example that is left out does not change what its fit finds."""
    scorer, stack = scorer
    search = gauss_newton._Search(
        scorer, ExactSum(stack), Journal(lambda step: None), [9.0] * 4, 9.0, DEFAULTS
    )
    fits = search.fit_modules(budget)
    assert fits.weights.shape == (5, 4)
    hidden = search.token_weights == 0
    for fold in range(5):
        examples = search.logits.columns.examples[hidden[fold]]
        assert set(examples.tolist()) == {fold}
    found = search.result_of(fits)
    expected = scorer.nats(ExactSum(stack), fits.weights)
    torch.testing.assert_close(found.nats, expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.left_out_nats, expected.diagonal(), rtol=1e-3, atol=1e-3)


def test_a_fit_only_takes_a_step_that_is_better_in_truth(scorer):
    scorer, stack = scorer
    search = gauss_newton._Search(
        scorer, ExactSum(stack), Journal(lambda step: None), [9.0] * 4, 9.0, DEFAULTS
    )
    fits = search.fit_modules(12)  # the map and one step
    for _ in range(4):
        fits.jacobian = -fits.jacobian  # a map that points uphill
        before = search.objective(fits.logits, fits.weights)
        damping = fits.damping.clone()
        search.step(fits)
        after = search.objective(fits.logits, fits.weights)
        assert (after <= before + 1e-5).all()
        eased = fits.damping < damping
        assert (eased == (after < before - 1e-9)).all()


def test_each_fit_is_averaged_with_the_best_of_the_subsets_that_its_map_proposes(scorer):
    scorer, stack = scorer
    method = ExactSum(stack)
    settings = gauss_newton.GaussNewtonSettings(averages_worse_nats=torch.inf)
    search = gauss_newton._Search(scorer, method, Journal(lambda step: None), [9.0] * 4, 9.0, settings)
    fits = search.fit_modules(16)  # the map and one step
    before, proposed = fits.weights, [search.best_subsets_on_map(fits, row, 3) for row in range(5)]
    scorer.candidates_scored = 0
    search.average_with_subsets(fits, 3)
    assert scorer.candidates_scored <= 5 * (3 + 1) + 1
    for row, seen in enumerate(search.train_mask):
        assert len(proposed[row]) == 3
        tried = torch.stack([search.subset_weights(subset) for subset in proposed[row]])
        losses = token_mean(scorer.nats(method, tried), scorer.label_tokens, seen)
        expected = (before[row] + tried[int(losses.argmin())]) / 2
        expected[expected.abs() < DEFAULTS.noise] = 0
        torch.testing.assert_close(fits.weights[row], expected)


@pytest.mark.parametrize("more", [-1e-3, 1e-3])
def test_averages_that_are_far_worse_on_what_was_left_out_are_refused(scorer, more):
    scorer, stack = scorer

    def averaged(limit):
        settings = gauss_newton.GaussNewtonSettings(averages_worse_nats=limit)
        search = gauss_newton._Search(
            scorer, ExactSum(stack), Journal(lambda step: None), [9.0] * 4, 9.0, settings
        )
        fits = search.fit_modules(16)
        before = search.left_out_loss(fits.logits), fits.weights
        search.average_with_subsets(fits, 3)
        return search, fits, *before

    search, taken, before, weights = averaged(torch.inf)
    left_out = scorer.nats(ExactSum(stack), taken.weights).diagonal().sum() / scorer.label_tokens.sum()
    assert search.left_out_loss(taken.logits) == pytest.approx(float(left_out), rel=1e-4)
    worse = search.left_out_loss(taken.logits) - before
    _, fits, _, _ = averaged(worse + more)
    assert fits.averages_help is (more > 0)
    torch.testing.assert_close(fits.weights, taken.weights if more > 0 else weights)


def test_after_refused_averages_there_are_none(scorer, monkeypatch):
    scorer, stack = scorer
    settings = gauss_newton.GaussNewtonSettings(averages_worse_nats=-torch.inf)
    asked = []
    average = gauss_newton._Search.average_with_subsets
    monkeypatch.setattr(
        gauss_newton._Search,
        "average_with_subsets",
        lambda self, fits, count: asked.append(fits.expansions) or average(self, fits, count),
    )
    search = gauss_newton._Search(
        scorer, ExactSum(stack), Journal(lambda step: None), [9.0] * 4, 9.0, settings
    )
    assert search.fit_modules(200).expansions == DEFAULTS.expansions
    assert asked == [1]


def test_subsets_are_of_the_heaviest_modules_and_a_negative_weight_is_light():
    settings = gauss_newton.GaussNewtonSettings(heaviest=3, largest_subset=2)
    found = gauss_newton.subsets_of_heaviest(torch.tensor([0.9, -1.2, 0.1, 0.7, 0.0]), settings)
    assert sorted(found) == sorted(s for size in range(3) for s in combinations((0, 2, 3), size))


def test_modules_without_room_for_them_take_part_by_their_loss_alone(scorer):
    scorer, stack = scorer
    search = gauss_newton._Search(
        scorer, ExactSum(stack), Journal(lambda step: None), [3.0, 1.0, float("nan"), 2.0], 9.0, DEFAULTS
    )
    fits = search.fit_modules(1 + 2 + 6)  # the base, two modules, a step and the mean of the fits
    assert fits.jacobian.ne(0).any(0).any(0).tolist() == [False, True, False, True]
    assert fits.weights[:, [0, 2]].abs().max() == 0


def linear_world(scorer, stack, **options):
    """A search and its fits where the logits are linear and each of four modules but the first helps.

    The damping holds the weights of the modules that stay.
    """
    settings = gauss_newton.GaussNewtonSettings(noise=0.0, **options)
    search = gauss_newton._Search(
        scorer, ExactSum(stack), Journal(lambda step: None), [9.0] * 4, 9.0, settings
    )
    fits = search.fit_modules(12)  # replaced below
    at_base, labels = search.logits.at_base, search.logits.columns.labels
    fits.jacobian = torch.zeros(*at_base.shape, 4)
    fits.jacobian[range(len(labels)), labels, 1:] = 2.0
    truth = fits.jacobian.clone()
    search.logits.of = lambda method, weights: at_base + gauss_newton.times(truth, weights)
    fits.weights = torch.tensor([0.9, 0.4, 0.3, 0.2]).repeat(search.n_fits, 1)
    fits.logits = search.logits.of(search.exact, fits.weights)
    fits.damping[:] = 1e9
    return search, fits, truth


def test_a_module_that_does_nothing_is_removed_before_the_weights_by_layer(scorer):
    search, fits, _ = linear_world(*scorer, removed_to=1)
    spent = fits.spent
    search.remove_modules(fits)
    torch.testing.assert_close(fits.weights, torch.tensor([[0.0, 0.4, 0.3, 0.2]] * 5))
    assert spent < fits.spent <= spent + search.removal_cost()


@pytest.mark.parametrize("few", [1, 2])
def test_a_set_of_modules_is_not_made_smaller_than_wanted(scorer, few):
    search, fits, truth = linear_world(*scorer, removed_to=few)
    truth[:] = fits.jacobian[:] = 0.0  # no module does anything
    fits.logits = search.logits.of(search.exact, fits.weights)
    search.remove_modules(fits)
    assert fits.weights.ne(0).sum(1).tolist() == [few] * 5


def test_modules_stay_where_a_smaller_set_is_worse_in_truth(scorer):
    search, fits, truth = linear_world(*scorer, removed_to=1)
    before = fits.weights.clone()
    truth[..., 0] = truth[..., 1]  # the first helps, too, which the map does not know
    fits.logits = search.logits.of(search.exact, fits.weights)
    search.remove_modules(fits)
    torch.testing.assert_close(fits.weights, before)


@pytest.mark.parametrize("loss", ["left_out_loss", "seen_loss"])
def test_modules_stay_where_a_loss_is_no_number(scorer, monkeypatch, loss):
    search, fits, _ = linear_world(*scorer, removed_to=1)
    before = fits.weights.clone()
    monkeypatch.setattr(search, loss, lambda logits: float("nan"))
    search.remove_modules(fits)
    torch.testing.assert_close(fits.weights, before)


@pytest.mark.parametrize(("uses", "stay"), [(1, 0), (2, 2), (4, 4)])
def test_a_module_stays_if_two_fits_use_it(scorer, uses, stay):
    search, fits, _ = linear_world(*scorer, removed_to=4)
    fits.weights[uses:, 1] = 0.0
    fits.logits = search.logits.of(search.exact, fits.weights)
    spent = fits.spent
    search.remove_modules(fits)
    assert fits.weights.count_nonzero(0).tolist() == [5, stay, 5, 5]
    assert fits.spent == spent + (0 if stay else 5 + 1)


def test_a_module_of_one_fit_stays_where_they_are_far_worse_without_it(scorer):
    search, fits, _ = linear_world(*scorer)
    fits.weights[1:, 1] = 0.0
    before = fits.weights.clone()
    losses = iter([1.6, 1.0])  # without it, and with it
    search.left_out_loss = lambda logits: next(losses)
    search.remove_used_once(fits)
    torch.testing.assert_close(fits.weights, before)


def test_where_no_module_is_used_by_two_fits_all_stay(scorer):
    search, fits, _ = linear_world(*scorer)
    fits.weights = torch.eye(5)[:, :4].clone()
    fits.logits = search.logits.of(search.exact, fits.weights)
    search.remove_used_once(fits)
    assert fits.weights.count_nonzero() == 4


def test_a_light_module_is_removed_without_a_fit(scorer):
    search, fits, _ = linear_world(*scorer, removed_from=3, removed_to=1)
    sets = [set(w.ne(0).any(0).nonzero().flatten().tolist()) for w in search.smaller_on_map(fits)]
    assert sets == [{1, 2}, {1}]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["exact", "auto"])
@pytest.mark.parametrize("averages_help", [True, False])
@pytest.mark.parametrize("stopped_after", [1, 3, 5, 9])
def test_a_search_that_was_cut_off_goes_on_to_the_same_weights(scorer, name, stopped_after, averages_help):
    scorer, stack = scorer
    limit = torch.inf if averages_help else -torch.inf
    settings = gauss_newton.GaussNewtonSettings(averages_worse_nats=limit)
    method, facts = method_of(name, stack), known(scorer, stack)
    search = {"budget": 400, "settings": settings, **facts}
    whole = search_gauss_newton(scorer, method, Journal(lambda step: None), **search)
    stopped_after = min(stopped_after, len(whole.steps) - 1)
    lines = []

    class Killed(Exception):
        pass

    def on_step(step):
        if step.number > stopped_after:
            raise Killed
        event = {"event": "step", "step": step.number, "weights": step.weights}
        lines.append(event | {"loss": step.loss, "best_loss": step.best_loss})

    with pytest.raises(Killed):
        search_gauss_newton(
            scorer,
            method,
            Journal(on_step, on_state=lambda state: lines.append(state_event(state))),
            **search,
        )
    record = read_record(map(json.dumps, lines))
    told = []
    again = search_gauss_newton(scorer, method, Journal(told.append, record=record), **search)
    assert again.weights == whole.weights
    assert again.steps == whole.steps
    assert again.left_out == whole.left_out
    assert [step.number for step in told] == list(range(stopped_after + 1, len(whole.steps) + 1))


def test_a_search_that_is_stopped_at_its_first_step_has_the_best_single_module(scorer):
    scorer, stack = scorer
    journal = Journal(lambda step: stop())
    with pytest.raises(StopSearch):
        search_gauss_newton(
            scorer, ExactSum(stack), journal, single_losses=[3.0, 1.0, 2.0, 4.0], base_loss=5.0, budget=200
        )
    assert journal.finish_early("stopped").weights == (0.0, 1.0, 0.0, 0.0)


def stop():
    raise StopSearch


def test_freed_layers_start_at_the_fits_and_keep_unused_modules_out(scorer):
    scorer, stack = scorer
    method, steps = Auto(stack), []
    search = gauss_newton._Search(scorer, method, Journal(steps.append), [9.0] * 4, 9.0, DEFAULTS)
    start = method.spread(torch.tensor([[0.5, 0.0, -0.2, 0.0]]))
    freed = search.free_layers(FoldFits(start, torch.zeros(1, 5), torch.ones(1, 5)), 10)
    assert steps[0].weights == tuple(start[0].tolist())
    by_layer = method.by_layer(freed.weights[0].tolist())
    assert by_layer[:, [1, 3]].abs().max() == 0
    assert (by_layer[:, 0] - by_layer[0, 0]).abs().max() > 0
    assert steps[-1].loss < steps[0].loss


@pytest.mark.parametrize("name", ["exact", "auto"])
@pytest.mark.parametrize("size", [6e4, 1e9])
def test_a_wild_module_cannot_make_the_result_worse_than_nothing(tmp_path, name, size):
    base = make_base(tmp_path / "first")
    plain = read_module(make_module(tmp_path / "plain", base, seed=9), "plain")
    wild = LoraModule("wild", 2, 2.0, {p: (A + size, B + size) for p, (A, B) in plain.factors.items()})
    scorer, stack = world(tmp_path, extra=[wild])
    method = method_of(name, stack)
    base_loss = float(token_mean(scorer.nats_of_base(), scorer.label_tokens))
    found = search_gauss_newton(
        scorer, method, Journal(lambda step: None), single_losses=[9e9] * 5, base_loss=base_loss, budget=200
    )
    assert loss_of(scorer, method, found.weights) <= base_loss + 1e-6


@pytest.mark.parametrize(("worse", "taken"), [(0.6, "logits"), (0.4, "layer")])
def test_layers_are_freed_unless_what_was_left_out_speaks_against_it(scorer, monkeypatch, worse, taken):
    scorer, stack = scorer
    search = gauss_newton._Search(scorer, Auto(stack), Journal(lambda step: None), [9.0] * 4, 9.0, DEFAULTS)
    seen = fold_masks(5)
    whole = FoldFits(torch.full((5, search.method.n_weights), 0.1), torch.zeros(5, 5), seen)
    freed = FoldFits(whole.weights, worse * scorer.label_tokens.expand(5, 5), seen)
    monkeypatch.setattr(search, "free_layers", lambda *_: freed)
    _, moves = search.choose_layers(whole, 4)
    assert moves.endswith(taken)


def test_a_small_budget_has_no_steps_by_layer_and_a_large_one_no_more_than_needed():
    assert steps_by_layer(100, 33, 5) == 0
    assert steps_by_layer(200, 72, 5) == 4
    assert steps_by_layer(5000, 3000, 5) == DEFAULTS.layer_steps
    assert steps_by_layer(400, 40, 5) == 0  # the fits used it up


def test_more_examples_than_parts_are_left_out_some_at_a_time():
    assert fold_masks(5, 2).tolist() == [[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]
    assert fold_masks(5).sum(1).tolist() == [4, 4, 4, 4, 4]
    assert fold_masks(1).tolist() == [[1]]
