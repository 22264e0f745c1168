"""What each module contributes, held to compositions that never had it."""

import hashlib
import json

import pytest
import torch

from composer.core import job
from composer.core.evaluation import ablation
from composer.core.evaluation.ablation import ablation_losses, limit_rank
from composer.core.methods.base import as_adapters
from composer.core.methods.layerwise import LayerwiseWeights
from composer.core.methods.registry import make_method
from composer.core.model.scorer import token_mean
from composer.core.spec import choices
from tests.composer.core.test_objective import scorer_of
from tests.composer.core.tiny import make_base, make_job, make_module

WEIGHTS = {"m0": 0.9, "m1": -0.4, "m2": 0.7}
SUMS = ("exact", "auto", "cat-layers", "svd", "lorahub", "linear")  # a module at zero is a module not there


@pytest.fixture
def world(tmp_path):
    base = make_base(tmp_path / "base")
    return scorer_of(base, [make_module(tmp_path / name, base, seed=i) for i, name in enumerate(WEIGHTS)])


def loss_of(scorer, adapters):
    return float(token_mean(scorer.nats_of(adapters), scorer.label_tokens))


def numbers(method, by_module):
    """A weight for each module, in every layer of a method that weighs by layer."""
    return list(by_module) * (method.n_weights // len(by_module))


@pytest.mark.parametrize("name", SUMS)
def test_the_loss_without_a_module_is_that_of_the_others_alone(world, name):
    scorer, stack = world
    method = make_method(name, stack, seed=1)
    weights = numbers(method, WEIGHTS.values())
    cut_to = stack.rank if name == "svd" else None
    found = ablation_losses(scorer, method, weights, rank_max=cut_to, composed_loss=0.0)
    for i in range(3):
        others = [j for j in range(3) if j != i]
        smaller = make_method(name, stack.subset(others), seed=1)
        left = numbers(smaller, [list(WEIGHTS.values())[j] for j in others])
        adapters = as_adapters(smaller.lora(left)) if cut_to else smaller.adapters(torch.tensor([left]))
        assert found[i] == pytest.approx(loss_of(scorer, adapters), rel=1e-5)


def test_without_a_module_cat_s_other_shares_stay_as_they_are(world):
    scorer, stack = world
    method = make_method("cat", stack, seed=1)
    logits = [0.1 * i - 1 for i in range(method.n_weights)]
    found = ablation_losses(scorer, method, logits, rank_max=None, composed_loss=0.0)
    shares = method.by_layer(logits)
    for i in range(3):
        others = [j for j in range(3) if j != i]
        kept = LayerwiseWeights(stack.subset(others)).adapters(shares[:, others].float().reshape(1, -1))
        assert found[i] == pytest.approx(loss_of(scorer, kept), rel=1e-5)


def test_a_composition_that_was_cut_is_cut_without_the_module_too(world):
    scorer, stack = world
    method = make_method("exact", stack, seed=1)
    found = ablation_losses(scorer, method, list(WEIGHTS.values()), rank_max=2, composed_loss=0.0)
    left = method.lora([0.0, -0.4, 0.7])
    assert found[0] == pytest.approx(loss_of(scorer, as_adapters(limit_rank(left, 2))), rel=1e-6)
    assert found[0] != pytest.approx(loss_of(scorer, as_adapters(left)), rel=1e-6)


def test_a_module_without_weight_is_not_scored_and_only_so_many_of_the_heaviest_are(world, monkeypatch):
    scorer, stack = world
    method = make_method("exact", stack, seed=1)
    monkeypatch.setattr(ablation, "MEASURED_MAX", 1)
    before = scorer.candidates_scored
    found = ablation_losses(scorer, method, [0.2, 0.0, -0.5], rank_max=None, composed_loss=1.25)
    assert scorer.candidates_scored == before + 1
    assert found[0] is None  # lighter than the third
    assert found[1] == 1.25
    assert found[2] == pytest.approx(loss_of(scorer, method.adapters(torch.tensor([[0.2, 0.0, 0.0]]))))


@pytest.mark.parametrize(
    "method",
    [
        pytest.param(name, marks=() if name in SUMS else pytest.mark.slow)  # two whole jobs each
        for name in choices.choice_names(choices.METHODS)
    ],
)
def test_every_method_s_report_tells_it_and_the_adapter_is_the_same_bytes(tmp_path, monkeypatch, method):
    asked = {"method": method, "budget": 30, "held_out": False, "baselines": "none"}
    report, digest = made(tmp_path / "with", asked)
    assert all(row["without_loss_nats"] > 0 for row in report["modules"])
    monkeypatch.setattr(job, "ablation_losses", lambda *_, **__: [None] * len(report["modules"]))
    silent, digest_without = made(tmp_path / "silent", asked)
    assert digest == digest_without
    weighed = sum(row["weight"] != 0 for row in report["modules"])
    assert report["candidates_scored"] == silent["candidates_scored"] + weighed


def made(folder, asked):
    folder.mkdir()
    path = make_job(folder, **asked)
    job.run(path, lambda event: None)
    weights = (path / "out" / "adapter_model.safetensors").read_bytes()
    return json.loads((path / "out" / "report.json").read_text()), hashlib.sha256(weights).hexdigest()
