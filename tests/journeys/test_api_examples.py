"""The programs of docs/api.md, as they stand there, against a served site with a worker."""

import re
import subprocess
import sys
import threading
import zipfile

import pytest
from django.conf import settings
from django.db import connection

from composer.models import Composition
from composer.run import runner
from hub_site.accounts.services import user_create
from hub_site.jobs.models import Status
from modules_registry.base_models import base_model_add
from modules_registry.models import Module
from modules_registry.services import module_publish

pytestmark = pytest.mark.slow
BUNDLE = settings.BASE_DIR / "demo/bundle"


def blocks(kind):
    text = (settings.BASE_DIR / "docs/api.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


@pytest.fixture
def demo_library(site, settings):
    """The demo's base, and a module beside the one that the programs upload."""
    settings.HUB_THREADS = 1
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
def worker(demo_library):
    """Something that runs what is queued, until the test ends."""
    ends = threading.Event()

    def work():
        while not ends.wait(0.2):
            for pk in list(Composition.objects.filter(status=Status.QUEUED).values_list("pk", flat=True)):
                runner.composition_run(pk)
        connection.close()

    runner.launcher.cache_clear()
    thread = threading.Thread(target=work)
    thread.start()
    yield
    ends.set()
    thread.join()
    runner.launcher().stop()
    runner.launcher.cache_clear()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", ["sh", "python"])
def test_upload_find_compose_wait_and_download_as_documented(kind, worker, site, alice, token_of, tmp_path):
    machine = site.client(tmp_path / "home", token="")
    machine.home.mkdir()
    (machine.home / "my-adapter").symlink_to(BUNDLE / "modules/upper")
    (machine.home / "task.json").write_text(blocks("json")[0], encoding="utf-8")
    [program] = blocks(kind)
    command = ["sh", "-eu", "-c", program] if kind == "sh" else [sys.executable, "-c", program]
    environment = machine.environment | {"HUB_SITE": site.address, "HUB_TOKEN": token_of(alice)}
    ran = subprocess.run(
        command, cwd=machine.home, env=environment, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, f"{ran.stdout}\n{ran.stderr}"
    assert Module.objects.get(name="capitals").full_name == "alice/capitals"
    assert ran.stdout.count("alice/capitals") >= (2 if kind == "sh" else 1)  # curl prints the upload too
    assert Composition.objects.get().status == Status.DONE
    with zipfile.ZipFile(machine.home / "adapter.zip") as archive:
        assert any(name.endswith("adapter_model.safetensors") for name in archive.namelist())
    assert (machine.home / "examples.jsonl").read_text().count("\n") == 5
