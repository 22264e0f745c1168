"""Web and workers on machines of their own: they share the work, and survive each other's networks."""

import io
import json
import os
import signal
import time
import urllib.request
import zipfile

import pytest

from composer.models import Composition
from composer.run import runner
from hub_site.accounts.services import token_create
from hub_site.embedded.processes import wait_for
from hub_site.jobs.models import Status
from modules_registry.blobs import store
from modules_registry.models import Module
from tests.composer.test_resuming import adapter_of
from tests.machines.conftest import run_python

pytestmark = [
    pytest.mark.slow, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("wakes"),
    pytest.mark.timeout(600),
]  # fmt: skip

WEIGHTS = "adapter_model.safetensors"
LONG = {"budget": 2400}  # about 5 s of searching here


@pytest.fixture
def wakes(monkeypatch):
    """This process has no broker of its own: workers look by themselves every second."""
    monkeypatch.setattr("composer.run.tasks.wake_worker.delay", lambda: None)


def wait_until(condition, *, timeout_s=120):
    """Wait for it, with a sweeper that comes often."""

    def look():
        runner.sweep()
        return condition()

    return wait_for(look, timeout_s=timeout_s)


def all_done():
    return set(Composition.objects.values_list("status", flat=True)) == {Status.DONE}


def steps_of(composition):
    return composition.events.filter(kind="step").count()


def call(site, token, path, body=None):
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{site.address}{path}", data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read()


def require_every_event_once(composition):
    numbers = list(composition.events.values_list("number", flat=True))
    assert numbers == list(range(1, len(numbers) + 1))
    steps = list(composition.events.filter(kind="step").values_list("detail__step", flat=True))
    assert steps == list(range(1, len(steps) + 1))


def test_two_workers_share_the_load_and_the_web_server_hands_out_and_publishes_what_they_made(
    ask, alice, new_machine, start_web, start_worker, settings
):
    settings.HUB_COMPOSITIONS_UNFINISHED_MAX = 100
    web, machines = new_machine("web"), [new_machine("first"), new_machine("second")]
    site = start_web(web)
    workers = [start_worker(machine) for machine in machines]
    asked = [ask(seed=seed, **LONG) for seed in range(6)]
    assert wait_until(all_done), [worker.printed for worker in workers]
    assert len(set(Composition.objects.values_list("worker", flat=True))) == len(workers)
    for machine in machines:
        assert machine.files_here  # the base and the modules, which it fetched
    adapters = {adapter_of(composition) for composition in asked}
    assert len(adapters) == 1  # of both workers: a fit by gradient draws nothing
    _, token = token_create(user=alice, label="mine", scope="write")
    address = f"/api/v1/compositions/{asked[0].pk}"
    archive = zipfile.ZipFile(io.BytesIO(call(site, token, f"{address}/adapter")))
    (packed,) = [name for name in archive.namelist() if name.endswith(WEIGHTS)]
    assert archive.read(packed) in adapters
    call(site, token, f"{address}/publish", {"name": "made-here"})
    published = Module.objects.get(name="made-here")
    assert call(site, token, f"/alice/made-here/resolve/main/{WEIGHTS}") in adapters
    assert published.current.weights_sha256 in web.files_here


def test_a_worker_that_is_cut_off_loses_its_job_to_another_one_that_ends_it_to_the_same_bytes(
    ask, new_machine, start_worker
):
    machines = {name: new_machine(name) for name in ("first", "second")}
    workers = {str(start_worker(machine).process.pid): machine for machine in machines.values()}
    whole = ask(seed=1, **LONG)
    assert wait_until(all_done)
    composition = ask(seed=2, **LONG)
    assert wait_until(lambda: steps_of(composition) > 2)
    composition.refresh_from_db()
    assert composition.status == Status.RUNNING
    lost = workers[composition.worker.rpartition(":")[2]]
    lost.cut()
    Composition.objects.filter(pk=composition.pk).update(lease_until=composition.created_at)  # it ran out
    assert wait_until(all_done)
    composition.refresh_from_db()
    assert workers[composition.worker.rpartition(":")[2]] is not lost
    rows = list(Composition.objects.order_by("pk").values())
    events = list(composition.events.values_list("number", "generation", "detail"))
    lost.restore()
    later = ask(seed=3)  # by whichever is free; the one that was cut off works again
    assert wait_until(all_done)
    assert list(Composition.objects.exclude(pk=later.pk).order_by("pk").values()) == rows
    assert list(composition.events.values_list("number", "generation", "detail")) == events
    require_every_event_once(composition)
    assert adapter_of(composition) == adapter_of(whole)
    assert steps_of(composition) == steps_of(whole)


def test_a_killed_worker_s_folder_is_removed_on_its_machine(ask, new_machine, start_worker):
    machine = new_machine("first")
    worker = start_worker(machine)
    composition = ask(**LONG)
    assert wait_until(lambda: steps_of(composition) > 0)
    (folder,) = (machine.data / "jobs").iterdir()
    worker.send(signal.SIGKILL)
    worker.process.wait()
    Composition.objects.filter(pk=composition.pk).update(lease_until=composition.created_at)
    os.utime(folder, (time.time() - 60, time.time() - 60))
    other = new_machine("second")
    start_worker(other)
    assert wait_until(all_done)
    assert folder.exists()  # of a machine on which nothing runs
    start_worker(machine)
    assert wait_for(lambda: not folder.exists(), timeout_s=30)


PHASES = {"load": 0, "search": 3, "export": 0}  # steps that are there already


USUAL = {("load", "files"), ("search", "database"), ("export", "broker")}  # the others under --long


@pytest.mark.parametrize(
    ("phase", "server"),
    [
        pytest.param(phase, server, marks=() if (phase, server) in USUAL else pytest.mark.long)
        for phase in PHASES
        for server in ("database", "broker", "files")
    ],
)
def test_a_server_that_restarts_in_any_phase_costs_no_job(
    ask, new_machine, start_worker, broker, server, phase
):
    machine = new_machine("first")
    start_worker(machine)
    whole = ask(seed=1, **LONG)
    assert wait_until(all_done)
    composition = ask(seed=2, **LONG)

    def has_come():
        stages = composition.events.filter(kind="stage", detail__stage=phase)
        return stages.exists() and steps_of(composition) >= PHASES[phase]

    assert wait_until(has_come)
    relay = getattr(machine, server)
    relay.cut()
    if server == "broker":  # it keeps nothing: what was in it is lost
        broker.stop()
        broker.start()
    relay.restore()
    Composition.objects.filter(pk=composition.pk, status=Status.QUEUED).update(due_at=composition.created_at)
    assert wait_until(all_done)
    composition.refresh_from_db()
    require_every_event_once(composition)
    assert (composition.status, composition.crashes) == (Status.DONE, 0)
    assert adapter_of(composition) == adapter_of(whole)


def test_a_job_waits_while_the_storage_is_away(ask, new_machine, start_worker):
    machine = new_machine("first")
    start_worker(machine)
    machine.files.cut()
    composition = ask()
    assert wait_until(lambda: Composition.objects.get().put_off_reason)
    composition.refresh_from_db()
    assert composition.put_off_reason == "The site's store of files could not be reached."
    machine.files.restore()
    Composition.objects.update(due_at=composition.created_at)
    assert wait_until(all_done)
    assert Composition.objects.get().crashes == 0


def test_a_slow_network_slows_a_job_and_ends_it_all_the_same(ask, new_machine, start_worker):
    machine = new_machine("first")
    start_worker(machine)
    for relay in machine.relays:
        relay.delay_s = 0.02
    composition = ask()
    assert wait_until(all_done)
    require_every_event_once(composition)


def test_machines_see_each_other_s_files_by_the_commands_of_an_operator(modules_stored, new_machine):
    machine = new_machine("first")
    said = run_python(
        "from django.core.management import call_command\n"
        "call_command('verify_storage'); call_command('fetch_files')",
        machine,
    )
    assert said.splitlines()[0] == "Every stored file is as it should be."
    assert machine.files_here == modules_stored


@pytest.fixture
def modules_stored(ask):
    """The sha256 of every file that is named so far."""
    from modules_registry.maintenance import named_hashes

    assert named_hashes() == {blob.sha256 for blob in store().iter()}
    return named_hashes()
