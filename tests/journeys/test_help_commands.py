"""The commands of the help, as they stand there, against a served site with the demo library."""

import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
from django.conf import settings

from hub_site.accounts.services import user_create
from hub_site.pages.help_pages import EXAMPLE_ADDRESS, PAGES
from modules_registry.base_models import base_model_add
from modules_registry.models import Module
from modules_registry.services import module_publish

pytestmark = pytest.mark.slow
BUNDLE = settings.BASE_DIR / "demo/bundle"
FENCE = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WITH_COMMANDS = ["getting-started", "authors", "hub"]
INSTALLED = "pip install peft transformers\n"  # as they are where the tests run


def commands_of(slug):
    """The blocks of a page that can be run, in order: language and text."""
    return FENCE.findall((settings.BASE_DIR / "docs" / PAGES[slug].source).read_text(encoding="utf-8"))


@pytest.fixture
def demo_library(site, settings):
    base_model_add(folder=BUNDLE / "base", name="demo/tiny-t5")
    owner, folder = user_create(username="demo"), BUNDLE / "modules/fruit"
    with (
        (folder / "adapter_config.json").open("rb") as config,
        (folder / "adapter_model.safetensors").open("rb") as weights,
    ):
        module_publish(
            author=owner, namespace=owner.namespace, name="fruit", config_file=config, weights_file=weights
        )


@pytest.fixture
def machine(site, demo_library, tmp_path):
    """A person's machine: a checkout of the site, a trained adapter, and the download of a composition."""
    machine = site.client(tmp_path / "home", token="")
    machine.home.mkdir()
    (machine.home / "demo").symlink_to(settings.BASE_DIR / "demo")
    shutil.copytree(BUNDLE / "modules/upper", machine.home / "my-adapter")
    with zipfile.ZipFile(machine.home / "animal-spanish.zip", "w") as archive:
        for file in (BUNDLE / "modules/animal").iterdir():
            archive.write(file, f"animal-spanish/{file.name}")
    return machine


def run(machine, language, text, environment):
    """Run one block, as a terminal does: what it exports holds for the next one."""
    if language == "python":
        return subprocess.run(
            [sys.executable, "-c", text],
            cwd=machine.home,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
    script = f"set -eu\n{text}\n"
    done = subprocess.run(
        ["bash", "-c", script], cwd=machine.home, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode == 0 and (found := re.search(r"^export HF_ENDPOINT=(.+)$", text, re.MULTILINE)):
        environment["HF_ENDPOINT"] = found[1]
    return done


def test_no_page_has_commands_that_nothing_runs():
    own = [slug for slug, page in PAGES.items() if page.source.startswith("help/")]
    assert [slug for slug in own if commands_of(slug)] == WITH_COMMANDS


@pytest.mark.timeout(300)
@pytest.mark.parametrize("slug", WITH_COMMANDS)
def test_every_command_of_a_page_works_as_it_stands(slug, machine, site, alice, token_of):
    token = token_of(alice)
    environment = machine.environment | {"PYTHONPATH": str(settings.BASE_DIR)}
    environment["PATH"] = f"{os.path.dirname(sys.executable)}:{environment['PATH']}"  # noqa: PTH120
    environment.pop("HF_ENDPOINT")  # the page says how to set it
    for language, text in commands_of(slug):
        theirs = text.replace(EXAMPLE_ADDRESS, site.address).replace("lh_…", token).replace(INSTALLED, "")
        done = run(machine, language, theirs.replace("your-name", "alice"), environment)
        assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    if slug != "getting-started":
        assert Module.objects.filter(namespace__name="alice", name="my-adapter", draft=None).exists()
