"""A served site and the people's machines, as the tests of the Hub protocol have them."""

from tests.modules_registry.hub_api.conftest import (
    folder,
    machine_of,
    old_python,
    site,
    token_of,
    trl_python,
    web,
)

__all__ = ["folder", "machine_of", "old_python", "site", "token_of", "trl_python", "web"]
