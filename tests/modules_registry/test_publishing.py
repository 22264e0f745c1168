"""What publishing, changing and deleting a module promise."""

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from threading import Barrier

import numpy as np
import pytest
from django.db import connection

from composer.models import Composition
from hub_site.accounts.services import user_create
from hub_site.audit.models import AuditEntry
from hub_site.common.errors import Refusal
from hub_site.embedded.processes import wait_for
from modules_registry.blobs import delete_unnamed_blobs, store
from modules_registry.blobs import store_files as stored_together
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.models import Module, Version, VersionFile
from modules_registry.selectors import card_of, module_find, version_find
from modules_registry.services import module_delete, module_edit, module_publish, version_add
from modules_registry.storage import StorageFullError
from modules_registry.storage.disk import DiskStore
from tests.factories import adapter_files, adapter_tensors, card_file, config_file, make_module, weights_file

pytestmark = pytest.mark.django_db


def publish(owner, name="french", **changes):
    asked = adapter_files() | {"author": owner, "namespace": owner.namespace, "name": name} | changes
    return module_publish(**asked)


def test_a_published_module_has_the_facts_of_its_files(alice, base):
    version = publish(alice, sentence="Into French", licence="mit").current
    assert (version.number, version.rank, version.alpha, version.scaling) == (1, 2, 4.0, 2.0)
    assert (version.base, version.base_name, version.targets) == (base, base.name, ["q", "v"])
    assert (version.parameters, version.dtype) == (64, "F32")
    assert version.weights_sha256 == version.files.get(path=WEIGHTS_FILE).sha256


def test_the_stored_weights_are_the_uploaded_bytes(alice):
    version = publish(alice, weights_file=weights_file(seed=7)).current
    with store().open(version.weights_sha256) as file:
        assert file.read() == weights_file(seed=7).read()


def test_the_stored_config_holds_nothing_but_what_the_gate_understood(alice):
    version = publish(alice, config_file=config_file(peft_version="0.21.2", lora_dropout=0.3)).current
    with store().open(version.files.get(path=CONFIG_FILE).sha256) as file:
        config = json.load(file)
    assert config["r"] == 2
    assert config["lora_dropout"] == 0.0
    assert "peft_version" not in config


def test_a_base_outside_the_library_is_published_without_it(alice, base):
    version = publish(alice, config_file=config_file(base_model_name_or_path="google/flan-t5-large")).current
    assert version.base is None
    assert version.base_name == "google/flan-t5-large"


def test_another_revision_of_the_base_is_not_the_library_s(alice, base):
    version = publish(alice, config_file=config_file(revision="0123abc")).current
    assert version.base is None
    assert version.base_revision == "0123abc"


def at_home():
    return config_file(base_model_name_or_path="/home/me/models/base")


def test_a_base_named_beside_the_files_is_written_into_the_stored_config(alice, base):
    version = publish(alice, config_file=at_home(), base=base.name).current
    assert (version.base, version.base_name) == (base, base.name)
    with store().open(version.files.get(path=CONFIG_FILE).sha256) as file:
        assert json.load(file)["base_model_name_or_path"] == base.name


def test_shapes_are_held_against_the_base_named_beside_the_files(alice, base):
    with pytest.raises(Refusal) as refusal:
        publish(alice, config_file=at_home(), weights_file=weights_file(width=16), base=base.name)
    assert refusal.value.code == "base_shape_mismatch"


def test_shapes_are_held_against_the_base_of_the_library(alice, base):
    with pytest.raises(Refusal) as refusal:
        publish(alice, weights_file=weights_file(width=16))
    assert refusal.value.code == "base_shape_mismatch"
    assert "weights_file" in refusal.value.fields


def broken_weights(value):
    tensors = adapter_tensors()
    last = list(tensors)[-1]
    tensors[last][-1, -1] = value
    return weights_file(tensors)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"config_file": BytesIO(b"{")}, "config_not_json", "config_file"),
        ({"config_file": config_file(peft_type="IA3")}, "peft_type_not_supported", "config_file"),
        ({"weights_file": BytesIO(b"\x80\x02 a pickle")}, "weights_pickle", "weights_file"),
        ({"weights_file": broken_weights(np.nan)}, "not_finite", "weights_file"),
        ({"base": "/home/me/models/base"}, "base_not_a_name", "base"),
        ({"name": "a--b"}, "bad_name", "name"),
        ({"name": "../../etc"}, "bad_name", "name"),
        ({"tags": ["fine", "<script>"]}, "bad_tags", "tags"),
        ({"tags": [f"tag{n}" for n in range(40)]}, "bad_tags", "tags"),
        ({"licence": "made-up"}, "bad_licence", "licence"),
        ({"sentence": "x" * 301}, "sentence_too_long", "sentence"),
    ],
)
def test_a_refusal_names_its_field_and_leaves_nothing_behind(alice, stored, changes, code, field):
    with pytest.raises(Refusal) as refusal:
        publish(alice, **changes)
    assert refusal.value.code == code
    assert list(refusal.value.fields) == [field]
    assert not Module.objects.exists()
    assert not stored()


def test_all_that_is_wrong_is_said_at_once(alice, french, stored):
    before = stored()
    with pytest.raises(Refusal) as refusal:
        publish(
            alice,
            config_file=config_file(peft_type="IA3"),
            weights_file=broken_weights(np.nan),
            tags=["<b>"],
        )
    fields = refusal.value.fields
    assert set(fields) == {"name", "config_file", "weights_file", "tags"}
    assert all(len(messages) == 1 for messages in fields.values())
    assert (refusal.value.code, refusal.value.status) == ("name_taken", 409)
    assert stored() == before


def test_swapped_files_are_recognised(alice):
    with pytest.raises(Refusal) as refusal:
        publish(alice, config_file=weights_file(), weights_file=config_file())
    assert refusal.value.fields["config_file"] == ["This is not JSON; did you swap the two files?"]
    assert "weights_file" in refusal.value.fields


def test_a_full_disk_is_said_and_leaves_nothing_behind(alice, stored, monkeypatch):
    put = DiskStore.put
    calls = []

    def put_until_full(self, stream, *, max_bytes):
        calls.append(max_bytes)
        if len(calls) == 2:
            raise StorageFullError
        return put(self, stream, max_bytes=max_bytes)

    monkeypatch.setattr(DiskStore, "put", put_until_full)
    with pytest.raises(Refusal) as refusal:
        publish(alice)
    assert (refusal.value.code, refusal.value.status) == ("disk_full", 507)
    assert "disk is full" in refusal.value.message
    assert not Module.objects.exists()
    assert not stored()


def test_a_failure_of_ours_removes_the_new_files_and_keeps_those_of_others(
    alice, french, stored, monkeypatch
):
    before = stored()
    monkeypatch.setattr("modules_registry.services.audit_record", lambda **_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        publish(alice, "spanish", weights_file=weights_file(seed=9))
    assert stored() == before
    assert not Module.objects.filter(name="spanish").exists()


def test_files_larger_than_the_limit_are_refused_before_they_are_read(alice, settings):
    settings.HUB_UPLOAD_MAX_MB = 0
    with pytest.raises(Refusal) as refusal:
        publish(alice)
    assert (refusal.value.code, refusal.value.status) == ("file_too_large", 413)


def test_a_stranger_cannot_publish_under_another_s_name(alice, charlie):
    with pytest.raises(Refusal) as refusal:
        publish(charlie, namespace=alice.namespace)
    assert (refusal.value.code, refusal.value.status) == ("not_your_namespace", 403)


def test_a_team_mate_may_publish_for_the_organisation(bob, lab):
    assert publish(bob, namespace=lab).full_name == "lab/french"


@pytest.mark.parametrize("name", ["french", "French", "FRENCH"])
def test_a_taken_name_is_refused_in_any_case(alice, french, name):
    with pytest.raises(Refusal) as refusal:
        publish(alice, name)
    assert (refusal.value.code, refusal.value.status) == ("name_taken", 409)


@pytest.mark.parametrize(("taken", "name"), [("a-b", "a_b"), ("a.b", "a-b"), ("fr1", "frl"), ("t0p", "top")])
def test_a_look_alike_of_a_taken_name_is_refused(alice, taken, name):
    publish(alice, taken)
    with pytest.raises(Refusal, match="too similar"):
        publish(alice, name)


def test_the_name_of_a_base_model_is_refused(base):
    owner = user_create(username="tests")
    with pytest.raises(Refusal, match="base model"):
        publish(owner, "tiny")


def test_the_same_name_is_free_for_another_owner(french, bob):
    assert publish(bob, "french").full_name == "bob/french"


@pytest.mark.django_db(transaction=True)
def test_of_two_uploads_of_one_name_at_once_exactly_one_wins(stored):
    owner = user_create(username="alice")
    start = Barrier(2)

    def upload(seed):
        start.wait()
        try:
            return make_module(owner, "french", seed=seed).current.weights_sha256
        except Refusal as refusal:
            return refusal.code
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        outcomes = set(pool.map(upload, [1, 2]))
    winner = Module.objects.get().current
    assert outcomes == {winner.weights_sha256, "name_taken"}
    assert stored() == {file.sha256 for file in winner.files.all()}


@pytest.mark.django_db(transaction=True)
def test_of_two_versions_at_once_none_is_lost(alice, french):
    start = Barrier(2)

    def upload(seed):
        start.wait()
        try:
            return version_add(
                author=alice, module=module_find("alice", "french"), **adapter_files(seed=seed)
            )
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        numbers = {version.number for version, _ in pool.map(upload, [1, 2])}
    assert numbers == {2, 3}
    assert module_find("alice", "french").current.number == 3


def somebody_waits_for_a_lock() -> bool:
    waiting = """SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = database
        WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()"""
    with connection.cursor() as cursor:
        cursor.execute(waiting)
        return cursor.fetchone() is not None


@pytest.mark.django_db(transaction=True)
def test_a_file_is_not_removed_between_its_put_and_its_row(alice, french):
    def forget(sha256):
        try:
            delete_unnamed_blobs({sha256})
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with stored_together({CARD_FILE: card_file()}) as blobs:
            sha256 = blobs[CARD_FILE].sha256
            forgotten = pool.submit(forget, sha256)
            assert wait_for(somebody_waits_for_a_lock, timeout_s=10)
            french.current.files.create(path=CARD_FILE, sha256=sha256, size_bytes=blobs[CARD_FILE].size_bytes)
            assert not forgotten.done()
        forgotten.result(timeout=10)
    assert store().exists(sha256)


def test_a_new_version_becomes_the_current_one_and_the_old_one_stays(alice, french):
    first = french.current
    version, is_new = version_add(author=alice, module=french, **adapter_files(seed=1), message="Longer")
    assert is_new
    assert (version.number, version.message, module_find("alice", "french").current) == (2, "Longer", version)
    assert version_find(french, "v1") == version_find(french, first.commit_id) == first
    assert first.files.count() == 2


def test_the_same_files_again_are_no_new_version(alice, french):
    version, is_new = version_add(author=alice, module=french, **adapter_files(seed=0))
    assert not is_new
    assert version == french.current
    assert french.versions.count() == 1


def test_a_version_without_a_card_keeps_the_card(alice):
    module = publish(alice, card_file=card_file("# Mine\n"))
    version_add(author=alice, module=module, **adapter_files(seed=1))
    assert card_of(module.current).text == "# Mine\n"


def test_commit_ids_differ_for_the_same_files(alice, bob):
    one, other = publish(alice).current, publish(bob).current
    assert one.commit_id != other.commit_id
    assert len(one.commit_id) == 40


def test_an_edit_changes_what_is_said_and_adds_no_version(alice, french):
    module_edit(
        editor=alice, module=french, sentence="Better said", tags=["New Tag", "new_tag"], licence="apache-2.0"
    )
    module = module_find("alice", "french")
    assert (module.sentence, module.licence) == ("Better said", "apache-2.0")
    assert [tag.name for tag in module.tags.all()] == ["new-tag"]
    assert module.versions.count() == 1


def test_an_edit_leaves_alone_what_it_does_not_name(alice, french):
    module_edit(editor=alice, module=french, licence="apache-2.0")
    module = module_find("alice", "french")
    assert module.sentence == "Translates words into French."
    assert [tag.name for tag in module.tags.all()] == ["french"]


def test_another_card_is_a_new_version_with_the_same_weights(alice, french):
    first = french.current
    module_edit(editor=alice, module=french, card="# New\r\n\r\ncard")
    current = module_find("alice", "french").current
    assert current.number == 2
    assert current.weights_sha256 == first.weights_sha256
    assert card_of(current).text == "# New\n\ncard"
    assert not first.files.filter(path=CARD_FILE).exists()


def test_the_same_card_again_is_no_new_version(alice):
    module = publish(alice, card_file=card_file("# Same\n"))
    module_edit(editor=alice, module=module, card="# Same\r\n")
    assert module.versions.count() == 1


@pytest.mark.parametrize("change", [module_edit, module_delete])
def test_only_those_who_write_in_the_namespace_change_a_module(change, charlie, french):
    with pytest.raises(Refusal) as refusal:
        change(editor=charlie, module=french)
    assert refusal.value.code == "not_your_namespace"


def test_a_deleted_module_is_gone_with_its_files_and_its_owner_may_use_its_name_again(
    alice, french, stored, django_capture_on_commit_callbacks
):
    mine = {file.sha256 for file in french.current.files.all()}
    assert mine <= stored()
    with django_capture_on_commit_callbacks(execute=True):
        module_delete(editor=alice, module=french)
    assert module_find("alice", "french") is None
    assert not mine & stored()
    assert not VersionFile.objects.exists()
    again = publish(alice, "french")
    assert (again.current.number, module_find("alice", "french")) == (1, again)


def test_the_page_to_delete_a_module_says_who_may_use_its_name_again(alice, french, browser_of):
    page = " ".join(browser_of(alice).get("/alice/french/delete").content.decode().split())
    assert "Only alice can use the name again" in page


def test_what_was_deleted_a_moment_ago_cannot_be_changed_any_more(alice, french):
    same = module_find("alice", "french")
    module_delete(editor=alice, module=french)
    for change in (
        lambda: module_delete(editor=alice, module=same),
        lambda: module_edit(editor=alice, module=same, sentence="Still here"),
        lambda: version_add(author=alice, module=same, **adapter_files(seed=1)),
    ):
        with pytest.raises(Refusal, match="just deleted"):
            change()


def test_deleting_keeps_the_files_that_another_module_has_too(
    alice, bob, french, stored, django_capture_on_commit_callbacks
):
    make_module(bob, "french")
    with django_capture_on_commit_callbacks(execute=True):
        module_delete(editor=alice, module=french)
    assert french.versions.count() == 0
    assert {file.sha256 for file in VersionFile.objects.all()} <= stored()


def test_a_version_that_something_was_made_from_keeps_its_files(
    alice, french, stored, django_capture_on_commit_callbacks
):
    used = french.current
    version_add(author=alice, module=french, **adapter_files(seed=1))
    composition = Composition.objects.create(
        owner=alice, name="Task", base=used.base, method="exact", budget=1, seed=1, request_digest="0" * 64
    )
    composition.modules.create(version=used, name=french.full_name, position=0)
    with django_capture_on_commit_callbacks(execute=True):
        module_delete(editor=alice, module=french)
    assert module_find("alice", "french") is None
    assert list(french.versions.all()) == [used]
    assert {file.sha256 for file in used.files.all()} <= stored()
    assert weights_sha256(1) not in stored()


def weights_sha256(seed):
    return hashlib.sha256(weights_file(seed=seed).read()).hexdigest()


def test_everything_that_changes_a_module_is_on_record(alice, french, django_capture_on_commit_callbacks):
    version_add(author=alice, module=french, **adapter_files(seed=1))
    module_edit(editor=alice, module=french, sentence="Other")
    module_delete(editor=alice, module=french)
    actions = AuditEntry.objects.filter(subject="alice/french", actor=alice).values_list("action", flat=True)
    assert sorted(actions) == ["module.delete", "module.edit", "module.publish", "module.version"]


def test_versions_say_who_made_them(alice, bob, lab):
    module = publish(alice, namespace=lab)
    version_add(author=bob, module=module, **adapter_files(seed=1))
    assert list(Version.objects.order_by("number").values_list("author__username", flat=True)) == [
        "alice",
        "bob",
    ]
