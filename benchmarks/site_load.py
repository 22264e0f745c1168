"""How fast the site answers on a library of 100,000 modules, with readers who ask one thing after the other.

    ./hub manage seed_scale
    python -m benchmarks.site_load [--seconds 60] [--readers 4] [--routes WORD] [--out FILE]

Starts the site's own web server, one process, beside its database on this machine. Each reader asks again as
soon as it has the whole answer; a route is warmed for some seconds first. Readers and site share the cores.
Every route asks for one thing after the other of a list that is drawn from the library, always the same one.

The site keeps what strangers see for half a minute, or until something is published; nothing changes while
this measures. For who is signed in or sends a token it keeps nothing, so some routes are measured for them as
well. Queries are counted while nothing is kept.
"""

import argparse
import contextlib
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import psutil
import psycopg

from benchmarks.hub_upload import free_port, is_up, manage
from benchmarks.machine import machine
from hub_site.embedded.environment import site_environment
from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.processes import wait_for
from hub_site.embedded.servers import running_servers

RESULT = REPOSITORY / "benchmarks" / "results" / "site_load.json"
DATABASE, FOLDER = "hub_scale", "scale"  # as seed_scale makes them
WARM_S = 5
NO_ANSWER = 0  # a status
SEED = 18
ASKED_EACH = 40  # different addresses of one route
QUERIED_EACH = 10  # of these, of which the queries are looked at
FOR_SOMEBODY = (
    "library: no filter",
    "library: common word",
    "library: rare word",
    "library: facet tag",
    "module page",
    "base page",
    "profile page",
)
WITH_TOKEN = ("hub info", "hub tree", "hub resolve", "hub list: plain", "hub list: search")
FITTING_BASE = "google/flan-t5-large"  # 8,000 modules fit it

COMMON_WORDS = ("examples", "french", "medicine", "summary", "translation", "questions", "spanish", "weather")
TYPOS = ("spansh", "frensh", "medecine", "translaton", "sumary", "questons", "wether", "germna", "resturants")
TWO_WORDS = ("french medicine", "spanish law", "summary football", "sentiment hotels", "german travel")
PAGES = (2, 500, 1500, 3000)  # of 24 modules each, the newest change first
PAGE_SIZE = 24
BEGINNINGS = (
    "fr",
    "span",
    "med",
    "trans",
    "summ",
    "llama",
    "goo",
    "ques",
    "wea",
    "tit",
    "zeb",
    "translation-f",
)


MODULES = """
SELECT namespace.name, module.name
FROM modules_registry_module AS module
JOIN accounts_namespace AS namespace ON namespace.id = module.namespace_id
WHERE module.id % 97 = 0 ORDER BY module.id
"""
VALUES = """
SELECT facet, value FROM modules_registry_facetvalue WHERE n_modules > 0 ORDER BY n_modules DESC, value
"""
RARE_WORDS = """
SELECT word FROM modules_registry_searchword
WHERE n_modules BETWEEN 20 AND 600 AND length(word) > 5 ORDER BY word
"""


@dataclass(frozen=True)
class Route:
    """One thing that is asked for: addresses, and within how long 95 of 100 answers come."""

    name: str
    goal_ms: float
    addresses: Sequence[str]
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None  # of a POST


@dataclass(frozen=True)
class LoadedSite:
    port: int
    process: psutil.Process
    environment: Mapping[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--readers", type=int, default=4)
    parser.add_argument("--routes", default="", help="only those whose name holds this")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    with loaded_site() as site:
        routes = [route for route in all_routes(site) if arguments.routes in route.name]
        rows = []
        for route in routes:
            rows.append(measure(site, route, arguments.readers, arguments.seconds))
            print(json.dumps(rows[-1]), flush=True)
        for row, asked in zip(rows, queries_of(site, routes), strict=True):
            row.update(asked)
    result = {
        "machine": machine(),
        "kernel": platform.release(),
        "readers": arguments.readers,
        "seconds_a_route": arguments.seconds,
        "load_average_before": LOAD_BEFORE,
        "routes": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def queries_of(site: LoadedSite, routes: Sequence[Route]) -> list[dict[str, Any]]:
    """What each route asks of the database, while no page is kept: see `print_queries`."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump([asdict(route) | {"body": (route.body or b"").decode()} for route in routes], file)
        file.flush()
        code = f"from benchmarks import site_load; site_load.print_queries({file.name!r})"
        told: list[dict[str, Any]] = json.loads(
            manage(site.environment, "shell", "--verbosity", "0", "-c", code)
        )
    return told


LOAD_BEFORE = [round(load, 1) for load in os.getloadavg()]


@contextlib.contextmanager
def loaded_site() -> Iterator[LoadedSite]:
    """The web server on the large library."""
    folder = DataFolder.from_environment()
    folder.make()
    port = free_port()
    with running_servers(folder) as servers:
        address = urlsplit(servers.environment["DATABASE_URL"])._replace(path=f"/{DATABASE}")
        environment = site_environment(folder, servers.environment, "hub_site.settings.prod") | {
            "DATABASE_URL": urlunsplit(address),
            "HUB_DATA": str(folder.root / FOLDER),
            "HUB_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "HUB_DATABASE_POOL": "20",
            "PYTHONPATH": str(REPOSITORY),
        }
        manage(environment, "migrate", "--verbosity", "0")
        manage(environment, "collectstatic", "--no-input", "--verbosity", "0")
        command = ["-m", "uvicorn", "hub_site.asgi:application", "--port", str(port), "--lifespan", "off"]
        more = ["--http", "hub_site.http_protocol:TimedProtocol", "--no-access-log"]
        log = (folder.logs / "site_load.log").open("ab")
        process = subprocess.Popen(
            [sys.executable, *command, *more], env=environment, cwd=REPOSITORY, stdout=log, stderr=log
        )
        try:
            wait_for(lambda: is_up(port), timeout_s=120)
            yield LoadedSite(port, psutil.Process(process.pid), environment)
        finally:
            process.terminate()
            process.wait()
            log.close()


def measure(site: LoadedSite, route: Route, readers: int, seconds: float) -> dict[str, Any]:
    """Ask for a route for a while; times are from sending the request to the end of the answer."""
    next_address = shared(cycle(route.addresses))
    ask_for(site, route, next_address, readers, WARM_S)
    memory_before, cpu_before = site.process.memory_info().rss, cpu_s(site.process)
    times_ms, statuses = ask_for(site, route, next_address, readers, seconds)
    cpu_ms = 1000 * (cpu_s(site.process) - cpu_before) / len(times_ms)
    times_ms.sort()
    p95 = times_ms[int(0.95 * len(times_ms))]
    return {
        "route": route.name,
        "goal_p95_ms": route.goal_ms,
        "p95_ms": round(p95, 1),
        "is_met": p95 <= route.goal_ms and set(statuses) == {200},
        "median_ms": round(statistics.median(times_ms), 1),
        "most_ms": round(times_ms[-1], 1),
        "answers": len(times_ms),
        "web_cpu_ms_an_answer": round(cpu_ms, 1),
        "statuses": {str(status): statuses.count(status) for status in sorted(set(statuses))},
        "web_memory_mb": [round(memory_before / 1e6), round(site.process.memory_info().rss / 1e6)],
        "example": route.addresses[0],
    }


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def ask_for(
    site: LoadedSite, route: Route, next_address: Callable[[], str], readers: int, seconds: float
) -> tuple[list[float], list[int]]:
    times_ms: list[float] = []
    statuses: list[int] = []
    ends_at = time.monotonic() + seconds

    def read() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=120)
        while time.monotonic() < ends_at:
            begun = time.perf_counter()
            method = "GET" if route.body is None else "POST"
            try:
                connection.request(method, next_address(), body=route.body, headers=dict(route.headers))
                answer = connection.getresponse()
                answer.read()
                status = answer.status
            except (OSError, http.client.HTTPException):
                connection.close()
                status = NO_ANSWER
            times_ms.append(1000 * (time.perf_counter() - begun))
            statuses.append(status)
        connection.close()

    threads = [threading.Thread(target=read) for _ in range(readers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times_ms, statuses


def shared(addresses: Iterator[str]) -> Callable[[], str]:
    lock = threading.Lock()

    def following() -> str:
        with lock:
            return next(addresses)

    return following


def all_routes(site: LoadedSite) -> list[Route]:
    code = "from benchmarks import site_load; site_load.print_prepared()"
    prepared = json.loads(manage(site.environment, "shell", "--verbosity", "0", "-c", code))
    with psycopg.connect(site.environment["DATABASE_URL"]) as database:
        library = Library(database, {int(page): cursor for page, cursor in prepared["cursors"].items()})
    routes = [*library_routes(library), *page_routes(library), *protocol_routes(library)]
    signed_in = {"Cookie": f"sessionid={prepared['session']}"}
    with_token = {"Authorization": f"Bearer {prepared['token']}"}
    routes += [
        *(as_somebody(route, "signed in", signed_in) for route in routes if route.name in FOR_SOMEBODY),
        *(as_somebody(route, "with a token", with_token) for route in routes if route.name in WITH_TOKEN),
    ]
    return [*routes, *compose_routes(prepared["session"], prepared["token"])]


def as_somebody(route: Route, who: str, headers: Mapping[str, str]) -> Route:
    """The same for who is known: nothing is kept for them."""
    return replace(route, name=f"{who}, {route.name}", headers=headers)


class Library:
    """Names that the library has, drawn once."""

    def __init__(self, database: "psycopg.Connection[Any]", cursors: Mapping[int, str]) -> None:
        random = Random(SEED)
        rows = database.execute(MODULES).fetchall()
        self.cursors = cursors
        self.modules = [f"{owner}/{name}" for owner, name in random.sample(rows, ASKED_EACH)]
        self.owners = list(dict.fromkeys(owner for owner, _ in random.sample(rows, ASKED_EACH)))
        self.values: dict[str, list[str]] = {}
        for facet, value in database.execute(VALUES):
            known = self.values.setdefault(facet, [])
            if len(known) < ASKED_EACH:
                known.append(value)
        rare = database.execute(RARE_WORDS).fetchall()
        self.rare_words = [word for (word,) in random.sample(rare, min(ASKED_EACH, len(rare)))]


def library_routes(library: Library) -> list[Route]:
    def searches(name: str, queries: Sequence[Mapping[str, str]]) -> Route:
        return Route(f"library: {name}", 250, [f"/modules/?{urlencode(query)}" for query in queries])

    facets = ("tag", "base", "task", "language", "licence", "allows", "author", "rank", "size", "target")
    more = ("scaling", "architecture", "composable", "evidence")
    sorts = ("trending", "downloads", "likes", "newest", "recent", "name")
    return [
        searches("no filter", [{}]),
        searches("common word", [{"q": word} for word in COMMON_WORDS]),
        searches("rare word", [{"q": word} for word in library.rare_words]),
        searches("typo", [{"q": word} for word in TYPOS]),
        searches("two words", [{"q": words} for words in TWO_WORDS]),
        *(
            searches(f"facet {facet}", [{facet: value} for value in library.values[facet]])
            for facet in (*facets, *more)
        ),
        searches(
            "facet and words",
            [{"q": word, "base": base} for word in COMMON_WORDS for base in library.values["base"][:5]],
        ),
        *(searches(f"sort {sort}", [{"sort": sort}]) for sort in sorts),
        searches("page 2", [{"cursor": library.cursors[2]}]),
        searches("deep cursor", [{"cursor": library.cursors[page]} for page in PAGES[1:]]),
        Route(
            "REST list",
            150,
            [f"/api/v1/modules?{urlencode({'q': word})}" for word in COMMON_WORDS] + ["/api/v1/modules"],
        ),
        Route("suggestions", 60, [f"/modules/suggestions/?q={quote(text)}" for text in BEGINNINGS]),
    ]


def page_routes(library: Library) -> list[Route]:
    return [
        Route("module page", 80, [f"/{name}" for name in library.modules]),
        Route("base page", 80, [f"/{name}" for name in library.values["composes_on"]]),
        Route("profile page", 80, [f"/{name}" for name in library.owners]),
        Route("home", 80, ["/"]),
    ]


def protocol_routes(library: Library) -> list[Route]:
    def lists(name: str, queries: Sequence[Mapping[str, str]]) -> Route:
        return Route(f"hub list: {name}", 150, [f"/api/models?{urlencode(query)}" for query in queries])

    return [
        Route("hub info", 60, [f"/api/models/{name}" for name in library.modules]),
        Route("hub tree", 60, [f"/api/models/{name}/tree/main" for name in library.modules]),
        Route("hub resolve", 60, [f"/{name}/resolve/main/adapter_config.json" for name in library.modules]),
        lists("plain", [{"limit": "20"}]),
        lists("search", [{"search": word, "limit": "20"} for word in COMMON_WORDS]),
        lists("filter", [{"filter": tag, "limit": "20"} for tag in library.values["tag"]]),
        lists("author", [{"author": owner, "limit": "20"} for owner in library.owners]),
        lists(
            "sort",
            [{"sort": sort, "limit": "20"} for sort in ("downloads", "likes", "trendingScore", "createdAt")],
        ),
        lists("paging", [{"cursor": library.cursors[page], "limit": "20"} for page in PAGES]),
        lists("full page", [{"limit": "100"}]),
        lists("full page in full", [{"limit": "50", "full": "true"}]),
    ]


def compose_routes(session: str, token: str) -> list[Route]:
    """The form with 8,000 modules that fit, its candidates and its estimate, for somebody signed in."""
    examples = [{"input": f": word {n}", "output": f"WORD {n}"} for n in range(5)]
    asked = {"name": "Words in capitals", "base": FITTING_BASE, "examples": examples}
    sent = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    return [
        Route(
            "compose form",
            250,
            [f"/compositions/new/?base={quote(FITTING_BASE)}"],
            {"Cookie": f"sessionid={session}"},
        ),
        Route("candidates", 250, ["/api/v1/compositions/candidates"], sent, json.dumps(asked).encode()),
        Route("estimate", 250, ["/api/v1/compositions/estimate"], sent, json.dumps(asked).encode()),
    ]


# --- in the place of somebody who signs in, inside manage.py ------------------


def print_prepared() -> None:
    """A session and a token of one account, and cursors of the library's pages, as JSON."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.sessions.backends.db import SessionStore

    from hub_site.accounts.models import User
    from hub_site.accounts.services import token_create, user_create
    from modules_registry.keyset import write_cursor
    from modules_registry.models import Module

    reader = User.objects.filter(username="reader").first() or user_create(username="reader")
    session = SessionStore()
    session[SESSION_KEY] = str(reader.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = reader.get_session_auth_hash()
    session.create()
    listed = Module.objects.visible_to(None).published().order_by("-updated_at", "-pk")
    ends = {page: listed.values_list("updated_at", "pk")[PAGE_SIZE * (page - 1) - 1] for page in PAGES}
    prepared = {
        "session": session.session_key,
        "token": token_create(user=reader, label="benchmark", scope="write")[1],
        "cursors": {
            page: write_cursor(["next", "recent", at.isoformat(), pk]) for page, (at, pk) in ends.items()
        },
    }
    print(json.dumps(prepared))


def print_queries(file: str) -> None:
    """For each route, of QUERIED_EACH addresses: the most queries, and the slowest in ms, first and again."""
    from django.conf import settings
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    settings.HUB_PAGES_KEPT_S = 0
    client, told = Client(SERVER_NAME="127.0.0.1"), []
    for route in json.loads(Path(file).read_text(encoding="utf-8")):
        slowest_ms, most = [0.0, 0.0], 0
        for address in route["addresses"][:QUERIED_EACH]:
            for time_asked in (0, 1):
                with CaptureQueriesContext(connection) as asked:
                    if route["body"]:
                        client.post(
                            address, route["body"], content_type="application/json", headers=route["headers"]
                        )
                    else:
                        client.get(address, headers=route["headers"])
                times_ms = [1000 * float(query["time"]) for query in asked.captured_queries]
                slowest_ms[time_asked] = max([slowest_ms[time_asked], *times_ms])
                most = max(most, len(times_ms))
        told.append(
            {"queries": most, "slowest_query_ms_first": slowest_ms[0], "slowest_query_ms": slowest_ms[1]}
        )
    print(json.dumps(told))


if __name__ == "__main__":
    main()
