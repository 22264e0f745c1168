"""HfApi and its friends, with the current client and with an old major: the same programs for both."""

import hashlib
import json
import sys

import pytest

from hub_site.accounts.models import Namespace
from modules_registry.models import IncomingFile, Module
from modules_registry.selectors import module_find
from tests.factories import make_base, make_module, weights_file
from tests.modules_registry.hub_api.conftest import adapter_folder
from tests.served_site import served_site

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

READING = """
import json
from huggingface_hub import HfApi
api = HfApi()
info = api.model_info("alice/french", files_metadata=True)
found = {}
found["id"], found["sha"], found["private"] = info.id, info.sha, info.private
found["files"] = {f.rfilename: (f.size, f.lfs.sha256 if f.lfs else None) for f in info.siblings}
found["base"] = info.card_data.base_model
found["tags"] = info.tags
found["listed"] = sorted(api.list_repo_files("alice/french"))
tree = api.list_repo_tree("alice/french", expand=True)
found["tree"] = sorted((f.path, f.size, f.last_commit.title) for f in tree)
found["paths"] = [f.path for f in api.get_paths_info("alice/french", ["README.md", "nothing.txt"])]
found["commits"] = [c.title for c in api.list_repo_commits("alice/french")]
refs = api.list_repo_refs("alice/french")
found["refs"] = [b.name for b in refs.branches], [t.name for t in refs.tags]
found["exists"] = [api.repo_exists("alice/french"), api.repo_exists("alice/nothing"),
                   api.file_exists("alice/french", "README.md"),
                   api.file_exists("alice/french", "adapter_model.safetensors"),
                   api.revision_exists("alice/french", "v1"), api.revision_exists("alice/french", "v7")]
found["parameters"] = api.parse_safetensors_file_metadata(
    "alice/french", "adapter_model.safetensors").parameter_count
print(json.dumps(found))
"""


@pytest.fixture(params=["current", "old"])
def python(request):
    return sys.executable if request.param == "current" else request.getfixturevalue("old_python")


@pytest.fixture
def french(site, alice, tmp_path):
    make_base(tmp_path / "base")
    return make_module(alice, "french")


def test_a_module_is_described_in_full(machine_of, python, french):
    found = json.loads(machine_of(python=python).says(READING))
    version = french.current
    sizes = {file.path: file.size_bytes for file in version.files.all()}
    assert (found["id"], found["sha"], found["private"]) == ("alice/french", version.commit_id, False)
    assert found["files"] == {
        "adapter_config.json": [sizes["adapter_config.json"], None],
        "adapter_model.safetensors": [sizes["adapter_model.safetensors"], version.weights_sha256],
    }
    assert found["base"] == "tests/tiny"
    assert {"peft", "license:mit", "base_model:adapter:tests/tiny", "french"} <= set(found["tags"])
    assert found["listed"] == ["adapter_config.json", "adapter_model.safetensors"]
    assert found["tree"] == [[path, size, "First version"] for path, size in sorted(sizes.items())]
    assert found["paths"] == []
    assert found["commits"] == ["First version"]
    assert found["refs"] == [["main"], ["v1"]]
    assert found["exists"] == [True, False, False, True, True, False]
    assert found["parameters"] == {"F32": version.parameters}


def test_lists_search_filter_sort_and_go_on_to_the_next_page(machine_of, python, french, alice, bob):
    for number in range(5):
        make_module(bob, f"task-{number}", seed=number, tags=["numbers"], licence="apache-2.0")
    Module.objects.filter(name="task-3").update(downloads=9)
    found = json.loads(
        machine_of(python=python).says(
            """
import json
from huggingface_hub import HfApi
api = HfApi()
names = lambda **asked: [m.id for m in api.list_models(**asked)]
print(json.dumps([
    sorted(names()), sorted(names(author="bob")), names(search="task-4"), names(sort="downloads", limit=1),
    sorted(names(filter="french")), len(names(filter=["numbers", "license:apache-2.0"], limit=2)),
    names(filter="base_model:adapter:other/base"), len(names(limit=4)), names(author="alice", full=True),
]))
"""
        )
    )
    tasks = [f"bob/task-{number}" for number in range(5)]
    assert found == [
        ["alice/french", *tasks],
        tasks,
        ["bob/task-4"],
        ["bob/task-3"],
        ["alice/french"],
        2,
        [],
        4,
        ["alice/french"],
    ]


def test_pages_follow_one_another(client, french, bob, monkeypatch):
    monkeypatch.setattr("modules_registry.hub_api.repo.LISTED_MAX", 2)
    for number in range(4):
        make_module(bob, f"task-{number}", seed=number)
    address, seen = "/api/models?sort=createdAt", []
    while address:
        answer = client.get(address)
        seen += [model["id"] for model in answer.json()]
        address = answer.get("Link", "").partition(">")[0].removeprefix("<").removeprefix("http://testserver")
    assert seen == [f"bob/task-{number}" for number in (3, 2, 1, 0)] + ["alice/french"]


WRITING = """
import json, sys
from huggingface_hub import HfApi, CommitOperationAdd, CommitOperationDelete
from huggingface_hub.utils import HfHubHTTPError, RepositoryNotFoundError, RevisionNotFoundError
folder, other = {folder!r}, {other!r}
api = HfApi()
said = {{}}
who = api.whoami()
said["who"] = who["name"], who["auth"]["accessToken"]["role"]
api.create_repo("alice/german", private=True)
api.create_repo("alice/german", exist_ok=True)
try:
    api.create_repo("alice/german")
except HfHubHTTPError as error:
    said["again"] = error.response.status_code
said["first"] = api.upload_folder(repo_id="alice/german", folder_path=folder, commit_message="One").oid
card = api.upload_file(repo_id="alice/german", path_or_fileobj=b"# Bytes", path_in_repo="README.md")
said["second"] = card.oid
operations = [CommitOperationDelete("README.md"),
              CommitOperationAdd("adapter_model.safetensors", other + "/adapter_model.safetensors")]
said["third"] = api.create_commit("alice/german", operations, commit_message="Two at once").oid
api.create_tag("alice/german", tag="best", tag_message="The best", revision=said["first"])
api.create_branch("alice/german", branch="side", revision="v1")
refs = api.list_repo_refs("alice/german")
said["refs"] = sorted(b.name for b in refs.branches), sorted(t.name for t in refs.tags)
said["auth"] = api.auth_check("alice/german")
getattr(api, "update_repo_settings", api.__class__)("alice/german", private=False)
api.delete_tag("alice/german", tag="best")
api.delete_branch("alice/german", branch="side")
api.move_repo("alice/german", "alice/deutsch")
said["moved"] = api.model_info("alice/german").id
try:
    api.create_commit("alice/deutsch", [CommitOperationDelete("nothing.txt")], commit_message="x")
except HfHubHTTPError as error:
    said["missing"] = str(error)
try:
    api.upload_file(repo_id="alice/deutsch", path_or_fileobj=b"x", path_in_repo="README.md",
                    parent_commit=said["first"])
except HfHubHTTPError as error:
    said["late"] = error.response.status_code
print(json.dumps(said))
"""


def test_a_module_is_made_changed_and_renamed(site, machine_of, python, alice, folder, tmp_path):
    make_base(tmp_path / "base")
    other = adapter_folder(tmp_path / "other", seed=3)
    laptop = machine_of(alice, python=python)
    said = json.loads(laptop.says(WRITING.format(folder=str(folder), other=str(other))))
    module = module_find("alice", "deutsch")
    commits = [version.commit_id for version in module.versions.order_by("number") if version.number]
    assert said["who"] == ["alice", "write"]
    assert said["again"] == 409
    assert [said["first"], said["second"], said["third"]] == commits
    assert said["refs"] == [["main", "side"], ["best", "v1", "v2", "v3"]]
    assert said["moved"] == "alice/deutsch"
    assert "A file with this name doesn't exist" in said["missing"]
    assert said["late"] == 412
    assert [file.path for file in module.current.files.all()] == [
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert not module.private


def test_clients_without_xet_send_large_files_ahead(site, machine_of, python, alice, tmp_path):
    """What the site does not want within a commit comes to a signed address, and only once."""
    folder = adapter_folder(tmp_path / "large", r=8)
    weights = weights_file(rank=8, width=20_000).read()
    (folder / "adapter_model.safetensors").write_bytes(weights)
    with served_site(site.data, HUB_REGULAR_UPLOAD_MAX_MB="1") as strict:
        laptop = machine_of(alice, python=python)
        laptop.environment |= {"HF_ENDPOINT": strict.address, "HF_HUB_DISABLE_XET": "1"}
        upload = (
            "from huggingface_hub import HfApi; api = HfApi(); "
            "api.create_repo('alice/large', exist_ok=True); "
            f"api.upload_folder(repo_id='alice/large', folder_path={str(folder)!r})"
        )
        laptop.says(upload)
        first = module_find("alice", "large").current
        laptop.says(upload)
    assert first.weights_sha256 == hashlib.sha256(weights).hexdigest()
    assert module_find("alice", "large").current == first
    assert not IncomingFile.objects.exists()


def test_a_snapshot_is_whole_and_pinned(machine_of, python, french):
    laptop = machine_of(python=python)
    path = laptop.says(
        "from huggingface_hub import snapshot_download; print(snapshot_download('alice/french'))"
    )
    assert path.endswith(french.current.commit_id)
    path = laptop.says(
        "from huggingface_hub import snapshot_download; print(snapshot_download('tests/tiny'))"
    )
    assert path.split("/")[-3:-2] == ["models--tests--tiny"]


def test_an_organisation_s_people_upload_to_it(site, machine_of, python, alice, bob, charlie, folder):
    lab = Namespace.objects.create(name="lab", key="lab", kind=Namespace.Kind.ORGANISATION)
    lab.memberships.create(user=bob, role="write")
    lab.memberships.create(user=charlie, role="read")
    code = (
        f"from huggingface_hub import HfApi; HfApi().create_repo('lab/french'); "
        f"HfApi().upload_folder(repo_id='lab/french', folder_path={str(folder)!r})"
    )
    reader = machine_of(charlie, python=python).python_code(code)
    assert "You cannot write to" in reader.stderr
    machine_of(bob, python=python).says(code)
    assert module_find("lab", "french").current.author == bob


TAKEN = """
import json
from huggingface_hub import HfApi
from huggingface_hub.utils import HfHubHTTPError
api, said = HfApi(), {}

def refused(name, call, *words, **more):
    try:
        call(*words, **more)
    except HfHubHTTPError as error:
        said[name] = [error.response.status_code, str(error)]

api.create_repo("alice/gone")
api.delete_repo("alice/gone")
api.create_repo("alice/gone")  # a name that its owner gave up is theirs to use again
refused("base", api.create_repo, "lab/base", exist_ok=True)
api.create_repo("alice/german")
api.create_tag("alice/german", tag="best", exist_ok=True)
api.create_tag("alice/german", tag="best", exist_ok=True)
api.create_tag("alice/german", tag="v3")  # a tag wins over the version of that number
said["tags"] = sorted(tag.name for tag in api.list_repo_refs("alice/german").tags)
refused("branch", api.create_branch, "alice/german", branch="v3", exist_ok=True)
refused("other", api.create_branch, "alice/german", branch="best", exist_ok=True)
print(json.dumps(said))
"""


def test_a_name_that_is_taken_otherwise_is_never_taken_for_success(site, machine_of, python, alice, tmp_path):
    lab = Namespace.objects.create(name="lab", key="lab", kind=Namespace.Kind.ORGANISATION)
    lab.memberships.create(user=alice, role="write")
    make_base(tmp_path / "base", name="lab/base")
    said = json.loads(machine_of(alice, python=python).says(TAKEN))
    assert said.pop("tags") == ["best", "v3"]
    assert {name: status for name, (status, _) in said.items()} == dict.fromkeys(
        ("base", "branch", "other"), 400
    )
    for name, words in {
        "base": "is a base model of the library",
        "branch": "is kept for the module's version",
        "other": "exists already",
    }.items():
        assert words in said[name][1]


def test_what_is_no_model_is_not_found(machine_of, python, french):
    code = """
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.utils import RepositoryNotFoundError
try:
    hf_hub_download("alice/french", "README.md", repo_type="dataset")
except RepositoryNotFoundError as error:
    print("no datasets" in str(error), HfApi().repo_exists("alice/french", repo_type="dataset"))
"""
    assert machine_of(python=python).says(code) == "True False"
