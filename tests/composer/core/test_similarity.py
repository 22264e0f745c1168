"""Likeness of updates against dense matrices, and of texts whatever their length."""

import pytest
import torch

from composer.core.evaluation.baselines import random_stack
from composer.core.model.base_model import FrozenBaseModel
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.selection.similarity import delta_similarity, task_text, text_similarity, text_vectors
from composer.core.spec.examples import Example
from tests.composer.core.tiny import make_base, make_module


@pytest.fixture
def stack(tmp_path):
    base = make_base(tmp_path / "base")
    folders = [make_module(tmp_path / str(i), base, seed=i, rank=2 + i, alpha=4 + i) for i in range(3)]
    return stack_modules([read_module(folder, folder.name) for folder in folders])


def dense(stack, i):
    deltas = [(stack.scalings[i] * B[i] @ A[i]).flatten() for _, A, B in stack.factors()]
    return torch.cat(deltas)


def test_the_likeness_of_updates_is_the_cosine_of_the_dense_ones(stack):
    found = delta_similarity(stack, 1)
    for i in range(3):
        by_hand = torch.cosine_similarity(dense(stack, i), dense(stack, 1), dim=0)
        assert found[i] == pytest.approx(float(by_hand), abs=1e-5)
    assert found[1] == pytest.approx(1, abs=1e-5)


def test_random_modules_have_the_sizes_of_those_they_stand_for(stack):
    drawn = random_stack(stack, seed=3)
    for (A, B_T), (own_A, own_B_T) in zip(drawn.blocks, stack.blocks, strict=True):
        for new, own in ((A, own_A), (B_T, own_B_T)):
            torch.testing.assert_close(new.norm(dim=(1, 2)), own.norm(dim=(1, 2)))
            assert torch.equal(new == 0, own == 0)
            assert not torch.equal(new, own)


@pytest.mark.parametrize("kind", ["t5", "gpt2", "llama"])
def test_a_long_text_counts_to_its_last_word(tmp_path, kind):
    base = FrozenBaseModel.load(make_base(tmp_path / "base", kind))
    long = " ".join(["cat"] * 600)
    plain, ended, again = text_vectors(base, [long, long + " FIG" * 200, long])
    assert not torch.allclose(plain, ended)
    torch.testing.assert_close(plain, again)


def test_the_nearest_text_is_the_tasks_own(tmp_path):
    base = FrozenBaseModel.load(make_base(tmp_path / "base"))
    task = task_text([Example("cat dog", "chat chien")], "fig saw")
    assert task == "fig saw\ncat dog\nchat chien"
    likeness = text_similarity(base, task, ["leg hat", "", task, "BAY FIG"])
    assert likeness[2] == pytest.approx(1, abs=1e-4)
    assert likeness[1] == -1
    assert max(likeness[0], likeness[3]) < likeness[2]
