"""bf16 and the device: what is rounded, by how much that moves a loss, and what is told of it."""

import json

import pytest
import torch
from transformers.pytorch_utils import Conv1D

from composer.core.job import run
from composer.core.methods.exact import ExactSum
from composer.core.model import base_model, packed_linear, t5
from composer.core.model.base_model import FrozenBaseModel, find_device
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.errors import InvalidJobError
from composer.core.spec.example_files import read_examples
from composer.core.spec.examples import Example
from demo import BUNDLE
from tests.composer.core.test_demo_world import demo_job
from tests.composer.core.tiny import FAMILIES, TARGETS, make_base, make_job, make_module

# Measured on this task: 0.0004 nats of 0.043 held out, 0.6 % of the base's own 6.4. On this and three other
# tasks of the demo world no loss moved by more than 0.7 % or, where it is below 0.05, by 0.0007 nats.
TOLERANCE_NATS, TOLERANCE = 0.002, 0.01


def losses(precision: str, adapter, task: str) -> list[float]:
    """Nats per token of the base and of the adapter, on the shots and on held-out examples."""
    base = FrozenBaseModel.load(BUNDLE / "base", precision=precision)
    stack = stack_modules([read_module(adapter, "composed")])
    base.hook(layer.path for layer in stack.layers)
    found = []
    for name, n in (("shots-0", None), ("heldout", 100)):
        examples = read_examples(BUNDLE / "tasks" / task / f"{name}.jsonl", 2000)[:n]
        scorer = FewShotScorer(base, base.encode(examples))
        nats = scorer.nats(ExactSum(stack), torch.tensor([[0.0], [1.0]]))
        found += token_mean(nats, scorer.label_tokens).tolist()
    return found


@pytest.mark.slow
def test_a_whole_job_in_bf16_ends_as_one_in_fp32_does(tmp_path):
    job = demo_job(tmp_path / "job", "body-answer", precision="bf16", device="auto", baselines="none")
    run(job, lambda event: None)  # the export was checked, or this had raised
    report = json.loads((job / "out" / "report.json").read_text())
    assert (report["precision"], report["device"]) == (
        "bf16",
        "cuda" if torch.cuda.is_available() else "cpu",
    )
    right = sum(row["expected"] == row["composed"] for row in report["predictions"])
    assert right >= 0.8 * len(report["predictions"])
    exact, rounded = (losses(precision, job / "out", "body-answer") for precision in ("fp32", "bf16"))
    assert rounded[1] == pytest.approx(report["few_shot_loss_nats"], rel=1e-3, abs=1e-4)
    for a, b in zip(exact, rounded, strict=True):
        assert b == pytest.approx(a, rel=TOLERANCE, abs=TOLERANCE_NATS)


@pytest.mark.parametrize(
    ("has_instructions", "gain", "chosen"),
    [
        (True, 2.0, "bf16"),
        (True, 1.2, "bf16"),
        (True, 1.1, "fp32"),
        (True, 0.6, "fp32"),
        (False, 2.0, "fp32"),
    ],
)
def test_auto_is_bf16_only_where_it_was_measured_to_be_faster(
    tmp_path, monkeypatch, has_instructions, gain, chosen
):
    """A processor may have the instructions and compute them more slowly than fp32."""
    monkeypatch.setattr(base_model, "SMALL_BASE_PARAMETERS", 0)
    monkeypatch.setattr(base_model, "multiplies_bf16", lambda device: has_instructions)
    monkeypatch.setattr(base_model, "bf16_gain", lambda: gain)
    assert FrozenBaseModel.load(make_base(tmp_path), precision="auto").precision == chosen


def test_a_small_base_is_fp32_whatever_is_faster(tmp_path, monkeypatch):
    monkeypatch.setattr(base_model, "is_bf16_faster", lambda device: True)
    assert FrozenBaseModel.load(make_base(tmp_path), precision="auto").precision == "fp32"


def test_what_was_measured_of_a_processor_is_measured_once():
    gain = packed_linear.bf16_gain()
    assert 0.01 < gain < 100
    assert packed_linear.bf16_gain() == gain


@pytest.mark.parametrize("kind", FAMILIES)
def test_only_products_are_rounded(tmp_path, kind):
    """What goes from layer to layer, the norms, the embeddings, the head and the logits stay fp32."""
    base = FrozenBaseModel.load(make_base(tmp_path, kind), precision="bf16")
    head = base.model.get_output_embeddings()
    for name, module in base.model.named_modules():
        rounded = isinstance(module, torch.nn.Linear | Conv1D) and module is not head
        for parameter in module.parameters(recurse=False):
            assert parameter.dtype == (torch.bfloat16 if rounded else torch.float32), name
    seen = []
    for module in base.model.modules():
        module.register_forward_hook(lambda _module, _args, output: seen.append(output))
    batch = base.encode([Example("cat dog", "chat")])
    with torch.no_grad():
        base.logits(batch, {})
        nats = base.token_nats(batch, {})
    tensors = [output for output in seen if isinstance(output, torch.Tensor)]
    assert tensors
    assert {tensor.dtype for tensor in tensors if tensor.is_floating_point()} == {torch.float32}
    assert nats.dtype == torch.float32


def test_what_t5_adds_up_without_modules_stays_fp32(tmp_path, monkeypatch):
    seen = []
    normed = t5.rms_norm
    monkeypatch.setattr(t5, "rms_norm", lambda norm, x: seen.append(x.dtype) or normed(norm, x))
    base = FrozenBaseModel.load(make_base(tmp_path), precision="bf16")
    with torch.no_grad():
        base.token_nats(base.encode([Example("cat dog", "chat")]), {})
    assert len(seen) == 2 + 3 + 2  # an encoder's layer, a decoder's, and each one's last norm
    assert set(seen) == {torch.float32}


@pytest.mark.parametrize("kind", FAMILIES)
def test_bf16_is_near_fp32_and_not_the_same(tmp_path, kind):
    folder = make_base(tmp_path / "base", kind)
    module = make_module(tmp_path / "m", folder, seed=1, targets=TARGETS[kind])
    nats = []
    for precision in ("fp32", "bf16"):
        base = FrozenBaseModel.load(folder, precision=precision)
        method = ExactSum(stack_modules([read_module(module, "m")]))
        base.hook(layer.path for layer in method.stack.layers)
        scorer = FewShotScorer(base, base.encode([Example("cat dog", "chat"), Example("fig", "scie baie")]))
        nats.append(scorer.nats(method, torch.tensor([[0.0], [0.8]])))
    assert not torch.equal(*nats)
    torch.testing.assert_close(*nats, rtol=0.02, atol=0.02)


@pytest.mark.slow  # whole jobs with all their baselines
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_decoder_s_job_in_bf16_gives_an_adapter_that_passes_the_check(tmp_path, kind):
    job = make_job(tmp_path, kind=kind, precision="bf16", device="auto", budget=60, search="adam")
    run(job, lambda event: None)
    assert json.loads((job / "out" / "report.json").read_text())["precision"] == "bf16"


def test_a_small_base_computes_in_fp32_unless_told_otherwise(tmp_path):
    assert FrozenBaseModel.load(make_base(tmp_path), precision="auto").precision == "fp32"


def test_auto_is_the_graphics_card_only_where_there_is_one(monkeypatch):
    for there, found in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert find_device("auto").type == found
        assert find_device("cpu").type == "cpu"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InvalidJobError, match="no GPU"):
        find_device("cuda")
