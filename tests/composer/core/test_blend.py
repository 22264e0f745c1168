"""The default search of the exact sum, on a base that is known."""

import pytest
import torch

from composer.core import blend
from composer.core.base_model import BaseModel
from composer.core.combine import ExactSum
from composer.core.examples import Example
from composer.core.module_stack import LoraModule, read_module, stack_modules
from composer.core.objective import FewShotScorer, token_mean
from composer.core.search import Fits, fit_weights
from tests.composer.core.tiny import EXAMPLES, make_base, make_module


@pytest.fixture
def scorer(tmp_path):
    base = make_base(tmp_path / "base")
    stack = stack_modules(
        [read_module(make_module(tmp_path / str(i), base, seed=i), str(i)) for i in range(4)]
    )
    model = BaseModel.load(base)
    model.hook(layer.path for layer in stack.layers)
    return FewShotScorer(model, model.encode([Example(*pair) for pair in EXAMPLES])), ExactSum(stack)


def test_the_search_lowers_the_few_shot_loss_and_stays_within_its_budget(scorer):
    scorer, method = scorer
    before = float(token_mean(scorer.nats_of_base(), scorer.label_tokens))
    scorer.candidates_scored = 0
    found = blend.search_adam(scorer, method, budget=150, on_step=lambda step: None)
    after = float(token_mean(scorer.nats(method, torch.tensor([found.weights])), scorer.label_tokens))
    assert after < before
    assert 3 * scorer.gradient_steps <= 150
    assert found.steps[0].loss == pytest.approx(before, rel=1e-5)


def test_the_best_subset_is_the_best_of_all_of_them():
    dense = torch.tensor([0.9, 0.1, 0.8, 0.7, -0.5])
    wanted = torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0])
    found = blend.best_subset(dense, blend.BlendSettings(), lambda w: (w - wanted).abs().sum(-1))
    assert found.tolist() == wanted.tolist()
    assert blend.subset_count(6, 3) == 1 + 6 + 15 + 20


def test_each_left_out_example_is_scored_by_weights_that_never_saw_it(scorer):
    scorer, method = scorer
    losses = blend.left_out_losses(scorer, method, steps=20)
    shown = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])  # all but the third
    weights = fit_weights(
        lambda w: token_mean(scorer.nats_with_gradient(method, w), scorer.label_tokens, shown),
        Fits(torch.zeros(1, 4), torch.ones(1, 4), torch.tensor([blend.DEFAULTS.penalty])),
        steps=20,
        learning_rate=blend.rate_for(20),
    )
    assert float(losses[2]) == pytest.approx(float(scorer.nats(method, weights)[0, 2]), rel=1e-3)


@pytest.mark.parametrize("budget", [1, 40, 200, 1200])
def test_the_blend_keeps_to_any_budget_and_never_ends_worse_than_nothing(scorer, budget):
    scorer, method = scorer
    alone = token_mean(scorer.nats_of_singles(method.stack), scorer.label_tokens).tolist()
    nothing = float(token_mean(scorer.nats_of_base(), scorer.label_tokens))
    scorer.candidates_scored = scorer.gradient_steps = 0
    told = []
    found = blend.search_blend(
        scorer, method, alone=alone, nothing=nothing, budget=budget, on_step=told.append
    )
    spent = scorer.candidates_scored + 3 * scorer.gradient_steps
    assert spent <= max(budget, 3)  # one gradient step at least
    assert len(told) <= blend.planned_steps(budget, len(EXAMPLES), 4) + 4  # greedy tells of what it adds
    loss = float(token_mean(scorer.nats(method, torch.tensor([found.weights])), scorer.label_tokens))
    assert loss <= nothing


def test_more_examples_than_parts_are_left_out_some_at_a_time(scorer):
    scorer, _ = scorer
    few = blend.parts_left_out(scorer, blend.BlendSettings(parts=2))
    assert few.tolist() == [[0, 1, 0, 1, 0], [1, 0, 1, 0, 1]]
    assert blend.parts_left_out(scorer).sum(1).tolist() == [4, 4, 4, 4, 4]


def test_a_wild_module_cannot_make_the_result_worse_than_nothing(tmp_path):
    base = make_base(tmp_path / "base")
    modules = [read_module(make_module(tmp_path / str(i), base, seed=i), str(i)) for i in range(3)]
    wild = LoraModule(
        "wild", 2, 2.0, {path: (A + 6e4, B + 6e4) for path, (A, B) in modules[0].factors.items()}
    )
    stack = stack_modules([wild, *modules])
    model = BaseModel.load(base)
    model.hook(layer.path for layer in stack.layers)
    scorer, method = (
        FewShotScorer(model, model.encode([Example(*pair) for pair in EXAMPLES])),
        ExactSum(stack),
    )
    nothing = float(token_mean(scorer.nats_of_base(), scorer.label_tokens))
    found = blend.search_blend(
        scorer, method, alone=[9.0] * 4, nothing=nothing, budget=1300, on_step=lambda step: None
    )
    assert (
        float(token_mean(scorer.nats(method, torch.tensor([found.weights])), scorer.label_tokens)) <= nothing
    )
