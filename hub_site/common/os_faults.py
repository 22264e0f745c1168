"""Which errors of the operating system are a fault of the site. A child asks too: this imports no library."""

import errno
import re

DISK_FULL = "disk_full"
MACHINE_FAULT = "machine_fault"
ERRNOS_OF_A_FULL_DISK = frozenset({errno.ENOSPC, errno.EDQUOT})
ERRNOS_OF_A_MACHINE = frozenset(
    {
        errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM,
        errno.ENODEV, errno.ENXIO,
    }
)  # fmt: skip
# Of a file on a network disk whose server is away. A client of HTTP has them too, of another site.
ERRNOS_OF_A_NETWORK_DISK = frozenset(
    {
        errno.ENOTCONN, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.ESHUTDOWN, errno.EREMOTEIO,
        errno.EHOSTUNREACH, errno.ENETDOWN, errno.ENETUNREACH, errno.ENOLINK,
    }
)  # fmt: skip
HTTP_CLIENTS = frozenset({"httpx", "httpx2", "httpcore", "requests", "urllib", "urllib3"})
# Libraries in Rust, such as safetensors and tokenizers, have the errno only in the words of their errors.
ERRNO_IN_WORDS = re.compile(r"\(os error (\d+)\)")


def os_fault_code(error: BaseException, *, is_of_http: bool = False) -> str | None:
    """Return DISK_FULL or MACHINE_FAULT, also for an error raised from such a fault; None for any other.

    Args:
        is_of_http: a client of HTTP raised its own error from this one, so that a lost connection is not the
            site's.
    """
    number = errno_of(error)
    is_of_http = is_of_http or type(error).__module__.partition(".")[0] in HTTP_CLIENTS
    if number in ERRNOS_OF_A_FULL_DISK:
        return DISK_FULL
    if number in ERRNOS_OF_A_MACHINE or (number in ERRNOS_OF_A_NETWORK_DISK and not is_of_http):
        return MACHINE_FAULT
    return os_fault_code(error.__cause__, is_of_http=is_of_http) if error.__cause__ else None


def errno_of(error: BaseException) -> int | None:
    """The number that the operating system gave the error, if it did.

    The words of an error with a code of its own may quote what a visitor sent, so they tell nothing.
    """
    if isinstance(error, OSError):
        return error.errno
    words = None if hasattr(error, "code") else ERRNO_IN_WORDS.search(str(error))
    return int(words[1]) if words else None
