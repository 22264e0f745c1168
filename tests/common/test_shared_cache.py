"""What web processes count together."""

import threading

import pytest
from django.core.cache import cache, caches
from django.db import connection

from hub_site.common.shared_cache import SharedCache


@pytest.mark.django_db(transaction=True)
def test_of_numbers_that_are_raised_at_the_same_moment_none_is_lost():
    cache.add("together", 0, 60)
    ready = threading.Barrier(4)

    def count():
        ready.wait()
        for _ in range(10):
            cache.incr("together")
        connection.close()

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.get("together") == 40


@pytest.mark.django_db
def test_a_number_that_is_raised_ends_when_it_was_to_end():
    cache.set("counted", 1, 3600)
    expires = "SELECT expires FROM shared_cache"
    with connection.cursor() as cursor:
        cursor.execute(expires)
        before = cursor.fetchone()
        assert cache.incr("counted", 2) == 3
        assert cache.decr("counted") == 2
        cursor.execute(expires)
        assert cursor.fetchone() == before
        cursor.execute("UPDATE shared_cache SET expires = now()")
    with pytest.raises(ValueError, match="not found"):
        cache.incr("counted")


@pytest.mark.django_db
def test_the_sign_in_limits_are_in_the_database_and_what_a_process_keeps_is_not():
    assert isinstance(caches["default"], SharedCache)
    cache.set("said", {"by": "one process"}, 60)
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM shared_cache")
        assert cursor.fetchone() == (1,)
    caches["process"].set("kept", 1, 60)
    assert cache.get("kept") is None
    with pytest.raises(ValueError, match="not found"):
        cache.incr("never-set")
