"""The gate against its corpus, and the corpus against the gate."""

import io
import os
import time
from pathlib import Path

import pytest

from modules_registry.core.adapter_file import HEADER_BYTES_MAX
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE, GateRefusal
from modules_registry.core.gate import AdapterFacts, check_adapter
from tests.attacks.adapters import BASE_SHAPES, assembled, config, weights
from tests.attacks.gate_cases import HARMLESS, HOSTILE, Case

SLOWEST_S = 6.0  # of computing on a busy machine; the slowest takes 0.6 s on a quiet one


def checked(case: Case) -> AdapterFacts:
    shapes = BASE_SHAPES if case.base_known else None
    files = io.BytesIO(case.config), io.BytesIO(case.weights)
    return check_adapter(*files, shapes, base_weights=case.base_weights)


@pytest.mark.parametrize("case", HOSTILE, ids=lambda case: case.name)
def test_a_hostile_file_is_refused_with_its_code_in_a_plain_sentence(case):
    begin = time.process_time()
    with pytest.raises(GateRefusal) as raised:
        checked(case)
    refusal = raised.value
    assert refusal.code == case.code
    assert refusal.file == (CONFIG_FILE if case.name.startswith("config") else WEIGHTS_FILE)
    assert refusal.message.isprintable()
    assert refusal.message.isascii()  # it may travel in a header
    assert 20 <= len(refusal.message) <= 330
    assert refusal.message.endswith((".", "?"))
    assert time.process_time() - begin < SLOWEST_S


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


LARGEST = HEADER_BYTES_MAX - 100
TIRESOME_HEADERS = {
    "small keys": b"{" + b",".join(b'"%x":{}' % number for number in range(LARGEST // 11)) + b"}",
    "small keys in one entry": b'{"a":{'
    + b",".join(b'"%x":[]' % number for number in range(LARGEST // 11))
    + b"}}",
    "a list of lists": b'{"a":[' + b"[]," * (LARGEST // 3) + b"[]]}",
    "escaped quotes": b'{"' + b'\\"' * (LARGEST // 2),
    "backslashes": b'{"' + b"\\" * LARGEST,
    "quotes": b"{" + b'"' * LARGEST,
    "one long name": b'{"base_model.model.' + b"a." * (LARGEST // 2) + b'q.lora_A.weight": 1}',
}


@pytest.mark.slow
@pytest.mark.parametrize("header", TIRESOME_HEADERS.values(), ids=TIRESOME_HEADERS)
def test_the_most_tiresome_header_of_the_largest_size_is_refused_in_time(header):
    begin = time.process_time()
    with pytest.raises(GateRefusal):
        check_adapter(io.BytesIO(config()), io.BytesIO(assembled(header, b"")))
    assert time.process_time() - begin < SLOWEST_S
