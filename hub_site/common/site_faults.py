"""Faults of the site: they pass, or the operator mends them, so that a job waits and a visitor comes back.

A fault of the request, such as a module that does not fit, is a Refusal instead.
"""

import psycopg
from django.db import InterfaceError, OperationalError
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from hub_site.common.os_faults import DISK_FULL, MACHINE_FAULT, os_fault_code

QUERY_TOO_SLOW = "query_too_slow"
SENTENCES = {
    "database_unreachable": "The site's database could not be reached.",
    QUERY_TOO_SLOW: "This would take the site's database too long.",
    "broker_unreachable": "The site's queue could not be reached.",
    DISK_FULL: "The site's disk is full.",
    MACHINE_FAULT: "A machine of the site has a fault.",
}
ADVICE = "Nothing was changed. Try again in a minute."
ADVICE_OF = {QUERY_TOO_SLOW: "Nothing was changed. Ask for less, or try again in a minute."}
STATUSES = (503, 507)  # of the answer to such a fault; each says when to come back
RETRY_AFTER_S = 30  # what a client is told to wait

DATABASE_FAULTS = (OperationalError, InterfaceError)


class MachineFault(Exception):
    """A part of the site ended in the middle of work, and the work did not do it: it can be done again."""

    code = MACHINE_FAULT


def site_fault_code(error: BaseException) -> str | None:
    """Return the code of a fault of the site, a key of SENTENCES; None for any other error."""
    if isinstance(error, OperationalError) and isinstance(error.__cause__, psycopg.errors.QueryCanceled):
        return QUERY_TOO_SLOW
    if isinstance(error, DATABASE_FAULTS):
        is_full = isinstance(error.__cause__, psycopg.errors.DiskFull)
        return DISK_FULL if is_full else "database_unreachable"
    if isinstance(error, BrokerError | RedisError):
        return "broker_unreachable"
    if isinstance(error, MachineFault):
        return error.code
    return os_fault_code(error)


def visitor_text(code: str) -> str:
    """Return the fault and what to do, in two sentences."""
    return f"{SENTENCES[code]} {ADVICE_OF.get(code, ADVICE)}"


def http_status(code: str) -> int:
    """Return the status that an answer has for this fault."""
    return 507 if code == DISK_FULL else 503
