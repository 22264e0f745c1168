"""GET /health/live, /health/ready and /metrics of a worker or the scheduler, where HUB_HEALTH_ADDRESS is set.

live: nothing in this process has ended that should go on; else start it again. ready: the database, the
broker and the store of files answer, and the process takes work. metrics: of this process and
its disks, for who has HUB_METRICS_TOKEN.
"""

import json
import logging
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from django.conf import settings
from django.db import connection

from hub_site.common import process_metrics
from hub_site.common.process_metrics import has_metrics_token
from hub_site.common.readiness import COMPLETE, ask_schema, ask_storage
from hub_site.common.site_faults import site_fault_code
from hub_site.jobs.celery_app import SEND_OPTIONS, app
from hub_site.jobs.worker import stopping

logger = logging.getLogger(__name__)
Check = Callable[[], str]  # returns COMPLETE or what is wrong; a fault of the site may be raised

ANSWER_S = 10.0  # for a client to send its request
STORAGE_S = 0.8  # for the store of files to answer
_live: dict[str, Check] = {}
_ready: dict[str, Check] = {}


def check_live(name: str, check: Check) -> None:
    """Ask this too whether the process should be started again."""
    _live[name] = check


def check_ready(name: str, check: Check) -> None:
    """Ask this too whether the process takes work."""
    _ready[name] = check


def ask_broker() -> str:
    with app.connection_for_read(transport_options=SEND_OPTIONS) as broker:
        broker.ensure_connection(max_retries=0, timeout=SEND_OPTIONS["socket_connect_timeout"])
    return COMPLETE


def look_at_storage() -> str:
    return ask_storage(longest_s=STORAGE_S)


def ask_stopping() -> str:
    return "asked to end" if stopping.is_set() else COMPLETE


READY: dict[str, Check] = {
    "schema": ask_schema,
    "broker": ask_broker,
    "storage": look_at_storage,
    "work": ask_stopping,
}


def answers(checks: dict[str, Check]) -> dict[str, str]:
    """What each check says. An error is one of them: an unforeseen one is in the log."""
    try:
        return {name: answer_of(check) for name, check in checks.items()}
    finally:
        connection.close()  # the thread of this request ends


def answer_of(check: Check) -> str:
    try:
        return check()
    except Exception as error:
        if not (code := site_fault_code(error)):
            logger.exception("a check of this process broke")
        return code or "broken"


class Handler(BaseHTTPRequestHandler):
    timeout = ANSWER_S
    server_version = sys_version = ""

    def do_GET(self) -> None:
        if self.path == "/metrics" and has_metrics_token(self.headers.get("Authorization", "")):
            self.answer(200, process_metrics.CONTENT_TYPE, process_metrics.exposition())
            return
        checks = {"/health/live": _live, "/health/ready": READY | _ready}.get(self.path)
        told = {"process": COMPLETE} | answers(checks) if checks is not None else {"error": "not_found"}
        status = 404 if checks is None else 200 if set(told.values()) == {COMPLETE} else 503
        self.answer(status, "application/json", json.dumps(told).encode())

    def answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """A probe every few seconds is no event."""


def serve_health() -> None:
    """Answer from a thread until the process ends; nothing where no address is set."""
    if settings.HUB_HEALTH_ADDRESS is None:
        return
    server = ThreadingHTTPServer(settings.HUB_HEALTH_ADDRESS, Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="health", daemon=True).start()
