"""A sketch against the deltas it stands for, multiplied out."""

import hashlib
import io

import numpy as np
import pytest
from safetensors.numpy import save

from modules_registry.core.adapter_config import AdapterConfig
from modules_registry.core.delta import open_delta
from modules_registry.core.sketch import SKETCH_LENGTH, signs, similarity, sketch
from tests.attacks.adapters import name

SIGNS_SHA256 = "f2de08747fc378fd61df358b0f1a10fd1fee94123ec7452c48e1f646a07cb6fc"
PATHS = [f"block.{number}.q" for number in range(4)]
Factors = dict[str, np.ndarray]


def factors(seed: int, rank: int = 3) -> Factors:
    random = np.random.default_rng(seed)
    return {
        name(path, factor): random.normal(size=(rank, 20) if factor == "A" else (12, rank)).astype("f4")
        for path in PATHS
        for factor in "AB"
    }


def config(scaling: float = 1.0, rank: int = 3) -> AdapterConfig:
    return AdapterConfig(
        base="a/base",
        revision=None,
        task_type=None,
        rank=rank,
        alpha=scaling * rank,
        use_rslora=False,
        targets=("q",),
        fan_in_fan_out=False,
    )


def delta(tensors: Factors) -> np.ndarray:
    """All deltas of an adapter as one long vector: the slow and obvious way."""
    return np.concatenate([(tensors[name(path, "B")] @ tensors[name(path, "A")]).ravel() for path in PATHS])


def sketched(tensors: Factors, scaling: float = 1.0) -> np.ndarray:
    with open_delta(io.BytesIO(save(tensors)), config(scaling)) as layers:
        return sketch(layers)


def cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / np.linalg.norm(first) / np.linalg.norm(second))


def test_a_sketch_is_256_numbers_and_always_the_same():
    first = sketched(factors(1))
    assert first.shape == (SKETCH_LENGTH,)
    np.testing.assert_array_equal(first, sketched(factors(1)))


def test_the_signs_never_change():
    """Sketches are stored: a change here would make the old ones mean something else."""
    assert hashlib.sha256(signs("block.0.q in", 20).astype("i1").tobytes()).hexdigest() == SIGNS_SHA256
    assert set(signs("x", 9).ravel()) == {-1.0, 1.0}


def test_the_length_of_a_sketch_is_about_that_of_the_delta():
    ratios = [
        np.linalg.norm(sketched(factors(seed))) / np.linalg.norm(delta(factors(seed))) for seed in range(10)
    ]
    assert np.mean(ratios) == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9, 1.0])
def test_the_likeness_of_sketches_is_about_that_of_the_deltas(share):
    errors = []
    for seed in range(10):
        first, other = factors(seed), factors(100 + seed)
        second = {
            key: other[key]
            if key.endswith("lora_A.weight")
            else share * first[key] + (1 - share) * other[key]
            for key in first
        }
        second |= {key: first[key] for key in first if key.endswith("lora_A.weight") and share > 0}
        errors.append(similarity(sketched(first), sketched(second)) - cosine(delta(first), delta(second)))
    assert np.max(np.abs(errors)) < 0.3
    assert abs(np.mean(errors)) < 0.1


def test_the_scaling_stretches_the_sketch_and_leaves_the_likeness():
    plain, doubled = sketched(factors(1)), sketched(factors(1), scaling=2.0)
    np.testing.assert_allclose(doubled, 2 * plain, rtol=1e-6)
    assert similarity(plain, doubled) == pytest.approx(1.0)


def test_another_basis_of_the_same_delta_has_the_same_sketch():
    """B R⁻¹ and R A are other numbers, but the same adapter."""
    tensors, turn = factors(1), np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    turned = {
        key: (turn @ value if key.endswith("lora_A.weight") else value @ turn.T).astype("f4")
        for key, value in tensors.items()
    }
    np.testing.assert_allclose(sketched(turned), sketched(tensors), rtol=1e-3, atol=1e-3)


def test_an_adapter_that_changes_nothing_is_like_none():
    nothing = {key: value * key.endswith("lora_A.weight") for key, value in factors(1).items()}
    assert similarity(sketched(nothing), sketched(factors(1))) == 0.0
