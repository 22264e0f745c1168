"""What a namespace or a module may be called, and which names look alike."""

import re
import unicodedata

from hub_site.common.errors import Refusal

NAME_LENGTH_MAX = 96  # characters; the Hub's own limit, so that every name here is valid there
NAME_PATTERN = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?")

# First parts of the site's own addresses, of the Hub protocol's, and names that would mislead.
RESERVED = frozenset(
    """
    about accounts account admin administrator api assets auth avatars blog buckets collections compose
    composer compositions contact datasets discussions docs download downloads embed explore
    favicon favicon.ico feed files find health healthz help home hf hub import invite join kernels legal
    lfs library license limits login logout loras metrics models modules namespaces new none notifications
    null oauth official organization organizations orgs papers pages privacy profile pulls raw register
    reset resolve robots.txt root search security settings share shared signin signout signup site sitemap
    sitemap.xml spaces staff static status styleguide support system tags tasks team teams terms tokens
    tree try undefined upload uploads user users v1 webhooks well-known www xet
    """.split()  # noqa: SIM905  a list of words is easier to keep in order than a list of strings
)

_LOOK_ALIKE = str.maketrans({"1": "l", "i": "l", "|": "l", "0": "o", ".": "-", "_": "-"})


def name_key(name: str) -> str:
    """Fold a name to what a reader sees: equal keys are too alike to stand side by side.

    Case, ".", "-", "_", l/1/I and 0/O fold together (PyPI's rule), after Unicode NFKC.
    """
    return unicodedata.normalize("NFKC", name).casefold().translate(_LOOK_ALIKE)


RESERVED_KEYS = frozenset(name_key(name) for name in RESERVED)


def is_reserved(name: str) -> bool:
    return name_key(name) in RESERVED_KEYS


def is_well_formed(name: str) -> bool:
    """True for letters, digits, ".", "-", "_", at most 96, as Hub clients accept them in a repository id."""
    forbidden = "--" in name or ".." in name or name.lower().endswith((".git", ".ipynb"))
    return bool(NAME_PATTERN.fullmatch(name)) and not forbidden


def require_name(name: str, *, field: str, what: str) -> str:
    """Return the name, or refuse it with what a good one looks like."""
    if not is_well_formed(name):
        message = (
            f"“{name[:40]}” cannot be the name of {what}. Use 1 to {NAME_LENGTH_MAX} letters, digits, "
            "“.”, “-” or “_”; start with a letter or digit; no “--”, “..”, and no “.git” at the end."
        )
        raise Refusal("bad_name", message, fields={field: [message]})
    return name


def require_free_of_reserved(name: str, *, field: str) -> str:
    if is_reserved(name):
        message = f"“{name[:40]}” is kept for the site itself. Choose another name."
        raise Refusal("reserved_name", message, fields={field: [message]})
    return name


class NamespaceConverter:
    """A path part that is somebody's name; the site's own words fall through to the site's own routes."""

    regex = "[A-Za-z0-9._-]{1,96}"

    def to_python(self, value: str) -> str:
        if is_reserved(value) or not is_well_formed(value):
            raise ValueError(value)
        return value

    def to_url(self, value: str) -> str:
        return value


class RepoNameConverter:
    """A module's name inside its namespace."""

    regex = "[A-Za-z0-9._-]{1,96}"

    def to_python(self, value: str) -> str:
        if not is_well_formed(value):
            raise ValueError(value)
        return value

    def to_url(self, value: str) -> str:
        return value
