"""Reading safetensors by hand, held against the library that defines the format."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from modules_registry.core.adapter_file import iterate_tensors, read_header, sha256_of
from modules_registry.core.errors import WeightsRefusal
from tests.attacks.adapters import floats, weights


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    tensors = {f"layer.{number}": random.normal(size=(number + 1, 7)).astype("f4") for number in range(5)}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    return tmp_path / "a.safetensors"


def test_the_tensors_are_those_the_library_reads(saved):
    expected = load_file(saved)
    found = dict(iterate_tensors(saved))
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)


def test_float16_stays_and_bfloat16_is_widened_without_loss():
    values = [0.0, -0.0, 1.0, -2.5, 3.0e38, 2.0**-130]
    (array,) = dict(
        iterate_tensors(io.BytesIO(weights({"x": ("BF16", (2, 3), floats(values, "BF16"))})))
    ).values()
    assert array.dtype == np.float32
    kept = np.array(values, dtype=np.float32).view(np.uint32) & 0xFFFF0000
    np.testing.assert_array_equal(array.reshape(-1).view(np.uint32), kept)
    half = io.BytesIO(weights({"x": ("F16", (1, 2), floats([0.5, 65_504.0], "F16"))}))
    assert [(array.dtype, array.tolist()) for _, array in iterate_tensors(half)] == [
        (np.float16, [[0.5, 65_504.0]])
    ]


def test_the_tensors_come_one_at_a_time(saved):
    with saved.open("rb") as file:
        tensors = iterate_tensors(file)
        next(tensors)
        assert file.tell() < saved.stat().st_size


def test_the_header_says_where_each_tensor_lies(saved):
    with saved.open("rb") as file:
        header = read_header(file)
    assert header.size_bytes == saved.stat().st_size
    assert [tensor.shape for tensor in header.tensors] == [(number + 1, 7) for number in range(5)]
    assert header.tensors[0].begin == 0
    assert header.data_start + header.tensors[-1].end == header.size_bytes


def test_the_sha256_is_of_the_whole_file(saved):
    expected = hashlib.sha256(saved.read_bytes()).hexdigest()
    assert sha256_of(saved) == expected
    with saved.open("rb") as file:
        file.read(10)
        assert sha256_of(file) == expected


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "a.safetensors"
    save_file({name: np.zeros((100, 1000), "f4") for name in "ab"}, path)
    tensors = iterate_tensors(path)
    next(tensors)
    with path.open("rb+") as file:
        file.truncate(path.stat().st_size - 1000)
    with pytest.raises(WeightsRefusal) as refusal:
        list(tensors)
    assert refusal.value.code == "weights_truncated"
