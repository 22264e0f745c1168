"""Finding modules, and reading what is known of them: reads only."""

import hashlib
import logging
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import Any

from django.db.models import Max, QuerySet
from django.db.models.functions import Upper

from hub_site.accounts.models import Namespace, User
from hub_site.accounts.names import name_key
from hub_site.accounts.selectors import namespaces_writable_by
from hub_site.common.downloads import Download
from hub_site.common.errors import Refusal
from modules_registry.blobs import open_stored, visitor_address
from modules_registry.candidates import counts_by_base
from modules_registry.core.accepted_paths import EXECUTABLES, PICKLES
from modules_registry.core.base_shapes import BASE_CONFIG
from modules_registry.core.base_weights import BaseWeights
from modules_registry.core.cards import Card, check_card, read_any_card
from modules_registry.core.compatibility import Base, ModuleFacts, reason_not_composable
from modules_registry.core.delta import Strength
from modules_registry.core.errors import CARD_FILE
from modules_registry.core.strict_json import storable
from modules_registry.models import (
    BaseAlias,
    BaseModel,
    Module,
    Origin,
    Ref,
    StoredFile,
    Version,
    VersionFile,
)

MAIN = "main"
LFS_FROM_BYTES = 1_000_000
REF_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,98}[A-Za-z0-9_-])?")
NUMBERED = re.compile(r"v([1-9][0-9]{0,8})")
COMMIT_ID = re.compile(r"[0-9a-f]{40}")

LEFT_OUT_KINDS = (  # the first one that fits counts
    ("program", EXECUTABLES),
    ("pickle", PICKLES),
    ("other weights", re.compile(r".+\.(?:safetensors|gguf)", re.DOTALL | re.IGNORECASE)),
    ("other file", re.compile(r".*", re.DOTALL)),
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LeftOut:
    """Files of one kind that uploads held and that are no part of a module."""

    kind: str
    count: int
    paths: list[str] | None  # None: not for this reader


def module_find(namespace: str, name: str, viewer: object = None) -> Module | None:
    """The module with this address, in any case, or that had it before it was renamed.

    Look-alikes do not match. What the viewer may not see is not found; without a viewer: a stranger.
    """
    own = isinstance(viewer, User)
    modules = with_versions(Module.objects.visible_to(viewer)) if own else modules_of_strangers()
    return called(modules, namespace, name)


@cache
def modules_of_strangers() -> QuerySet[Module]:
    """Not evaluated: made once, as making it takes longer than the database takes to find a row by it."""
    return with_versions(Module.objects.visible_to(None))


def held_find(namespace: str, name: str, viewer: object) -> Module | None:
    """The module with this address that staff hold, for whom is told of it: without its bytes."""
    if not Module.objects.filter(**keys_of(namespace, name)).exists():  # far cheaper than what follows
        return None
    return called(with_versions(Module.objects.held_before(viewer)), namespace, name)


def require_not_held(namespace: str, name: str, viewer: object) -> None:
    """Say to the owner of a module that nobody gets why; for everybody else it does not exist."""
    held = held_find(namespace, name, viewer)
    if held is not None:
        raise Refusal(held.hold, held.hold_text, status=403)


def called(modules: QuerySet[Module], namespace: str, name: str) -> Module | None:
    """That one of `with_versions` which has this address, in any case, or had it before it was renamed."""
    keys = keys_of(namespace, name)
    for found in modules.filter(**keys, moved_to=None).order_by():
        if (found.namespace.name.upper(), found.name.upper()) == (namespace.upper(), name.upper()):
            return found
    former = Module.objects.filter(**keys, name__iexact=name, namespace__name__iexact=namespace)
    moved_to = former.values_list("moved_to", flat=True).first()
    return modules.filter(pk=moved_to).first() if moved_to is not None else None


def keys_of(namespace: str, name: str) -> dict[str, str]:
    """What finds the row of an address, or of one that looks like it: there is one at most."""
    return {"namespace__key": name_key(namespace), "key": name_key(name)}


def with_versions(modules: QuerySet[Module]) -> QuerySet[Module]:
    """With what a page or an answer about one module reads, and without what only the search reads."""
    related = modules.select_related("namespace__user", "current__base", "current__author")
    return related.defer("search", "search_text", "card_text", "facets")


def current_versions(full_names: Collection[str], viewer: object) -> dict[str, Version]:
    """The current versions of modules by their addresses, as `module_find` reads these, in few queries.

    An address that the viewer may not see, or that has no version, is left out.
    """
    asked = {name: name.strip().partition("/") for name in full_names if is_storable(name)}
    if not asked:
        return {}
    owners = Namespace.objects.filter(key__in={name_key(owner) for owner, _, _ in asked.values()})
    named = Module.objects.filter(
        namespace__in=owners, key__in={name_key(name) for _, _, name in asked.values()}
    )
    rows = named.values_list("namespace__name", "name", "moved_to", "pk")
    modules = {(owner.casefold(), name.casefold()): moved_to or pk for owner, name, moved_to, pk in rows}
    visible = Module.objects.visible_to(viewer).filter(pk__in=set(modules.values()))
    found = Version.objects.filter(current_of__in=visible).select_related("module__namespace", "base")
    versions = {version.module_id: version for version in found}
    addresses = {
        asked_name: modules.get((owner.casefold(), name.casefold()))
        for asked_name, (owner, _, name) in asked.items()
    }
    return {name: versions[pk] for name, pk in addresses.items() if pk in versions}


def drafts_of(namespace: Namespace, viewer: object) -> QuerySet[Module]:
    """What an owner has begun to upload and not completed; nothing for strangers."""
    drafts = Module.objects.visible_to(viewer).filter(namespace=namespace, current=None)
    return drafts.select_related("namespace", "draft").prefetch_related("draft__files").order_by("name")


def held_of(namespace: Namespace, viewer: object) -> QuerySet[Module]:
    """What staff hold of an owner's; nothing for strangers."""
    held = Module.objects.held_before(viewer).filter(namespace=namespace)
    return held.select_related("namespace").order_by("name")


def sizes_of(namespace: Namespace) -> dict[int, int]:
    """Bytes by module, over all its versions; a file that several of them share counts once."""
    modules = Module.objects.existing().filter(namespace=namespace)
    files = VersionFile.objects.filter(version__module__in=modules).order_by()
    sizes: dict[int, int] = {}
    for module, _, size_bytes in files.values_list("version__module", "sha256", "size_bytes").distinct():
        sizes[module] = sizes.get(module, 0) + size_bytes
    return sizes


def base_find(namespace: str, name: str) -> BaseModel | None:
    """The library's base model with this address, in any case."""
    return base_named(f"{namespace}/{name}")


def base_named(full_name: str) -> BaseModel | None:
    return BaseModel.objects.filter(name__iexact=full_name).prefetch_related("files").first()


def base_called(name: str) -> BaseModel | None:
    """The library's base of this name, in any case, or of which staff have declared it another name."""
    if not storable(name):
        return None
    return base_named(name) or BaseModel.objects.filter(aliases__name__iexact=name).first()


def bases_called(names: Collection[str]) -> dict[str, BaseModel]:
    """As `base_called`, for many names in two queries; a name without a base is left out."""
    asked = {name.upper(): name for name in names if storable(name)}
    aliases = BaseAlias.objects.annotate(upper=Upper("name")).filter(upper__in=asked).select_related("base")
    found = {alias.name.upper(): alias.base for alias in aliases}
    bases = BaseModel.objects.annotate(upper=Upper("name")).filter(upper__in=asked)
    found |= {base.name.upper(): base for base in bases}
    return {name: found[upper] for upper, name in asked.items() if upper in found}


def library_name_of(name: str) -> str | None:
    """What the library calls the base of this name; None if it has none."""
    base = base_called(name)
    return base.name if base is not None else None


def base_weights_of(base: BaseModel) -> BaseWeights:
    """The base's own weights, read where something is held against them."""
    files = {file.path: partial(open_stored, file.sha256) for file in base.files.all()}
    weights = [opened for path, opened in files.items() if path.endswith(".safetensors")]
    return BaseWeights(files[BASE_CONFIG], weights)


def is_storable(text: str) -> bool:
    """Whether a row could hold this text at all: PostgreSQL refuses to look for what it cannot hold."""
    return storable(text)


def left_out_of(module: Module, user: object) -> list[LeftOut]:
    """What its uploads held that is no part of a module, by kind. The names are for those who may change it:
    nobody else was to see their folder."""
    names = namespace_is_writable_by(module.namespace, user)
    groups: dict[str, list[str]] = {}
    for path in module.left_out:
        kind = next(kind for kind, pattern in LEFT_OUT_KINDS if pattern.fullmatch(path))
        groups.setdefault(kind, []).append(path)
    return [
        LeftOut(kind, len(groups[kind]), groups[kind] if names else None)
        for kind, _ in LEFT_OUT_KINDS
        if kind in groups
    ]


def namespace_is_writable_by(namespace: Namespace, user: object) -> bool:
    return isinstance(user, User) and namespaces_writable_by(user).filter(pk=namespace.pk).exists()


def version_find(module: Module, revision: str, *, prefers_tags: bool = False) -> Version | None:
    """A version by “main”, a branch, a tag, its commit id, or “v2”.

    A draft's main is what has come so far.

    Args:
        prefers_tags: “v2” is a tag of that name where there is one, as clients expect; else version 2.
    """
    version = version_at(module, revision, prefers_tags=prefers_tags)
    if version is not None:
        version.module = module  # it is there: nobody has to ask the database for it
    return version


def version_at(module: Module, revision: str, *, prefers_tags: bool) -> Version | None:
    if revision == MAIN:
        return module.current or module.draft
    versions = module.versions.select_related("base", "author")
    if prefers_tags and NUMBERED.fullmatch(revision):
        tagged = versions.filter(refs__name=revision).first()
        if tagged is not None:
            return tagged
    if numbered := NUMBERED.fullmatch(revision):
        return versions.filter(number=int(numbered[1])).first()
    if COMMIT_ID.fullmatch(revision):
        return versions.filter(commit_id=revision).first()
    return versions.filter(refs__name=revision).first() if REF_NAME.fullmatch(revision) else None


def pinned_revision(version: Version) -> str:
    """The shortest name under which clients find this version: a tag may have its number's."""
    is_hidden = Ref.objects.filter(module=version.module_id, name=version.revision).exists()
    return version.commit_id if is_hidden else version.revision


def revision_and_path(found: Module | BaseModel, address: str) -> tuple[str, str]:
    """Split “revision/path”, where the names of branches and tags may hold slashes too: the longest wins."""
    names = found.refs.values_list("name", flat=True) if isinstance(found, Module) else ()
    fitting = [name for name in names if f"{address}/".startswith(f"{name}/")]
    revision = max(fitting, key=len, default=address.partition("/")[0])
    return revision, address[len(revision) + 1 :]


def revision_find(
    found: Module | BaseModel, revision: str, *, prefers_tags: bool = False
) -> Version | BaseModel | None:
    """What holds the files of a module or of a base model at a revision."""
    if isinstance(found, Module):
        return version_find(found, revision, prefers_tags=prefers_tags)
    return found if revision in (MAIN, found.revision) else None


def versions_of(module: Module) -> QuerySet[Version]:
    """What was published, newest first; not the steps of a draft or of a branch."""
    numbered = module.versions.filter(number__isnull=False).order_by("-number")
    found = numbered.select_related("base", "author", "module__namespace", "distance_before")
    return found.defer("distance_before__layers").prefetch_related("files")


def version_lines(module: Module) -> QuerySet[Version]:
    """The same, with what a table of versions says of each and nothing else."""
    found = versions_of(module).prefetch_related(None).select_related(None)
    shown = ("number", "message", "commit_id", "created_at", "author__username", "distance_before__distance")
    return found.select_related("author", "distance_before").only(*shown)


def origin_of(version: Version) -> Origin | None:
    """Where its weights were imported from; a later card on the same weights changes nothing of it."""
    same_weights = Origin.objects.filter(
        version__module=version.module_id, version__weights_sha256=version.weights_sha256
    )
    return same_weights.filter(version__lte=version.pk).order_by("-version").first()


def next_number(module: Module) -> int:
    newest: int | None = module.versions.aggregate(newest=Max("number"))["newest"]
    return (newest or 0) + 1


def strengths_of(version: Version) -> list[Strength]:
    """How strong its weights are in each layer, in the order of the paths; empty until they are measured."""
    return [Strength(*row) for row in version.sketch.strengths] if version.sketch is not None else []


def version_files(version: Version) -> QuerySet[VersionFile]:
    return version.files.all()


def file_download(source: Version | BaseModel, path: str) -> Download | None:
    """A file to hand out. The path is looked up among the rows and never opened."""
    file = next((file for file in source.files.all() if file.path == path), None)
    if file is None:
        return None
    return Download(
        file.path,
        file.sha256,
        file.size_bytes,
        partial(open_stored, file.sha256),
        partial(visitor_address, file.sha256),
    )


def card_of(version: Version) -> Card:
    """The README as it is stored; empty when there is none."""
    download = file_download(version, CARD_FILE)
    if download is None:
        return check_card(b"")
    with download.open() as file:
        return read_any_card(file.read()).card


def front_matter_of(version: Version) -> dict[str, Any]:
    """What the head of the card says, as text, lists and mappings."""
    card = next((file for file in version.files.all() if file.path == CARD_FILE), None)
    return dict(front_matter_in(card.sha256)) if card else {}


@lru_cache(maxsize=4096)  # a list asks for many cards, and what has this sha256 never changes
def front_matter_in(sha256: str) -> dict[str, Any]:
    """The same of a stored card."""
    with open_stored(sha256) as file:
        return read_any_card(file.read()).card.front_matter


def is_listed_as_lfs(file: StoredFile) -> bool:
    """Whether lists show a file by its sha256, as for a large file of a git repository."""
    return file.size_bytes >= LFS_FROM_BYTES or file.path.endswith(".safetensors")


def lfs_pointer(file: StoredFile) -> bytes:
    """What a git repository would hold in place of a large file."""
    lines = (
        "version https://git-lfs.github.com/spec/v1",
        f"oid sha256:{file.sha256}",
        f"size {file.size_bytes}",
    )
    return "".join(f"{line}\n" for line in lines).encode()


def git_blob_id(file: StoredFile) -> str:
    """The sha1 that git would know a file by: of its pointer, if it is large."""
    if isinstance(file, VersionFile) and file.git_sha1:
        return file.git_sha1
    return git_sha1(lfs_pointer(file)) if is_listed_as_lfs(file) else _small_blob_id(file.sha256)


@lru_cache(maxsize=4096)
def _small_blob_id(sha256: str) -> str:
    with open_stored(sha256) as file:
        return git_sha1(file.read())


def git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\x00" % len(data) + data, usedforsecurity=False).hexdigest()


def history_of(version: Version) -> list[Version]:
    """A version and those before it, newest first."""
    steps = {step.pk: step for step in version.module.versions.select_related("author")}
    history, step = [], steps.get(version.pk)
    while step is not None:
        history.append(step)
        step = steps.get(step.parent_id) if step.parent_id else None
    return history


def base_models() -> list[BaseModel]:
    """All of them by name, with modules_count: how many modules everybody may compose on it."""
    counts = counts_by_base()
    bases = list(BaseModel.objects.order_by("name"))
    for base in bases:
        base.modules_count = counts.get(base.pk, 0)
    return bases


def not_composable_because(
    version: Version, find_base: Callable[[str], BaseModel | None] = base_called
) -> str:
    """Why this version cannot be composed here, as a sentence; empty when it can."""
    if version.base_id is not None or version.not_composable:
        return version.not_composable
    base = find_base(version.base_name)
    reason = reason_not_composable(facts_of_version(version), library_of(base))
    return reason.message if reason else f"Its layers are not those of {version.base_name} in this library."


def facts_of_version(version: Version) -> ModuleFacts:
    """A version, as the rules of what goes together see it."""
    return ModuleFacts(
        name=version.module.full_name,
        base=version.base_name,
        revision=version.base_revision or None,
        rank=version.rank,
        scaling=version.scaling,
        targets=tuple(version.targets),
        has_own_ranks=version.has_own_ranks,
    )


def library_of(base: BaseModel | None) -> dict[str, Base]:
    return {base.name: Base(base.name, base.revision)} if base else {}
