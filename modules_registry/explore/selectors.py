"""The versions and modules that an address of these pages names."""

from django.http import Http404

from hub_site.common.errors import Refusal
from modules_registry.fitting import Pair, pairs_with
from modules_registry.models import Module, Version
from modules_registry.selectors import is_storable, module_find, version_find, versions_of

VERSIONS_NAMED_MAX = 20  # where an unknown one was asked for, the newest


def chosen_version(module: Module, revision: str, otherwise: Version) -> Version:
    version = complete_version(module, revision, otherwise)
    if version is None:
        raise Http404
    return version


def chosen_or_told(module: Module, parameter: str, revision: str, otherwise: Version) -> Version:
    """As `chosen_version`, for programs.

    Raises:
        Refusal: there is no such version (404); it names those there are.
    """
    version = complete_version(module, revision, otherwise)
    if version is None:
        newest = list(versions_of(module)[: VERSIONS_NAMED_MAX + 1])
        known = ", ".join(each.revision for each in newest[:VERSIONS_NAMED_MAX])
        more = ", …" if len(newest) > VERSIONS_NAMED_MAX else ""
        message = f"{module.full_name} has no version “{revision}”. Known: {known}{more}."
        raise Refusal("no_such_version", message, status=404, fields={parameter: [message]})
    return version


def complete_version(module: Module, revision: str, otherwise: Version) -> Version | None:
    """The version that holds an adapter, by all that `version_find` takes, and by its number alone.

    Args:
        otherwise: the version that is meant by an empty revision.
    """
    version = version_find(module, revision) if revision else otherwise
    if version is None and revision.isascii() and revision.isdecimal():
        version = version_find(module, f"v{revision}")
    return version if version is not None and version.is_complete else None


def version_before(versions: list[Version], version: Version) -> Version:
    """The version numbered before this one; the first has none, and is its own."""
    earlier = [each for each in versions if version.number is None or (each.number or 0) < version.number]
    return earlier[0] if earlier else version


def pair_asked(version: Version, name: str, viewer: object) -> Pair | None:
    """Whether the module of this name can be composed with the version; None if none is asked for or seen."""
    owner, slash, module_name = name.partition("/")
    if not slash or version.base_id is None or not is_storable(name):
        return None
    other = module_find(owner, module_name, viewer)
    return next(iter(pairs_with(version, [other])), None) if other is not None else None
