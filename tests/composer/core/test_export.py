"""The written adapter under peft beside the search: only an adapter that is wrong costs a finished search."""

import json

import pytest
import torch

from composer.core import job as composing
from composer.core.evaluation.export import compare_logits
from composer.core.job import run
from composer.core.model.base_model import IGNORED, FrozenBaseModel
from composer.core.spec.errors import ExportMismatchError
from tests.composer.core.tiny import make_job

DECODERS = ["llama", "qwen2", "gpt2"]
QUICK = {"method": "exact", "search": "adam", "budget": 9, "baselines": "none", "held_out": False}


def finished(job):
    events = []
    run(job, events.append)
    assert "adapter" in {event["event"] for event in events}
    return json.loads((job / "out" / "report.json").read_text())["export"]


def with_rounding(monkeypatch, moved):
    """In bf16, move the logits of the search by 100 where `moved` says so of the positions' labels."""
    true_logits = FrozenBaseModel.logits

    def logits(base, batch, adapters, n_candidates=1, positions=None):
        found = true_logits(base, batch, adapters, n_candidates, positions)
        if positions is None and base.precision == "bf16":
            predicted = batch.labels.roll(-1, dims=1)  # position t predicts token t + 1
            predicted[:, -1] = IGNORED
            found[moved(predicted)] += 100 * torch.randn(found.shape[-1])
        return found

    monkeypatch.setattr(FrozenBaseModel, "logits", logits)


@pytest.mark.parametrize("kind", DECODERS)
def test_rounding_where_nothing_is_answered_decides_nothing(tmp_path, monkeypatch, kind):
    with_rounding(monkeypatch, lambda labels: labels == IGNORED)
    export = finished(make_job(tmp_path, kind=kind, precision="bf16", **QUICK))
    assert (export["compared_in"], export["is_recomputed"]) == ("bf16", False)
    assert export["loss_nats"] == pytest.approx(export["searched_loss_nats"], abs=0.05)


@pytest.mark.filterwarnings("error::FutureWarning")
def test_a_job_leaves_no_warning_of_its_libraries_in_a_log(tmp_path):
    finished(make_job(tmp_path, **QUICK))


@pytest.mark.slow
@pytest.mark.parametrize("kind", DECODERS)
def test_rounding_of_the_answers_is_settled_in_fp32_and_the_report_says_so(tmp_path, monkeypatch, kind):
    job = make_job(tmp_path, kind=kind, precision="bf16", **QUICK)
    finished(job)
    as_found = (job / "out" / "adapter_model.safetensors").read_bytes()
    with_rounding(monkeypatch, lambda labels: labels != IGNORED)
    export = finished(job)
    assert (export["compared_in"], export["is_recomputed"]) == ("fp32", True)
    assert export["loss_nats"] == pytest.approx(export["searched_loss_nats"], abs=1e-3)
    assert (job / "out" / "adapter_model.safetensors").read_bytes() == as_found


def break_writing(monkeypatch, times):
    """Write zeros instead of the composition, so many times."""
    true_write, left = composing.write_adapter, iter(range(times))

    def write(lora, base, base_name, folder):
        true_write(lora, base, base_name, folder)
        if next(left, None) is not None:
            for _, B in lora.factors.values():
                B.zero_()
            true_write(lora, base, base_name, folder)

    monkeypatch.setattr(composing, "write_adapter", write)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["t5", *DECODERS])
def test_an_adapter_that_was_written_wrongly_is_composed_again(tmp_path, monkeypatch, kind):
    job = make_job(tmp_path, kind=kind, **QUICK)
    assert finished(job)["is_recomputed"] is False
    as_found = (job / "out" / "adapter_model.safetensors").read_bytes()
    break_writing(monkeypatch, times=1)
    assert finished(job)["is_recomputed"] is True
    assert (job / "out" / "adapter_model.safetensors").read_bytes() == as_found


@pytest.mark.parametrize("kind", ["t5", *DECODERS])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_an_adapter_that_is_not_the_composition_is_refused(tmp_path, monkeypatch, kind, precision):
    break_writing(monkeypatch, times=2)
    job = make_job(tmp_path, kind=kind, precision=precision, rank="full", **QUICK)  # all modules take part
    with pytest.raises(
        ExportMismatchError, match=r"written twice, .* in fp32 is .* instead of .* thrown away"
    ):
        finished(job)
    assert not (job / "out").exists()


@pytest.mark.parametrize(("precision", "moved"), [("fp32", 0.1), ("bf16", 2.0)])
def test_another_token_counts_only_beyond_what_the_precision_rounds(precision, moved):
    expected = torch.tensor([[5.0, 5.0 - moved, -9.0], [8.0, 0.0, 0.0]])
    labels = torch.tensor([2, 0])  # where the first two change places, the loss stays
    other = expected[:, [1, 0, 2]].where(torch.tensor([[True], [False]]), expected)
    check = compare_logits(expected, other, labels, precision)
    assert check.n_other_tokens == 1
    assert not check.is_same
    assert compare_logits(expected, expected, labels, precision).is_same
    assert compare_logits(expected, expected + 1e-4 * torch.randn(2, 3), labels, precision).is_same


def test_logits_that_are_not_numbers_are_never_the_same():
    expected, labels = torch.zeros(2, 3), torch.tensor([0, 1])
    assert not compare_logits(expected, torch.full((2, 3), torch.nan), labels, "bf16").is_same
