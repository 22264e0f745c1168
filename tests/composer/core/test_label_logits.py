"""The logits at the label positions, for every family, whole and in the columns that are kept."""

import pytest
import torch

from composer.core.methods.exact import ExactSum
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.label_logits import LARGEST, MOST_LABELS, LabelColumns, LabelLogits, label_tokens
from composer.core.model.scorer import FewShotScorer
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.examples import Example
from tests.composer.core.tiny import EXAMPLES, FAMILIES, TARGETS, make_base, make_module


def scorer_and_method(folder, kind):
    base = make_base(folder / "base", kind)
    stack = stack_modules(
        [
            read_module(make_module(folder / str(i), base, seed=i, targets=TARGETS[kind]), str(i))
            for i in range(3)
        ]
    )
    model = FrozenBaseModel.load(base)
    model.hook(layer.path for layer in stack.layers)
    return FewShotScorer(model, model.encode([Example(*pair) for pair in EXAMPLES])), ExactSum(stack)


def by_example(nats, examples, n):
    """(P, T) of tokens -> (P, n) of examples."""
    return torch.zeros(len(nats), n).index_add(1, examples, nats)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_logits_of_label_tokens_give_the_losses_of_the_examples(tmp_path, kind):
    scorer, method = scorer_and_method(tmp_path, kind)
    weights = torch.tensor([[0.0, 0.0, 0.0], [1.0, -0.5, 0.3]])
    with torch.no_grad():
        whole, examples = scorer.base.label_logits(scorer.batch, method.adapters(weights), 2)
    labels = label_tokens(scorer.batch, examples)
    nats = -whole.log_softmax(-1)[:, torch.arange(len(labels)), labels]
    expected = scorer.nats(method, weights)
    torch.testing.assert_close(by_example(nats, examples, len(EXAMPLES)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", FAMILIES)
def test_the_kept_columns_give_the_same_losses_and_count_the_candidates(tmp_path, kind):
    scorer, method = scorer_and_method(tmp_path, kind)
    logits = LabelLogits(scorer)
    weights = torch.tensor([[0.0, 0.0, 0.0], [1.0, -0.5, 0.3], [0.2, 0.2, 0.2]])
    scored = logits.of(method, weights)
    assert scorer.candidates_scored == 1 + 3
    torch.testing.assert_close(scored[0], logits.at_base, rtol=1e-4, atol=1e-4)
    nats = by_example(logits.columns.token_nats(scored), logits.columns.examples, len(EXAMPLES))
    torch.testing.assert_close(nats, scorer.nats(method, weights), rtol=1e-4, atol=1e-4)


def test_the_rest_stands_for_every_other_logit():
    torch.manual_seed(0)
    logits, labels = 3 * torch.randn(4, 200), torch.tensor([7, 8, 7, 150])
    columns = LabelColumns.largest_of(logits, labels, torch.zeros(4, dtype=torch.long))
    assert columns.tokens.shape == (4, LARGEST + 3 + 1)
    other = 3 * torch.randn(2, 4, 200)  # candidates whose largest logits are elsewhere
    narrow = columns.narrow(other)
    whole = torch.nn.functional.cross_entropy(other.flatten(0, 1), labels.repeat(2), reduction="none")
    torch.testing.assert_close(columns.token_nats(narrow), whole.view(2, 4))
    kept = other.softmax(-1).gather(-1, columns.tokens.expand(2, -1, -1))
    torch.testing.assert_close(narrow.softmax(-1)[..., :-1], kept)


def test_each_row_keeps_its_own_label_among_more_than_are_kept():
    torch.manual_seed(0)
    labels = torch.arange(MOST_LABELS + 20)
    columns = LabelColumns.largest_of(torch.randn(len(labels), 400), labels, labels)
    assert columns.tokens.shape == (len(labels), LARGEST + MOST_LABELS + 1)
    assert columns.tokens.gather(1, columns.labels.unsqueeze(1)).flatten().tolist() == labels.tolist()


def test_a_vocabulary_that_is_kept_whole_leaves_a_rest_of_nothing_and_no_infinity():
    logits, labels = torch.randn(3, 12), torch.tensor([0, 1, 2])
    columns = LabelColumns.largest_of(logits, labels, torch.arange(3))
    narrow = columns.narrow(logits.unsqueeze(0))
    assert narrow.isfinite().all()
    assert float(narrow.softmax(-1)[..., -1].max()) < 1e-12


def test_a_few_candidates_at_a_time_give_the_same(tmp_path, monkeypatch):
    scorer, method = scorer_and_method(tmp_path, "t5")
    weights = torch.rand(5, 3)
    at_once = LabelLogits(scorer).of(method, weights)
    monkeypatch.setattr("composer.core.model.base_model.LOGITS_BYTES", 1)
    torch.testing.assert_close(LabelLogits(scorer).of(method, weights), at_once, rtol=1e-4, atol=1e-5)
