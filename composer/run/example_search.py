"""The worker's side of one search by examples: it measures modules alone, and stores what they lost."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer.core.spec.examples import Example
from composer.models import ExampleSearch
from composer.run.events import store_screened
from composer.run.evidence import losses_of, ready_made_task, record_alone
from composer.run.job_folder import write_search
from hub_site.jobs import leases
from hub_site.jobs.children import Child, Launcher
from hub_site.jobs.models import Status
from hub_site.jobs.sandbox import Limits
from hub_site.jobs.work import HeldJob
from modules_registry.models import Version

TICK_S = 0.25  # the longest an event waits before it becomes a row
DEADLINE_S = 60  # then what is measured is shown
CPU_S = 300  # of all threads; the clock should stop it first


def measure(search: ExampleSearch, folder: Path, launcher: Launcher, memory_mb: int) -> None:
    """Try its modules on its examples, from its row to its row."""
    keys = [row["version"] for row in search.modules]
    visible = Version.objects.filter(module__hold="", module__deleted_at=None).in_bulk(keys)
    held = HeldJob(search)
    write_search(search, visible, folder, held.check)
    with launcher.start_child(folder, Limits(memory_mb=memory_mb, cpu_s=CPU_S)) as child:
        follow(search, child, held)
    if task := ready_made_task(search.base.name, [Example(*pair) for pair in search.pairs]):
        versions = {
            row["name"]: visible[row["version"]] for row in search.modules if row["version"] in visible
        }
        losses = losses_of(search.modules, versions, len(search.examples))
        record_alone(task.name, len(search.examples), search.base_loss_nats, losses)
    leases.finish(search, Status.DONE)


def follow(search: ExampleSearch, child: Child, held: HeldJob) -> None:
    pending: list[Mapping[str, Any]] = []
    for event in child.events(TICK_S):
        if event is not None:
            pending.append(event)
            continue
        take_in(search, pending)
        pending = []
        held.check()
        if child.computing_s() > DEADLINE_S:
            return
    take_in(search, pending)


def take_in(search: ExampleSearch, events: list[Mapping[str, Any]]) -> None:
    """Write what the child told into the row, while it is ours."""
    if not events:
        return
    rows = {row["name"]: row for row in search.modules}
    for event in events:
        if event["event"] == "base":
            search.base_loss_nats = event["loss_nats"]
        elif event["event"] == "alone":
            for told in event["modules"]:
                rows[told["name"]] |= {"loss_nats": told["loss_nats"], "n_shots": told["n_shots"]}
        elif event["event"] == "answers":
            search.base_answer = event["base"]
            for name, answer in event["modules"].items():
                rows[name]["answer"] = answer
    progress = {
        "modules": search.modules,
        "base_loss_nats": search.base_loss_nats,
        "base_answer": search.base_answer,
    }
    leases.append_events(search, [], progress=progress)
    store_screened([event for event in events if event["event"] == "screened"], search.owner_id)
