"""With a Hub behind the site: every version is stored there, and this disk becomes a cache."""

import hashlib
from datetime import timedelta
from urllib.request import urlopen
from uuid import uuid4

import pytest
import requests
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone
from huggingface_hub import HfApi

from hub_site.common.site_faults import SENTENCES
from hub_site.jobs import leases, work
from hub_site.jobs.models import PUT_OFF_MAX, Status
from modules_registry import blobs as modules_registry_blobs
from modules_registry import maintenance
from modules_registry.blobs import store
from modules_registry.core.errors import CARD_FILE, WEIGHTS_FILE
from modules_registry.holds import module_quarantine, module_release, module_takedown
from modules_registry.mirror import runner, selectors
from modules_registry.models import HubRepository, Module, Version, VersionFile
from modules_registry.repositories import repository_hide
from modules_registry.services import module_delete, module_edit, version_add
from modules_registry.tasks import sync_repository
from tests import faulty_hub as faults
from tests.factories import adapter_files, make_module
from tests.faulty_hub import faulty_hub
from tests.second_site import second_site

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def behind(django_db_setup, django_db_blocker, tmp_path_factory, worker_id):
    with (
        django_db_blocker.unblock(),
        second_site(tmp_path_factory.mktemp("behind"), f"behind_{worker_id}") as site,
    ):
        yield site


@pytest.fixture
def hub(behind):
    """The other instance, with somebody in front of it who can spoil its answers."""
    with faulty_hub(behind.endpoint) as hub:
        yield hub


@pytest.fixture
def hub_mode(settings, behind, hub):
    settings.HUB_STORE = "hub"
    settings.HUB_STORE_REMOTE = behind.remote | {"endpoint": hub.endpoint}
    return settings


@pytest.fixture
def name() -> str:
    """Nobody's so far: the other instance keeps what earlier tests gave it."""
    return f"french-{uuid4().hex[:8]}"


@pytest.fixture
def module(hub_mode, base, alice, name) -> Module:
    return make_module(alice, name)


@pytest.fixture
def remote(behind) -> HfApi:
    """What anybody with the token sees on the Hub."""
    return HfApi(behind.endpoint, token=behind.token)


def sync(module: Module) -> HubRepository:
    """What a worker does when the module is queued, now."""
    repository = HubRepository.objects.get(module=module)
    HubRepository.objects.filter(pk=repository.pk).update(due_at=timezone.now())
    runner.repository_sync(repository.pk)
    repository.refresh_from_db()
    return repository


def published(module: Module) -> Version:
    repository = sync(module)
    assert repository.status == Status.DONE, repository.error_message
    return module.versions.order_by("-number").first()


def sha256s(version: Version) -> dict[str, str]:
    return dict(version.files.values_list("path", "sha256"))


def evict_weights(version: Version) -> str:
    sha256 = sha256s(version)[WEIGHTS_FILE]
    assert maintenance.evict_one(sha256)
    assert not store().exists(sha256)
    return sha256


def address(version: Version, path: str = WEIGHTS_FILE) -> str:
    return f"{version.module.get_absolute_url()}/resolve/{version.commit_id}/{path}"


# Publishing ------------------------------------------------------


def test_a_new_module_rings_for_its_job_once_it_is_committed(
    hub_mode, base, alice, name, monkeypatch, django_capture_on_commit_callbacks
):
    queued: list[str] = []
    monkeypatch.setattr(sync_repository, "delay", queued.append)
    with django_capture_on_commit_callbacks(execute=True):
        module = make_module(alice, name)
        assert queued == []
    assert queued == [str(module.hub_repository.pk)]


def test_a_version_is_stored_on_the_hub_byte_for_byte(module, remote, tmp_path):
    version = published(module)
    repo_id = module.hub_repository.repo_id
    assert remote.model_info(repo_id).sha == version.hub_commit_id
    for path, sha256 in sha256s(version).items():
        fetched = remote.hf_hub_download(repo_id, path, revision=version.hub_commit_id, local_dir=tmp_path)
        assert hashlib.sha256((tmp_path / path).read_bytes()).hexdigest() == sha256, fetched


def test_each_version_has_its_own_commit_in_order(module, alice, remote):
    version_add(author=alice, module=module, **adapter_files(seed=1), message="Train for longer")
    module_edit(editor=alice, module=module, card="# A new card\n")
    published(module)
    versions = list(module.versions.order_by("number"))
    commits = [commit.commit_id for commit in remote.list_repo_commits(module.hub_repository.repo_id)]
    assert [version.hub_commit_id for version in reversed(versions)] == commits[: len(versions)]
    at_first = remote.list_repo_files(module.hub_repository.repo_id, revision=versions[0].hub_commit_id)
    assert set(sha256s(versions[0])) <= set(at_first)


def test_doing_it_again_after_a_crash_sends_nothing_twice(module, hub):
    before = published(module).hub_commit_id
    Version.objects.update(hub_commit_id="")  # as if the worker died before it wrote the row
    HubRepository.objects.update(status=Status.QUEUED, is_there=False)
    hub.asked.clear()
    assert published(module).hub_commit_id == before
    assert not [asked for asked in hub.asked if "/commit/" in asked]


def test_a_repository_is_as_private_as_its_module(hub_mode, module, alice, remote):
    version = published(module)
    repo_id = module.hub_repository.repo_id
    assert not remote.model_info(repo_id).private
    repository_hide(editor=alice, module=module, private=True)
    assert selectors.file_address(version, WEIGHTS_FILE) is None  # from this moment on
    published(module)
    assert remote.model_info(repo_id).private
    repository_hide(editor=alice, module=module, private=False)
    assert selectors.file_address(version, WEIGHTS_FILE) is None  # the Hub does not know yet
    published(module)
    assert not remote.model_info(repo_id).private


def test_a_module_that_is_private_from_the_start_is_never_shown_there(hub_mode, module, remote):
    Module.objects.filter(pk=module.pk).update(private=True)
    HubRepository.objects.update(is_private=True)
    published(module)
    repo_id = module.hub_repository.repo_id
    assert remote.model_info(repo_id).private
    assert not HfApi(remote.endpoint, token=False).repo_exists(repo_id)


def test_a_deleted_module_leaves_the_hub(module, alice, remote):
    published(module)
    module_delete(editor=alice, module=module)
    repository = sync(module)
    assert (repository.status, repository.is_there) == (Status.DONE, False)
    assert not remote.repo_exists(repository.repo_id)


def test_the_sweeper_finds_what_nobody_rang_for(hub_mode, settings, base, alice, name):
    settings.HUB_STORE = "disk"
    module = make_module(alice, name)  # from before there was a Hub
    settings.HUB_STORE = "hub"
    (repository_id,) = runner.sweep_repositories()
    runner.repository_sync(repository_id)
    assert module.versions.get().hub_commit_id
    assert runner.sweep_repositories() == []


# When the Hub is in trouble ------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "method", "part"),
    [
        (faults.status(429, Retry_After="600"), "POST", "/api/repos/create"),
        (faults.status(500), "POST", "/preupload/"),
        (faults.status(503), "POST", "/commit/"),
        (faults.reset, "GET", "/api/models/"),
    ],
)
def test_what_passes_is_tried_again_later_and_then_succeeds(module, hub, client, fault, method, part):
    hub.spoil(method, part, fault, times=9)
    repository = sync(module)
    assert (repository.status, repository.error_code) == (Status.QUEUED, "hub_unavailable")
    assert repository.due_at > timezone.now()
    assert client.get(address(module.current)).status_code == 200  # served from here meanwhile
    hub.faults.clear()
    assert published(module).hub_commit_id


def test_the_hub_s_wait_is_kept_and_each_wait_is_longer(module, hub):
    hub.spoil("POST", "/api/repos/create", faults.status(429, Retry_After="600"), times=1)
    hub.spoil("POST", "/api/repos/create", faults.status(503), times=2)
    waits = [sync(module).due_at - timezone.now() for _ in range(3)]
    assert timedelta(minutes=9) < waits[0] <= timedelta(minutes=10)
    assert waits[1] < waits[2]
    hub.asked.clear()
    runner.repository_sync(module.hub_repository.pk)  # somebody rings too early
    assert hub.asked == []


def test_a_new_version_does_not_shorten_the_wait(module, hub, alice):
    hub.spoil("POST", "/api/repos/create", faults.status(429, Retry_After="600"))
    due_at = sync(module).due_at
    version_add(author=alice, module=module, **adapter_files(seed=1))
    assert HubRepository.objects.get().due_at == due_at


def test_a_waiting_repository_is_rung_for_when_it_is_due(module, hub):
    hub.spoil("POST", "/api/repos/create", faults.status(503))
    repository = sync(module)
    assert runner.sweep_repositories() == []
    HubRepository.objects.update(updated_at=timezone.now() - leases.REQUEUE_AFTER, due_at=timezone.now())
    assert runner.sweep_repositories() == [repository.pk]


def test_a_refused_token_is_told_and_asked_again_only_by_staff(hub_mode, module, client, monkeypatch):
    good = hub_mode.HUB_STORE_REMOTE
    hub_mode.HUB_STORE_REMOTE = good | {"token": "hf_wrong"}
    repository = sync(module)
    assert repository.status == Status.FAILED
    assert "HUB_STORE_TOKEN" in repository.error_message
    assert "HUB_STORE_TOKEN" in client.get(module.get_absolute_url()).content.decode()
    assert runner.sweep_repositories() == []
    hub_mode.HUB_STORE_REMOTE = good
    queued: list[str] = []
    monkeypatch.setattr(sync_repository, "delay", queued.append)
    call_command("publish_versions")
    assert queued == [str(repository.pk)]
    assert published(module).hub_commit_id


def test_a_hub_that_keeps_other_bytes_is_not_believed(module, hub):
    def lie(handler):
        handler.pass_on(lambda content: content.replace(weights.encode(), b"0" * 64))

    weights = sha256s(module.current)[WEIGHTS_FILE]
    hub.spoil("GET", "/tree/", lie, times=9)
    repository = sync(module)
    assert (repository.status, repository.error_code) == (Status.FAILED, "hub_altered")
    assert module.versions.get().hub_commit_id == ""


def test_a_repository_that_vanished_is_told_and_served_from_here_again(module, alice, remote, client):
    published(module)
    remote.delete_repo(module.hub_repository.repo_id)
    version_add(author=alice, module=module, **adapter_files(seed=1))
    repository = sync(module)
    assert (repository.status, repository.error_code) == (Status.FAILED, "hub_gone")
    assert "no longer on the Hub" in repository.error_message
    assert all(client.get(address(version)).status_code == 200 for version in module.versions.all())


@pytest.fixture
def renewed(remote, client):
    """Whether a module, once its job has run, is on the Hub again and handed out from there."""

    def check(module: Module) -> None:
        version = published(module)
        repo_id = HubRepository.objects.get(module=module).repo_id  # perhaps another name than before
        assert remote.model_info(repo_id).sha == version.hub_commit_id
        sent_on = client.get(address(version))
        assert sent_on.status_code == 302
        assert urlopen(sent_on["Location"]).status == 200

    return check


def test_a_repository_that_vanishes_is_noticed_without_any_change_here(module, remote, client, renewed):
    version = published(module)
    assert runner.look_for_repositories() == []
    remote.delete_repo(module.hub_repository.repo_id)
    assert runner.look_for_repositories() == [module.hub_repository.pk]
    repository = sync(module)
    assert (repository.status, repository.error_code) == (Status.FAILED, "hub_gone")
    page = client.get(module.get_absolute_url()).content.decode()
    assert "no longer on the Hub" in page
    assert client.get(address(version)).status_code == 200  # from here
    assert runner.look_for_repositories() == runner.sweep_repositories() == []  # until staff ask
    call_command("publish_versions")
    renewed(module)


def test_staff_can_have_a_vanished_repository_made_anew_at_once(module, remote, renewed):
    published(module)
    remote.delete_repo(module.hub_repository.repo_id)
    call_command("publish_versions", module.full_name)
    renewed(module)


def test_what_only_a_vanished_repository_had_is_told_and_keeps_nothing_else_waiting(
    module, alice, remote, renewed, capsys
):
    sha256 = evict_weights(published(module))
    remote.delete_repo(module.hub_repository.repo_id)
    version_add(author=alice, module=module, **adapter_files(seed=1))
    call_command("publish_versions", module.full_name)
    repository = sync(module)
    assert (repository.status, repository.error_code) == (Status.FAILED, "file_missing")
    lost, there = module.versions.order_by("number")
    assert (lost.hub_commit_id, remote.model_info(repository.repo_id).sha) == ("", there.hub_commit_id)
    with pytest.raises(CommandError, match="Findings left: 1"):
        call_command("verify_storage")
    assert sha256 in capsys.readouterr().out


def test_a_repository_that_was_only_out_of_sight_is_as_it_was(module, hub, renewed):
    version = published(module)
    evict_weights(version)
    hub.spoil("GET", "/api/models", faults.status(404, X_Error_Code="RepoNotFound"), times=9)
    HubRepository.objects.update(status=Status.QUEUED)
    assert sync(module).error_code == "hub_gone"
    hub.faults.clear()
    call_command("publish_versions")
    renewed(module)
    assert module.versions.get().hub_commit_id == version.hub_commit_id


def test_a_repository_that_somebody_hid_or_showed_there_is_put_right(module, remote):
    published(module)
    remote.update_repo_settings(module.hub_repository.repo_id, private=True)
    assert runner.look_for_repositories() == [module.hub_repository.pk]
    published(module)
    assert not remote.model_info(module.hub_repository.repo_id).private


def test_a_hub_that_does_not_answer_has_not_lost_anything(module, hub):
    published(module)
    hub.spoil("GET", "/api/models", faults.status(503), times=9)
    assert runner.look_for_repositories() == []
    assert HubRepository.objects.get().is_there


def test_a_repository_that_was_renamed_is_followed(module, alice, remote, client, behind):
    first = published(module)
    moved = f"{behind.namespace}/moved-{uuid4().hex[:8]}"
    remote.move_repo(module.hub_repository.repo_id, moved)
    version_add(author=alice, module=module, **adapter_files(seed=1))
    published(module)
    assert HubRepository.objects.get().repo_id == moved
    assert f"/{moved}/resolve/" in client.get(address(first))["Location"]


def test_a_repository_that_somebody_else_owns_now_is_not_written_to(module, alice, hub):
    def moved_away(handler):
        handler.pass_on(lambda content: content.replace(b'"id": "behind/', b'"id": "mallory/'))

    published(module)
    version_add(author=alice, module=module, **adapter_files(seed=1))
    hub.spoil("GET", "/api/models/", moved_away, times=9)
    hub.asked.clear()
    repository = sync(module)
    assert repository.status == Status.FAILED
    assert "outside of this site's namespace" in repository.error_message
    assert not [asked for asked in hub.asked if "/commit/" in asked]


def test_a_worker_that_lost_its_lease_writes_nothing(module, monkeypatch):
    repository = HubRepository.objects.get()
    claimed = leases.claim(HubRepository, repository.pk, worker="slow")
    HubRepository.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    runner.sweep_repositories()
    leases.claim(HubRepository, repository.pk, worker="other")
    with pytest.raises(leases.LeaseLost):
        work.attempt(runner.REPOSITORIES, claimed, runner.sync)
    assert module.versions.get().hub_commit_id == ""


def test_work_that_comes_while_a_job_runs_is_not_missed(module, alice):
    repository = leases.claim(HubRepository, HubRepository.objects.get().pk, worker="w")
    hub_store = modules_registry_blobs.remote_store()
    runner.publish(hub_store, repository, module.versions.get())
    version_add(author=alice, module=module, **adapter_files(seed=1))
    assert HubRepository.objects.get().status == Status.RUNNING
    assert not runner.is_settled(repository)
    work.attempt(runner.REPOSITORIES, repository, runner.sync)
    assert not module.versions.filter(hub_commit_id="").exists()


def test_a_job_whose_workers_vanish_for_a_day_is_told_as_such(module, client):
    now = timezone.now()
    HubRepository.objects.update(
        status=Status.RUNNING, put_off_since=now - PUT_OFF_MAX, lease_until=now - timedelta(seconds=1)
    )
    runner.sweep_repositories()
    assert selectors.remote_copy(module.versions.get()).reason.startswith(SENTENCES["machine_fault"])


# Serving ------------------------------------------------------


def test_files_are_served_from_here_until_they_are_on_the_hub(module, client):
    response = client.get(address(module.current))
    assert response.status_code == 200
    assert response["X-Repo-Commit"] == module.current.commit_id


@pytest.mark.parametrize("method", ["get", "head"])
def test_public_files_are_sent_on_to_the_pinned_commit_on_the_hub(module, client, hub, method):
    version = published(module)
    response = getattr(client, method)(address(version))
    file = version.files.get(path=WEIGHTS_FILE)
    assert response.status_code == 302
    assert response["Location"] == (
        f"{hub.endpoint}/{module.hub_repository.repo_id}/resolve/{version.hub_commit_id}/{WEIGHTS_FILE}"
    )
    assert response["X-Repo-Commit"] == version.commit_id
    assert response["X-Linked-Etag"] == f'"{file.sha256}"'
    assert response["X-Linked-Size"] == str(file.size_bytes)


def test_private_files_are_streamed_through_even_when_they_are_only_there(module, alice, bob, api_of):
    repository_hide(editor=alice, module=module, private=True)
    version = published(module)
    sha256 = evict_weights(version)
    response = api_of(alice).get(address(version))
    assert response.status_code == 200
    assert hashlib.sha256(b"".join(response.streaming_content)).hexdigest() == sha256
    assert api_of(bob).get(address(version)).status_code == 404


def test_a_private_file_that_the_hub_spoiled_is_not_served(module, alice, api_of, hub):
    repository_hide(editor=alice, module=module, private=True)
    version = published(module)
    evict_weights(version)
    hub.spoil("GET", "/resolve/", faults.wrong_bytes)
    response = api_of(alice).get(address(version))
    assert response.status_code == 500
    assert "other bytes" in response["X-Error-Message"]
    hub.spoil("GET", "/resolve/", faults.status(503))
    assert api_of(alice).get(address(version)).status_code == 503
    assert api_of(alice).get(address(version)).status_code == 200


# The disk as a cache ------------------------------------------------------


def test_only_what_the_hub_has_can_be_evicted(module, alice):
    weights = sha256s(module.versions.get())[WEIGHTS_FILE]
    assert not maintenance.evict_one(weights)
    published(module)
    make_module(alice, "the-same-bytes")  # not on the Hub yet
    assert not maintenance.evict_one(weights)
    assert store().exists(weights)


def test_eviction_stops_when_the_rest_fits_and_keeps_small_files(module, monkeypatch):
    version = published(module)
    files = sha256s(version)
    monkeypatch.setattr(maintenance, "KEPT_BYTES", 300)
    assert maintenance.evict(10**9) == 0
    assert maintenance.evict(0) == sum(file.size_bytes > 300 for file in version.files.all())
    assert not store().exists(files[WEIGHTS_FILE])
    small = [file.sha256 for file in version.files.all() if file.size_bytes <= 300]
    assert all(store().exists(sha256) for sha256 in small)


def test_versions_that_compositions_stand_on_come_home_before_their_module_leaves(
    module, alice, remote, ask_with
):
    version = published(module)
    sha256 = evict_weights(version)
    ask_with(module)
    module_delete(editor=alice, module=module)
    sync(module)
    assert store().exists(sha256)
    assert not remote.repo_exists(module.hub_repository.repo_id)


def test_composing_fetches_evicted_modules_from_the_hub(module, ask_with, tmp_path):
    from composer.run.job_folder import write_job

    sha256 = evict_weights(published(module))
    composition = ask_with(module)
    folder = tmp_path / "job"
    folder.mkdir()
    write_job(composition, folder)
    assert hashlib.sha256((folder / "modules/0" / WEIGHTS_FILE).read_bytes()).hexdigest() == sha256


@pytest.fixture
def ask_with(bob):
    from composer.core.spec.examples import Example
    from composer.request.services import composition_request

    def request(module: Module):
        return composition_request(
            owner=bob,
            name="Fruit",
            base=module.current.base.name,
            method="exact",
            budget=30,
            seed=7,
            examples=[Example("apple", "APPLE"), Example("pear", "PEAR"), Example("plum", "PLUM")],
            held_out=[],
        )

    return request


def test_a_site_can_do_without_its_hub_again(module, settings, client, hub):
    version = published(module)
    sha256 = evict_weights(version)
    hub.spoil("GET", "/resolve/", faults.wrong_bytes)
    with pytest.raises(CommandError, match="other bytes"):
        call_command("fetch_files")
    call_command("fetch_files")
    settings.HUB_STORE = "disk"
    response = client.get(address(version))
    assert response.status_code == 200
    assert hashlib.sha256(b"".join(response.streaming_content)).hexdigest() == sha256


# Checking ------------------------------------------------------


def test_verify_storage_looks_at_the_hub_too_and_sends_again_what_it_lost(module, remote, renewed, capsys):
    published(module)
    call_command("verify_storage")
    remote.delete_repo(module.hub_repository.repo_id)
    with pytest.raises(CommandError, match="Findings left: 1"):
        call_command("verify_storage")
    assert f"{module.hub_repository.repo_id} is no longer on the Hub" in capsys.readouterr().out
    call_command("verify_storage", "--repair")
    renewed(module)
    call_command("verify_storage")


def test_verify_storage_sends_again_a_commit_that_the_hub_lost(module, remote, renewed):
    version = published(module)
    Version.objects.filter(pk=version.pk).update(hub_commit_id="f" * 40)  # as after a squash there
    with pytest.raises(CommandError, match="Findings left: 1"):
        call_command("verify_storage")
    call_command("verify_storage", "--repair")
    renewed(module)
    assert module.versions.get().hub_commit_id == version.hub_commit_id


def test_verify_storage_knows_that_an_evicted_file_is_not_missing(module):
    evict_weights(published(module))
    call_command("verify_storage")


def test_verify_storage_fetches_an_altered_file_anew(module, data_folder):
    sha256 = sha256s(published(module))[WEIGHTS_FILE]
    (path,) = (data_folder / "blobs").rglob(sha256)
    path.chmod(0o600)
    path.write_bytes(b"altered")
    with pytest.raises(CommandError):
        call_command("verify_storage")
    call_command("verify_storage", "--repair")
    assert list(store().verify()) == []


# Where people see it ------------------------------------------------------


def test_the_page_says_where_it_is_stored(module, client):
    waiting = client.get(module.get_absolute_url()).content.decode()
    assert "Waiting to be stored on the Hub" in waiting
    version = published(module)
    page = client.get(module.get_absolute_url()).content.decode()
    assert module.hub_repository.repo_id in page
    assert version.hub_commit_id[:8] in page


def test_the_api_says_where_it_is_stored(module, client):
    def said():
        return client.get(f"/api/v1/modules/{module.full_name}").json()["current"]["hub_copy"]

    assert said()["state"] == "waiting"
    version = published(module)
    copy = said()
    assert (copy["state"], copy["commit_id"]) == ("stored", version.hub_commit_id)
    assert copy["repo_id"] == module.hub_repository.repo_id


def test_staff_can_ask_again_in_the_admin(hub_mode, module, behind, admin_client, monkeypatch):
    queued: list[str] = []
    monkeypatch.setattr(sync_repository, "delay", queued.append)
    hub_mode.HUB_STORE_REMOTE = behind.remote | {"token": "hf_wrong"}
    repository = sync(module)
    admin_client.post(
        "/admin/modules_registry/hubrepository/", {"action": "try_again", "_selected_action": repository.pk}
    )
    repository.refresh_from_db()
    assert repository.status == Status.QUEUED
    assert queued == [str(repository.pk)]


def test_a_site_on_its_own_disk_says_nothing_of_a_hub(base, alice, client: Client):
    module = make_module(alice, "local")
    assert "Hub repository" not in client.get(module.get_absolute_url()).content.decode()
    assert client.get(f"/api/v1/modules/{module.full_name}").json()["current"]["hub_copy"] is None
    with pytest.raises(CommandError, match="own disk"):
        call_command("publish_versions")
    assert VersionFile.objects.filter(path=CARD_FILE).count() == 0


# What staff hold ------------------------------------------------------


def strangers_answers(behind, module, version):
    """What somebody without a token gets, here and from the Hub behind, who knows the whole address."""
    repo_id = module.hub_repository.repo_id
    there = f"{behind.endpoint}/{repo_id}/resolve/{version.hub_commit_id}/{WEIGHTS_FILE}"
    return Client().get(address(version)).status_code, requests.get(there, timeout=30).status_code


def test_a_quarantine_reaches_the_hub_and_a_release_undoes_it(module, behind, staff):
    version = published(module)
    sha256 = evict_weights(version)
    sent_there = (302, 200)
    assert strangers_answers(behind, module, version) == sent_there
    module_quarantine(staff=staff, module=module, reason="It holds letters.")
    assert Client().get(address(version)).status_code == 404  # at once, before the Hub is told
    sync(module)
    here, there = strangers_answers(behind, module, version)
    assert (here, there) in [(404, 401), (404, 404)]
    assert sync(module).is_private
    module_release(staff=staff, module=module)
    sync(module)
    assert strangers_answers(behind, module, version) == sent_there
    with urlopen(Client().get(address(version))["Location"]) as answer:
        assert hashlib.sha256(answer.read()).hexdigest() == sha256


def test_what_is_published_while_it_is_held_is_never_public_there(hub_mode, base, alice, name, behind, staff):
    module = make_module(alice, name)
    module_quarantine(staff=staff, module=module, reason="It holds letters.")
    assert sync(module).is_private
    version = module.versions.get()
    here, there = strangers_answers(behind, module, version)
    assert here == 404
    assert there in (401, 404)


def test_a_takedown_deletes_it_on_the_hub_too(module, behind, staff, remote):
    version = published(module)
    repo_id = module.hub_repository.repo_id
    module_takedown(staff=staff, module=module, reason="It holds letters.")
    repository = sync(module)
    assert not repository.is_there
    assert not remote.repo_exists(repo_id)
    assert Client().get(address(version)).status_code == 404


def test_a_hub_that_is_away_delays_what_it_is_told_and_nothing_is_given_out_here(module, hub, behind, staff):
    version = published(module)
    module_quarantine(staff=staff, module=module, reason="It holds letters.")
    for method in ("GET", "PUT", "POST"):
        hub.spoil(method, "/", faults.status(503), times=20)
    assert sync(module).status == Status.QUEUED
    assert Client().get(address(version)).status_code == 404
    hub.faults.clear()
    assert sync(module).status == Status.DONE
    assert strangers_answers(behind, module, version)[1] in (401, 404)
