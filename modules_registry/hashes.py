"""Which module a hash belongs to: the sha256 of a file or of weights, a commit, a git blob id."""

import re
from dataclasses import dataclass

from django.db.models import Q

from modules_registry.models import Module, Version, VersionFile

HASH = re.compile(r"(?:sha256:)?([0-9a-f]{8,64})", re.IGNORECASE)
SHOWN_MAX = 20


@dataclass(frozen=True)
class HashMatch:
    """A version that a hash belongs to."""

    version: Version
    kind: str  # "commit", "file", "git_blob" or "weights"
    path: str = ""  # of the file

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
        }[self.kind]


def read_hash(text: str) -> str | None:
    """The hexadecimal digits, in small letters, of what may be a hash or its first eight or more digits."""
    found = HASH.fullmatch(text.strip())
    return found[1].lower() if found else None


def hash_find(text: str, viewer: object) -> list[HashMatch]:
    """The versions that a hash belongs to, each named once: current ones first, then the newest.

    Args:
        text: a whole hash, or its first digits, at least eight.
    """
    digits = read_hash(text)
    if digits is None:
        return []
    visible = Module.objects.visible_to(viewer)
    versions = Version.objects.filter(module__in=visible).select_related(
        "module__namespace", "module__current"
    )
    files = VersionFile.objects.filter(version__module__in=visible).select_related(
        "version__module__namespace", "version__module__current"
    )
    found = [
        HashMatch(version, "commit") for version in versions.filter(commit_id__startswith=digits)[:SHOWN_MAX]
    ]
    found += [
        HashMatch(file.version, "file", file.path)
        for file in files.filter(sha256__startswith=digits).order_by("-version")[:SHOWN_MAX]
    ]
    blob = Q(git_sha1__startswith=digits) & ~Q(git_sha1="")
    sent = Q(uploaded_sha1__startswith=digits) & ~Q(uploaded_sha1="")
    for condition in (blob, sent):
        found += [
            HashMatch(file.version, "git_blob", file.path)
            for file in files.filter(condition).order_by("-version")[:SHOWN_MAX]
        ]
    by_values = versions.filter(sketch__delta_sha256__startswith=digits).order_by("-pk")[:SHOWN_MAX]
    found += [HashMatch(version, "weights") for version in by_values]
    once = {match.version.pk: match for match in reversed(found)}
    return sorted(once.values(), key=is_old)[:SHOWN_MAX]


def is_old(match: HashMatch) -> tuple[bool, int]:
    return match.module.current_id != match.version.pk, -match.version.pk
