"""The doors of the queue, and what starts and stops with a worker."""

from types import SimpleNamespace

import pytest
from celery.signals import celeryd_after_setup, worker_shutdown, worker_shutting_down

from composer.models import Composition
from composer.playground import runner as trying_runner
from composer.run import runner, tasks
from hub_site.celery import app
from hub_site.jobs.leases import REQUEUE_AFTER
from hub_site.jobs.worker import stopping


def worker_of(*queues: str) -> SimpleNamespace:
    return SimpleNamespace(
        app=SimpleNamespace(amqp=SimpleNamespace(queues=SimpleNamespace(consume_from=queues)))
    )


@pytest.fixture
def launcher(monkeypatch):
    """A launcher that only remembers what it was asked to do."""
    asked = []
    fake = SimpleNamespace(start=lambda: asked.append("start"), stop=lambda: asked.append("stop"))
    monkeypatch.setattr(runner, "launcher", lambda: fake)
    return asked


def test_the_launcher_starts_with_the_compose_worker_and_no_other(launcher, monkeypatch):
    monkeypatch.setattr(trying_runner, "launcher", lambda: SimpleNamespace(start=lambda: None))
    for queue in ("default", "try"):
        celeryd_after_setup.send(sender="w", instance=worker_of(queue))
    assert launcher == []
    celeryd_after_setup.send(sender="w", instance=worker_of("compose"))
    assert launcher == ["start"]


def test_a_worker_asked_to_end_lets_go_of_its_job_and_then_ends_its_launcher(launcher):
    app.loader.import_default_modules()  # every app's tasks, as a worker does first
    try:
        worker_shutting_down.send(sender="w")
        assert stopping.is_set()
        assert launcher == []
        worker_shutdown.send(sender="w")
        assert launcher == ["stop"]
    finally:
        stopping.clear()


def test_the_sweeper_rings_with_ids_and_bells_that_do_not_pile_up(ask, monkeypatch):
    queued = []
    monkeypatch.setattr(
        tasks.run_composition, "apply_async", lambda args, **options: queued.append((args, options))
    )
    composition = ask()
    Composition.objects.update(updated_at=composition.created_at - REQUEUE_AFTER)
    tasks.sweep()
    assert queued == [((str(composition.pk),), {"expires": REQUEUE_AFTER.total_seconds()})]


def test_a_composition_goes_to_the_compose_queue_and_the_sweep_to_the_default_one():
    route = app.amqp.router.route
    assert route({}, "composer.tasks.run_composition")["queue"].name == "compose"
    assert route({}, "composer.tasks.sweep")["queue"].name == "default"


def test_a_forged_message_with_another_id_does_nothing(db):
    tasks.run_composition("00000000-0000-0000-0000-000000000000")
    with pytest.raises(ValueError, match="badly formed"):
        tasks.run_composition("../../etc/passwd")
