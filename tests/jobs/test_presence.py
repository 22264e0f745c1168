"""A worker says what it has and that it is alive; one that is gone for a day is forgotten."""

from datetime import timedelta
from importlib.metadata import PackageNotFoundError

import pytest
from django.db import InternalError
from django.utils import timezone

from hub_site.celery import app
from hub_site.embedded.processes import wait_for
from hub_site.jobs import presence
from hub_site.jobs.models import Worker
from hub_site.jobs.presence import announce, find_cuda, keep_announcing
from hub_site.jobs.work import WORKER
from hub_site.jobs.worker import stopping

HAS = {"slots": 2, "memory_mb": 4096, "has_cuda": False}


def test_a_worker_has_one_row_however_often_it_announces_itself(db):
    for memory_mb in (4096, 8192):
        announce("compose", slots=2, memory_mb=memory_mb, has_cuda=False)
    worker = Worker.objects.get()
    assert (worker.name, worker.memory_mb, Worker.objects.alive().get()) == (WORKER, 8192, worker)


def test_one_that_is_away_is_expected_back_for_a_day_and_then_forgotten(db):
    for name, hours in (("away", 23), ("gone", 25)):
        Worker.objects.create(
            name=name, queue="compose", seen_at=timezone.now() - timedelta(hours=hours), **HAS
        )
    assert not Worker.objects.alive().exists()
    assert [worker.name for worker in Worker.objects.known()] == ["away"]
    announce("compose", **HAS)
    assert {worker.name for worker in Worker.objects.all()} == {"away", WORKER}


@pytest.mark.django_db(transaction=True)
def test_it_goes_on_announcing_itself_until_the_worker_ends(monkeypatch):
    monkeypatch.setattr(presence, "ANNOUNCE_EVERY_S", 0.02)
    thread = keep_announcing("compose", **HAS)
    try:
        assert wait_for(Worker.objects.exists, timeout_s=10)
        Worker.objects.update(seen_at=timezone.now() - timedelta(hours=1))
        assert wait_for(Worker.objects.alive().exists, timeout_s=10)
    finally:
        stopping.set()
        thread.join()
        stopping.clear()


@pytest.mark.parametrize("error", [InternalError("read-only"), ValueError("anything")])
@pytest.mark.django_db(transaction=True)
def test_no_error_ends_it(monkeypatch, caplog, error):
    monkeypatch.setattr(presence, "ANNOUNCE_EVERY_S", 0.02)
    announced = []

    def fail_twice(*args, **options):
        announced.append(1)
        if len(announced) <= 2:
            raise error
        announce(*args, **options)

    monkeypatch.setattr(presence, "announce", fail_twice)
    thread = keep_announcing("compose", **HAS)
    try:
        assert wait_for(Worker.objects.alive().exists, timeout_s=10)
        assert caplog.text.count("could not announce itself") == 2
    finally:
        stopping.set()
        thread.join()
        stopping.clear()


@pytest.mark.parametrize(
    ("torch", "has_device", "has_cuda"),
    [("2.13.0", True, True), ("2.13.0+cu130", True, True), ("2.13.0+cpu", True, False),
     ("2.13.0", False, False), (None, True, False)],
)  # fmt: skip
def test_a_graphics_card_counts_with_a_torch_that_is_built_for_it(monkeypatch, torch, has_device, has_cuda):
    def version(name):
        if torch is None:
            raise PackageNotFoundError(name)
        return torch

    monkeypatch.setattr(presence, "version", version)
    monkeypatch.setattr("pathlib.Path.exists", lambda path: has_device)
    assert find_cuda() is has_cuda


def test_no_busy_worker_keeps_a_message_from_an_idle_one():
    assert app.conf.worker_disable_prefetch
    assert app.conf.worker_prefetch_multiplier == 1  # for brokers that do not know the other
