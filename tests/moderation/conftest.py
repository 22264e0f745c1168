"""A small library to compose from, as in the composer's own tests."""

from tests.composer.conftest import ask, base, done, modules, no_flushing, wakes  # noqa: F401
