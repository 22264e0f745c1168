"""A base that stays in memory answers with and without an adapter, and no adapter leaves a trace in it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from composer.core.model.answering import AnsweringBase, tensors_sha256
from composer.core.model.base_model import FrozenBaseModel
from composer.core.spec.errors import (
    BaseChangedError,
    MismatchedModulesError,
    ModuleUnreadableError,
    PromptTooLongError,
)
from tests.composer.core.tiny import FAMILIES, TARGETS, make_base, make_module

LIMITS = {"max_new_tokens": 8, "limit_s": 30.0}


@pytest.fixture
def answering(tmp_path) -> AnsweringBase:
    return AnsweringBase(FrozenBaseModel.load(make_base(tmp_path / "base")))


@pytest.fixture
def module(answering, tmp_path) -> Path:
    return make_module(tmp_path / "module", tmp_path / "base", seed=1)


@pytest.mark.parametrize("kind", FAMILIES)
def test_an_adapter_answers_as_peft_would_and_the_base_as_it_did_before(kind, tmp_path):
    from peft import PeftModel

    base = make_base(tmp_path / "base", kind)
    module = make_module(tmp_path / "module", base, seed=1, targets=TARGETS[kind])
    answering = AnsweringBase(FrozenBaseModel.load(base))
    prompt, tokens = answering.read("cat dog", "{input}")
    before = answering.answer(prompt, {}, **LIMITS)
    adapted = answering.answer(prompt, answering.adapters(module, "m"), **LIMITS)
    assert tokens >= 2
    assert answering.answer(prompt, {}, **LIMITS).text == before.text

    plain = FrozenBaseModel.load(base)
    wrapped = PeftModel.from_pretrained(plain.model, module).eval()
    ((expected,),) = plain.answers([prompt], LIMITS["max_new_tokens"], {}, wrapped=wrapped)
    assert adapted.text == expected
    assert adapted.text != before.text


def test_the_prompt_is_told_as_the_model_reads_it(answering):
    assert answering.read("cat", "fig {input} dog") == ("fig cat dog", 4)


def test_an_adapter_for_another_base_is_refused(answering, tmp_path):
    other = make_base(tmp_path / "other", "llama")
    module = make_module(tmp_path / "module", other, seed=1, targets=TARGETS["llama"])
    with pytest.raises(MismatchedModulesError):
        answering.adapters(module, "m")


@pytest.mark.parametrize(
    "key",
    ["base_model.model.shared.weight", "base_model.model.encoder.block.0.layer.0.SelfAttention.q.weight"],
)
def test_an_adapter_that_brings_weights_of_the_base_is_refused_and_changes_nothing(answering, module, key):
    weights = load_file(module / "adapter_model.safetensors")
    save_file(weights | {key: torch.ones(19, 16)}, module / "adapter_model.safetensors")
    with pytest.raises(ModuleUnreadableError, match=r"embeddings|not LoRA weights"):
        answering.adapters(module, "m")
    answering.require_unchanged()


def test_a_base_that_was_changed_by_one_bit_answers_no_more(answering):
    answering.require_unchanged()
    with torch.no_grad():
        answering.base.model.shared.weight[0, 0] *= 1 + 2**-20
    with pytest.raises(BaseChangedError):
        answering.require_unchanged()


def test_a_tensor_under_another_name_or_in_another_precision_is_another_base(answering):
    before = tensors_sha256(answering.base.model)
    answering.base.model.register_buffer("stowaway", torch.zeros(0))
    assert tensors_sha256(answering.base.model) != before


def test_a_prompt_of_too_many_tokens_is_refused_in_a_sentence_about_the_prompt(answering):
    with pytest.raises(PromptTooLongError, match="The prompt is 3001 tokens long"):
        answering.answer("cat " * 3000, {}, **LIMITS)


def test_the_clock_ends_an_answer_and_what_is_written_so_far_is_kept(answering):
    answer = answering.answer("cat", {}, max_new_tokens=1000, limit_s=0.0)
    assert answer.is_out_of_time
    assert answer.tokens < 1000


def test_an_answer_of_as_many_tokens_as_it_may_have_says_so(answering):
    endless = answering.answer("cat", {}, max_new_tokens=2, limit_s=30.0)
    assert endless.tokens <= 2
    assert endless.is_full == (endless.tokens >= 2)


def test_a_config_that_would_rewrite_the_base_is_refused(answering, module):
    config = json.loads((module / "adapter_config.json").read_text())
    (module / "adapter_config.json").write_text(json.dumps(config | {"modules_to_save": ["shared"]}))
    with pytest.raises(ModuleUnreadableError, match="modules_to_save"):
        answering.adapters(module, "m")
