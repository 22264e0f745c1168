"""Two instances and a person's unmodified clients: uploaded here, stored there, evicted, and still used."""

import hashlib
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import HfApi

from tests.faulty_hub import faulty_hub
from tests.second_site import run_inside, second_site, site_of_its_own

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

NAME = "past-tense"
# What the transfer worker and the hourly sweep do.
STORE_AND_EVICT = """
import django; django.setup()
from modules_registry import maintenance
from modules_registry.mirror import runner
from modules_registry.models import HubRepository, Version
runner.repository_sync(HubRepository.objects.get().pk)
version = Version.objects.get(number=1)
assert version.hub_commit_id, version.module.hub_repository.error_message
assert maintenance.evict_one(version.weights_sha256)
print(version.module.hub_repository.repo_id, version.hub_commit_id)
"""
IS_HERE = """
import django; django.setup()
from modules_registry.models import Version
from modules_registry.blobs import store
print(store().exists(Version.objects.get(number=1).weights_sha256))
"""
USE = """
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM
model = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained({base!r}), {name!r})
print(sum(float(value.abs().sum()) for key, value in model.state_dict().items() if "lora_B" in key) > 0)
"""


@pytest.fixture
def outside(django_db_setup, django_db_blocker):
    """The database server, but no transaction: databases are made in none."""
    with django_db_blocker.unblock():
        yield


@pytest.fixture
def bundle(settings) -> Path:
    return settings.HUB_DEMO_BUNDLE


def test_what_only_the_hub_has_is_downloaded_and_loaded_as_if_it_were_here(
    outside, bundle, tmp_path, worker_id
):
    folder = shutil.copytree(bundle / "modules" / "animal", tmp_path / "adapter")
    with second_site(tmp_path / "there", f"there_{worker_id}") as there:
        hub = {f"HUB_STORE_{name.upper()}": value for name, value in there.remote.items()}
        with site_of_its_own(tmp_path / "here", f"here_{worker_id}", "alice", HUB_STORE="hub", **hub) as (
            here,
            token,
        ):
            alice = here.client(tmp_path / "laptop", token=token)
            stranger = here.client(tmp_path / "elsewhere")
            uploaded = alice.hf("upload", f"alice/{NAME}", str(folder), ".")
            assert uploaded.returncode == 0, uploaded.stdout + uploaded.stderr
            repo_id, commit_id = run_inside(here, STORE_AND_EVICT).split()
            assert repo_id.startswith(f"{there.namespace}/alice.{NAME}-")
            assert len(commit_id) == 40

            fetched = stranger.hf("download", f"alice/{NAME}", "--local-dir", str(tmp_path / "fetched"))
            assert fetched.returncode == 0, fetched.stdout + fetched.stderr
            assert sha256_in(tmp_path / "fetched") == sha256_in(folder)
            assert stranger.says(USE.format(base=str(bundle / "base"), name=f"alice/{NAME}")) == "True"
            assert run_inside(here, IS_HERE).strip() == "False"  # the Hub gave the bytes, not this site


UPLOAD = """
import django, sys; django.setup()
from pathlib import Path
from hub_site.accounts.models import User
from modules_registry.services import module_publish
folder, alice = Path(sys.argv[1]), User.objects.get()
module_publish(
    author=alice, namespace=alice.namespace, name="animal",
    config_file=(folder / "adapter_config.json").open("rb"),
    weights_file=(folder / "adapter_model.safetensors").open("rb"),
)
"""
WORK = """
import django; django.setup()
from modules_registry.mirror import runner
from modules_registry.models import HubRepository
runner.repository_sync(HubRepository.objects.get().pk)
"""
# The lease of the killed worker runs out; the sweeper finds it, and another worker comes.
ANOTHER_WORKER = """
import django; django.setup()
from datetime import timedelta
from django.utils import timezone
from modules_registry.mirror import runner
from modules_registry.models import HubRepository, Version
assert HubRepository.objects.get().status == "running"
HubRepository.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
(repository_id,) = runner.sweep_repositories()
runner.repository_sync(repository_id)
repository = HubRepository.objects.get()
print(repository.status, repository.repo_id, Version.objects.get().hub_commit_id)
"""


@pytest.mark.parametrize("part", ["/preupload/", "/commit/"])
def test_a_worker_killed_in_the_middle_of_storing_leaves_one_commit(
    outside, bundle, tmp_path, worker_id, part
):
    """kill -9 while the Hub's answer is held back: before the commit, and when it has been made already."""
    reached, over = threading.Event(), threading.Event()

    def answered_too_late(handler):
        handler.honest()
        reached.set()
        over.wait(60)
        handler.close_connection = True

    with (
        second_site(tmp_path / "there", f"there_{worker_id}") as there,
        faulty_hub(there.endpoint) as hub,
        site_of_its_own(
            tmp_path / "here",
            f"here_{worker_id}",
            "alice",
            HUB_STORE="hub",
            HUB_STORE_ENDPOINT=hub.endpoint,
            HUB_STORE_TOKEN=there.token,
            HUB_STORE_NAMESPACE=there.namespace,
        ) as (here, _),
    ):
        run_inside(here, UPLOAD, str(bundle / "modules" / "animal"))
        hub.spoil("POST", part, answered_too_late)
        worker = subprocess.Popen([sys.executable, "-c", WORK], env=here.environment)
        assert reached.wait(60)
        worker.kill()
        assert worker.wait(10) == -signal.SIGKILL
        over.set()
        status, repo_id, commit_id = run_inside(here, ANOTHER_WORKER).split()
        remote = HfApi(there.endpoint, token=there.token)
        newest, first = remote.list_repo_commits(repo_id)
    assert (status, newest.commit_id, first.title) == ("done", commit_id, "Initial commit")
    assert len([asked for asked in hub.asked if asked.startswith("POST") and "/commit/" in asked]) == 1


def sha256_in(folder: Path) -> str:
    return hashlib.sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest()
