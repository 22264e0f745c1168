"""How an event looks in the log, and which request and job it belongs to.

As a line: time, level, who says it, what happened; a traceback stays on its line. As JSON: one object a line.
"""

import contextlib
import json
import logging
import os
import re
import socket
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

# What opens something to whoever has it: private links, signed uploads, links in mails, access tokens.
SECRETS = re.compile(
    r"(/shared/|/lfs/|/settings/invitations/|/accounts/password/reset/key/|/accounts/confirm-email/|\blh_[0-9A-Za-z]{5})[^/\s\"'?]{8,}"
)
WHOLE_LINE_CHARACTERS = 8000  # a traceback of any use fits; an endless message does not
TIME_FORMAT = "%Y-%m-%dT%H:%M:%S"

request_id: ContextVar[str] = ContextVar("request_id", default="")  # of the request that is served, or
job_name: ContextVar[str] = ContextVar("job_name", default="")  # that asked for the job that runs


@contextlib.contextmanager
def belongs_to(*, request: str, job: str = "") -> Iterator[None]:
    """Every event inside the context carries these. Empty: none."""
    of_request, of_job = request_id.set(request), job_name.set(job)
    try:
        yield
    finally:
        request_id.reset(of_request)
        job_name.reset(of_job)


def event_context() -> dict[str, str]:
    """Which request and job the code that runs now belongs to, as far as it does."""
    found = {"request_id": request_id.get(), "job": job_name.get()}
    return {name: value for name, value in found.items() if value}


class LineFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = TIME_FORMAT

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s%(context)s  %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        told = ", ".join(f"{name} {value}" for name, value in event_context().items())
        record.context = f" [{told}]" if told else ""
        lines = SECRETS.sub(r"\1…", super().format(record)).splitlines() or [""]
        return " ⏎ ".join(lines)[:WHOLE_LINE_CHARACTERS]


class JsonFormatter(logging.Formatter):
    """For programs that collect logs: time, level, logger, message, exception, request_id, job, host, pid.

    Of an answered request also method, path, status and ms: whatever the event has as `fields`.
    """

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": f"{time.strftime(TIME_FORMAT, time.gmtime(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": plain(record.getMessage()),
            **event_context(),
            **{name: plain_field(value) for name, value in getattr(record, "fields", {}).items()},
            "host": socket.gethostname(),
            "pid": os.getpid(),
        }
        if record.exc_info:
            event["exception"] = plain(self.formatException(record.exc_info))
        return json.dumps(event, ensure_ascii=False)


def plain(text: str) -> str:
    """The text without what opens something, cut where it is endless."""
    return SECRETS.sub(r"\1…", text)[:WHOLE_LINE_CHARACTERS]


def plain_field(value: str | int) -> str | int:
    return plain(value) if isinstance(value, str) else value


FORMATTERS = {"line": LineFormatter, "json": JsonFormatter}
