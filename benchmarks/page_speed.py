"""How fast the demo site's pages are in a browser: paint, blocking, bytes, layout shift, and server time.

    python -m benchmarks.page_speed [--runs 5] [--pages WORD …] [--address URL] [--out FILE]

Starts the site's own web server, one process, on the demo world, and a headless Chromium that shares this
machine's cores with it. Every visit is a first one: an empty cache, no cookie. Figures of the browser are the
medians of the runs; a page's scripts and styles are counted as they are sent. Server time is from the request
to the last byte, the median of 40 answers on one connection. With --address a running site is measured
instead. The status is 1 if a page misses a goal.
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
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, ViewportSize, sync_playwright

from benchmarks.hub_upload import free_port, is_up, manage
from benchmarks.machine import machine
from hub_site.embedded.environment import site_environment
from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.processes import wait_for
from hub_site.embedded.servers import running_servers
from tests.browser.chromium import CHROMIUM_OPTIONS, MISSING, chromium_path

RESULT = REPOSITORY / "benchmarks" / "results" / "page_speed.json"
DESK: ViewportSize = {"width": 1440, "height": 900}
SCROLL_PX = 600  # of one turn of the wheel
ASKED = 40  # answers of which the server time is the median
GOALS = {  # at most
    "paint_ms": 500.0,  # first contentful paint
    "blocking_ms": 50.0,  # of long tasks, what is beyond 50 ms of each
    "scripts_and_styles_kb": 150.0,
    "shift": 0.02,  # cumulative layout shift
    "server_ms": 40.0,
}


@dataclass(frozen=True)
class SpeedPage:
    name: str
    address: str
    goals: Mapping[str, float]


def page(name: str, address: str, **goals: float) -> SpeedPage:
    return SpeedPage(name, address, GOALS | goals)


PAGES = [
    page("home", "/"),
    page("library", "/modules/"),
    page("search", "/modules/?q=french", server_ms=250.0),  # a search has a goal of its own
    page("module", "/demo/french"),
    page("file", "/demo/french/blob/main/adapter_model.safetensors"),
    page("base", "/demo/tiny-t5"),
    page("owner", "/demo"),
    page("tag", "/tags/demo/"),
    page("compare", "/modules/compare/?id=demo/french&id=demo/animal"),
    page("find", "/find/"),
    page("compose form", "/compositions/new/"),
    page("help", "/help/"),
    page("hub", "/help/hub/"),
    page("limits", "/limits/"),
    page("api", "/api/docs/"),
    page("api modules", "/api/docs/modules/"),
    page("api compositions", "/api/docs/compositions/"),
    page("sign in", "/accounts/login/"),
]

# Before anything of the page: what the browser tells only while it happens.
WATCH = """
window.speed = { blocking: 0, shift: 0 };
new PerformanceObserver((list) => {
  for (const task of list.getEntries()) window.speed.blocking += Math.max(0, task.duration - 50);
}).observe({ type: "longtask", buffered: true });
new PerformanceObserver((list) => {
  for (const shift of list.getEntries()) if (!shift.hadRecentInput) window.speed.shift += shift.value;
}).observe({ type: "layout-shift", buffered: true });
"""
READ = """() => {
  const files = performance.getEntriesByType("resource");
  const [whole] = performance.getEntriesByType("navigation");
  const isCode = (file) => /\\.(js|css)$/.test(new URL(file.name).pathname);
  const sum = (list) => list.reduce((bytes, file) => bytes + file.encodedBodySize, 0);
  return {
    paint_ms: performance.getEntriesByName("first-contentful-paint")[0]?.startTime ?? null,
    blocking_ms: window.speed.blocking,
    shift: window.speed.shift,
    scripts_and_styles_kb: sum(files.filter(isCode)) / 1000,
    transferred_kb: (sum(files) + whole.encodedBodySize) / 1000,
    page_kb: whole.encodedBodySize / 1000,
    files: files.length,
  };
}"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    names = [each.name for each in PAGES]
    parser.add_argument("--pages", nargs="+", choices=names, default=names, metavar="PAGE")
    parser.add_argument("--address", help="of a running site; left out: one of its own")
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    executable = chromium_path()
    if executable is None:
        sys.stderr.write(f"{MISSING}\n")
        return 1
    load_before = [round(load, 1) for load in os.getloadavg()]
    rows = []
    with demo_site(arguments.address) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=CHROMIUM_OPTIONS)
        version = browser.version
        for each in PAGES:
            if each.name in arguments.pages:
                rows.append(measure(browser, address, each, arguments.runs))
                print(json.dumps(rows[-1]), flush=True)
        browser.close()
    result = {
        "machine": machine(),
        "kernel": platform.release(),
        "browser": f"Chromium {version}, headless",
        "load_average_before": load_before,
        "runs": arguments.runs,
        "goals": GOALS,
        "pages": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0 if all(not row["misses"] for row in rows) else 1


@contextlib.contextmanager
def demo_site(address: str | None) -> Iterator[str]:
    """The address of a site with the demo world: the one given, or a web server for so long."""
    if address:
        yield address.rstrip("/")
        return
    with tempfile.TemporaryDirectory(prefix="page-speed-") as root:
        folder = DataFolder(Path(root) / "var")
        folder.make()
        with running_servers(folder, is_forgetful=True) as servers:
            port = free_port()
            environment = site_environment(folder, servers.environment, "hub_site.settings.prod") | {
                "HUB_PUBLIC_URL": f"http://127.0.0.1:{port}",
                "HUB_DATABASE_POOL": "20",
                "PYTHONPATH": str(REPOSITORY),
            }
            for words in (("migrate",), ("collectstatic", "--no-input"), ("load_demo",)):
                manage(environment, *words, "--verbosity", "0")
            with web_server(environment, port):
                yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def web_server(environment: Mapping[str, str], port: int) -> Iterator[None]:
    command = ["-m", "uvicorn", "hub_site.asgi:application", "--port", str(port), "--lifespan", "off"]
    more = ["--http", "hub_site.http_protocol:TimedProtocol", "--no-access-log"]
    process = subprocess.Popen([sys.executable, *command, *more], env=environment, cwd=REPOSITORY)
    try:
        wait_for(lambda: is_up(port), timeout_s=120)
        yield
    finally:
        process.terminate()
        process.wait()


def measure(browser: Browser, address: str, asked: SpeedPage, runs: int) -> dict[str, Any]:
    """The medians of a page, and which goals it misses."""
    server_ms = server_time_ms(address, asked.address)
    visits = [visit(browser, address + asked.address) for _ in range(runs)]
    row = {name: median(visits, name) for name in visits[0]} | {"server_ms": round(server_ms, 1)}
    values = {name: row[name] for name in asked.goals}
    misses = [name for name, value in values.items() if value is None or value > asked.goals[name]]
    return {"page": asked.name, "address": asked.address, **row, "misses": misses}


def median(visits: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [each[name] for each in visits]
    return None if None in values else round(statistics.median(values), 4 if name == "shift" else 1)


def visit(browser: Browser, address: str) -> dict[str, Any]:
    """One first visit: to the end of the page, as a wheel turns, until nothing is asked for any more."""
    context = browser.new_context(viewport=DESK)
    context.add_init_script(WATCH)
    shown = context.new_page()
    answer = shown.goto(address)
    assert answer is not None
    assert answer.status == 200, f"{address} answers {answer.status}"
    shown.wait_for_load_state("networkidle")
    shown.mouse.move(DESK["width"] / 2, DESK["height"] / 2)
    while shown.evaluate("scrollY + innerHeight < document.documentElement.scrollHeight - 1"):
        shown.mouse.wheel(0, SCROLL_PX)
        shown.evaluate(
            "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
        )
        shown.wait_for_load_state("networkidle")
    told: dict[str, Any] = shown.evaluate(READ)
    context.close()
    return told


def server_time_ms(address: str, path: str) -> float:
    """The median over ASKED answers on one connection, after the first one."""
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=60)
    times_ms = []
    for _ in range(ASKED + 1):
        begun = time.perf_counter()
        connection.request("GET", path, headers={"Accept-Encoding": "gzip"})
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200, f"{path} answers {answer.status}"
        times_ms.append(1000 * (time.perf_counter() - begun))
    connection.close()
    return statistics.median(times_ms[1:])


if __name__ == "__main__":
    sys.exit(main())
