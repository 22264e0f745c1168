"""The import contracts hold, and the processes that must stay light do."""

import os
import subprocess
import sys

import pytest
from django.conf import settings

HEAVY = ("torch", "transformers", "peft", "nevergrad")


def test_the_import_contracts_are_kept():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    "module",
    ["hub_site.urls", "hub_site.asgi", "composer.run.tasks", "composer.playground.tasks", "hub_site.celery"],
)
def test_what_the_web_server_and_the_workers_import_brings_no_torch(module):
    program = (
        "import sys, django; django.setup(); import importlib; importlib.import_module(sys.argv[1]);"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, module],
        cwd=settings.BASE_DIR,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "hub_site.settings.test"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
