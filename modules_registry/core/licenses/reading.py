"""The license that a card names, whatever way its author wrote it: the one reader, for every way in.

The Hub's identifier counts. A name that can mean one identifier alone (“Apache 2.0”, “MIT License”, “GPLv3”,
the address of a Creative Commons license) becomes it. Of several the strictest is taken, where one is.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from modules_registry.core.errors import CARD_FILE, Repair
from modules_registry.core.licenses.combining import (
    ATTRIBUTION,
    NO_DERIVATIVES,
    NON_COMMERCIAL,
    OTHER,
    PERMISSIVE,
    LicenseConflict,
    combine_licenses,
)
from modules_registry.core.licenses.names import LICENSES
from modules_registry.core.strict_json import quote_value

KEYS = ("license", "licence", "licenses", "licences")
NAMES_MAX = 8
NAME_LENGTH_MAX = 120  # the longest full title of a license has about 70
READ = "card_license"  # the code of what is said of reading it
DIFFERS = "card_license_differs"

ADDRESSES = (
    (re.compile(r"creativecommons\.org/licenses/([a-z-]+)/(\d\.\d)"), r"cc-\1-\2"),
    (re.compile(r"creativecommons\.org/publicdomain/zero/1\.0"), "cc0-1.0"),
    (re.compile(r"apache\.org/licenses/license-2\.0"), "apache-2.0"),
    (re.compile(r"(?:opensource|spdx|choosealicense|gnu)\.\w+/licen[sc]es?/([\w.+-]+?)(?:(?:\.en)?\.html|\.txt)?/?$"),
     r"\1"),
)  # fmt: skip
# Full titles -> as identifiers have them.
WORDS = (
    ("creative commons", "cc"),
    ("public domain dedication", ""),
    ("attribution", "by"),
    (r"non ?commercial", "nc"),
    (r"share ?alike", "sa"),
    (r"no ?deriv(?:ative)?s?", "nd"),
    ("gnu affero general public", "agpl"),
    (r"gnu (?:lesser|library) general public", "lgpl"),
    ("gnu general public", "gpl"),
    ("mozilla public", "mpl"),
    ("eclipse public", "epl"),
    ("european union public", "eupl"),
    (r"berkeley software distribution", "bsd"),
    (r"open rail", "openrail"),
)
# Said beside a licence's name; they change nothing of which one it is.
FILLERS = re.compile(
    r"\b(?:the|gnu|meta|google|facebook|licen[sc]e[ds]?|agreement|community|terms|of|use|under|version|ver|v"
    r"|international|unported|generic|only|or later|software|public)\b"
)
MORE_NAMES = {
    "3 clause bsd": "bsd-3-clause", "new bsd": "bsd-3-clause", "modified bsd": "bsd-3-clause",
    "bsd 3": "bsd-3-clause", "2 clause bsd": "bsd-2-clause", "simplified bsd": "bsd-2-clause",
    "freebsd": "bsd-2-clause", "bsd 2": "bsd-2-clause", "cc0": "cc0-1.0", "cc zero": "cc0-1.0",
    "boost": "bsl-1.0", "eclipse 2.0": "epl-2.0", "expat": "mit",
}  # fmt: skip
TITLE_AND_SHORT = re.compile(
    r"([^()]+)\(([^()]+)\)"
)  # "MIT License (MIT)", but not "MIT (no commercial use)"
SEVERAL = re.compile(r"[,;/|&+]|\bor\b|\band\b", re.IGNORECASE)
NAME_IT = "Name the one that counts by the Hub's identifier, and others in the card's text."


@dataclass(frozen=True)
class ReadLicense:
    """What a card says of its license."""

    licence: str  # the Hub's identifier; empty: the card names none
    repairs: tuple[Repair, ...] = ()


def read_license(front_matter: Mapping[str, Any]) -> ReadLicense:
    """The license that the head of a card names, and what is to be said of how it was read."""
    named = next((front_matter[key] for key in KEYS if front_matter.get(key)), None)
    names = names_in(named)
    if not named:
        return ReadLicense("")
    if not names:
        return said("", named, "as none: it is no name.")
    if len(names) > NAMES_MAX:
        return said(OTHER, names[:NAMES_MAX], f"and {len(names) - NAMES_MAX} more as other. {NAME_IT}")
    known = {name: identifier_of(name) for name in names}
    found = tuple(dict.fromkeys(identifier or OTHER for identifier in known.values()))
    unknown = ", ".join(quote_value(name) for name, identifier in known.items() if not identifier)
    if unknown:
        return said(OTHER, names, f"as other: the Hub has no identifier for {unknown}. {NAME_IT}")
    if len(found) > 1:
        licence = strictest(found)
        if not licence:
            return said(OTHER, names, f"as other: which one is the strictest cannot be told. {NAME_IT}")
        return said(licence, names, f"as {licence}, the strictest. If another one counts, name it alone.")
    (licence,) = found
    return ReadLicense(licence) if names == [licence] else said(licence, names, f"as {licence}.")


def said(licence: str, named: object, how: str) -> ReadLicense:
    written = (
        ", ".join(quote_value(name) for name in named) if isinstance(named, list) else quote_value(named)
    )
    return ReadLicense(licence, (Repair(READ, f"Read the license {written} in {CARD_FILE} {how}"),))


def names_in(named: object) -> list[str]:
    """The names as they are written, each once; a text that is none by itself may list several."""
    texts = named if isinstance(named, list) else [named]
    names = [" ".join(text.split()) for text in texts if isinstance(text, str) and text.strip()]
    if len(names) == 1 and not identifier_of(names[0]):
        parts = [part.strip() for part in SEVERAL.split(names[0]) if part.strip()]
        if any(identifier_of(part) for part in parts):
            names = parts
    return list(dict.fromkeys(names))


def strictest(licences: Sequence[str]) -> str:
    """The one whose terms keep those of all the others; empty if nobody here can tell."""
    forbidding = [licence for licence in licences if licence in NO_DERIVATIVES]
    if not forbidding:
        try:
            combined = combine_licenses({licence: licence for licence in licences})
        except LicenseConflict:
            return ""
        return "" if combined.unread or combined.licence not in licences else combined.licence
    others = {licence for licence in licences if licence not in forbidding}
    milder = {*PERMISSIVE, *ATTRIBUTION, *(NON_COMMERCIAL if "-nc-" in forbidding[0] else ())}
    return forbidding[0] if len(forbidding) == 1 and others <= milder else ""


def identifier_of(name: str) -> str:
    """The Hub's identifier of a license by any of its usual names; empty if the name means none, or two."""
    text = name.strip().lower()
    if len(text) > NAME_LENGTH_MAX:
        return ""
    if text in LICENSES or text in BY_LABEL:
        return BY_LABEL.get(text, text)
    for address, identifier in ADDRESSES:
        if match := address.search(text):
            return known_under(match.expand(identifier))
    if in_brackets := TITLE_AND_SHORT.fullmatch(text):
        title, short = (known_under(part) for part in in_brackets.groups())
        return title if title == short else ""
    return known_under(text)


def known_under(text: str) -> str:
    return BY_KEY.get(key_of(text), "")


def key_of(text: str) -> str:
    """What is left of a name that tells it from others: "the MIT License" and "mit" have one key."""
    words = re.sub(r"[^a-z0-9.+]+", " ", text.lower())
    for title, short in WORDS:
        words = re.sub(title, short, words)
    words = re.sub(r"\bv(?=\d)|(?<=[a-z])v(?=\d)", " ", words)
    words = re.sub(r"[^a-z0-9.+]+", "", FILLERS.sub(" ", words))
    return re.sub(r"(?<=\d)\.0$", "", words)


BY_LABEL = {label.lower(): identifier for identifier, label in LICENSES.items()}
BY_KEY = {
    key_of(name): identifier
    for name, identifier in (
        *MORE_NAMES.items(),
        *((label.partition(" (")[0], identifier) for label, identifier in BY_LABEL.items()),
        *((identifier.removeprefix("cc-"), identifier) for identifier in LICENSES if "-by-" in identifier),
        *((identifier, identifier) for identifier in LICENSES),
    )
    if identifier != OTHER
}


def license_difference(front_matter: Mapping[str, Any], licence: str) -> tuple[Repair, ...]:
    """Say that the module is under another license than its card names.

    Args:
        licence: the module's; empty if none was given.
    """
    read = read_license(front_matter).licence
    if not licence or not read or read == licence:
        return ()
    sentence = (
        f"{CARD_FILE} names {read} as the license, but the module is under {licence}. Correct the wrong one."
    )
    return (Repair(DIFFERS, sentence),)
