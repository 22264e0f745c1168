"""A conversion whose child is ended: by its limits, or by something else."""

import signal

import pytest

from hub_site.jobs.children import Child, ChildDied
from modules_registry.files import conversion
from modules_registry.files.conversion import TRIES_MAX, convert_checkpoint, death_refusal
from tests.modules_registry.importing.checkpoints import lora, saved


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "adapter_model.bin").write_bytes(saved(lora()))
    yield tmp_path
    conversion.stop_launcher()


@pytest.fixture
def end_children(monkeypatch):
    """End the first children as a signal would; returns the tries made."""

    def spoil(exit_code, times):
        tries, wait = [], Child._wait_for_exit

        def ended(child, tick_s):
            tries.append(child)
            yield from wait(child, tick_s)
            if len(tries) <= times:
                raise ChildDied(exit_code)

        monkeypatch.setattr(Child, "_wait_for_exit", ended)
        return tries

    return spoil


@pytest.mark.parametrize("killed", [1, 2])
def test_a_conversion_that_is_killed_is_done_again(folder, end_children, killed):
    tries = end_children(-signal.SIGKILL, killed)
    convert_checkpoint(folder)
    assert (folder / "adapter_model.safetensors").exists()
    assert len(tries) == killed + 1


@pytest.mark.parametrize(
    ("exit_code", "n_tries", "code", "status"),
    [
        (-signal.SIGKILL, TRIES_MAX, "conversion_broken_off", 503),
        (-signal.SIGSEGV, TRIES_MAX, "conversion_broken_off", 503),
        (-signal.SIGXCPU, 1, "conversion_broke", 400),
        (3, 1, "conversion_broke", 400),
    ],
)
def test_a_conversion_that_is_ended_each_time_is_given_up(
    folder, end_children, exit_code, n_tries, code, status
):
    tries = end_children(exit_code, 99)
    with pytest.raises(ChildDied) as died:
        convert_checkpoint(folder)
    refusal = death_refusal(died.value)
    assert (len(tries), refusal.code, refusal.status) == (n_tries, code, status)
