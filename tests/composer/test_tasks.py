"""The doors of the queue, and what starts and stops with a worker."""

from types import SimpleNamespace

import pytest
from celery.signals import celeryd_after_setup, worker_shutdown, worker_shutting_down

from composer.models import Composition
from composer.playground import runner as trying_runner
from composer.run import runner, tasks
from hub_site.celery import app
from hub_site.jobs import leases
from hub_site.jobs.leases import REQUEUE_AFTER
from hub_site.jobs.worker import stopping


def worker_of(*queues: str) -> SimpleNamespace:
    return SimpleNamespace(
        app=SimpleNamespace(amqp=SimpleNamespace(queues=SimpleNamespace(consume_from=queues)))
    )


@pytest.fixture
def worker(monkeypatch):
    """A launcher and slots that only remember what they were asked to do."""
    asked = []
    fake = SimpleNamespace(start=lambda: asked.append("start"), stop=lambda: asked.append("stop"))
    slots = SimpleNamespace(
        start=lambda after_each: asked.append("take jobs"),
        join=lambda: asked.append("let go"),
        wake=lambda: asked.append("look"),
    )
    monkeypatch.setattr(runner, "launcher", lambda: fake)
    monkeypatch.setattr(runner, "slots", lambda: slots)
    monkeypatch.setattr(runner, "keep_announcing", lambda queue, **has: asked.append((queue, has)))
    return asked


def test_the_compose_worker_and_no_other_announces_itself_and_takes_jobs(worker, monkeypatch, settings):
    monkeypatch.setattr(trying_runner, "launcher", lambda: SimpleNamespace(start=lambda: None))
    for queue in ("default", "try"):
        celeryd_after_setup.send(sender="w", instance=worker_of(queue))
    assert worker == []
    celeryd_after_setup.send(sender="w", instance=worker_of("compose"))
    has = {"slots": settings.HUB_COMPOSE_SLOTS, "memory_mb": settings.HUB_COMPOSE_MEMORY_MB}
    assert worker == ["start", ("compose", has | {"has_cuda": runner.has_cuda()}), "take jobs"]


def test_a_worker_asked_to_end_lets_go_of_its_job_and_then_ends_its_launcher(worker):
    app.loader.import_default_modules()  # every app's tasks, as a worker does first
    try:
        worker_shutting_down.send(sender="w")
        assert stopping.is_set()
        assert worker == []
        worker_shutdown.send(sender="w")
        assert worker == ["let go", "stop"]
    finally:
        stopping.clear()


def test_the_sweeper_wakes_a_worker_for_a_job_whose_worker_is_gone(ask, monkeypatch):
    queued = []
    monkeypatch.setattr(tasks.wake_worker, "apply_async", lambda **options: queued.append(options))
    tasks.sweep()
    assert queued == []
    composition = leases.claim(Composition, ask().pk, worker="gone")
    Composition.objects.update(lease_until=composition.created_at)
    tasks.sweep()
    assert queued == [{"expires": REQUEUE_AFTER.total_seconds()}]


def test_a_wake_goes_to_the_compose_queue_and_the_sweep_to_the_default_one(worker):
    route = app.amqp.router.route
    assert route({}, "composer.tasks.wake_worker")["queue"].name == "compose"
    assert route({}, "composer.tasks.sweep")["queue"].name == "default"
    tasks.wake_worker()
    assert worker == ["look"]
