"""Copies take part once: by equal weights, by similar ones, and where the examples cannot tell them apart."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from composer.core.job import run
from composer.core.methods.base import single_modules
from composer.core.modules.module_stack import LoraModule, read_module, stack_modules
from composer.core.selection import copies
from composer.core.selection.copies import (
    CopyGroups,
    Responses,
    centrality,
    group_by_weights,
    projection,
    sketch_cosines,
)
from composer.core.selection.similarity import delta_similarity
from tests.composer.core.dense import random_module
from tests.composer.core.test_objective import scorer_of
from tests.composer.core.test_similarity import dense
from tests.composer.core.tiny import TARGETS, make_base, make_job, make_module

ALL = range(5)  # the numbers of the examples


def noisy(module: LoraModule, level: float, seed: int) -> LoraModule:
    """The module with so much noise in each factor, relative to the factor's own size."""
    generator = torch.Generator().manual_seed(seed)

    def spoiled(factor):
        noise = torch.randn(factor.shape, generator=generator)
        return factor + level * factor.square().mean().sqrt() * noise

    factors = {path: (spoiled(A), spoiled(B)) for path, (A, B) in module.factors.items()}
    return replace(module, name=f"{module.name}~{seed}", factors=factors)


def shared_out(module: LoraModule) -> LoraModule:
    """The same delta in other factors: a rotation of the inner dimension, and another scaling."""
    turn, _ = torch.linalg.qr(
        torch.randn(module.rank, module.rank, generator=torch.Generator().manual_seed(1))
    )
    factors = {path: (turn @ A, 2 * B @ turn.T) for path, (A, B) in module.factors.items()}
    return replace(module, name="turned", scaling=module.scaling / 2, factors=factors)


def own(stack):
    return [f"weights {i}" for i in range(len(stack))]


def groups_of(modules, identities=None):
    stack = stack_modules(modules)
    return group_by_weights(stack, identities or own(stack), sketch_cosines(stack))


def test_the_cosines_with_some_modules_are_those_of_the_dense_deltas():
    stack = stack_modules([random_module(0), random_module(1, rank=3), random_module(2, paths=("b.q",))])
    found = delta_similarity(stack, 1, [2, 0])
    by_hand = [float(torch.cosine_similarity(dense(stack, i), dense(stack, 1), dim=0)) for i in (2, 0)]
    assert found == pytest.approx(by_hand, abs=1e-5)
    assert delta_similarity(stack, 1) == pytest.approx([by_hand[1], 1.0, by_hand[0]], abs=1e-5)


def test_equal_and_similar_modules_are_grouped_and_others_are_not():
    plain = [random_module(seed, rank=4) for seed in range(3)]
    modules = [*plain, shared_out(plain[1]), noisy(plain[0], 0.1, 5), noisy(plain[2], 1.0, 6), plain[1]]
    assert groups_of(modules) == [[0, 4], [1, 3, 6], [2], [5]]


def opposite(module):
    return replace(module, factors={path: (A, -B) for path, (A, B) in module.factors.items()})


def test_a_module_and_its_opposite_are_one_group_and_the_original_stays_the_most_central():
    plain = [random_module(seed, rank=4) for seed in range(2)]
    modules = [
        *plain,
        opposite(plain[0]),
        noisy(opposite(plain[1]), 0.1, 5),
        opposite(noisy(plain[0], 1.0, 6)),
    ]
    assert groups_of(modules) == [[0, 2], [1, 3], [4]]
    assert delta_similarity(stack_modules(modules), 0, [2]) == pytest.approx([-1.0], abs=1e-5)
    copied = [opposite(noisy(plain[0], 0.4, seed)) for seed in range(12)]
    found = centrality(sketch_cosines(stack_modules([*copied, plain[0], plain[1]])), range(14))
    assert max(range(14), key=found.__getitem__) == 12


def test_modules_of_one_identity_are_one_group_even_if_they_change_nothing():
    empty = random_module(0)
    zero = replace(empty, factors={path: (A, 0 * B) for path, (A, B) in empty.factors.items()})
    assert groups_of([zero, random_module(1), zero], ["a", "b", "a"]) == [[0, 2], [1]]
    assert groups_of([zero, random_module(1), zero], ["a", "b", "c"]) == [[0], [1], [2]]


def test_only_pairs_with_similar_sketches_are_compared_exactly(monkeypatch):
    compared = []
    monkeypatch.setattr(
        copies,
        "delta_similarity",
        lambda stack, index, others: (
            compared.append((index, *others)) or delta_similarity(stack, index, others)
        ),
    )
    modules = [random_module(seed, rank=4) for seed in range(40)]
    assert len(groups_of([*modules, noisy(modules[7], 0.1, 1)])) == 40
    assert compared == [(7, 40)]


def test_the_sketches_of_different_modules_estimate_their_cosines():
    modules = [noisy(random_module(0, rank=4), level, seed) for seed, level in enumerate((0, 0.3, 0.6, 1, 3))]
    stack = stack_modules(modules)
    exact = torch.tensor([delta_similarity(stack, i) for i in range(5)])
    assert float((sketch_cosines(stack) - exact).abs().max()) < copies.SKETCH_MARGIN


def test_the_original_is_the_most_central_of_its_noisy_copies():
    original = random_module(0, rank=4)
    copied = [noisy(original, 0.4, seed) for seed in range(12)]
    found = centrality(
        sketch_cosines(stack_modules([*copied, original, random_module(9, rank=4)])), range(14)
    )
    assert max(range(14), key=found.__getitem__) == 12
    assert found[13] == 1.0  # nothing is related to it


# --- on a model -----------------------------------------------------------------


QUERY = "encoder.block.0.layer.0.SelfAttention.q"  # with two tokens to attend to, it changes little


@pytest.fixture
def scene(tmp_path):
    """Three modules, and a fourth that answers as the first does, though half of its delta is another."""
    base = make_base(tmp_path / "base")
    folders = [make_module(tmp_path / str(i), base, seed=i) for i in range(3)]
    scorer, _ = scorer_of(base, folders)
    modules = [read_module(folder, folder.name) for folder in folders]
    A, B = modules[2].factors[QUERY]
    modules.append(replace(modules[0], name="3", factors={**modules[0].factors, QUERY: (3 * A, B)}))
    return scorer, stack_modules(modules)


def chosen(groups):
    """The groups as indices: by the representative, its copies."""
    return {index: [copy.index for copy in found] for index, found in groups.items()}


def lowest(losses, count=None):
    """A selector of so many modules, and the losses that it goes by."""

    def select(candidates):
        return sorted(sorted(candidates, key=losses.__getitem__)[:count])

    return select, lambda indices: [losses[i] for i in indices]


def test_modules_that_the_examples_cannot_tell_apart_are_grouped_under_the_better_one(scene):
    scorer, stack = scene
    assert delta_similarity(stack, 0)[3] < copies.SIMILAR_WEIGHTS
    groups = CopyGroups(scorer, stack, own(stack))
    found = groups.represent(*lowest([2.0, 1.0, 3.0, 1.5]), ALL)
    assert chosen(found) == {3: [0], 1: [], 2: []}
    (copy,) = found[3]
    assert copy.reason == "examples"
    assert copies.SAME_RESPONSE <= copy.similarity < 1
    assert chosen(groups.represent(*lowest([1.0, 1.0, 3.0, 1.5]), ALL)) == {0: [3], 1: [], 2: []}


def test_a_selection_is_filled_up_with_different_modules(scene):
    scorer, stack = scene
    groups = CopyGroups(scorer, stack, own(stack))
    losses = [1.0, 3.0, 2.0, 1.5]  # 0 and its copy 3 are the two best
    assert chosen(groups.represent(*lowest(losses, 2), ALL)) == {0: [3], 2: []}
    assert chosen(groups.represent(*lowest(losses, 2), ALL, refill=False)) == {0: [3]}


def test_too_few_label_tokens_tell_nothing_apart(scene):
    scorer, stack = scene
    groups = CopyGroups(scorer, stack, own(stack))
    losses = lowest([1.0, 2.0, 3.0, 1.5])
    assert scorer.label_tokens[:1].sum() < copies.FEWEST_LABEL_TOKENS
    assert len(groups.represent(*losses, [0])) == 4
    assert len(groups.represent(*losses, [0, 1, 2])) == 3


def test_what_a_fold_leaves_out_has_no_part_in_its_groups(scene):
    """The response to an example that is not named may be anything."""
    scorer, stack = scene
    groups = CopyGroups(scorer, stack, own(stack))
    before = groups.represent(*lowest([1.0, 2.0, 3.0, 1.5]), [0, 1, 2, 3])
    groups._responses._known[3][groups._responses._example == 4] = 100.0
    assert groups.represent(*lowest([1.0, 2.0, 3.0, 1.5]), [0, 1, 2, 3]) == before
    assert chosen(groups.represent(*lowest([1.0, 2.0, 3.0, 1.5]), ALL)) != chosen(before)


def test_a_response_is_the_change_of_the_logits_and_each_module_is_scored_once(scene):
    scorer, stack = scene
    responses, before = Responses(scorer, stack), scorer.candidates_scored
    found = responses._cosines([2, 0], ALL)
    responses._cosines([0, 2], [0, 1, 2])
    assert scorer.candidates_scored == before + 2
    changes = []
    for adapters in ({}, single_modules(stack, [2]), single_modules(stack, [0])):
        labels = scorer.batch.labels
        logits = scorer.base.logits(scorer.batch, adapters)[labels != -100]
        changes.append((logits - logits.mean(-1, keepdim=True)).flatten())
    by_hand = torch.cosine_similarity(changes[1] - changes[0], changes[2] - changes[0], dim=0)
    assert float(found[0, 1]) == pytest.approx(float(by_hand), abs=1e-4)


@pytest.mark.parametrize("kind", ["t5", "gpt2", "llama"])
def test_the_logits_of_the_labels_give_the_losses(tmp_path, kind):
    base = make_base(tmp_path / "base", kind)
    scorer, stack = scorer_of(base, [make_module(tmp_path / "0", base, seed=0, targets=TARGETS[kind])])
    logits, example = scorer.base.label_logits(scorer.batch, single_modules(stack, [0]))
    labels = scorer.batch.rows.labels if kind == "t5" else scorer.batch.labels[scorer.batch.labels != -100]
    nats = torch.nn.functional.cross_entropy(logits[0], labels, reduction="none")
    sums = torch.zeros(len(scorer.batch)).index_add(0, example, nats.detach())
    torch.testing.assert_close(sums, scorer.nats_of(single_modules(stack, [0]))[0], rtol=1e-4, atol=1e-4)


def test_a_projection_keeps_the_cosines_of_changes_over_a_large_vocabulary():
    onto = projection(5000, 10)
    assert onto is not None
    generator = torch.Generator().manual_seed(3)
    first, noise = torch.randn(2, 10, 5000, generator=generator)
    second = first + 0.4 * noise
    exact = torch.cosine_similarity(first.flatten(), second.flatten(), dim=0)
    short = torch.cosine_similarity((first @ onto).flatten(), (second @ onto).flatten(), dim=0)
    assert abs(float(exact - short)) < 0.02
    assert projection(300, 10) is None


# --- in a whole job -------------------------------------------------------------


def job_with_copies(folder, **asked):
    """m0 three times: once more as it is, once with noise; m1 and m2 once."""
    job = make_job(folder, held_out=False, **{"baselines": "none", "budget": 30, "rank": "full", **asked})
    request = json.loads((job / "job.json").read_text())
    tensors = load_file(job / "modules/0/adapter_model.safetensors")
    shutil.copytree(job / "modules/0", job / "modules/again")
    shutil.copytree(job / "modules/0", job / "modules/noisy")
    generator = torch.Generator().manual_seed(1)
    spoiled = {k: t + 0.02 * torch.randn(t.shape, generator=generator) for k, t in tensors.items()}
    save_file(spoiled, job / "modules/noisy/adapter_model.safetensors", metadata={"format": "pt"})
    request["modules"] += [
        {"name": "bob/again", "folder": "modules/again", "revision": "r", "sha256": "0" * 64},
        {"name": "carol/noisy", "folder": "modules/noisy"},
    ]
    (job / "job.json").write_text(json.dumps(request))
    return job


def finished(job):
    events = []
    run(job, events.append)
    return json.loads((job / "out/report.json").read_text()), events


def test_copies_take_part_once_and_the_report_and_the_card_credit_their_authors(tmp_path):
    job = job_with_copies(tmp_path / "job", method="exact", search="adam")  # which gives each a weight
    report, events = finished(job)
    rows = {row["name"]: row["copies"] for row in report["modules"]}
    assert rows.keys() == {"alice/m0", "alice/m1", "alice/m2"}
    assert rows["alice/m1"] == rows["alice/m2"] == []
    again, noisy_one = rows["alice/m0"]
    assert again == {
        "name": "bob/again",
        "revision": "r",
        "sha256": "0" * 64,
        "reason": "equal",
        "similarity": 1.0,
    }
    assert (noisy_one["name"], noisy_one["reason"]) == ("carol/noisy", "weights")
    assert 0.95 < noisy_one["similarity"] < 1
    (search,) = [event for event in events if event.get("stage") == "search"]
    assert search["modules"] == ["alice/m0", "alice/m1", "alice/m2"]
    card = (job / "out/README.md").read_text()
    assert "alice/m0 stands for bob/again, carol/noisy" in card
    without, _ = finished(make_job(tmp_path / "without", held_out=False, baselines="none", budget=30,
                                   method="exact", search="adam", rank="full"))  # fmt: skip
    assert [row["weight"] for row in without["modules"]] == [row["weight"] for row in report["modules"]]
    assert "stands for" not in (tmp_path / "without/out/README.md").read_text()


def test_equal_modules_are_scored_once_and_a_cache_of_their_losses_changes_nothing(tmp_path):
    job = job_with_copies(tmp_path / "job", method="exact", search="greedy", select="screen:3")
    report, events = finished(job)
    screened = [event for event in events if event["event"] == "screened"]
    assert len(screened) == len({event["module"] for event in screened}) == 4  # m0 and its noisy copy tie
    (job / "screened.jsonl").write_text("".join(json.dumps(event) + "\n" for event in screened))
    again, events = finished(job)
    assert not [event for event in events if event["event"] == "screened"]
    assert again["modules"] == report["modules"]


def test_lorahub_takes_copies_as_released(tmp_path):
    report, _ = finished(job_with_copies(tmp_path / "job", method="lorahub", budget=3))
    assert len(report["modules"]) == 5
    assert all(row["copies"] == [] for row in report["modules"])


def test_each_fold_groups_by_the_examples_that_it_sees(tmp_path):
    job = job_with_copies(tmp_path / "job", method="exact", search="adam", budget=9, baselines="always")
    report, _ = finished(job)
    left_out = {row["key"]: row["left_out_loss_nats"] for row in report["baselines"]}
    assert left_out["composed"] > 0
    assert left_out["best_single"] > 0
