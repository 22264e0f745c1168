"""Likes, downloads by day, and the order “trending”: counted once, and from the rows they stand for."""

from datetime import UTC, date, datetime, timedelta
from math import log2

import pytest

from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from hub_site.my_account.services import account_delete
from modules_registry.models import DownloadDay, Like, Module
from modules_registry.popularity import (
    LIKE_IN_DOWNLOADS,
    download_count,
    module_like,
    module_unlike,
    recount,
)
from modules_registry.services import module_edit, module_publish, version_add
from tests.factories import adapter_files, make_module

pytestmark = pytest.mark.django_db


def test_a_like_counts_once_and_can_be_taken_back(french, bob, charlie):
    module_like(user=bob, module=french)
    module_like(user=bob, module=french)
    assert module_like(user=charlie, module=french).likes == 2
    assert module_unlike(user=bob, module=french).likes == 1
    module_unlike(user=bob, module=french)
    assert Module.objects.get().likes == Like.objects.count() == 1


def test_nothing_is_liked_before_it_is_published(alice, french):
    Module.objects.update(current=None)
    with pytest.raises(Refusal) as refused:
        module_like(user=alice, module=french)
    assert (refused.value.code, refused.value.status) == ("is_draft", 409)


def test_the_likes_of_a_deleted_account_are_taken_back(french, bob, charlie):
    module_like(user=charlie, module=french)
    before = Module.objects.get()
    module_like(user=bob, module=french)
    account_delete(user=bob)
    after = Module.objects.get()
    assert (after.likes, after.trending) == (1, pytest.approx(before.trending))


def test_downloads_are_counted_by_day(french):
    download_count(version=french.current, client="a")
    download_count(version=french.current, client="a")
    download_count(version=french.current, client="b")
    assert [row.downloads for row in DownloadDay.objects.all()] == [2]


def test_an_edit_keeps_what_was_counted_meanwhile(alice, bob, french):
    read_before = Module.objects.get()
    download_count(version=french.current, client="a")
    module_like(user=bob, module=french)
    trending = Module.objects.get().trending
    module_edit(editor=alice, module=read_before, sentence="Translate to French, formally")
    kept = Module.objects.get()
    assert (kept.downloads, kept.likes, kept.trending) == (1, 1, trending)


def test_trending_is_the_documented_sum(french, bob):
    made = datetime(2026, 3, 2, 12, tzinfo=UTC)
    Module.objects.update(created_at=made)
    days = {date(2026, 3, 9): 4, date(2026, 5, 4): 7}
    DownloadDay.objects.bulk_create(
        DownloadDay(module=french, day=day, downloads=downloads) for day, downloads in days.items()
    )
    liked = datetime(2026, 5, 6, tzinfo=UTC)
    Like.objects.create(module=french, user=bob)
    Like.objects.update(created_at=liked)
    recount([french.pk])
    week = timedelta(weeks=1)
    ages = [(n, (datetime(*day.timetuple()[:3], tzinfo=UTC) - made) / week) for day, n in days.items()]
    ages += [(1, 0), (LIKE_IN_DOWNLOADS, (liked - made) / week)]
    expected = made.timestamp() / week.total_seconds() + log2(sum(n * 2**age for n, age in ages))
    assert Module.objects.get().trending == pytest.approx(expected, abs=1e-9)


def test_a_new_module_comes_before_an_old_one_and_a_download_today_before_both(alice, base, french):
    Module.objects.update(created_at=datetime(1980, 1, 1, tzinfo=UTC))
    recount([french.pk])
    make_module(alice, "new")
    names = Module.objects.order_by("-trending").values_list("name", flat=True)
    assert list(names) == ["new", "french"]
    download_count(version=french.current, client="a")
    download_count(version=french.current, client="b")
    assert list(names.all()) == ["french", "new"]


def test_the_button_likes_and_takes_it_back_and_asks_to_sign_in(client, french, bob, browser_of):
    assert client.post("/alice/french/like")["Location"].startswith("/accounts/login/")
    browser = browser_of(bob)
    assert browser.post("/alice/french/like")["Location"] == "/alice/french"
    page = browser.get("/alice/french").content.decode()
    assert 'aria-pressed="true"' in page
    part = browser.post(
        "/alice/french/like", {"liked": "no"}, headers={"HX-Request": "true"}
    ).content.decode()
    assert 'aria-pressed="false"' in part
    assert "<html" not in part
    assert not Like.objects.exists()


def test_the_api_likes_and_shows_downloads_by_day(client, french, bob, api_of):
    api = api_of(bob)
    address = "/api/v1/modules/alice/french/like"
    assert client.put(address).status_code == 401
    assert api_of(bob, "read").put(address).status_code == 403
    assert api.get(address).json() == {"liked": False, "likes": 0}
    assert api.put(address).json() == api.put(address).json() == {"liked": True, "likes": 1}
    assert client.get("/api/v1/modules/alice/french").json()["likes"] == 1
    assert api.delete(address).json() == {"liked": False, "likes": 0}
    download_count(version=french.current, client="a")
    days = client.get("/api/v1/modules/alice/french/downloads").json()
    assert [row["downloads"] for row in days] == [1]


def test_hub_clients_like_and_list_likes(client, french, bob, api_of):
    api = api_of(bob)
    assert api.post("/api/models/alice/french/like").status_code == 200
    assert client.get("/api/models/alice/french").json()["likes"] == 1
    assert [row["user"] for row in client.get("/api/models/alice/french/likers").json()] == ["bob"]
    assert [row["repo"]["name"] for row in client.get("/api/users/bob/likes").json()] == ["alice/french"]
    assert client.post("/api/models/alice/french/like").status_code == 401
    assert api.delete("/api/models/alice/french/like").status_code == 200
    assert client.get("/api/users/bob/likes").json() == []


def test_the_page_draws_downloads_by_week_with_a_table(client, french):
    assert "weeks__chart" not in client.get("/alice/french").content.decode()
    DownloadDay.objects.create(module=french, day=database_now().date() - timedelta(weeks=3), downloads=8)
    DownloadDay.objects.create(module=french, day=database_now().date() - timedelta(weeks=60), downloads=99)
    Module.objects.filter(pk=french.pk).update(downloads=107)
    page = client.get("/alice/french").content.decode()
    assert "weeks__chart" in page
    assert '<td class="num">8</td>' in page
    assert '<td class="num">99</td>' not in page


def test_a_profile_tells_what_its_owner_published_and_likes(client, alice, bob, french, lab):
    version_add(author=alice, module=french, **adapter_files(seed=1))
    shared = module_publish(author=bob, namespace=lab, name="shared", **adapter_files(seed=2))
    module_like(user=bob, module=french)
    deeds = client.get("/api/v1/owners/bob/activity").json()
    assert [(deed["action"], deed["module"]) for deed in deeds] == [
        ("like", "alice/french"),
        ("publish", "lab/shared"),
    ]
    earlier = {"before": deeds[0]["at"], "limit": 1}
    assert client.get("/api/v1/owners/bob/activity", earlier).json() == deeds[1:]
    assert [deed["by"] for deed in client.get("/api/v1/owners/lab/activity").json()] == ["bob"]
    versions = client.get("/api/v1/owners/alice/activity").json()
    assert [(deed["action"], deed["version"]) for deed in versions] == [("version", 2), ("publish", 1)]
    page = client.get("/bob").content.decode()
    assert "likes" in page
    assert shared.full_name in page
    told = client.get("/api/v1/owners/alice").json()
    assert (told["kind"], told["modules"], told["likes"]) == ("user", 1, 1)


def test_activity_and_likes_never_name_what_the_reader_may_not_see(client, bob, french):
    module_like(user=bob, module=french)
    Module.objects.update(private=True)
    for address in ("/api/v1/owners/bob/activity", "/api/v1/owners/alice/activity", "/api/users/bob/likes"):
        assert client.get(address).json() == []
    assert "alice/french" not in client.get("/bob").content.decode()
    assert client.get("/api/v1/owners/alice").json()["modules"] == 0
    assert client.get("/api/v1/modules/alice/french/downloads").status_code == 404
