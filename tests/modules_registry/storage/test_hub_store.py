"""Files that are here no more come from the Hub again: whole and unaltered, or not at all."""

import hashlib
import threading

import httpx2
import pytest

from modules_registry.storage import (
    MissingBlobError,
    RemoteAlteredError,
    RemoteGoneError,
    RemoteStoreFile,
    RemoteUnavailableError,
    make_store,
)
from modules_registry.storage import remote_client as hub_client_module
from tests import faulty_hub as faults

CONTENT = b"lora" * 700_000  # 2.8 MB: three pieces
SHA256 = hashlib.sha256(CONTENT).hexdigest()
COMMIT = "0" * 40
FILE = RemoteStoreFile("us/alice.french-0a1b2c3d", COMMIT, "adapter_model.safetensors", len(CONTENT))
ADDRESS = f"/{FILE.repo_id}/resolve/{COMMIT}/{FILE.path}"


@pytest.fixture
def store(settings_of, hub, places):
    """The file is on the Hub and not here."""
    hub.files[ADDRESS] = CONTENT
    places[SHA256] = FILE
    return make_store(settings_of["hub"], places.get)


def kept(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_an_evicted_file_is_opened_as_if_it_were_here(store, hub):
    with store.open(SHA256) as file:
        assert file.read() == CONTENT
    with store.open(SHA256) as file:
        assert file.read() == CONTENT
    assert hub.asked == [f"GET {ADDRESS}"]  # once: then it is here
    assert hub.tokens == ["Bearer hf_secret"]


def test_an_evicted_file_is_fetched_as_if_it_were_here(store, tmp_path):
    store.fetch(SHA256, tmp_path / "weights", check=True)
    assert (tmp_path / "weights").read_bytes() == CONTENT


def test_an_altered_file_is_replaced_by_the_hub_s(store, folder, tmp_path):
    store.open(SHA256).close()
    (path,) = folder.rglob(SHA256)
    path.chmod(0o600)
    path.write_bytes(b"other bytes")
    store.fetch(SHA256, tmp_path / "weights", check=True)
    assert (tmp_path / "weights").read_bytes() == CONTENT


@pytest.mark.parametrize("fault", [faults.wrong_bytes, faults.too_many_bytes])
def test_other_bytes_than_those_stored_are_never_kept(store, hub, folder, fault):
    hub.spoil("GET", FILE.path, fault)
    with pytest.raises(RemoteAlteredError, match="other bytes for adapter_model") as refusal:
        store.open(SHA256)
    assert refusal.value.code == "hub_altered"
    assert kept(folder) == []


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (faults.truncated, "broke"),
        (faults.reset, "connection broke"),
        (faults.status(500), r"busy or broken just now \(500\)"),
        (faults.status(503, Retry_After="7"), r"\(503\)"),
    ],
)
def test_what_passes_is_told_as_such_and_the_next_try_succeeds(store, hub, folder, fault, sentence):
    hub.spoil("GET", FILE.path, fault)
    with pytest.raises(RemoteUnavailableError, match=sentence):
        store.open(SHA256)
    assert kept(folder) == []
    with store.open(SHA256) as file:
        assert file.read() == CONTENT


def test_the_wait_that_the_hub_asks_for_is_known(store, hub):
    hub.spoil("GET", FILE.path, faults.status(429, Retry_After="90"))
    with pytest.raises(RemoteUnavailableError) as refusal:
        store.open(SHA256)
    assert refusal.value.retry_after_s == 90


@pytest.mark.parametrize(
    ("headers", "least_s", "most_s"),
    [
        ({"retry-after": "12"}, 12, 12),
        ({"retry-after": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0, 0),
        ({"retry-after": "Wed, 21 Oct 2099 07:28:00 GMT"}, 10**9, 10**10),
        ({"ratelimit": '"api";r=0;t=55'}, 55, 55),
        ({"retry-after": "soon"}, 0, 0),
        ({}, 0, 0),
    ],
)
def test_every_form_of_a_wait_is_read(headers, least_s, most_s):
    assert least_s <= hub_client_module.wait_asked_for(headers) <= most_s


def test_a_hub_that_says_nothing_is_given_up(store, hub, monkeypatch):
    over = threading.Event()
    hub.spoil("GET", FILE.path, faults.silent(over))
    monkeypatch.setattr(hub_client_module.get_session(), "timeout", httpx2.Timeout(0.2))
    with pytest.raises(RemoteUnavailableError, match="did not answer in time"):
        store.open(SHA256)
    over.set()


def test_a_hub_that_drips_is_given_up(store, folder, monkeypatch):
    monkeypatch.setattr(hub_client_module, "PATIENCE_S", -1e9)
    with pytest.raises(RemoteUnavailableError, match="too slowly"):
        store.open(SHA256)
    assert kept(folder) == []


@pytest.mark.parametrize("code", ["RepoNotFound", "RevisionNotFound", "EntryNotFound"])
def test_what_was_moved_or_removed_there_is_told_at_once(store, hub, code):
    hub.spoil("GET", FILE.path, faults.status(404, X_Error_Code=code), times=9)
    with pytest.raises(RemoteGoneError, match="no longer on the Hub") as refusal:
        store.open(SHA256)
    assert (refusal.value.code, refusal.value.repo_id) == ("hub_gone", FILE.repo_id)
    assert len(hub.asked) == 1


def test_a_redirect_to_another_host_does_not_carry_the_token_away(store, hub):
    with faults.faulty_hub() as elsewhere:
        elsewhere.files["/bytes"] = CONTENT
        other_host = elsewhere.endpoint.replace("127.0.0.1", "localhost")
        hub.spoil("GET", FILE.path, faults.redirect_to(f"{other_host}/bytes"))
        store.open(SHA256).close()
        assert elsewhere.tokens == [""]


def test_what_is_nowhere_is_missing(store):
    with pytest.raises(MissingBlobError):
        store.open("1" * 64)


def test_the_environment_leads_neither_elsewhere_nor_to_another_token(store, hub, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_operator")
    store.open(SHA256).close()
    assert hub.tokens == ["Bearer hf_secret"]


@pytest.mark.parametrize(
    ("one", "other"),
    [(("a.b", "c"), ("a", "b.c")), (("alice", "l"), ("alice", "I")), (("a", "b"), ("a", "B1"))],
)
def test_two_modules_never_share_a_repository(store, one, other):
    first, second = store.remote.repo_id_for(*one), store.remote.repo_id_for(*other)
    assert first.casefold() != second.casefold()
    assert store.remote.repo_id_for(*one) == first


def test_a_repository_s_name_is_one_that_a_hub_takes(store):
    from huggingface_hub.utils import validate_repo_id

    for owner, name in [("alice", "french"), ("a" * 96, "b" * 96), ("a_", "b_"), ("a" * 86, "b")]:
        validate_repo_id(store.remote.repo_id_for(owner, name))
    assert store.remote.repo_id_for("alice", "french").startswith("us/alice.french-")


def test_the_least_recently_used_file_is_named_first(store, folder, hub, places):
    import io
    import os

    old = store.put(io.BytesIO(b"old"), max_bytes=9)
    new = store.put(io.BytesIO(b"new"), max_bytes=9)
    for position, blob in enumerate((old, new)):
        (path,) = folder.rglob(blob.sha256)
        os.utime(path, (1000 + position, 1000 + position))
    assert store.by_last_use() == [old, new]
    store.open(old.sha256).close()
    assert store.by_last_use() == [new, old]
