"""A compose worker as a process of its own: the real loop on real rows, with small jobs for the core's.

    python -m tests.chaos.worker [--skew SECONDS]

Only Celery is missing, whose messages do no more than wake it.
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
    skew_s = parser.parse_args().skew
    django.setup()
    set_clock_wrong(skew_s)

    from composer.run import runner
    from hub_site.jobs.children import Launcher
    from hub_site.jobs.worker import stopping

    fake = "tests.composer.fake_jobs"
    launcher = Launcher(preload=fake, call=f"{fake}:run", root=Path(__file__).resolve().parents[2], threads=1)
    runner.launcher = lambda: launcher
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    runner.start_worker(lambda: None)
    print("ready", flush=True)
    while not stopping.wait(1.0):
        pass
    runner.stop_worker()


def set_clock_wrong(skew_s: float) -> None:
    """What this process takes for the time of day; the database has its own."""
    from django.utils import timezone

    right_now, right_time = timezone.now, time.time
    timezone.now = lambda: right_now() + timedelta(seconds=skew_s)
    time.time = lambda: right_time() + skew_s


if __name__ == "__main__":
    main()
