"""ETags of JSON answers and RateLimit headers of limits: sent, and told by the description."""

import pytest
from drf_spectacular.generators import SchemaGenerator

from hub_site.common.quotas import Quota, quota_headers
from tests.factories import adapter_files, make_base, make_module

pytestmark = pytest.mark.django_db


def test_an_unchanged_answer_is_304_and_a_changed_one_is_whole(client, alice, tmp_path):
    make_base(tmp_path / "base")
    make_module(alice)
    for address in ("/api/v1/modules/alice/french", "/api/v1/modules", "/api/models/alice/french"):
        etag = client.get(address)["ETag"]
        again = client.get(address, headers={"If-None-Match": f'"other", {etag}'})
        assert (again.status_code, again.content, again["ETag"]) == (304, b"", etag)
    make_module(alice, "spanish", seed=1)
    assert client.get("/api/v1/modules", headers={"If-None-Match": etag}).status_code == 200


def test_errors_pages_and_changes_have_none(client, alice, api_of):
    assert "ETag" not in client.get("/api/v1/modules/alice/none")
    assert "ETag" not in client.get("/modules/")
    assert "ETag" not in api_of(alice).post("/api/v1/modules", {}, format="multipart")


def test_what_counts_against_a_limit_tells_what_is_left(alice, api_of, settings, tmp_path):
    settings.HUB_UPLOADS_AN_HOUR = 5
    make_base(tmp_path / "base")
    form = {"name": "one", "sentence": "Into French", "licence": "mit"} | adapter_files()
    answer = api_of(alice).post("/api/v1/modules", form, format="multipart")
    assert answer["RateLimit-Policy"] == '"uploads";q=5;w=3600'
    assert answer["RateLimit"].startswith('"uploads";r=4;t=')


def test_several_limits_share_the_two_headers_and_no_limit_has_none():
    quotas = [Quota("a", "", 1, 5), Quota("b", "", 7, 6, window_s=60, resets_s=9), Quota("c", "", 1, 0)]
    assert quota_headers(quotas) == {
        "RateLimit-Policy": '"a";q=5, "b";q=6;w=60',
        "RateLimit": '"a";r=4;t=0, "b";r=0;t=9',
    }
    assert quota_headers(quotas[2:]) == {}


def test_the_description_has_etags_of_reads_and_limits_of_what_is_limited():
    paths = SchemaGenerator().get_schema(request=None, public=True)["paths"]
    read = paths["/api/v1/modules/{namespace}/{name}"]["get"]["responses"]
    assert "ETag" in read["200"]["headers"]
    assert "304" in read
    published = paths["/api/v1/modules"]["post"]["responses"]
    assert {"RateLimit", "RateLimit-Policy"} <= set(published["201"]["headers"]) & set(
        published["429"]["headers"]
    )
