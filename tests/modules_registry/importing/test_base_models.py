"""Base models from a Hub over HTTP: by staff only, at a pinned commit, safetensors and nothing that runs."""

import json
from hashlib import sha256
from uuid import uuid4

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.urls import reverse
from safetensors.numpy import load, save

from hub_site.celery import app
from hub_site.common.errors import Refusal
from hub_site.jobs import leases, work
from hub_site.jobs.models import Status
from hub_site.jobs.worker import stopping
from modules_registry.core.sizes import size_in_words
from modules_registry.importing import base_runner, source
from modules_registry.importing.base_services import (
    base_import_again,
    base_import_cancel,
    base_import_request,
)
from modules_registry.importing.folders import imports_folder
from modules_registry.importing.models import BaseImport
from modules_registry.importing.tasks import run_base_import
from modules_registry.models import BaseModel, Version
from tests.factories import BASE_NAME, LAYERS, WIDTH, base_folder, make_base, make_module
from tests.faulty_hub import faulty_hub, status, truncated, wrong_bytes
from tests.modules_registry.importing.source_server import COMMIT, small_hub


@pytest.fixture
def files(tmp_path):
    """A base model's repository, with code and pickles beside what is wanted."""
    folder = base_folder(tmp_path / "there")
    (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Tiny\n")
    (folder / "modeling_tiny.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02.")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def large(files):
    """The same with three megabytes of weights, so that half of them is more than one piece."""
    tensors = load(files["model.safetensors"]) | {"shared.weight": np.ones((100_000, WIDTH), np.float32)}
    files["model.safetensors"] = save(tensors)
    return files


@pytest.fixture
def sharded(files):
    """The same with its weights in two files and an index."""
    tensors = load(files.pop("model.safetensors"))
    names = sorted(tensors)
    parts = {
        "model-00001-of-00002.safetensors": names[:1],
        "model-00002-of-00002.safetensors": names[1:],
    }
    for path, held in parts.items():
        files[path] = save({name: tensors[name] for name in held})
    placed = {name: path for path, held in parts.items() for name in held}
    files["model.safetensors.index.json"] = json.dumps({"metadata": {}, "weight_map": placed}).encode()
    return files


@pytest.fixture
def hub(settings, files, monkeypatch):
    """A Hub with that repository, behind one that misbehaves when told to."""
    monkeypatch.setattr(source, "WAIT_S", 0.0)
    with small_hub({BASE_NAME: files}) as behind, faulty_hub(behind) as faulty:
        settings.HUB_IMPORT_ENDPOINT = faulty.endpoint
        yield faulty


@pytest.fixture
def queued_ids(monkeypatch):
    queued = []
    monkeypatch.setattr(run_base_import, "delay", queued.append)
    return queued


def run(staff, **asked):
    return carried(base_import_request(owner=staff, **({"repo_id": BASE_NAME, "enqueue": False} | asked)))


def carried(job):
    base_runner.base_run(job.pk)
    job.refresh_from_db()
    return job


def fetched(hub):
    """The files whose content was asked for."""
    return [line.rpartition("/")[2] for line in hub.asked if "/resolve/" in line]


def test_a_model_comes_in_at_the_commit_it_had_without_code_or_pickles(hub, staff):
    job = run(staff, sentence="A tiny one.")
    assert (job.status, job.error_message) == (Status.DONE, "")
    base = BaseModel.objects.get()
    assert (job.base, base.name, base.revision) == (base, BASE_NAME, COMMIT)
    assert (base.sentence, base.licence) == ("A tiny one.", "apache-2.0")
    assert base.layers == {"lm_head": [16, WIDTH]} | {layer: [WIDTH, WIDTH] for layer in LAYERS}
    assert {file.path for file in base.files.all()} == {
        "config.json", "model.safetensors", "tokenizer.json",
    }  # fmt: skip
    assert set(fetched(hub)) == {"config.json", "model.safetensors", "tokenizer.json", "README.md"}
    assert all(f"/resolve/{COMMIT}/" in line for line in hub.asked if "/resolve/" in line)
    assert job.bytes_done == job.bytes_planned == sum(file.size_bytes for file in base.files.all())
    assert not list(imports_folder().iterdir())


def test_weights_in_several_files_come_in_together(sharded, hub, staff):
    assert run(staff).status == Status.DONE
    base = BaseModel.objects.get()
    assert base.layers == {"lm_head": [16, WIDTH]} | {layer: [WIDTH, WIDTH] for layer in LAYERS}
    assert base.files.filter(path__startswith="model").count() == 3


def test_modules_that_named_it_become_composable(hub, staff, alice):
    waiting = make_module(alice).current
    assert waiting.base is None
    assert run(staff).status == Status.DONE
    assert Version.objects.get(pk=waiting.pk).base == BaseModel.objects.get()


def test_asking_again_for_what_is_there_fetches_nothing(hub, staff):
    base = run(staff).base
    hub.asked.clear()
    again = run(staff)
    assert (again.status, again.base) == (Status.DONE, base)
    assert fetched(hub) == []


def test_another_commit_of_a_known_model_is_refused_before_anything_is_fetched(hub, staff, tmp_path):
    make_base(tmp_path / "here")
    job = run(staff)
    assert (job.status, job.error_code) == (Status.FAILED, "base_exists")
    assert fetched(hub) == []


def test_an_unfinished_request_for_the_same_model_is_the_same_request(staff, queued_ids):
    first = base_import_request(owner=staff, repo_id=BASE_NAME)
    assert base_import_request(owner=staff, repo_id=BASE_NAME) == first
    assert base_import_request(owner=staff, repo_id=BASE_NAME, revision="v1") != first


def test_what_has_come_is_not_fetched_again(hub, staff):
    hub.spoil("GET", "/model.safetensors", status(503), times=source.TRIES_MAX)
    job = run(staff)
    assert (job.status, job.error_code) == (Status.FAILED, "hub_away")
    hub.asked.clear()
    assert carried(base_import_again(owner=staff, job=job)).status == Status.DONE
    assert set(fetched(hub)) == {"model.safetensors", "README.md"}


def test_a_file_that_was_broken_off_goes_on_where_it_was(large, hub, staff):
    hub.spoil("GET", "/model.safetensors", truncated)
    ranges = []

    def note(handler):
        ranges.append(handler.headers.get("Range"))
        handler.pass_on()

    hub.spoil("GET", "/model.safetensors", note)
    assert run(staff).status == Status.DONE
    assert ranges == [f"bytes={source.PIECE_BYTES}-"]
    assert (
        BaseModel.objects.get().files.filter(sha256=sha256(large["model.safetensors"]).hexdigest()).exists()
    )


def test_a_hub_that_knows_no_ranges_gives_the_file_anew(large, hub, staff):
    hub.spoil("GET", "/model.safetensors", truncated)

    def whole(handler):
        del handler.headers["Range"]
        handler.pass_on()

    hub.spoil("GET", "/model.safetensors", whole)
    assert run(staff).status == Status.DONE


def test_a_worker_that_ends_leaves_it_to_the_next(hub, staff):
    job = base_import_request(owner=staff, repo_id=BASE_NAME, enqueue=False)

    def end_worker(handler):
        stopping.set()
        handler.pass_on()

    hub.spoil("GET", "/tokenizer.json", end_worker)
    try:
        assert carried(job).status == Status.QUEUED
    finally:
        stopping.clear()
    assert job.commit_id == COMMIT
    hub.asked.clear()
    assert carried(job).status == Status.DONE
    assert "config.json" not in fetched(hub)


@pytest.mark.django_db(transaction=True)
def test_a_request_is_cancelled_while_its_files_come(hub, staff, monkeypatch):
    monkeypatch.setattr(work, "HEARTBEAT_S", 0.0)
    job = base_import_request(owner=staff, repo_id=BASE_NAME, enqueue=False)

    def cancel(handler):
        base_import_cancel(owner=staff, import_id=job.pk)
        connection.close()  # of the Hub's thread
        handler.pass_on()

    hub.spoil("GET", "/config.json", cancel)
    assert carried(job).status == Status.CANCELLED
    assert "model.safetensors" not in fetched(hub)
    assert not BaseModel.objects.exists()


@pytest.mark.parametrize("fault", [truncated, status(429, Retry_After="0")], ids=["cut off", "busy"])
def test_what_passes_is_tried_again(hub, staff, fault):
    hub.spoil("GET", "/model.safetensors", fault)
    assert run(staff).status == Status.DONE


def test_other_bytes_than_the_hub_named_are_refused(hub, staff, stored):
    hub.spoil("GET", "/model.safetensors", wrong_bytes)
    job = run(staff)
    assert (job.status, job.error_code) == (Status.FAILED, "source_altered")
    assert not stored()


@pytest.mark.parametrize(
    ("change", "code", "says"),
    [
        (lambda files: files.pop("config.json"), "base_incomplete", "no config.json"),
        (lambda files: files.pop("model.safetensors"), "base_pickled", "pytorch_model.bin"),
        (
            lambda files: (
                files.update(
                    {"model.safetensors.index.json": b'{"weight_map": {"a": "../../x.safetensors"}}'}
                )
                or files.pop("model.safetensors")
            ),
            "base_incomplete",
            "which is not there",
        ),
        (lambda files: files.update({"config.json": b" " * 300_000}), "source_too_large", "config.json"),
        (
            lambda files: files.update({"config.json": b'{"model_type": "bert"}'}),
            "base_kind_not_supported",
            "generates text",
        ),
        (lambda files: files.update({"model.safetensors": b"no weights"}), None, ""),
        (
            lambda files: files.update({"chat_template.jinja": b"{{ messages[0].text }}"}),
            "chat_template_hides_input",
            "does not show what the user asks",
        ),
    ],
    ids=[
        *("no config", "only pickles", "index outwards", "a large config", "no decoder", "no safetensors"),
        "a chat that hides the input",
    ],
)
def test_what_is_no_base_model_is_refused_with_a_reason(files, hub, staff, stored, change, code, says):
    change(files)
    job = run(staff)
    assert job.status == Status.FAILED
    assert job.error_code != "broken"
    assert code in (None, job.error_code)
    assert says in job.error_message
    assert not BaseModel.objects.exists()
    assert not stored()


@pytest.mark.parametrize("config", [b'{"model_type": "bert"}', b'{"architectures": {"0": 1}}', b"[]", b"{"])
def test_what_generates_no_text_is_known_before_its_weights_come(files, hub, staff, config):
    files["config.json"] = config
    job = run(staff)
    assert (job.status, job.error_code != "broken") == (Status.FAILED, True)
    assert fetched(hub) == ["config.json"]


def test_a_card_that_is_too_large_says_no_licence(files, hub, staff):
    files["README.md"] += bytes(600_000)
    assert run(staff).base.licence == ""


def test_more_than_is_allowed_is_refused_before_it_is_fetched(files, hub, staff, settings):
    settings.HUB_BASE_MAX_MB = 1
    files["model.safetensors"] += bytes(1_000_000)
    job = run(staff)
    assert (job.status, job.error_code) == (Status.FAILED, "base_too_large")
    assert fetched(hub) == []


def test_a_full_disk_puts_it_off_with_the_reason_until_there_is_space(hub, staff, browser_of, monkeypatch):
    monkeypatch.setattr(base_runner, "free_bytes", lambda: 1000)
    job = run(staff)
    assert (job.status, job.crashes, job.error_code) == (Status.QUEUED, 0, "")
    assert "on the disk, and 0 MB are free" in job.put_off_reason
    assert job.due_at > job.updated_at
    assert base_runner.sweep() == []
    assert fetched(hub) == []
    listed = browser_of(staff).get(reverse("admin:importing_baseimport_changelist")).content.decode()
    assert job.put_off_reason in listed
    monkeypatch.undo()
    BaseImport.objects.update(due_at=job.created_at)
    assert base_runner.sweep() == [job.pk]
    assert (carried(job).status, job.put_off_reason) == (Status.DONE, "")


def test_a_model_that_is_not_there_is_told(hub, staff):
    job = run(staff, repo_id="far/none")
    assert (job.status, job.error_code) == (Status.FAILED, "source_missing")


def test_only_staff_ask_for_base_models(alice):
    with pytest.raises(Refusal) as refused:
        base_import_request(owner=alice, repo_id=BASE_NAME)
    assert refused.value.code == "staff_only"
    with pytest.raises(Refusal):
        base_import_cancel(owner=alice, import_id=uuid4())


@pytest.mark.parametrize("asked", [{"repo_id": "../etc"}, {"repo_id": "a/b", "revision": "../x"}])
def test_what_names_no_model_is_refused(staff, asked):
    with pytest.raises(Refusal):
        base_import_request(owner=staff, **asked)


def test_the_command_fetches_from_the_hub(hub, staff, capsys):
    call_command("add_base_model", f"{BASE_NAME}@main", licence="mit")
    assert f"{BASE_NAME} is in the library, at {COMMIT[:12]}." in capsys.readouterr().out
    assert BaseModel.objects.get().licence == "mit"
    with pytest.raises(CommandError, match="no far/none"):
        call_command("add_base_model", "far/none")


def test_the_command_wants_a_name_for_a_folder(staff, tmp_path):
    with pytest.raises(CommandError, match="--name"):
        call_command("add_base_model", str(base_folder(tmp_path / "here")))


def test_staff_ask_in_the_admin_and_see_how_far_it_is(
    hub, staff, browser_of, queued_ids, django_capture_on_commit_callbacks
):
    browser = browser_of(staff)
    with django_capture_on_commit_callbacks(execute=True):
        browser.post(reverse("admin:importing_baseimport_add"), {"repo_id": BASE_NAME})
    job = BaseImport.objects.get()
    assert queued_ids == [str(job.pk)]
    assert (job.owner, job.status) == (staff, Status.QUEUED)
    carried(job)
    listed = browser.get(reverse("admin:importing_baseimport_changelist")).content.decode()
    assert "Done" in listed
    assert f"of {size_in_words(job.bytes_planned)}" in listed
    assert browser.get(job.get_absolute_url()).status_code == 200


def test_the_admin_refuses_what_is_no_name_at_its_field(staff, browser_of):
    page = browser_of(staff).post(reverse("admin:importing_baseimport_add"), {"repo_id": "../etc"})
    assert "is no model on the Hub" in page.content.decode()
    assert not BaseImport.objects.exists()


def test_in_the_admin_a_request_is_cancelled_and_tried_again(staff, browser_of, queued_ids):
    job = base_import_request(owner=staff, repo_id=BASE_NAME, enqueue=False)
    browser, address = browser_of(staff), reverse("admin:importing_baseimport_changelist")
    browser.post(address, {"action": "cancel", "_selected_action": [job.pk]})
    job.refresh_from_db()
    assert job.status == Status.CANCELLED
    browser.post(address, {"action": "try_again", "_selected_action": [job.pk]})
    assert BaseImport.objects.filter(status=Status.QUEUED, repo_id=BASE_NAME).count() == 1


def test_the_sweep_rings_for_what_waits(staff):
    job = base_import_request(owner=staff, repo_id=BASE_NAME, enqueue=False)
    BaseImport.objects.update(updated_at=job.created_at - leases.REQUEUE_AFTER)
    assert base_runner.sweep() == [job.pk]


def test_the_work_waits_in_the_queue_for_the_network():
    assert app.amqp.router.route({}, run_base_import.name)["queue"].name == "transfer"
