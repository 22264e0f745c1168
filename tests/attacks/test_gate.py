"""The gate against its corpus, and the corpus against the gate."""

import io
import os
import time
from pathlib import Path

import pytest

from modules_registry.core.errors import GateRefusal
from modules_registry.core.gate import AdapterFacts, check_adapter
from tests.attacks.adapters import BASE_SHAPES, config, weights
from tests.attacks.gate_cases import HARMLESS, HOSTILE, Case

SLOWEST_S = 2.0  # on a busy machine; the slowest case takes 0.2 s alone


def checked(case: Case) -> AdapterFacts:
    shapes = BASE_SHAPES if case.base_known else None
    return check_adapter(io.BytesIO(case.config), io.BytesIO(case.weights), shapes)


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_a_hostile_file_is_refused_with_its_code(case):
    begin = time.perf_counter()
    with pytest.raises(GateRefusal) as refusal:
        checked(case)
    assert refusal.value.code == case.code
    assert time.perf_counter() - begin < SLOWEST_S


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_a_refusal_is_a_short_plain_sentence_about_one_file(case):
    with pytest.raises(GateRefusal) as raised:
        checked(case)
    refusal = raised.value
    assert refusal.file in ("adapter_config.json", "adapter_model.safetensors")
    assert refusal.message.isprintable()
    assert refusal.message.isascii()
    assert 20 <= len(refusal.message) <= 330
    assert refusal.message.endswith(".")


@pytest.mark.parametrize("case", HARMLESS, ids=lambda case: case.name)
def test_a_harmless_file_passes(case):
    assert checked(case).rank == 2


@pytest.fixture
def adapter(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "adapter_config.json").write_bytes(config())
    (tmp_path / "adapter_model.safetensors").write_bytes(weights())
    return tmp_path / "adapter_config.json", tmp_path / "adapter_model.safetensors"


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("kind", ["link", "fifo", "folder", "nothing"])
def test_only_a_regular_file_is_opened(adapter, which, kind):
    path = adapter[which]
    kept = path.rename(path.with_suffix(".kept"))
    {
        "link": lambda: path.symlink_to(kept),
        "fifo": lambda: os.mkfifo(path),  # would block for ever
        "folder": path.mkdir,
        "nothing": lambda: None,
    }[kind]()
    with pytest.raises(GateRefusal) as refusal:
        check_adapter(*adapter)
    assert refusal.value.code == "not_a_file"
    assert refusal.value.file == path.name
