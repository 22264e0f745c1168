"""The import contracts hold, and the processes that must stay light do."""

import json
import os
import subprocess
import sys

import pytest
from django.conf import settings

HEAVY = ("torch", "transformers", "peft", "nevergrad")
LIGHT = (
    "hub_site.asgi",  # first, so that what is loaded after it is what it loads
    "composer.run.tasks",
    "composer.playground.tasks",
    "hub_site.celery",
    "composer.views",
    "composer.api",
    "hub_site.urls",
)
PAGES = "hub_site.urls"


def test_the_import_contracts_are_kept():
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()", "--no-cache"],
        cwd=settings.BASE_DIR,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def loaded_after() -> dict[str, list[str]]:
    """The heavy packages, and the pages, in memory after each import.

    One process imports everything: starting is slow.
    """
    program = (
        "import importlib, json, sys, django; django.setup(); loaded = {}\n"
        "for module in sys.argv[1:]:\n"
        "    importlib.import_module(module)\n"
        f"    loaded[module] = [name for name in {(*HEAVY, PAGES)!r} if name in sys.modules]\n"
        "print(json.dumps(loaded))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *LIGHT],
        cwd=settings.BASE_DIR,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "hub_site.settings.test"},
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("module", LIGHT)
def test_what_the_web_server_and_the_workers_import_brings_no_torch(loaded_after, module):
    assert set(loaded_after[module]).isdisjoint(HEAVY)


def test_the_web_server_has_loaded_every_page_before_it_listens(loaded_after):
    """Else the first request after a start waits for it, and so does whoever asks for /health/ then."""
    assert PAGES in loaded_after["hub_site.asgi"]
