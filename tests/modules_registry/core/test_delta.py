"""What is measured of a delta against the delta itself, multiplied out."""

import io

import numpy as np
import pytest
from safetensors.numpy import save

from modules_registry.core.adapter_config import AdapterConfig
from modules_registry.core.delta import delta_distance, open_delta, split_path, strength_of
from modules_registry.core.sketch import measure
from tests.attacks.adapters import name
from tests.modules_registry.core.test_sketch import PATHS, config, factors


def file_of(tensors, **metadata):
    return io.BytesIO(save(tensors, metadata=metadata or None))


def product(tensors, path, scaling=1.0):
    return scaling * tensors[name(path, "B")].astype("f8") @ tensors[name(path, "A")].astype("f8")


def distance(first, second, *scalings):
    one, other = scalings or (1.0, 1.0)
    with open_delta(file_of(first), config(one)) as a, open_delta(file_of(second), config(other)) as b:
        return delta_distance(a, b)


def test_strengths_are_the_singular_values_of_the_delta():
    tensors = factors(1)
    with open_delta(file_of(tensors), config(2.0)) as layers:
        found = [strength_of(layer) for layer in layers]
    assert [strength.path for strength in found] == PATHS
    for strength in found:
        values = np.linalg.svd(product(tensors, strength.path, 2.0), compute_uv=False)
        assert strength.norm == pytest.approx(np.linalg.norm(values))
        assert strength.largest == pytest.approx(values[0])
        assert strength.stable_rank == pytest.approx((values**2).sum() / values[0] ** 2)


def test_a_layer_whose_rank_is_larger_than_its_width_is_measured_too():
    random = np.random.default_rng(0)
    tensors = {
        name("block.0.q", "A"): random.normal(size=(9, 4)).astype("f4"),
        name("block.0.q", "B"): random.normal(size=(5, 9)).astype("f4"),
    }
    with open_delta(file_of(tensors), config(rank=9)) as layers:
        (found,) = [strength_of(layer) for layer in layers]
    assert found.norm == pytest.approx(np.linalg.norm(product(tensors, "block.0.q")))


def test_the_distance_is_that_of_the_deltas_in_each_layer_and_in_all():
    first, second = factors(1), factors(2)
    found = distance(first, second, 1.0, 0.5)
    ones = [product(first, path) for path in PATHS]
    others = [product(second, path, 0.5) for path in PATHS]
    assert [layer.path for layer in found.layers] == PATHS
    for layer, one, other in zip(found.layers, ones, others, strict=True):
        assert layer.distance == pytest.approx(np.linalg.norm(one - other))
        cosine = (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)
        assert layer.cosine == pytest.approx(cosine)
    assert found.distance == pytest.approx(np.linalg.norm(np.stack(ones) - np.stack(others)))
    assert found.first_norm == pytest.approx(np.linalg.norm(np.stack(ones)))


def test_the_distance_of_nearly_equal_adapters_is_exact():
    first = factors(1)
    second = {key: value * (1 + 1e-4 * key.endswith("B.weight")) for key, value in first.items()}
    second = {key: value.astype("f4") for key, value in second.items()}
    exact = np.linalg.norm(np.stack([product(first, path) - product(second, path) for path in PATHS]))
    assert distance(first, second).distance == pytest.approx(exact, rel=1e-3)
    assert distance(first, first).distance == pytest.approx(0.0, abs=1e-5)
    assert distance(first, first).cosine == pytest.approx(1.0)


def test_a_layer_of_one_adapter_alone_counts_in_full():
    first = factors(1)
    second = {key: value for key, value in first.items() if "block.3." not in key}
    found = distance(first, second)
    assert found.distance == pytest.approx(np.linalg.norm(product(first, "block.3.q")))
    assert (found.layers[3].second_norm, found.layers[3].cosine) == (0.0, 0.0)


def test_a_layer_with_an_alpha_of_its_own_has_a_scaling_of_its_own():
    tensors = factors(1)
    own = AdapterConfig(
        base="a/base",
        revision=None,
        task_type=None,
        rank=3,
        alpha=3,
        use_rslora=False,
        targets=("q",),
        fan_in_fan_out=False,
        alpha_pattern={"block.2.q": 6.0},
    )
    with open_delta(file_of(tensors), own) as layers:
        assert [layer.scaling for layer in layers] == [1.0, 1.0, 2.0, 1.0]


def measured(tensors, scaling=1.0, **metadata):
    with open_delta(file_of(tensors, **metadata), config(scaling)) as layers:
        return measure(layers)


def test_the_same_deltas_in_another_file_have_the_same_hash_and_others_have_not():
    tensors = factors(1)
    halves = {key: value.astype("f2") for key, value in tensors.items()}
    wide = {key: value.astype("f4") for key, value in halves.items()}
    first = measured(tensors)
    assert measured(tensors, format="pt", made_by="somebody").sha256 == first.sha256
    assert measured(halves).sha256 == measured(wide).sha256
    assert len({first.sha256, measured(halves).sha256, measured(tensors, 2.0).sha256}) == 3
    assert first.norm == pytest.approx(np.linalg.norm([strength.norm for strength in first.strengths]))


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("encoder.block.3.layer.0.SelfAttention.q", ("encoder", 3, "SelfAttention.q")),
        ("decoder.block.11.layer.2.DenseReluDense.wo", ("decoder", 11, "DenseReluDense.wo")),
        ("model.layers.12.self_attn.q_proj", ("model", 12, "self_attn.q_proj")),
        ("transformer.h.0.attn.c_attn", ("transformer", 0, "attn.c_attn")),
        ("lm_head", ("", 0, "lm_head")),
    ],
)
def test_a_path_tells_stack_block_and_target(path, parts):
    assert split_path(path) == parts
