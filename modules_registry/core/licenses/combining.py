"""Under which license a module may be published that was made from others: the strictest of theirs.

Each license names those under which a work that contains it may be handed on; what all parents allow is
possible, and the least strict of that is chosen. The tables are ours and err on the side of no; they are
explained in docs/decisions/0012-the-strictest-licence.md.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from modules_registry.core.licenses.names import license_label

OTHER = "other"
# Free to be used under stricter terms as long as the notices stay; from the least to the strictest.
PERMISSIVE = (
    *("cc0-1.0", "pddl", "unlicense", "wtfpl", "mit", "isc", "zlib", "postgresql", "ncsa", "bsl-1.0"),
    *("bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "apache-2.0", "ecl-2.0", "afl-3.0"),
)
ATTRIBUTION = (
    *("cdla-permissive-1.0", "cdla-permissive-2.0", "odc-by", "etalab-2.0"),
    *("cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0"),
)
# The same terms must be kept: a work that contains one is published under it, and under no other.
SHARE_ALIKE = (
    *(
        "artistic-2.0",
        "ms-pl",
        "lppl-1.3c",
        "mpl-2.0",
        "epl-1.0",
        "epl-2.0",
        "eupl-1.1",
        "eupl-1.2",
        "osl-3.0",
    ),
    *("lgpl-2.1", "lgpl-3.0", "gpl-2.0", "gpl-3.0", "agpl-3.0"),
    *("cc-by-sa-3.0", "cc-by-sa-4.0", "odbl", "cdla-sharing-1.0"),
    *("openrail", "openrail++", "bigscience-openrail-m", "bigscience-bloom-rail-1.0", "bigcode-openrail-m"),
    *("creativeml-openrail-m", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "gemma"),
)
NON_COMMERCIAL = (
    *("cc-by-nc-2.0", "cc-by-nc-3.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
)
NO_DERIVATIVES = ("cc-by-nd-4.0", "cc-by-nc-nd-3.0", "cc-by-nc-nd-4.0")
STRICTNESS = (*PERMISSIVE, *ATTRIBUTION, *SHARE_ALIKE, *NON_COMMERCIAL)
# Which other licenses one itself says its works may go over to.
GOES_OVER_TO = {
    "mpl-2.0": ("lgpl-2.1", "lgpl-3.0", "gpl-2.0", "gpl-3.0", "agpl-3.0"),  # MPL 2.0, 1.12 and 3.3
    "lgpl-2.1": ("gpl-2.0", "gpl-3.0"),  # LGPL 2.1, 3: GPL 2.0 or any later one
    "lgpl-3.0": ("gpl-3.0",),  # LGPL 3.0, 2: GPL 3.0 with permissions that one may leave out
    "cc-by-sa-3.0": ("cc-by-sa-4.0",),  # CC BY-SA 3.0, 4b: a later version with the same elements
    "cc-by-nc-sa-2.0": ("cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    "cc-by-nc-sa-3.0": ("cc-by-nc-sa-4.0",),
    # What one adds may be under other terms that keep NonCommercial.
    "cc-by-nc-2.0": ("cc-by-nc-3.0", "cc-by-nc-4.0", "cc-by-nc-sa-2.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    "cc-by-nc-3.0": ("cc-by-nc-4.0", "cc-by-nc-sa-3.0", "cc-by-nc-sa-4.0"),
    "cc-by-nc-4.0": ("cc-by-nc-sa-4.0",),
}


def allows_commercial_use(licence: str) -> bool:
    """Whether a license is known to allow it. Of one whose terms nobody here can read: False."""
    return (licence in STRICTNESS and licence not in NON_COMMERCIAL) or licence == "cc-by-nd-4.0"


def allows_derivatives(licence: str) -> bool:
    """Whether a license is known to allow publishing what is made from a work under it."""
    return licence in STRICTNESS


class LicenseConflict(Exception):
    """No license suits what is made from these parents.

    Attributes:
        code: licence_forbids_derivatives or licences_exclude_each_other.
        reason: a sentence that names the parents and their licenses.
        way_out: what to do.
    """

    def __init__(self, code: str, reason: str, way_out: str) -> None:
        super().__init__(f"{reason} {way_out}")
        self.code, self.reason, self.way_out = code, reason, way_out


@dataclass(frozen=True)
class CombinedLicense:
    """The license of a work made from several, and the parents whose terms nobody here can read."""

    licence: str
    unread: tuple[str, ...] = ()  # names; publishing needs the owner's word that their terms allow it
    strictest_known: str = ""  # of the parents whose terms are known; empty: there are none


def combine_licenses(licences: Mapping[str, str]) -> CombinedLicense:
    """The strictest of the parents' licenses, by parent's name.

    With a parent whose terms are unknown it is “other”, and what the known ones demand still holds.

    Raises:
        LicenseConflict: a license forbids derivatives, or two exclude each other.
    """
    require_derivatives(licences)
    known = {name: licence for name, licence in licences.items() if licence in STRICTNESS}
    shared = [
        licence for licence in STRICTNESS if all(licence in allowed_by(each) for each in known.values())
    ]
    if not shared:
        raise exclusion_of(known)
    unread = tuple(name for name in licences if name not in known)
    return CombinedLicense(OTHER if unread else shared[0], unread, shared[0] if known else "")


def allowed_by(licence: str) -> Iterable[str]:
    """The licenses under which a work may be published that contains one under this license."""
    if licence in (*PERMISSIVE, *ATTRIBUTION):
        return STRICTNESS[STRICTNESS.index(licence) :]
    return (licence, *GOES_OVER_TO.get(licence, ()))


def require_derivatives(licences: Mapping[str, str]) -> None:
    for name, licence in licences.items():
        if licence in NO_DERIVATIVES:
            raise LicenseConflict(
                "licence_forbids_derivatives",
                f"{name} is under {license_label(licence)}, which forbids publishing what is made from it.",
                "Compose again without it, or keep the adapter to yourself.",
            )


def exclusion_of(licences: Mapping[str, str]) -> LicenseConflict:
    """Names two parents that no license suits together."""
    pairs = (
        (one, other)
        for one in licences
        for other in licences
        if not set(allowed_by(licences[one])) & set(allowed_by(licences[other]))
    )
    one, other = next(pairs)
    return LicenseConflict(
        "licences_exclude_each_other",
        f"{one} is under {license_label(licences[one])} and {other} under {license_label(licences[other])}. "
        "Each asks that what is made from it keeps its own terms, so no license suits both.",
        "Compose again without one of them.",
    )
