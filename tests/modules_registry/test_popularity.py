"""Likes, downloads by day, and the order “trending”: counted once, and from the rows they stand for."""

from datetime import UTC, date, datetime, timedelta
from math import log2

import pytest

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
from modules_registry.services import module_edit
from tests.factories import make_module

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
