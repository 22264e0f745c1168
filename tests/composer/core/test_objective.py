"""Scores, held to a slow oracle: peft, one candidate, one batch at a time."""

import json

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from composer.core.methods.exact import ExactSum
from composer.core.methods.lorahub import FactorSum
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.scorer import FewShotScorer, lorahub_objective, token_mean
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.examples import Example
from tests.composer.core.tiny import EXAMPLES, TARGETS, make_base, make_module

SHOTS = [Example(*pair) for pair in EXAMPLES]


@pytest.fixture
def world(tmp_path):
    base = make_base(tmp_path / "base")
    folders = [make_module(tmp_path / str(i), base, seed=i) for i in range(3)]
    return base, folders


def scorer_of(base, folders, shots=SHOTS):
    model = FrozenBaseModel.load(base)
    stack = stack_modules([read_module(folder, folder.name) for folder in folders])
    model.hook(layer.path for layer in stack.layers)
    return FewShotScorer(model, model.encode(shots)), stack


def released_lorahub(base, folders, weights, batch_size):
    """LoraHub's objective, retold slowly: peft models, state dicts, transformers' own loss."""
    states = []
    for folder in folders:
        model = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(base), folder)
        states.append(get_peft_model_state_dict(model))
    mixed = {key: sum(w * s[key] for w, s in zip(weights, states, strict=True)) for key in states[0]}
    set_peft_model_state_dict(model, mixed)
    model.eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    total = 0.0
    size = batch_size or len(SHOTS)
    for start in range(0, len(SHOTS), size):
        block = SHOTS[start : start + size]
        inputs = tokenizer([e.input for e in block], padding=True, return_tensors="pt")
        labels = tokenizer([e.output for e in block], padding=True, return_tensors="pt")["input_ids"]
        labels[labels == tokenizer.pad_token_id] = -100
        with torch.no_grad():
            inputs = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
            total += float(model(**inputs, labels=labels).loss)
    return total / len(SHOTS) + 0.05 * sum(map(abs, weights)) / len(weights)


@pytest.mark.parametrize("batch_size", [None, 2, 1])
@pytest.mark.parametrize("weights", [(0.0, 0.0, 0.0), (0.5, -1.0, 0.25), (1.5, 1.5, -1.5)])
def test_our_objective_is_the_released_one(world, batch_size, weights):
    scorer, stack = scorer_of(*world)
    ours = lorahub_objective(scorer, FactorSum(stack), weights, batch_size)
    assert ours == pytest.approx(released_lorahub(*world, weights, batch_size), rel=1e-5)


def test_many_candidates_at_once_score_as_each_alone(world):
    scorer, stack = scorer_of(*world)
    weights = torch.tensor([[0.5, -1.0, 0.25], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]])
    for method in (ExactSum(stack), FactorSum(stack)):
        alone = torch.cat([scorer.nats(method, weights[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(scorer.nats(method, weights), alone, rtol=1e-5, atol=1e-5)


def test_the_gradient_is_the_slope(world):
    scorer, stack = scorer_of(*world)
    method = ExactSum(stack)
    weights = torch.tensor([[0.4, -0.3, 0.8]], requires_grad=True)
    loss = scorer.loss_with_gradient(method, weights)
    (gradient,) = torch.autograd.grad(loss.sum(), weights)
    width = 1e-2
    for i in range(3):
        step = torch.zeros(1, 3)
        step[0, i] = width
        with torch.no_grad():
            around = token_mean(
                scorer.nats(method, torch.cat([weights + step, weights - step])), scorer.label_tokens
            )
        slope = (around[0] - around[1]) / (2 * width)
        assert float(gradient[0, i]) == pytest.approx(float(slope), rel=0.02, abs=1e-3)


def test_at_zero_the_gradient_is_dead_in_a_product_of_sums_and_alive_in_an_exact_sum(world):
    scorer, stack = scorer_of(*world)
    slopes = []
    for method in (FactorSum(stack), ExactSum(stack)):
        weights = torch.zeros(1, 3, requires_grad=True)
        (gradient,) = torch.autograd.grad(scorer.loss_with_gradient(method, weights).sum(), weights)
        slopes.append(float(gradient.abs().max()))
    assert slopes[0] == 0.0
    assert slopes[1] > 0.0


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_decoder_is_scored_on_its_answer_and_its_end_alone(tmp_path, kind):
    base = make_base(tmp_path / "base", kind)
    folder = make_module(tmp_path / "m", base, seed=1, targets=TARGETS[kind])
    scorer, _ = scorer_of(base, [folder])
    model = AutoModelForCausalLM.from_pretrained(base).eval()
    tokenizer = AutoTokenizer.from_pretrained(base)
    for example, nats in zip(SHOTS, scorer.nats_of_base()[0].tolist(), strict=True):
        prompt = tokenizer(example.input)["input_ids"]
        answer = [*tokenizer(example.output)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([prompt + answer])).logits[0].log_softmax(-1)
        expected = -sum(float(logits[len(prompt) + i - 1, token]) for i, token in enumerate(answer))
        assert nats == pytest.approx(expected, rel=1e-4)


def test_other_keys_never_reach_the_base(world, tmp_path):
    from safetensors.torch import load_file, save_file

    from composer.core.spec.errors import ModuleUnreadableError

    _, (folder, *_) = world
    path = folder / "adapter_model.safetensors"
    for key in (
        "base_model.model.shared.weight",
        "base_model.model.encoder.block.0.layer.0.SelfAttention.k.weight",
    ):
        save_file({**load_file(path), key: torch.zeros(2, 2)}, tmp_path / "evil.safetensors")
        (tmp_path / "evil.safetensors").replace(path)
        with pytest.raises(ModuleUnreadableError, match=r"embeddings|not LoRA weights"):
            read_module(folder, "evil")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("r", 0),
        ("r", True),
        ("r", 3),
        ("lora_alpha", float("nan")),
        ("lora_alpha", -1),
        ("use_dora", True),
        ("bias", "all"),
        ("alpha_pattern", {"(a+)+$": 4}),
        ("modules_to_save", ["shared"]),
        ("peft_type", "XLORA"),
        ("init_lora_weights", "pissa"),
        ("alora_invocation_tokens", [1, 2]),
        ("use_qalora", True),
        ("use_bdlora", {"nblocks": 2}),
        ("arrow_config", {"top_k": 3}),
        ("kasa_config", {"beta": 0.1}),
        ("monteclora_config", {"samples": 4}),
        ("velora_config", {"rank": 1}),
        ("init_lora_weights", "loftq"),
    ],
)
def test_a_config_that_would_change_the_arithmetic_is_refused(world, field, value):
    from composer.core.spec.errors import ModuleUnreadableError

    _, (folder, *_) = world
    path = folder / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    with pytest.raises(ModuleUnreadableError):
        read_module(folder, "m")
