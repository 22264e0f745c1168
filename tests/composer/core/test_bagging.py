"""The default searches, of the exact sum and of the method auto, on a base that is known."""

from itertools import combinations

import pytest
import torch

from composer.core.methods.exact import ExactSum
from composer.core.methods.layerwise import Auto
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import LoraModule, read_module, stack_modules
from composer.core.search import bagging
from composer.core.search.bagging_by_layer import (
    choose_weights_by_layer,
    fit_by_layer,
    planned_auto_steps,
    search_auto,
)
from composer.core.search.folds import FoldFits, fold_masks
from composer.core.search.journal import Journal
from composer.core.spec.examples import Example
from tests.composer.core.tiny import EXAMPLES, make_base, make_module


@pytest.fixture
def scorer(tmp_path):
    base = make_base(tmp_path / "base")
    stack = stack_modules(
        [read_module(make_module(tmp_path / str(i), base, seed=i), str(i)) for i in range(4)]
    )
    model = FrozenBaseModel.load(base)
    model.hook(layer.path for layer in stack.layers)
    return FewShotScorer(model, model.encode([Example(*pair) for pair in EXAMPLES])), ExactSum(stack)


def journal():
    return Journal(lambda step: None)


def known(scorer, method):
    """What the searches are told of modules alone and of none."""
    single_losses = token_mean(scorer.nats_of_singles(method.stack), scorer.label_tokens).tolist()
    base_loss = float(token_mean(scorer.nats_of_base(), scorer.label_tokens))
    return {"single_losses": single_losses, "base_loss": base_loss}


def spent(scorer):
    return scorer.candidates_scored + 3 * scorer.gradient_steps


def test_each_fit_has_the_best_of_all_subsets_of_its_own_heaviest_modules(scorer):
    scorer, method = scorer
    bag = torch.tensor([[0.9, 0.1, 0.8, 0.7], [0.0, 0.9, 0.1, 0.2]])
    shown = torch.tensor([[1.0, 1, 1, 1, 0], [0.0, 1, 1, 1, 1]])
    settings = bagging.BaggingSettings(heaviest=3, largest_subset=2)
    found = bagging.best_subsets(scorer, method, bag, shown, settings)
    for own, heavy, seen in zip(found, [(0, 2, 3), (1, 2, 3)], shown, strict=True):
        subsets = [s for size in range(3) for s in combinations(heavy, size)]
        tried = torch.stack([torch.tensor([float(i in s) for i in range(4)]) for s in subsets])
        losses = token_mean(scorer.nats(method, tried), scorer.label_tokens, seen)
        assert own.tolist() == tried[int(losses.argmin())].tolist()
    assert bagging.subset_count(6, 3) == 1 + 6 + 15 + 20


def test_each_left_out_example_is_scored_by_weights_that_never_saw_it(scorer):
    scorer, method = scorer
    folds = bagging.fit_folds(scorer, method, journal(), lambda weights, loss: None, budget=1300)
    steps = bagging.bag_steps(1300, 5, 4)
    shown = torch.tensor([[1.0, 1.0, 0.0, 1.0, 1.0]])  # all but the third
    fitted = bagging.fit_bag(
        scorer,
        method,
        journal(),
        lambda weights, loss: None,
        shown,
        steps=steps,
        penalty=bagging.DEFAULTS.penalty,
    )
    weights = (fitted + bagging.best_subsets(scorer, method, fitted, shown, bagging.DEFAULTS)) / 2
    weights[weights.abs() < bagging.DEFAULTS.noise] = 0.0
    assert float(folds.left_out_nats[2]) == pytest.approx(float(scorer.nats(method, weights)[0, 2]), rel=1e-3)


@pytest.mark.parametrize("name", ["blend", "auto"])
@pytest.mark.parametrize(
    "budget", [1, 40, 200, *(pytest.param(budget, marks=pytest.mark.slow) for budget in (1200, 2000))]
)
def test_the_default_searches_keep_to_any_budget_and_never_end_worse_than_nothing(scorer, budget, name):
    scorer, method = scorer
    method = Auto(method.stack) if name == "auto" else method
    search, planned = (
        (search_auto, planned_auto_steps)
        if name == "auto"
        else (bagging.search_bagging, bagging.planned_bagging_steps)
    )
    facts = known(scorer, ExactSum(method.stack))
    scorer.candidates_scored = scorer.gradient_steps = 0
    told = []
    found = search(scorer, method, Journal(told.append), **facts, budget=budget)
    assert spent(scorer) <= max(budget, 3)  # one gradient step at least
    assert len(told) <= planned(budget, len(EXAMPLES), 4) + 5  # greedy tells of what it adds
    assert len(told) >= planned(budget, len(EXAMPLES), 4)
    assert bagging.loss_of(scorer, method, torch.tensor(found.weights)) <= facts["base_loss"]


def test_freed_layers_start_at_the_blend_and_keep_unused_modules_out(scorer):
    scorer, exact = scorer
    method = Auto(exact.stack)
    whole = FoldFits(torch.tensor([[0.5, 0.0, -0.2, 0.0]]), torch.zeros(1, 5), torch.ones(1, 5))
    steps = []
    freed = fit_by_layer(scorer, method, Journal(steps.append), whole)
    assert steps[0].weights == tuple(method.spread(whole.weights)[0].tolist())
    by_layer = method.by_layer(freed.weights[0].tolist())
    assert by_layer[:, [1, 3]].abs().max() == 0
    assert (by_layer[:, 0] - by_layer[0, 0]).abs().max() > 0
    assert steps[-1].loss < steps[0].loss


@pytest.mark.parametrize(("worse", "taken"), [(0.6, "subsets"), (0.4, "layer")])
def test_layers_are_freed_unless_what_was_left_out_speaks_against_it(scorer, monkeypatch, worse, taken):
    scorer, exact = scorer
    method = Auto(exact.stack)
    shown = fold_masks(5, 5)
    whole = FoldFits(torch.full((5, 4), 0.1), torch.zeros(5, 5), shown)
    freed = FoldFits(torch.zeros(5, method.n_weights), worse * scorer.label_tokens.expand(5, 5), shown)
    monkeypatch.setattr("composer.core.search.bagging_by_layer.fit_by_layer", lambda *_: freed)
    _, moves = choose_weights_by_layer(scorer, method, journal(), whole)
    assert moves.endswith(taken)


@pytest.mark.parametrize("name", ["blend", "auto"])
def test_a_wild_module_cannot_make_the_result_worse_than_nothing(tmp_path, name):
    base = make_base(tmp_path / "base")
    modules = [read_module(make_module(tmp_path / str(i), base, seed=i), str(i)) for i in range(3)]
    wild = LoraModule(
        "wild", 2, 2.0, {path: (A + 6e4, B + 6e4) for path, (A, B) in modules[0].factors.items()}
    )
    stack = stack_modules([wild, *modules])
    model = FrozenBaseModel.load(base)
    model.hook(layer.path for layer in stack.layers)
    scorer = FewShotScorer(model, model.encode([Example(*pair) for pair in EXAMPLES]))
    method = Auto(stack) if name == "auto" else ExactSum(stack)
    search = search_auto if name == "auto" else bagging.search_bagging
    base_loss = float(token_mean(scorer.nats_of_base(), scorer.label_tokens))
    found = search(scorer, method, journal(), single_losses=[9.0] * 4, base_loss=base_loss, budget=2000)
    assert bagging.loss_of(scorer, method, torch.tensor(found.weights)) <= base_loss
