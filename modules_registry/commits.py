"""Commits of Hub clients: a change to a module's files, through the gate before it exists."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from io import BytesIO
from typing import BinaryIO

from hub_site.accounts.models import User
from hub_site.audit.services import audit_record
from hub_site.common.errors import Refusal
from modules_registry.blobs import open_stored, store_files
from modules_registry.card_facts import tags_in
from modules_registry.core.adapter_config import AdapterConfig
from modules_registry.core.adapter_file import size_of
from modules_registry.core.advice import WayIn
from modules_registry.core.cards import Card, ReadCard, license_of
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.core.gate import check_form
from modules_registry.files.validation import (
    NO_CARD,
    attach_refusals_to_fields,
    check_files,
    read_card,
    read_config_under,
    require_size,
)
from modules_registry.models import Module, Ref, Version
from modules_registry.quotas import require_uploads_left
from modules_registry.selectors import MAIN
from modules_registry.services import (
    blobs_of,
    facts_of,
    lock_head,
    repairs_beside_card,
    require_writable,
    same_facts,
    step_insert,
    tags_named,
    upload_of,
    version_insert,
)
from modules_registry.storage import Blob

PIECE_BYTES = 1024**2
DESCRIPTION_LENGTH_MAX = 10_000
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


@dataclass
class Change:
    """What a commit asks for."""

    message: str
    description: str = ""
    parent: str = ""  # the beginning of the commit id that it builds on; empty: whatever is there
    files: dict[str, BinaryIO] = field(default_factory=dict)
    deleted: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class Checked:
    """What passed the gate: files as they will be stored, and the facts of the whole; none for a draft."""

    files: Mapping[str, BinaryIO]
    facts: Mapping[str, object]


def module_commit(*, author: User, module: Module, branch: str, change: Change) -> tuple[Version, bool]:
    """Commit to main or to a branch; the second value says whether that made anything new.

    On main a complete adapter becomes the next version, and parts of one a draft. Whatever is refused, and
    whoever comes second of two at once, leaves nothing behind.
    """
    require_writable(author, module.namespace)
    require_uploads_left(module.namespace)
    head = head_of(module, branch)
    require_parent(head, change.parent)
    require_deletable(head, change.deleted)
    with opened_files(head, change) as files:
        checked = check_change(head, change, files)
        sent_ids = {path: git_blob_id_of(file) for path, file in change.files.items()}
        with store_files(checked.files) as blobs:
            before, after = blobs_of(head), {}
            after = {path: blob for path, blob in before.items() if path not in change.deleted} | blobs
            head_now = lock_branch(module, branch)
            if after == blobs_of(head_now):
                remember_sent(head_now, sent_ids)  # another text of the same config, say
                return head_now, False
            if head_now.pk != head.pk:
                raise conflict_refusal(head_now)
            version = insert(author, module, branch, change, after, checked.facts)
            remember_kept(head, version)
            remember_sent(version, sent_ids)
    return version, True


def insert(
    author: User,
    module: Module,
    branch: str,
    change: Change,
    files: Mapping[str, Blob],
    facts: Mapping[str, object],
) -> Version:
    message = " ".join(change.message.replace("\x00", "").split())[:200] or "Upload files"
    if branch == MAIN:
        if CARD_FILE in change.files:
            describe_by_card(module, read_card(change.files[CARD_FILE]).card)
        version = version_insert(module, author, message, files, facts)
    else:
        ref = module.refs.select_related("version").get(kind=Ref.Kind.BRANCH, name=branch)
        version = step_insert(module, ref.version, author, message, files, facts)
        ref.version = version
        ref.save(update_fields=["version", "updated_at"])
    if change.description:
        version.description = change.description.replace("\x00", "")[:DESCRIPTION_LENGTH_MAX]
        version.save(update_fields=["description"])
    hashes = {blob.sha256 for blob in files.values()}
    module.incoming.filter(user=author, sha256__in=hashes).delete()
    audit_record(
        actor=author,
        action="module.commit",
        subject=module.full_name,
        thing=module,
        commit=version.commit_id,
        **upload_of(module.namespace),
    )
    return version


def head_of(module: Module, branch: str) -> Version:
    """Where a branch stands."""
    if branch == MAIN:
        head = module.current or module.draft
    else:
        ref = module.refs.filter(kind=Ref.Kind.BRANCH, name=branch).select_related("version").first()
        head = ref.version if ref else None
    if head is None:
        message = f"{module.full_name} has no branch “{branch[:100]}”. Create it first."
        raise Refusal("no_such_branch", message, status=404)
    return head


def lock_branch(module: Module, branch: str) -> Version:
    """The same, once nobody else is changing the module."""
    lock_head(module)
    return head_of(module, branch)


def require_parent(head: Version, parent: str) -> None:
    if parent and not head.commit_id.startswith(parent):
        raise conflict_refusal(head)


def conflict_refusal(head: Version) -> Refusal:
    message = (
        f"Someone else has committed in the meantime: it stands at {head.commit_id[:8]}. Nothing of yours "
        "was stored. Look at what changed and upload again."
    )
    return Refusal("moved_on", message, status=412)


def require_deletable(head: Version, deleted: set[str]) -> None:
    missing = sorted(deleted - set(blobs_of(head)))
    if missing:
        # Clients look for this very beginning, to say which of their operations failed.
        message = f"A file with this name doesn't exist: {missing[0][:100]}"
        raise Refusal("no_such_file", message, status=404)


@contextmanager
def opened_files(head: Version, change: Change) -> Iterator[dict[str, BinaryIO]]:
    """All files as they will be: those that were sent, and those that stay."""
    with ExitStack() as stack:
        stay = {file.path: file.sha256 for file in head.files.all()}
        kept = {
            path: stack.enter_context(open_stored(sha256))
            for path, sha256 in stay.items()
            if path not in change.files and path not in change.deleted
        }
        yield kept | change.files


def check_change(head: Version, change: Change, files: Mapping[str, BinaryIO]) -> Checked:
    """Let the whole pass the gate as it will be after the commit."""
    for path, file in change.files.items():
        require_no_pointer(path, file)
    if not {CONFIG_FILE, WEIGHTS_FILE} <= set(files):
        return check_parts(head, change)
    if head.is_complete and not {CONFIG_FILE, WEIGHTS_FILE} & set(change.files):
        return Checked(check_card_alone(change), same_facts(head, card_after(files)))
    card = files.get(CARD_FILE)
    accepted = check_files(files[CONFIG_FILE], files[WEIGHTS_FILE], card, way_in=WayIn.CLIENT)
    sent = {path: file for path, file in accepted.files.items() if path in change.files}
    facts = facts_of(accepted, earlier=[] if head.is_complete else repairs_beside_card(head))
    if CONFIG_FILE not in change.files:  # the one that stays is stored without its prompt template
        facts["prompt_template"] = same_facts(head, card_after(files))["prompt_template"]
    return Checked(sent, facts)


def check_parts(head: Version, change: Change) -> Checked:
    """Without the whole adapter: each file by itself, for a draft."""
    if head.is_complete:
        message = (
            f"A published module keeps its {CONFIG_FILE} and {WEIGHTS_FILE}. Upload others in their place, "
            "or delete the module."
        )
        raise Refusal("adapter_incomplete", message)
    files = dict(check_card_alone(change))
    template, repairs = head.prompt_template, repairs_beside_card(head)
    of_card = [made for made in head.repairs if made not in repairs]
    if CARD_FILE in {*change.files, *change.deleted}:
        of_card = [asdict(repair) for repair in card_after(change.files).repairs]
    with attach_refusals_to_fields():
        if CONFIG_FILE in change.files:
            config = read_config_of(change.files)
            template, repairs = config.prompt_template, [asdict(repair) for repair in config.repairs]
            files[CONFIG_FILE] = BytesIO(json.dumps(config.plain, indent=2, sort_keys=True).encode() + b"\n")
        if WEIGHTS_FILE in change.files:
            require_size(size_of(change.files[WEIGHTS_FILE]))
            check_form(change.files[WEIGHTS_FILE])
            files[WEIGHTS_FILE] = change.files[WEIGHTS_FILE]
    return Checked(files, {"prompt_template": template, "repairs": [*repairs, *of_card]})


def read_config_of(files: Mapping[str, BinaryIO]) -> AdapterConfig:
    """The config, read by the gate, on the base that the card names if it names none."""
    return read_config_under(files[CONFIG_FILE], card_after(files).card, way_in=WayIn.CLIENT)


def card_after(files: Mapping[str, BinaryIO]) -> ReadCard:
    """The card as it will be."""
    return read_card(files[CARD_FILE]) if CARD_FILE in files else NO_CARD


def check_card_alone(change: Change) -> dict[str, BinaryIO]:
    if CARD_FILE not in change.files:
        return {}
    return {CARD_FILE: BytesIO(read_card(change.files[CARD_FILE]).card.text.encode())}


def require_no_pointer(path: str, file: BinaryIO) -> None:
    file.seek(0)
    if file.read(len(LFS_POINTER)) == LFS_POINTER:
        message = f"{path} is a Git LFS pointer, not the file. Fetch the file itself: git lfs pull."
        raise Refusal("lfs_pointer", message)
    file.seek(0)


def describe_by_card(module: Module, card: Card) -> None:
    """Take the license and the tags that a card gives; what it does not give stays."""
    module.licence = license_of(card) or module.licence
    if names := tags_in({"tags": card.front_matter.get("tags")}):  # languages alone replace no tags
        module.tags.set(tags_named(names))


def remember_kept(head: Version, version: Version) -> None:
    """A file that stays was sent as it was sent."""
    known = {file.path: file for file in head.files.exclude(uploaded_sha1="")}
    for file in version.files.filter(path__in=known):
        if file.sha256 == known[file.path].sha256:
            file.uploaded_sha1 = known[file.path].uploaded_sha1
            file.save(update_fields=["uploaded_sha1"])


def remember_sent(version: Version, sent_ids: Mapping[str, str]) -> None:
    for path, sha1 in sent_ids.items():
        version.files.filter(path=path).update(uploaded_sha1=sha1)


def git_blob_id_of(file: BinaryIO) -> str:
    """What git, and so a client, calls the bytes of a file."""
    size_bytes = file.seek(0, 2)
    digest = hashlib.sha1(b"blob %d\x00" % size_bytes, usedforsecurity=False)
    file.seek(0)
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    return digest.hexdigest()
