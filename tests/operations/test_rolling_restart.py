"""Web processes are replaced one after the other, under load, and nobody gets an error.

As docs/operating.md has it: a process leaves the proxy's list, ends, starts anew, and comes back once it is
ready.
"""

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections import Counter

import pytest

from hub_site.accounts.services import token_create
from hub_site.embedded.processes import wait_for
from tests.factories import make_module
from tests.served_site import ServedSite

READERS = 3
LEAST_ANSWERS = 60


class Proxy:
    """A list of addresses that takes turns, as a reverse proxy has it."""

    def __init__(self, sites):
        self.sites, self.turn, self.lock = list(sites), 0, threading.Lock()

    def next(self):
        with self.lock:
            self.turn += 1
            return self.sites[self.turn % len(self.sites)]

    def leave(self, site):
        with self.lock:
            self.sites.remove(site)

    def join(self, site):
        with self.lock:
            self.sites.append(site)


class Load:
    """Readers and a writer that ask for one thing after the other."""

    def __init__(self, proxy, token):
        self.proxy, self.headers = proxy, {"Authorization": f"Bearer {token}"}
        self.answers, self.faults = Counter(), []
        self.in_flight, self.ended = Counter(), threading.Event()
        asked = [("GET", "/modules/"), ("GET", "/bob/upper"), ("GET", "/api/v1/modules")]
        writes = [("PUT", "/api/v1/modules/bob/upper/like"), ("DELETE", "/api/v1/modules/bob/upper/like")]
        self.threads = [threading.Thread(target=self.ask, args=(asked,)) for _ in range(READERS)]
        self.threads.append(threading.Thread(target=self.ask, args=(writes,)))

    def ask(self, requests):
        number = 0
        while not self.ended.is_set():
            method, path = requests[number % len(requests)]
            number += 1
            site = self.proxy.next()
            self.in_flight[site.port] += 1
            try:
                connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=30)
                connection.request(method, path, headers=self.headers)
                answer = connection.getresponse()
                answer.read()
                self.answers[answer.status] += 1
                if answer.status >= 400:
                    self.faults.append((method, path, answer.status))
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.faults.append((method, path, repr(error)))
            finally:
                self.in_flight[site.port] -= 1

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.ended.set()
        for thread in self.threads:
            thread.join()


def is_ready(site):
    try:
        with urllib.request.urlopen(f"{site.address}/health/ready", timeout=5) as answer:
            return json.load(answer)["schema"] == "ok"
    except (OSError, urllib.error.URLError):
        return False


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_no_request_fails_while_every_web_process_is_replaced(transactional_db, alice, bob, tmp_path):
    make_module(bob, "upper", seed=1)
    _, token = token_create(user=alice, label="load", scope="write")
    sites = [ServedSite(tmp_path / str(number)) for number in range(2)]
    try:
        for site in sites:
            site.start()
        proxy = Proxy(sites)
        with Load(proxy, token) as load:
            assert wait_for(lambda: sum(load.answers.values()) > LEAST_ANSWERS, timeout_s=60)
            for site in sites:
                before, old = sum(load.answers.values()), site.process.pid
                proxy.leave(site)
                assert wait_for(lambda site=site: load.in_flight[site.port] == 0, timeout_s=30)
                site.stop()
                site.start()
                assert wait_for(lambda site=site: is_ready(site), timeout_s=60)
                proxy.join(site)
                assert site.process.pid != old
                assert wait_for(
                    lambda before=before: sum(load.answers.values()) > before + LEAST_ANSWERS, timeout_s=60
                )
    finally:
        for site in sites:
            site.stop()
    assert load.faults == []
    assert set(load.answers) <= {200, 201, 204}
