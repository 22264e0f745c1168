"""The versions and modules that an address of these pages names."""

from django.http import Http404

from modules_registry.fitting import Pair, pairs_with
from modules_registry.models import Module, Version
from modules_registry.selectors import is_storable, module_find, version_find


def chosen_version(module: Module, revision: str, otherwise: Version) -> Version:
    version = version_find(module, revision) if revision else otherwise
    if version is None or not version.is_complete:
        raise Http404
    return version


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
