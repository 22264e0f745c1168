"""The commands of docs/operating.md start the processes as they stand there, outside the images too."""

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.db import connection

from hub_site.embedded.processes import wait_for
from tests.served_site import free_port

DOCUMENTED = (settings.BASE_DIR / "docs" / "operating.md").read_text(encoding="utf-8")
SECRET = "k" * 40
READY_TIMEOUT_S = 120


def of_an_operator(data, **changes):
    """The environment of a shell in which somebody typed the settings, and nothing of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    return kept | {
        "HUB_SECRET_KEY": SECRET,
        "DATABASE_URL": database.geturl(),
        "CELERY_BROKER_URL": os.environ["CELERY_BROKER_URL"],
        "HUB_DATA": str(data),
        **changes,
    }


def documented_command() -> tuple[dict[str, str], list[str]]:
    """The settings and the words of the command that starts a worker on a second machine."""
    text = re.search(r"^ +(HUB_HEALTH_ADDRESS=\S+ \S*celery (?:\\\n|.)*)$", DOCUMENTED, flags=re.MULTILINE)[1]
    words = shlex.split(text.replace("\\\n", " "))
    given = dict(word.split("=", 1) for word in words if re.match(r"[A-Z_]+=", word))
    return given, words[len(given) :]


@pytest.mark.slow  # a process of its own imports the whole site
@pytest.mark.django_db(transaction=True)
def test_a_worker_starts_by_the_command_of_the_docs_as_it_stands_there(tmp_path):
    given, (program, *words) = documented_command()
    assert (program, given) == (".venv/bin/celery", {"HUB_HEALTH_ADDRESS": "0.0.0.0:9100"})
    port = free_port()
    environment = of_an_operator(tmp_path, HUB_HEALTH_ADDRESS=f"127.0.0.1:{port}")
    celery = Path(sys.executable).with_name("celery")
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [celery, *words], cwd=settings.BASE_DIR, env=environment, stdout=log, stderr=log
        )
    try:
        told: dict[str, str] = {}

        def is_ready():
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5) as answer:
                    told.update(json.load(answer))
            except (OSError, urllib.error.URLError):
                return worker.poll() is not None
            return True

        assert wait_for(is_ready, timeout_s=READY_TIMEOUT_S), (tmp_path / "log").read_text()
        assert set(told.values()) == {"ok"}, (tmp_path / "log").read_text()
    finally:
        worker.terminate()
        worker.wait(timeout=60)


@pytest.mark.slow
def test_every_other_command_of_celery_finds_the_settings_by_itself(db, tmp_path):
    rows = re.findall(r"`celery (--app hub_site\.celery (?:worker|beat) [^`]*)`", DOCUMENTED)
    assert len(rows) == 2
    celery = Path(sys.executable).with_name("celery")
    for row in rows:
        words = shlex.split(
            row.replace("QUEUE", "default").replace(" N ", " 2 ").replace("FILE", "/tmp/none")
        )
        done = subprocess.run(
            [celery, *words, "--help"], cwd=settings.BASE_DIR, env=of_an_operator(tmp_path),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
