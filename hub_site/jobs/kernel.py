"""Calls of the Linux kernel that Python's library lacks; each raises OSError with the kernel's errno."""

import ctypes
import os

_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, *arguments: object) -> int:
    """prctl(2); arguments that are not given are 0."""
    return _checked(f"prctl({option})", _libc.prctl(option, *_as_longs(arguments, count=4)))


def system_call(number: int, *arguments: object) -> int:
    """A call that has no function in the C library, by its number."""
    result = _libc.syscall(ctypes.c_long(number), *_as_longs(arguments, count=len(arguments)))
    return _checked(f"system call {number}", result)


def capset(header: bytes, sets: bytes) -> None:
    """capset(2), for this thread."""
    _checked("capset", _libc.capset(header, sets))


def _as_longs(arguments: tuple[object, ...], count: int) -> list[object]:
    filled = [*arguments, *(0,) * (count - len(arguments))]
    return [ctypes.c_ulong(value) if isinstance(value, int) else value for value in filled]


def _checked(name: str, result: int) -> int:
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result
