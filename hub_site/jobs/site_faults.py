"""Faults of the site: they pass, or the operator mends them, so that a job waits for their end.

A fault of the request, such as a module that does not fit, fails the job at once instead.
"""

import errno

from django.db import InterfaceError, OperationalError
from kombu.exceptions import OperationalError as BrokerError
from redis.exceptions import RedisError

DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
MACHINE_FAULTS = frozenset({errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM})
DISK_FULL_OF_CHILD = "disk_full"  # a child's refusal that says the same

SENTENCES = {
    "database_unreachable": "The site's database could not be reached.",
    "broker_unreachable": "The site's queue could not be reached.",
    "disk_full": "The site's disk is full.",
    "machine_fault": "A machine of the site has a fault.",
}


def site_fault_code(error: BaseException) -> str | None:
    """Return the code of a fault of the site, a key of SENTENCES; None for any other error."""
    if isinstance(error, OperationalError | InterfaceError):
        return "database_unreachable"
    if isinstance(error, BrokerError | RedisError):
        return "broker_unreachable"
    if getattr(error, "code", "") == DISK_FULL_OF_CHILD:
        return "disk_full"
    if isinstance(error, OSError) and error.errno in DISK_FULL:
        return "disk_full"
    if isinstance(error, OSError) and error.errno in MACHINE_FAULTS:
        return "machine_fault"
    return None
