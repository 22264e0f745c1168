"""The license of an adapter that was made of modules, for its card and its report."""

from collections.abc import Mapping
from dataclasses import dataclass

from modules_registry.core.licenses.combining import CombinedLicense, LicenseConflict, combine_licenses
from modules_registry.core.licenses.names import license_label


@dataclass(frozen=True)
class AdapterLicense:
    """Under which license an adapter may be handed on.

    Attributes:
        identifier: as the Hub has it, such as apache-2.0, or other; empty where no module states one, or
            no license is possible.
        text: the same in sentences.
        conflict: why no license is possible; empty if one is.
    """

    identifier: str
    text: str
    conflict: str = ""


OF_NO_MODULE = AdapterLicense(
    "",
    "It holds nothing of the modules, so their licenses do not apply to it: choose its license yourself. The "
    "license of the base model may bind you: read it before you share this.",
)


def license_of(licences: Mapping[str, str]) -> AdapterLicense:
    """Return the license that follows from those of the modules.

    Args:
        licences: the Hub's identifier of each module's license by the module's name, as the card shows it;
            the identifier is empty if the module states none.
    """
    if not licences:
        return AdapterLicense("", "No module has a weight, so no module's license applies.")
    try:
        combined = combine_licenses(licences)
    except LicenseConflict as conflict:
        return AdapterLicense("", str(conflict), str(conflict))
    if not combined.unread:
        return AdapterLicense(
            combined.licence, f"{license_label(combined.licence)}: the strictest of the modules' licenses."
        )
    if combined.unread == tuple(licences) and not any(licences.values()):
        return AdapterLicense("", "The modules state no license. Ask their authors before you share this.")
    return AdapterLicense(combined.licence, text_of_unread(combined))


def text_of_unread(combined: CombinedLicense) -> str:
    """Return the sentences on modules whose terms are not known."""
    names = ", ".join(combined.unread)
    text = f"The terms of {names} are not known here or are their own: read them before you share this."
    if not combined.strictest_known:
        return text
    strictest = license_label(combined.strictest_known)
    return f"{text} Of the others, {strictest} is the strictest, and its terms apply here too."
