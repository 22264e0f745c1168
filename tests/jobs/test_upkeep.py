"""Each machine clears up its own data folder, by one of the processes that share it."""

import subprocess
import sys

import pytest

from hub_site.celery import app
from hub_site.embedded.processes import wait_for
from hub_site.jobs import upkeep as upkeep_module
from hub_site.jobs.upkeep import Upkeep, upkeep
from hub_site.jobs.worker import stopping

HOLD = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDWR | os.O_CREAT), fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_duty_is_done_when_it_is_due_and_one_that_fails_stops_no_other():
    own, done = Upkeep(), []
    own.add(lambda: 1 / 0, every_s=0)
    own.add(lambda: done.append("often"), every_s=0)
    own.add(lambda: done.append("seldom"), every_s=3600)
    own.do_due()
    own.do_due()
    assert done == ["often", "seldom", "often"]


@pytest.mark.slow
def test_of_the_processes_of_a_folder_one_does_it_and_another_one_goes_on(monkeypatch, data_folder):
    monkeypatch.setattr(upkeep_module, "LOOK_EVERY_S", 0.05)
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(upkeep_module.lock_file())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert other.stdout.readline() == b"held\n"
    own, done = Upkeep(), []
    own.add(lambda: done.append(1), every_s=0)
    own.start()
    own.start()  # once is enough
    try:
        assert not wait_for(lambda: done, timeout_s=0.5)
        other.kill()
        other.wait()
        assert wait_for(lambda: done, timeout_s=20)
    finally:
        stopping.set()
        own._thread.join()
        stopping.clear()


def test_every_part_of_the_site_has_its_folders_looked_after():
    app.loader.import_default_modules()  # as the workers and the web server do
    names = {f"{duty.do.__module__}.{duty.do.__name__}" for duty in upkeep.duties}
    assert names == {
        "composer.playground.runner.remove_orphaned_folders",
        "composer.run.job_folder.remove_orphaned_folders",
        "hub_site.jobs.low_disk.watch_disk",
        "modules_registry.importing.base_runner.remove_old_folders",
        "modules_registry.importing.runner.remove_left_folders",
        "modules_registry.maintenance.limit_cache",
        "modules_registry.maintenance.sweep_machine",
    }
