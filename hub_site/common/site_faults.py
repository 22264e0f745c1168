"""Faults of the site: they pass, or the operator mends them, so that a job waits and a visitor comes back.

A fault of the request, such as a module that does not fit, is a Refusal instead.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from django.db import InterfaceError, InternalError, OperationalError, transaction
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

from hub_site.common.errors import Refusal
from hub_site.common.os_faults import DISK_FULL, MACHINE_FAULT, os_fault_code

logger = logging.getLogger(__name__)

QUERY_TOO_SLOW = "query_too_slow"
DATABASE_READ_ONLY = "database_read_only"
SENTENCES = {
    "database_unreachable": "The site's database could not be reached.",
    DATABASE_READ_ONLY: "The site's database takes no changes just now.",
    QUERY_TOO_SLOW: "This would take the site's database too long.",
    "broker_unreachable": "The site's queue could not be reached.",
    "store_unreachable": "The site's store of files could not be reached.",
    DISK_FULL: "The site's disk is full.",
    MACHINE_FAULT: "A machine of the site has a fault.",
}
ADVICE = "Nothing was changed. Try again in a minute."
ADVICE_OF = {QUERY_TOO_SLOW: "Nothing was changed. Ask for less, or try again in a minute."}
STATUSES = (503, 507)  # of the answer to such a fault; each says when to come back
RETRY_AFTER_S = 30  # what a client is told to wait

# What to catch where the same is simply tried again; `site_fault_code` tells which of them are the site's.
DATABASE_FAULTS = (OperationalError, InterfaceError, InternalError)
# Of Django's InternalErrors those of these SQLSTATEs: a transaction that took too long, a broken database.
# The others, such as a query in a transaction that has failed before, are mistakes of ours.
TRANSACTION_TIMEOUTS = frozenset({"25P03", "25P04"})
CLASS_OF_A_BROKEN_DATABASE = "XX"


class MachineFault(Exception):
    """A part of the site ended in the middle of work, and the work did not do it: it can be done again."""

    code = MACHINE_FAULT


def site_fault_code(error: BaseException) -> str | None:
    """Return the code of a fault of the site, a key of SENTENCES; None for any other error."""
    if isinstance(error, DATABASE_FAULTS) and (code := database_fault_code(error)):
        return code
    if isinstance(error, BrokerError | RedisError):
        return "broker_unreachable"
    code = getattr(error, "code", None)
    if code in SENTENCES and not isinstance(error, Refusal):  # a refusal has a status and words of its own
        return str(code)
    return os_fault_code(error)


def database_fault_code(error: BaseException) -> str | None:
    """Return the code for an error of Django's DATABASE_FAULTS; None where the mistake is ours."""
    match error.__cause__:
        case psycopg.errors.QueryCanceled():
            return QUERY_TOO_SLOW
        case psycopg.errors.DiskFull():
            return DISK_FULL
        case psycopg.errors.ReadOnlySqlTransaction():
            return DATABASE_READ_ONLY
    state = getattr(error.__cause__, "sqlstate", None) or ""
    is_ours = isinstance(error, InternalError) and not (
        state in TRANSACTION_TIMEOUTS or state.startswith(CLASS_OF_A_BROKEN_DATABASE)
    )
    return None if is_ours else "database_unreachable"


@contextmanager
def noting(what: str) -> Iterator[None]:
    """Write down something about a request that only reads; if the database refuses, the log says so."""
    try:
        with transaction.atomic():
            yield
    except DATABASE_FAULTS as error:
        logger.warning("%s was not noted: %s", what, error)


def visitor_text(code: str) -> str:
    """Return the fault and what to do, in two sentences."""
    return f"{SENTENCES[code]} {ADVICE_OF.get(code, ADVICE)}"


def http_status(code: str) -> int:
    """Return the status that an answer has for this fault."""
    return 507 if code == DISK_FULL else 503
