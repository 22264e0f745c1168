"""The current Hub client, as it comes, against this site: the commands that people type."""

import hashlib
import json

import pytest

from modules_registry.models import Module
from modules_registry.selectors import module_find
from tests.modules_registry.hub_api.conftest import adapter_folder

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]


def test_a_person_signs_in_uploads_and_a_stranger_downloads(site, alice, machine_of, token_of, folder):
    laptop = machine_of(alice)
    del laptop.environment["HF_TOKEN"]
    signed_in = laptop.hf("auth", "login", "--token", token_of(alice))
    assert signed_in.returncode == 0, signed_in.stderr
    assert "alice" in laptop.hf("auth", "whoami").stdout

    uploaded = laptop.hf("upload", "alice/french", str(folder))
    assert uploaded.returncode == 0, uploaded.stderr
    module = module_find("alice", "french")
    assert (module.current.number, module.current.rank, module.licence) == (1, 2, "mit")
    assert [tag.name for tag in module.tags.all()] == ["french"]

    elsewhere = machine_of()
    downloaded = elsewhere.hf("download", "alice/french", "--local-dir", "here")
    assert downloaded.returncode == 0, downloaded.stderr
    weights = (elsewhere.home / "here" / "adapter_model.safetensors").read_bytes()
    assert weights == (folder / "adapter_model.safetensors").read_bytes()
    assert Module.objects.get().downloads == 1


def test_the_same_folder_again_makes_no_new_version(site, alice, machine_of, folder):
    laptop = machine_of(alice)
    laptop.hf("upload", "alice/french", str(folder))
    first = module_find("alice", "french").current
    again = laptop.hf("upload", "alice/french", str(folder))
    assert again.returncode == 0, again.stderr
    assert "No files have been modified" in again.stdout + again.stderr
    assert module_find("alice", "french").current == first


def test_one_file_and_a_branch_can_be_uploaded(site, alice, machine_of, folder, tmp_path):
    laptop = machine_of(alice)
    laptop.hf("upload", "alice/french", str(folder))
    card = tmp_path / "README.md"
    card.write_text("# Another card\n", encoding="utf-8")
    one = laptop.hf("upload", "alice/french", str(card), "README.md", "--commit-message", "Say more")
    assert one.returncode == 0, one.stderr
    assert (
        module_find("alice", "french").current.number,
        module_find("alice", "french").current.message,
    ) == (
        2,
        "Say more",
    )

    other = adapter_folder(tmp_path / "other", seed=5)
    branched = laptop.hf("upload", "alice/french", str(other), "--revision", "feat/longer")
    assert branched.returncode == 0, branched.stderr
    assert module_find("alice", "french").current.number == 2
    got = machine_of().hf("download", "alice/french", "--revision", "feat/longer", "--local-dir", "here")
    assert got.returncode == 0, got.stderr
    sha256 = hashlib.sha256((other / "adapter_model.safetensors").read_bytes()).hexdigest()
    branch = module_find("alice", "french").refs.get(name="feat/longer")
    assert branch.version.weights_sha256 == sha256


def test_repositories_are_handled_from_the_command_line(site, alice, machine_of, folder):
    laptop = machine_of(alice)

    def hf(*words):
        done = laptop.hf(*words)
        assert done.returncode == 0, f"{words}: {done.stdout}\n{done.stderr}"
        return done.stdout

    hf("repos", "create", "alice/german")
    assert module_find("alice", "german") is None
    assert module_find("alice", "german", alice).current is None
    hf("upload", "alice/french", str(folder))
    assert "alice/french" in hf("models", "ls", "--author", "alice", "--quiet")
    assert "google" not in hf("models", "info", "alice/french")
    assert "alice/german" in hf("repos", "ls", "--search", "german", "--quiet")
    assert [each["visibility"] for each in json.loads(hf("repos", "ls", "--format", "json"))] == [
        "public", "private",
    ]  # fmt: skip
    hf("repos", "settings", "alice/french", "--private")
    assert module_find("alice", "french") is None
    hf("repos", "settings", "alice/french", "--public")
    assert module_find("alice", "french") is not None
    hf("repos", "tag", "create", "alice/french", "best")
    assert "best" in hf("repos", "tag", "list", "alice/french")
    hf("repos", "tag", "delete", "alice/french", "best", "--yes")
    hf("repos", "branch", "create", "alice/french", "trial")
    hf("repos", "branch", "delete", "alice/french", "trial")
    hf("repos", "move", "alice/french", "alice/francais")
    assert module_find("alice", "french").full_name == "alice/francais"
    hf("repos", "delete", "alice/francais", "--yes")
    assert module_find("alice", "francais") is None
