"""A worker as a process of its own: the real loop on real rows, with small jobs for the core's.

    python -m tests.chaos.worker [--skew SECONDS] [--answers | --celery] [--core]

Without --celery only Celery is missing, whose messages do no more than wake it, or name the next question.
"""

import argparse
import signal
import time
from datetime import timedelta
from pathlib import Path

import django


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--skew", type=float, default=0.0, help="seconds that its clock is wrong by")
    parser.add_argument("--answers", action="store_true", help="answer try-outs in place of composing")
    parser.add_argument("--celery", action="store_true", help="be woken by messages, as on a site")
    parser.add_argument("--core", action="store_true", help="compute as a site does, in place of small jobs")
    options = parser.parse_args()
    django.setup()
    set_clock_wrong(options.skew)
    if options.answers:
        answer_questions()
    else:
        compose(with_celery=options.celery, with_core=options.core)


def compose(*, with_celery: bool, with_core: bool) -> None:
    from composer.run import runner
    from hub_site.jobs.children import Launcher
    from hub_site.jobs.worker import stopping

    child = "composer.run.child" if with_core else "tests.composer.fake_jobs"
    root = Path(__file__).resolve().parents[2]
    launcher = Launcher(preload=child, call=f"{child}:run", root=root, threads=1)
    runner.launcher = lambda: launcher
    if with_celery:
        run_celery()
        return
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    runner.start_worker(lambda: None)
    print("ready", flush=True)
    while not stopping.wait(1.0):
        pass
    runner.stop_worker()


def run_celery() -> None:
    from celery.signals import worker_ready

    from hub_site.celery import app

    @worker_ready.connect(weak=False)
    def tell_ready(**_: object) -> None:
        print("ready", flush=True)

    app.worker_main(
        ["worker", "--queues", "compose", "--pool", "threads", "--concurrency", "1", "--without-gossip",
         "--without-mingle", "--loglevel", "INFO"]
    )  # fmt: skip


def answer_questions() -> None:
    from composer.playground import runner
    from composer.playground.models import TryOut
    from hub_site.jobs.children import Launcher
    from hub_site.jobs.worker import stopping

    fake = "tests.composer.playground.fake_answers"
    root = Path(__file__).resolve().parents[2]
    launcher = Launcher(preload=fake, call=f"{fake}:run", root=root, threads=1)
    runner.launcher = lambda: launcher
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    runner.start_launcher()
    print("ready", flush=True)
    while not stopping.wait(0.1):
        for tryout_id in TryOut.objects.filter(status="queued").values_list("pk", flat=True):
            runner.tryout_run(tryout_id)
    runner.stop_launcher()


def set_clock_wrong(skew_s: float) -> None:
    """What this process takes for the time of day; the database has its own."""
    from django.utils import timezone

    right_now, right_time = timezone.now, time.time
    timezone.now = lambda: right_now() + timedelta(seconds=skew_s)
    time.time = lambda: right_time() + skew_s


if __name__ == "__main__":
    main()
