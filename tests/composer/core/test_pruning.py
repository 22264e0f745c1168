"""A composition without what it does not need: modules, layers and ranks."""

import json
from dataclasses import replace

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM

from composer.core.evaluation import pruning
from composer.core.evaluation.export import write_adapter
from composer.core.evaluation.pruning import PRUNED_METHODS, PRUNING_NATS, prune
from composer.core.evaluation.small_adapter import ENERGY_KEPT, AnswersKept, make_small, without_idle_layers
from composer.core.job import CompositionRun, run
from composer.core.methods.base import PlainLora, as_adapters
from composer.core.methods.registry import make_method
from composer.core.methods.svd import truncate_rank
from composer.core.model.scorer import token_mean
from composer.core.search.folds import fold_masks
from composer.core.search.journal import SearchResult
from composer.core.spec.choices import BUDGET_TO_REFIT
from composer.core.spec.job_spec import read_job_spec
from tests.composer.core.dense import delta_of_adapter
from tests.composer.core.test_objective import SHOTS, scorer_of
from tests.composer.core.tiny import make_base, make_job, make_module

QUICK = {"baselines": "none", "held_out": False}


@pytest.fixture
def world(tmp_path):
    base = make_base(tmp_path / "base")
    return scorer_of(base, [make_module(tmp_path / f"m{i}", base, seed=i) for i in range(4)])


def pruned(world, name, weights, fold_weights=(), budget=400):
    scorer, stack = world
    method = make_method(name, stack, seed=1)
    per_layer = method.n_weights // len(stack)
    spread = [tuple(list(row) * per_layer) for row in fold_weights]
    found = SearchResult(tuple(list(weights) * per_layer), (), "by hand", fold_weights=tuple(spread))
    return (
        prune(scorer, method, found, lambda smaller: make_method(name, smaller, seed=1), budget=budget),
        method,
        found,
    )


def few_shot(scorer, method, weights):
    return float(token_mean(scorer.nats(method, torch.tensor([weights])), scorer.label_tokens))


@pytest.mark.parametrize("name", PRUNED_METHODS)
def test_what_is_left_costs_no_more_than_the_bound_and_is_smaller(world, name):
    scorer, stack = world
    weights = (0.0, 0.0, 0.0, 0.0) if name == "cat" else (0.5, 1e-4, 0.0, -0.4)
    found, method, before = pruned(world, name, weights)
    smaller = make_method(name, stack.subset(found.kept), seed=1)
    assert few_shot(scorer, smaller, found.weights) < few_shot(scorer, method, before.weights) + PRUNING_NATS
    if name != "cat":
        assert {1, 2}.isdisjoint(found.kept)
        assert found.rises[1] == pytest.approx(0, abs=1e-2)
        assert 2 not in found.rises  # it had no weight, so nothing was removed


def test_after_a_small_search_nothing_is_fitted_again(world, monkeypatch):
    monkeypatch.setattr(pruning, "RECOVERABLE_NATS", float("inf"))
    monkeypatch.setattr(pruning, "PRUNING_NATS", -100.0)  # no smaller set is good as it is
    scorer, _ = world
    folds = [(0.5, 0.1, 0.3, -0.4 + 0.01 * fold) for fold in range(len(scorer.batch))]
    steps = {}
    for budget in (BUDGET_TO_REFIT - 1, BUDGET_TO_REFIT):
        before = scorer.gradient_steps
        pruned(world, "exact", (0.5, 0.1, 0.3, -0.38), folds, budget=budget)
        steps[budget] = scorer.gradient_steps - before
    assert steps[BUDGET_TO_REFIT - 1] == 0
    assert steps[BUDGET_TO_REFIT] > 0


def test_every_module_that_is_removed_is_named_with_the_rise_it_cost(world):
    found, _, _ = pruned(world, "exact", (0.5, 1e-4, 0.3, -0.4))
    assert set(found.kept) | found.rises.keys() == {0, 1, 2, 3}
    assert found.kept
    assert set(found.kept).isdisjoint(found.rises)


def test_a_module_that_the_left_out_examples_need_stays(world, monkeypatch):
    scorer, stack = world
    weights = (0.5, 1e-4, 0.3, -0.4)
    n_folds = len(fold_masks(len(SHOTS)))
    removed, _, _ = pruned(world, "exact", weights, [weights] * n_folds)
    assert len(removed.kept) < 4
    assert len(removed.left_out) == len(SHOTS)
    monkeypatch.setattr("composer.core.evaluation.pruning.REFIT_RATE", 0.0)  # nothing makes up for a module
    method = make_method("exact", stack, seed=1)
    whole = scorer.nats(method, torch.tensor([weights]))[0].sum()
    kept, _, _ = pruned(world, "exact", weights, [weights] * n_folds)
    smaller = make_method("exact", stack.subset(kept.kept), seed=1)
    assert scorer.nats(smaller, torch.tensor([kept.weights]))[0].sum() <= whole + 1e-4


def test_one_module_is_always_left(world):
    found, _, _ = pruned(world, "exact", (0.0, 0.0, 0.0, 0.0))
    assert len(found.kept) == 1


# --- layers and ranks -----------------------------------------------------------


def decaying(rank, sizes, seed=0):
    """An adapter of two layers whose deltas have these singular values."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for path in ("a.q", "a.v"):
        A, _ = torch.linalg.qr(torch.randn(90, rank, generator=generator))
        B, _ = torch.linalg.qr(torch.randn(80, rank, generator=generator))
        factors[path] = (A.T.contiguous(), B * torch.tensor(sizes))
    return PlainLora(factors, rank, float(rank))


def test_the_smallest_rank_that_keeps_the_energy_is_taken():
    lora = decaying(24, [1.0] * 10 + [1e-3] * 14)
    small = make_small(lora, lambda cut: True)
    assert small.rank == 16
    assert ENERGY_KEPT <= small.energy_kept < 1
    expected = truncate_rank(lora, 16)
    for path in lora.factors:
        torch.testing.assert_close(delta_of_adapter(small, path), delta_of_adapter(expected, path))


def test_a_cut_that_changes_losses_or_answers_is_not_taken():
    lora = decaying(70, [1.0] * 5 + [1e-4] * 65)
    tried = []
    assert make_small(lora, lambda cut: tried.append(cut.rank) or cut.rank == 32).rank == 32
    assert tried == [8, 16, 32]
    assert make_small(lora, lambda cut: False).rank == 70


def test_an_even_spectrum_stays_whole_and_a_small_adapter_is_not_touched():
    even = decaying(40, [1.0] * 40)
    assert make_small(even, lambda cut: True).rank == 40
    tiny = decaying(8, [1.0] + [1e-6] * 7)
    assert make_small(tiny, lambda cut: True).factors == tiny.factors


def test_layers_that_add_nothing_are_dropped_but_the_last():
    lora = decaying(8, [1.0] * 8)
    A, B = lora.factors["a.v"]
    assert without_idle_layers(replace(lora, factors={**lora.factors, "a.v": (A, 0 * B)})).factors.keys() == {
        "a.q"
    }
    nothing = {path: (A, 0 * B) for path, (A, B) in lora.factors.items()}
    assert without_idle_layers(replace(lora, factors=nothing)).factors.keys() == {"a.q"}


def test_answers_are_kept_only_if_losses_and_answers_are(world):
    scorer, stack = world
    whole = make_method("exact", stack, seed=1).lora([0.5, 0.2, 0.3, -0.4])
    holds = AnswersKept(scorer, tuple(SHOTS), 8, whole)
    assert holds(whole)
    halved = {path: (A, 0.5 * B) for path, (A, B) in whole.factors.items()}
    assert not holds(replace(whole, factors=halved))
    nudged = {path: (A, (1 + 1e-5) * B) for path, (A, B) in whole.factors.items()}
    assert holds(replace(whole, factors=nudged))


# --- in a whole job -------------------------------------------------------------


def composed(job):
    composition = CompositionRun(read_job_spec(job), lambda event: None)
    composition.make(job / "out")
    return composition, json.loads((job / "out/report.json").read_text())


def test_the_report_tells_what_was_pruned_and_follows_what_is_left(tmp_path):
    job = make_job(tmp_path, budget=60, n_modules=4, **QUICK)
    composition, report = composed(job)
    left, gone = ({row["name"] for row in report[key]} for key in ("modules", "modules_pruned"))
    assert left | gone == {f"alice/m{i}" for i in range(4)}
    assert left.isdisjoint(gone)
    assert all(row["loss_change_nats"] is not None for row in report["modules_pruned"])
    for weights in report["weights_by_layer"].values():
        assert len(weights) == len(left)
    assert report["rank_asked"] == "auto"
    assert report["size_bytes"] == (job / "out/adapter_model.safetensors").stat().st_size
    assert f"Rank {report['rank']}, " in (job / "out/README.md").read_text()
    parents = [name for name in left | gone if name in (job / "out/README.md").read_text()]
    assert set(parents) <= left
    assert report["few_shot_loss_nats"] == pytest.approx(
        float(
            token_mean(
                composition.scorer.nats_of(as_adapters(composition.lora)), composition.scorer.label_tokens
            )
        ),
        rel=1e-3,
    )


@pytest.mark.parametrize(
    ("zeros", "said"),
    [(1, ""), (3, "No module has a weight: the adapter answers as the base model does.")],
)
def test_a_card_says_that_an_adapter_changes_nothing(tmp_path, zeros, said):
    job = make_job(tmp_path, method="exact", search="adam", budget=9, **QUICK)
    for number in range(zeros):
        weights = job / "modules" / str(number) / "adapter_model.safetensors"
        tensors = {
            name: 0 * tensor if "lora_B" in name else tensor for name, tensor in load_file(weights).items()
        }
        save_file(tensors, weights, metadata={"format": "pt"})
    _, report = composed(job)
    card = (job / "out/README.md").read_text()
    assert report["is_zero"] == bool(said)
    assert said in card
    assert ("No module has a weight" in card) == ("## Parents and weights" not in card) == bool(said)
    assert " 0 modules" not in card


@pytest.mark.parametrize("method", ["auto", "exact", "cat", "svd", "linear"])
def test_a_full_rank_is_the_whole_sum_byte_for_byte(tmp_path, method):
    job = make_job(tmp_path / "job", method=method, budget=60, rank="full", **QUICK)
    composition, report = composed(job)
    assert report["modules_pruned"] == []
    whole = make_method(method, composition.stack, seed=7).lora(composition.found.weights)
    write_adapter(whole, composition.base, "tiny/t5", tmp_path / "whole")
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "whole" / name).read_bytes() == (job / "out" / name).read_bytes()


def test_an_adapter_of_some_layers_is_loaded_by_peft_and_adds_nothing_elsewhere(tmp_path):
    job = make_job(tmp_path, method="exact", search="greedy", n_modules=1, **QUICK)
    base = job / "base"
    for number, targets in enumerate((("q",), ("v",))):
        make_module(job / "modules" / f"part{number}", base, seed=number, targets=targets)
    asked = json.loads((job / "job.json").read_text())
    asked["modules"] = [{"name": f"part{i}", "folder": f"modules/part{i}"} for i in range(2)]
    (job / "job.json").write_text(json.dumps(asked))
    composition, report = composed(job)
    assert report["layers"]["of"] == 6
    if len(report["modules"]) == 1:
        assert report["layers"]["adapted"] == 3
    model = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(base), job / "out")
    adapted = {name for name, module in model.named_modules() if hasattr(module, "lora_A")}
    assert len(adapted) == report["layers"]["adapted"]
    assert composition.checked.is_same


def test_the_same_job_gives_the_same_small_adapter(tmp_path):
    made = []
    for name in ("first", "second"):
        job = make_job(tmp_path / name, budget=60, n_modules=4, **QUICK)
        run(job, lambda event: None)
        made.append(
            [(job / "out" / file).read_bytes() for file in ("adapter_model.safetensors", "README.md")]
        )
    assert made[0] == made[1]
