"""The row of examples that share their prefix is computed as each would be alone."""

from random import Random

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM

from demo.english.train import Schedule, draw_batches, pad_left, round_weights, share_prefix

PROMPTS = [[5, 6, 7, 8, 9], [5, 6, 7, 8, 10, 11], [5, 6, 7, 12]]
ANSWERS = [[20, 2], [21, 22, 2], [2]]


@pytest.fixture
def model():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config).eval()


def logits_together(model, prompts, answers):
    row = share_prefix(prompts, answers)
    return model(
        input_ids=row.ids,
        attention_mask=row.mask,
        position_ids=row.positions,
        logits_to_keep=row.scored,
        use_cache=False,
    ).logits[0]


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_label_has_the_logits_it_has_alone(model, count):
    prompts, answers = PROMPTS[:count], ANSWERS[:count]
    alone = [
        model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        for prompt, answer in zip(prompts, answers, strict=True)
    ]
    torch.testing.assert_close(logits_together(model, prompts, answers), torch.cat(alone))


def test_the_gradient_is_that_of_the_examples_alone(model):
    row = share_prefix(PROMPTS, ANSWERS)
    cross_entropy(logits_together(model, PROMPTS, ANSWERS), row.labels, reduction="sum").backward()
    together = model.model.layers[0].self_attn.q_proj.weight.grad.clone()
    model.zero_grad()
    for prompt, answer in zip(PROMPTS, ANSWERS, strict=True):
        logits = model(torch.tensor([[*prompt, *answer]])).logits[0, len(prompt) - 1 : -1]
        cross_entropy(logits, torch.tensor(answer), reduction="sum").backward()
    torch.testing.assert_close(together, model.model.layers[0].self_attn.q_proj.weight.grad)


def test_the_labels_are_the_answers_alone():
    row = share_prefix(PROMPTS, ANSWERS)
    assert row.labels.tolist() == [20, 2, 21, 22, 2, 2]
    assert (
        len(row.ids[0]) == 3 + (2 + 1) + (3 + 2) + 1
    )  # shared, then prompts' rests and answers but their ends


def test_equal_prompts_still_predict_their_own_answers(model):
    together = logits_together(model, [[5, 6], [5, 6]], [[20, 2], [21, 2]])
    torch.testing.assert_close(together[0], together[2])
    assert not torch.allclose(together[1], together[3])


def test_every_example_is_drawn_once_before_any_is_drawn_again():
    batches = draw_batches(list(range(6)), 4, Random(1))
    drawn = [number for _ in range(3) for number in next(batches)]
    assert sorted(drawn) == sorted([*range(6), *range(6)])
    assert set(drawn[:6]) == set(range(6))


def test_the_rate_rises_stays_and_falls_to_nearly_nothing():
    rates = [Schedule(steps=60, warm_up=5).rate(step) for step in range(60)]
    assert rates[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert rates[29] == 1.0
    assert rates[-1] == pytest.approx(1 / 30)


def test_the_factors_that_are_measured_are_those_that_are_stored(model):
    module = get_peft_model(model, LoraConfig(target_modules=["q_proj"], r=2))
    round_weights(module)
    factors = [parameter for parameter in module.parameters() if parameter.requires_grad]
    assert factors
    assert all(torch.equal(factor, factor.half().float()) for factor in factors)


def test_padding_goes_to_the_left():
    assert pad_left([[1], [2, 3]], 0).tolist() == [[0, 1], [2, 3]]
