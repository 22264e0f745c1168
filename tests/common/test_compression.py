"""What is sent compressed, and what never is: streams, downloads, and answers that hold a secret."""

import gzip
import json

import pytest
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory

from hub_site.common.compression import CompressionMiddleware, never_compressed
from tests.factories import make_base, make_module

pytestmark = pytest.mark.django_db
READS_GZIP = {"Accept-Encoding": "gzip, deflate, br"}
TEXT = "words " * 500


def test_pages_and_json_come_compressed_to_who_asks_for_that(client, alice, tmp_path):
    make_base(tmp_path / "base")
    make_module(alice)
    for address in ("/help/", "/api/v1/modules/alice/french", "/api/models/alice/french"):
        whole, small = client.get(address), client.get(address, headers=READS_GZIP)
        assert small["Content-Encoding"] == "gzip"
        assert "Accept-Encoding" in small["Vary"]
        assert len(small.content) == int(small["Content-Length"]) < len(whole.content) * 0.7
        assert "Content-Encoding" not in whole
    assert json.loads(gzip.decompress(small.content)) == whole.json()


def test_an_unchanged_answer_is_304_compressed_or_not(client, alice, tmp_path):
    make_base(tmp_path / "base")
    make_module(alice)
    etag = client.get("/api/v1/modules/alice/french", headers=READS_GZIP)["ETag"]
    assert etag.startswith('W/"')
    again = client.get("/api/v1/modules/alice/french", headers={"If-None-Match": etag, **READS_GZIP})
    assert (again.status_code, again.content) == (304, b"")


def test_a_file_is_handed_out_as_it_is(client, alice, tmp_path):
    make_base(tmp_path / "base")
    make_module(alice)
    answer = client.get("/alice/french/resolve/main/adapter_config.json", headers=READS_GZIP)
    assert answer.status_code == 200
    assert "Content-Encoding" not in answer


def test_the_page_with_a_new_token_is_not_compressed(browser_of, alice):
    browser = browser_of(alice)
    assert "Content-Encoding" not in browser.get("/settings/tokens/", headers=READS_GZIP)
    made = browser.post("/settings/tokens/", {"name": "laptop", "scope": "read"}, headers=READS_GZIP)
    assert "lh_" in made.content.decode()
    assert "Content-Encoding" not in made


def answer_to(response, *, path="/", method="get"):
    request = getattr(RequestFactory(headers=READS_GZIP), method)(path)
    return CompressionMiddleware(lambda _request: response)(request)


def test_what_a_view_marks_is_left_alone_and_kept_by_nobody():
    marked = never_compressed(lambda _request: HttpResponse(TEXT))(None)
    answer = answer_to(marked)
    assert "Content-Encoding" not in answer
    assert set(answer["Cache-Control"].split(", ")) == {"private", "no-store", "no-transform"}


@pytest.mark.parametrize(
    ("response", "more"),
    [
        (HttpResponse(TEXT, content_type="application/octet-stream"), {}),
        (StreamingHttpResponse([b"data: 1\n\n"], content_type="text/event-stream"), {}),
        (StreamingHttpResponse([TEXT.encode()], content_type="text/html"), {}),
        (HttpResponse(TEXT), {"method": "post"}),
        (HttpResponse(TEXT), {"path": "/accounts/confirm-email/key/"}),
    ],
    ids=["bytes", "events", "stream", "post", "key"],
)
def test_this_is_not_compressed(response, more):
    assert "Content-Encoding" not in answer_to(response, **more)
    assert "Content-Encoding" in answer_to(HttpResponse(TEXT))
