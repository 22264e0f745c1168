"""Files of modules and bases: pinned, whole, in parts, and never by a client's path."""

import asyncio
import hashlib

import pytest
from django.test import AsyncClient

from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
from modules_registry.services import module_delete, version_add
from tests.factories import adapter_files, weights_file

pytestmark = pytest.mark.django_db
WEIGHTS = weights_file(seed=0).read()
ADDRESS = f"/alice/french/resolve/main/{WEIGHTS_FILE}"


def body(response):
    return b"".join(response.streaming_content)


def test_a_file_comes_whole_with_what_a_client_needs_to_check_it(client, french):
    response = client.get(ADDRESS)
    assert body(response) == WEIGHTS
    assert response["X-Repo-Commit"] == french.current.commit_id
    assert response["ETag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
    assert response["Content-Length"] == str(len(WEIGHTS))
    assert response["Content-Disposition"] == f'attachment; filename="{WEIGHTS_FILE}"'
    assert response["X-Content-Type-Options"] == "nosniff"


def test_head_tells_the_same_without_the_bytes(client, french):
    answered, asked = client.head(ADDRESS), client.get(ADDRESS)
    body(asked)
    for header in ("X-Repo-Commit", "ETag", "Content-Length", "Accept-Ranges", "Content-Type"):
        assert answered[header] == asked[header]
    assert answered.content == b""


@pytest.mark.parametrize("revision", ["main", "v1", "commit"])
def test_a_version_is_found_by_each_of_its_names(client, alice, french, revision):
    first = french.current
    named = first.commit_id if revision == "commit" else revision
    response = client.get(f"/alice/french/resolve/{named}/{WEIGHTS_FILE}")
    assert body(response) == WEIGHTS


def test_an_old_version_keeps_its_files(client, alice, french):
    version_add(author=alice, module=french, **adapter_files(seed=1))
    assert body(client.get(f"/alice/french/resolve/v1/{WEIGHTS_FILE}")) == WEIGHTS
    assert body(client.get(ADDRESS)) == weights_file(seed=1).read()


@pytest.mark.parametrize(
    ("asked", "status", "part", "told"),
    [
        ("bytes=0-9", 206, slice(0, 10), "bytes 0-9/{size}"),
        ("bytes=10-", 206, slice(10, None), "bytes 10-{last}/{size}"),
        ("bytes=-4", 206, slice(-4, None), None),
        ("bytes=5-999999", 206, slice(5, None), "bytes 5-{last}/{size}"),
        ("bytes=0-1,4-5", 200, slice(None), None),
        ("lines=0-1", 200, slice(None), None),
        ("bytes=-", 200, slice(None), None),
    ],
)
def test_a_range_gives_that_part(client, french, asked, status, part, told):
    response = client.get(ADDRESS, headers={"Range": asked})
    assert response.status_code == status
    assert body(response) == WEIGHTS[part]
    assert response["Content-Length"] == str(len(WEIGHTS[part]))
    if told:
        assert response["Content-Range"] == told.format(size=len(WEIGHTS), last=len(WEIGHTS) - 1)


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=5-4", "bytes=-0"])
def test_a_range_that_does_not_exist_is_416(client, french, asked):
    response = client.get(ADDRESS, headers={"Range": asked})
    assert response.status_code == 416
    assert response["Content-Range"] == f"bytes */{len(WEIGHTS)}"


def test_a_resumed_download_of_other_bytes_starts_anew(client, french):
    response = client.get(ADDRESS, headers={"Range": "bytes=5-", "If-Range": '"something else"'})
    assert response.status_code == 200
    assert body(response) == WEIGHTS


def test_what_the_client_has_is_not_sent_again(client, french):
    etag = client.head(ADDRESS)["ETag"]
    response = client.get(ADDRESS, headers={"If-None-Match": etag})
    assert response.status_code == 304
    assert response.content == b""


@pytest.mark.parametrize(
    "path",
    [
        "../../../../etc/passwd",
        "..%2f..%2fetc%2fpasswd",
        "/etc/passwd",
        "%00",
        "adapter_config.json%0aX-Evil:1",
        "blobs",
        "ADAPTER_CONFIG.JSON",
        "x" * 3000,
    ],
)
def test_a_path_that_no_row_has_is_no_file(client, french, path):
    response = client.get(f"/alice/french/resolve/main/{path}")
    assert response.status_code == 404
    assert "X-Evil" not in response.headers


@pytest.mark.parametrize(
    ("address", "code"),
    [
        (f"/alice/german/resolve/main/{CONFIG_FILE}", "RepoNotFound"),
        (f"/nobody/french/resolve/main/{CONFIG_FILE}", "RepoNotFound"),
        (f"/alice/french/resolve/v2/{CONFIG_FILE}", "RevisionNotFound"),
        (f"/alice/french/resolve/%00/{CONFIG_FILE}", "RevisionNotFound"),
        (f"/alice/french/resolve/{'0' * 40}/{CONFIG_FILE}", "RevisionNotFound"),
        ("/alice/french/resolve/main/adapter_model.bin", "EntryNotFound"),
    ],
)
def test_what_is_missing_is_named_for_hub_clients(client, french, address, code):
    response = client.get(address)
    assert (response.status_code, response["X-Error-Code"]) == (404, code)


def test_a_deleted_module_serves_nothing(client, alice, french):
    commit = french.current.commit_id
    module_delete(editor=alice, module=french)
    for revision in ("main", commit):
        assert client.get(f"/alice/french/resolve/{revision}/{WEIGHTS_FILE}").status_code == 404


def test_a_base_model_s_files_have_addresses_too(client, base):
    response = client.get("/tests/tiny/resolve/main/config.json")
    assert b"T5ForConditionalGeneration" in body(response)
    assert response["X-Repo-Commit"] == base.revision
    assert client.get(f"/tests/tiny/resolve/{'0' * 40}/config.json")["X-Error-Code"] == "RevisionNotFound"


@pytest.mark.django_db(transaction=True)
def test_under_asgi_a_file_comes_in_pieces(french, monkeypatch):
    """A synchronous iterator would be collected whole before the first byte leaves."""
    monkeypatch.setattr("hub_site.common.downloads.PIECE_BYTES", 100)

    async def pieces():
        response = await AsyncClient().get(ADDRESS)
        assert response.is_async
        return [piece async for piece in response.streaming_content]

    received = asyncio.run(pieces())
    assert b"".join(received) == WEIGHTS
    assert {len(piece) for piece in received[:-1]} == {100}
