"""Which module a hash belongs to: the sha256 of a file or of weights, a commit, a git blob id."""

import re
from dataclasses import dataclass

from django.db.models import Q

from modules_registry.core.errors import WEIGHTS_FILE
from modules_registry.models import COMMIT_ID_LENGTH, Module, Version, VersionFile

DIGITS_MIN = 7  # of a hash that is not whole: as git shortens it
HASH = re.compile(rf"(?:sha256:)?([0-9a-f]{{{DIGITS_MIN},64}})", re.IGNORECASE)
SHOWN_MAX = 20
CANDIDATES_MAX = 500  # versions of one kind of match that are looked at


@dataclass(frozen=True)
class HashMatch:
    """A version that a hash belongs to."""

    version: Version
    kind: str  # "commit", "file", "git_blob", "weights", or "same_weights": another's of the same values
    path: str = ""  # of the file
    of: str = ""  # the module whose weights these are too

    @property
    def module(self) -> Module:
        return self.version.module

    @property
    def sentence(self) -> str:
        of = f"version {self.version.number}" if self.version.number else "a step on a branch"
        return {
            "commit": f"The commit of {of}.",
            "file": f"The sha256 of {self.path} in {of}.",
            "git_blob": f"The git blob id of {self.path} in {of}.",
            "weights": f"The hash of the weights of {of}, by their values.",
            "same_weights": f"Its {of} has the same weights as {self.of}, in another file.",
        }[self.kind]


def read_hash(text: str) -> str | None:
    """The hexadecimal digits, in small letters, of what may be a hash or its first seven or more digits."""
    found = HASH.fullmatch(text.strip())
    return found[1].lower() if found else None


def hash_find(text: str, viewer: object) -> list[HashMatch]:
    """The versions that a hash belongs to, each named once: current ones first, then the newest.

    Args:
        text: a whole hash, or its first digits, at least seven.
    """
    digits = read_hash(text)
    if digits is None:
        return []
    found = candidates(digits)
    visible = Version.objects.filter(pk__in=found, module__in=Module.objects.visible_to(viewer))
    versions = visible.select_related("module__namespace", "module__current")
    matches = [HashMatch(version, *found[version.pk]) for version in versions]
    matches += copies_of(matches, viewer)
    return sorted(matches, key=is_old)[:SHOWN_MAX]


def copies_of(matches: list[HashMatch], viewer: object) -> list[HashMatch]:
    """Other versions whose weights have the values of a file of weights that was found."""
    of_file = [match.version for match in matches if match.path == WEIGHTS_FILE]
    names = {version.sketch_id: version.module.full_name for version in of_file if version.sketch_id}
    if not names:
        return []
    same = Version.objects.filter(sketch__in=names, module__in=Module.objects.visible_to(viewer))
    others = same.exclude(pk__in=[match.version.pk for match in matches]).order_by("-pk")
    versions = others.select_related("module__namespace", "module__current")[:SHOWN_MAX]
    return [
        HashMatch(each, "same_weights", of=names[each.sketch_id])
        for each in versions
        if each.sketch_id is not None
    ]


def candidates(digits: str) -> dict[int, tuple[str, str]]:
    """The kind of match and the file's path by the version's key, whoever may see it."""
    files, versions = VersionFile.objects.order_by(), Version.objects.order_by()
    found: dict[int, tuple[str, str]] = {}
    of_weights = versions.filter(sketch__delta_sha256__startswith=digits).values_list("pk", flat=True)
    found |= dict.fromkeys(of_weights[:CANDIDATES_MAX], ("weights", ""))
    if len(digits) <= COMMIT_ID_LENGTH:
        stored = Q(git_sha1__startswith=digits) & ~Q(git_sha1="")
        sent = Q(uploaded_sha1__startswith=digits) & ~Q(uploaded_sha1="")
        for condition in (stored, sent):
            of_blob = files.filter(condition).values_list("version", "path")[:CANDIDATES_MAX]
            found |= {version: ("git_blob", path) for version, path in of_blob}
    of_file = files.filter(sha256__startswith=digits).values_list("version", "path")[:CANDIDATES_MAX]
    found |= {version: ("file", path) for version, path in of_file}
    if len(digits) <= COMMIT_ID_LENGTH:
        of_commit = versions.filter(commit_id__startswith=digits).values_list("pk", flat=True)
        found |= dict.fromkeys(of_commit[:CANDIDATES_MAX], ("commit", ""))
    return found


def is_old(match: HashMatch) -> tuple[bool, bool, int]:
    return match.kind == "same_weights", match.module.current_id != match.version.pk, -match.version.pk
