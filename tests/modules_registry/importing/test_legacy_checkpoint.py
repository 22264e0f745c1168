"""A pickled checkpoint becomes safetensors without being unpickled; more than tensors is refused."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from hub_site.jobs.children import ChildDied, ChildRefused, Launcher
from hub_site.jobs.sandbox import Limits
from modules_registry.core.errors import CheckpointRefusal
from modules_registry.core.legacy_checkpoint import read_checkpoint, write_safetensors
from tests.modules_registry.importing.checkpoints import attacks, harmless, lora, saved

ROOT = Path(__file__).resolve().parents[3]
ATTACKS, HARMLESS = attacks(), harmless()


def converted(data: bytes) -> bytes:
    output = io.BytesIO()
    write_safetensors(read_checkpoint(io.BytesIO(data)), output)
    return output.getvalue()


@pytest.mark.parametrize("name", HARMLESS)
def test_the_tensors_are_those_that_torch_reads(name):
    ours, theirs = load(converted(HARMLESS[name])), torch.load(io.BytesIO(HARMLESS[name]), weights_only=True)
    assert list(theirs) == sorted(ours, key=list(theirs).index)
    for key, tensor in theirs.items():
        torch.testing.assert_close(ours[key], tensor.data, rtol=0, atol=0)
        assert ours[key].dtype == tensor.dtype


@pytest.mark.parametrize("name", ATTACKS)
def test_what_is_more_than_tensors_is_refused(name):
    data, code = ATTACKS[name]
    with pytest.raises(CheckpointRefusal) as refused:
        converted(data)
    assert refused.value.code == code
    assert refused.value.message.endswith(".")
    assert not Path("/tmp/harmed").exists()


def test_no_beginning_of_a_good_file_breaks_the_reader():
    for data in (saved(lora()), saved(lora(), legacy=True)):
        for length in range(0, len(data), 37):
            with pytest.raises(CheckpointRefusal):
                converted(data[:length])


def test_one_changed_byte_of_the_index_is_read_or_refused_and_nothing_else():
    data = bytearray(saved(lora(), legacy=True))
    for position in range(0, 600):
        for value in (0, 0x63, 0x52, 0x28, 0xFF):
            changed = bytes(data[:position]) + bytes([value]) + bytes(data[position + 1 :])
            try:
                converted(changed)
            except CheckpointRefusal:
                continue


def test_it_needs_neither_torch_nor_an_unpickler():
    program = "import sys; import modules_registry.core.legacy_checkpoint; print('torch' in sys.modules)"
    printed = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert printed.stdout == "False\n"
    source = (ROOT / "modules_registry/core/legacy_checkpoint.py").read_text()
    assert "import pickle\n" not in source


@pytest.fixture(scope="module")
def launcher():
    launcher = Launcher(
        preload="modules_registry.core.legacy_checkpoint",
        call="modules_registry.core.legacy_checkpoint:convert",
        root=ROOT,
        threads=1,
    )
    yield launcher
    launcher.stop()


def convert_in_child(launcher: Launcher, folder: Path, data: bytes, limits: Limits) -> None:
    (folder / "adapter_model.bin").write_bytes(data)
    with launcher.start_child(folder, limits) as child:
        assert [event["event"] for event in child.events(0.2) if event] == ["done"]


def test_a_limited_child_converts_a_file(launcher, tmp_path):
    convert_in_child(launcher, tmp_path, saved(lora()), Limits(memory_mb=128, cpu_s=10))
    written = load((tmp_path / "adapter_model.safetensors").read_bytes())
    for name, tensor in lora().items():
        assert torch.equal(written[name], tensor)


def test_a_refusal_of_the_child_arrives_with_its_code_and_sentence(launcher, tmp_path):
    data, code = ATTACKS["code in a zip"]
    with pytest.raises(ChildRefused, match="asks to import") as refused:
        convert_in_child(launcher, tmp_path, data, Limits(memory_mb=128, cpu_s=10))
    assert refused.value.code == code


@pytest.mark.slow  # half a gigabyte is written first
def test_a_huge_storage_ends_the_child_and_not_us(launcher, tmp_path):
    """512 MB of numbers in a child that may have 64."""
    data = saved({name: torch.zeros(8, 2**23) for name in list(lora())[:2]})
    with pytest.raises((ChildRefused, ChildDied)):
        convert_in_child(launcher, tmp_path, data, Limits(memory_mb=64, cpu_s=20))
