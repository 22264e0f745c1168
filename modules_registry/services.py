"""Publishing modules, changing them, taking them away."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from functools import partial
from io import BytesIO
from typing import Any, BinaryIO

from django.db import IntegrityError, transaction

from hub_site.accounts.models import Namespace, User
from hub_site.accounts.names import name_key, require_name
from hub_site.accounts.selectors import namespaces_writable_by
from hub_site.audit.services import audit_record
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal, Refusals
from modules_registry.blobs import delete_unnamed_blobs, has_remote_store, store_files
from modules_registry.core.advice import WayIn
from modules_registry.core.cards import UNREAD, Card, ReadCard, read_any_card
from modules_registry.core.errors import CARD_FILE, WEIGHTS_FILE
from modules_registry.core.licenses.names import LICENSES
from modules_registry.core.licenses.reading import DIFFERS, license_difference
from modules_registry.core.repair import CONVERTED
from modules_registry.files.validation import (
    NOTHING_BESIDE,
    AcceptedFiles,
    check_files,
    has_chat,
    normalize_card,
    repairs_of_card,
    require_prompt_template,
)
from modules_registry.indexing import describe_for_search
from modules_registry.lineage import delete_unless_needed
from modules_registry.measuring import text_sketch_save
from modules_registry.mirror.services import repository_queue
from modules_registry.models import HubRepository, Module, Tag, TextSketch, Version, VersionFile
from modules_registry.notices import tell_of_child
from modules_registry.quotas import require_repository_left, require_storage_left, require_uploads_left
from modules_registry.selectors import base_find, card_of, front_matter_in, git_blob_id, next_number
from modules_registry.storage import Blob
from modules_registry.tags import normalize_tags
from modules_registry.tasks import measure_version, sync_repository
from modules_registry.trained_templates import card_stating, trained_template

SENTENCE_LENGTH_MAX = 300
MESSAGE_LENGTH_MAX = 200
OF_THE_CARD = ("card_", UNREAD)  # how the codes of its repairs begin
FACT_COLUMNS = (
    *("base_name", "base", "base_revision", "task_type", "rank", "alpha", "scaling", "targets"),
    *("parameters", "dtype", "weights_sha256", "prompt_template"),
    *("has_own_ranks", "not_composable", "repairs", "sketch"),
)


def module_publish(
    *,
    author: User,
    namespace: Namespace,
    name: str,
    sentence: str = "",
    licence: str = "",
    tags: Iterable[str] = (),
    private: bool = False,
    config_file: BinaryIO,
    weights_file: BinaryIO,
    card_file: BinaryIO | None = None,
    base: str = "",
    prompt_template: str = "",
    beside: Mapping[str, str] = NOTHING_BESIDE,
    message: str = "",
    is_import: bool = False,
    is_converted: bool = False,
    way_in: WayIn = WayIn.API,
) -> Module:
    """Publish a new module with its first version, or refuse it and leave nothing behind.

    Args:
        prompt_template: that it was trained with; empty: what the files tell of it. The card states it then.
        beside: as in `check_files`.
        is_import: it does not count as an upload.
        is_converted: the weights were sent as adapter_model.bin.
        way_in: as in `check_files`.
    """
    require_writable(author, namespace)
    if not is_import:
        require_uploads_left(namespace)
    module, refusals = Module(namespace=namespace, name=name, private=private), Refusals()
    with refusals.collect_refusal():
        require_name(name, field="name", what="a module")
        require_name_free(namespace, name)
        module.key = name_key(name)
    with refusals.collect_refusal():
        tag_names = describe(module, sentence=sentence, licence=licence, tags=tags)
    with refusals.collect_refusal():
        accepted = check_files(
            config_file,
            weights_file,
            card_file,
            base_name=base,
            prompt_template=prompt_template,
            beside=beside,
            way_in=way_in,
        )
    refusals.raise_all()
    with store_files(accepted.files) as blobs:
        module_insert(module)
        module.tags.set(tags_named(tag_names))
        version = version_insert(
            module, author, message or "First version", blobs, facts_of(accepted, is_converted=is_converted)
        )
        audit_record(
            actor=author,
            action="module.publish",
            subject=module.full_name,
            thing=module,
            commit=version.commit_id,
            **upload_of(namespace, is_import=is_import),
        )
    return module


def version_add(
    *,
    author: User,
    module: Module,
    config_file: BinaryIO,
    weights_file: BinaryIO,
    card_file: BinaryIO | None = None,
    base: str = "",
    prompt_template: str = "",
    beside: Mapping[str, str] = NOTHING_BESIDE,
    message: str = "",
    is_import: bool = False,
    is_converted: bool = False,
    way_in: WayIn = WayIn.API,
) -> tuple[Version, bool]:
    """Publish new files as the module's next version; without a card the current one stays.

    A draft is published by it.

    The same files again are no new version: the second value says whether there is one.

    Args:
        is_import: it does not count as an upload.
        is_converted: the weights were sent as adapter_model.bin.
        way_in: as in `check_files`.
    """
    require_writable(author, module.namespace)
    if not is_import:
        require_uploads_left(module.namespace)
    accepted = check_files(
        config_file,
        weights_file,
        card_file or current_card(module),
        base_name=base,
        prompt_template=prompt_template,
        beside=beside,
        way_in=way_in,
    )
    if card_file is None and not prompt_template:
        accepted.files.pop(CARD_FILE, None)
    with store_files(accepted.files) as blobs:
        head = lock_head(module)
        before = blobs_of(head)
        files = {path: blob for path, blob in before.items() if path == CARD_FILE} | blobs
        if files == before and head.is_complete:
            return head, False
        message = message or f"Version {next_number(module)}"
        version = version_insert(
            module, author, message, files, facts_of(accepted, is_converted=is_converted)
        )
        audit_record(
            actor=author,
            action="module.version",
            subject=module.full_name,
            thing=module,
            commit=version.commit_id,
            **upload_of(module.namespace, is_import=is_import),
        )
    return version, True


def module_edit(
    *,
    editor: User,
    module: Module,
    sentence: str | None = None,
    licence: str | None = None,
    tags: Iterable[str] | None = None,
    private: bool | None = None,
    card: str | None = None,
    prompt_template: str | None = None,
) -> Module:
    """Change what is said about a module; None leaves a thing as it is. Another card is a new version, and an
    upload.

    A prompt template that differs from the one known so far is written into the card.
    """
    require_writable(editor, module.namespace)
    tag_names = describe(module, sentence=sentence, licence=licence, tags=tags)
    new_card = edited_card(module, card, prompt_template)
    with store_files({} if new_card is None else {CARD_FILE: new_card}) as blobs:
        head = lock_head(module)
        if private is not None:
            module.private = private
        if tags is not None:
            module.tags.set(tags_named(tag_names))
        before = blobs_of(head)
        new_version: dict[str, Any] = {}
        if before | blobs != before:
            require_uploads_left(module.namespace)
            facts = same_facts(head, read_any_card(new_card.getvalue()) if new_card else None)
            version = version_insert(module, editor, "Edit the card", before | blobs, facts)
            new_version = {"commit": version.commit_id, **upload_of(module.namespace)}
        elif licence is not None:
            head.repairs = with_license_note(module, head.repairs, before)
            head.save(update_fields=["repairs"])
        module_save(module)
        if private is not None:
            tell_of_child(module)
        audit_record(
            actor=editor, action="module.edit", subject=module.full_name, thing=module, **new_version
        )
    return module


@transaction.atomic
def module_delete(*, editor: User, module: Module) -> None:
    """Take a module away: its owner may use its name again.

    Versions that others were made from stay for them alone.
    """
    require_writable(editor, module.namespace)
    lock_head(module)
    versions = list(
        module.versions.select_for_update()
    )  # a composition that begins now waits, then finds none
    hashes = set(VersionFile.objects.filter(version__in=versions).values_list("sha256", flat=True))
    hashes |= set(module.incoming.values_list("sha256", flat=True))
    module.current = module.draft = None
    module.deleted_at = database_now()
    module.sentence = module.search_text = module.card_text = ""
    module.sample_input = module.sample_output = ""
    module.facets = []
    module.save_all_but_counts()
    module.tags.clear()
    TextSketch.objects.filter(module=module).delete()
    module.incoming.all().delete()
    module.refs.all().delete()
    for version in versions:
        delete_unless_needed(version)
    repository_request(module)
    audit_record(actor=editor, action="module.delete", subject=module.full_name, thing=module)
    transaction.on_commit(partial(delete_unnamed_blobs, hashes))


def repository_request(module: Module) -> None:
    """Something of a published module changed: let the Hub behind this site know, once it is committed."""
    if has_remote_store():
        repository = repository_queue(module)
        transaction.on_commit(partial(sync_repository.delay, str(repository.pk)))


def require_writable(user: User, namespace: Namespace) -> None:
    if not namespaces_writable_by(user).filter(pk=namespace.pk).exists():
        message = f"You cannot write to “{namespace.name}”. Choose your own name or an organization of yours."
        raise Refusal("not_your_namespace", message, status=403, fields={"namespace": [message]})


def require_name_free(namespace: Namespace, name: str) -> None:
    if base_find(namespace.name, name) is not None:
        message = f"“{namespace.name}/{name}” is a base model of the library. Choose another name."
        raise Refusal("name_taken", message, status=409, fields={"name": [message]})
    taken = Module.objects.filter(namespace=namespace, key=name_key(name)).first()
    if taken is not None and not is_released(taken):
        raise name_taken(taken, name)


def is_released(module: Module) -> bool:
    """Whether its owner may use its name again: they deleted it or renamed it away, here and on the Hub.

    Only the owner can take a module away, and nobody else can use a name of theirs.
    """
    on_the_hub = HubRepository.objects.filter(module=module, is_there=True)
    return module.deleted_at is not None and not on_the_hub.exists()


def release_name(namespace: Namespace, name: str, *, but: Module | None = None) -> None:
    """Take the name from what was deleted or renamed away, so that a module of its owner can have it."""
    gone = Module.objects.filter(namespace=namespace, key=name_key(name), deleted_at__isnull=False)
    for module in gone.exclude(pk=but.pk) if but else gone:
        if module.moved_to is not None:
            module.delete()
        elif is_released(module):
            module.key = f"~{module.pk}"  # no name has such a key
            module.save(update_fields=["key"])


def name_taken(taken: Module, name: str) -> Refusal:
    if taken.deleted_at is not None:
        message = f"“{taken.full_name}” is still being deleted on the Hub. Try again in some minutes."
    elif taken.name == name:
        message = f"“{taken.full_name}” exists already. Choose another name, or add a version to it."
    else:
        message = f"“{name}” is too similar to “{taken.full_name}”. Choose another name."
    return Refusal("name_taken", message, status=409, fields={"name": [message]})


def describe(
    module: Module, *, sentence: str | None, licence: str | None, tags: Iterable[str] | None
) -> list[str]:
    """Set what is said about the module, where it is given; return the tags as they are written."""
    if sentence is not None:
        module.sentence = one_line(sentence, "sentence", SENTENCE_LENGTH_MAX)
    if licence is not None:
        module.licence = require_license(licence)
    return normalize_tags(tags or [])


def one_line(text: str, field: str, length_max: int) -> str:
    text = " ".join(text.replace("\x00", "").split())
    if len(text) > length_max:
        message = f"These are {len(text)} characters; {length_max} are the most."
        raise Refusal(f"{field}_too_long", message, fields={field: [message]})
    return text


def require_license(licence: str) -> str:
    if licence and licence not in LICENSES:
        message = f"“{licence[:60]}” is not a license we know. Use one of: {', '.join(LICENSES)}."
        raise Refusal("bad_licence", message, fields={"licence": [message]})
    return licence


def upload_of(namespace: Namespace, *, is_import: bool = False) -> dict[str, int]:
    """What the audit says of an upload, so that it is counted."""
    return {} if is_import else {"upload_of": namespace.pk}


def module_insert(module: Module) -> None:
    Namespace.objects.select_for_update().get(pk=module.namespace_id)  # what is counted stays true
    require_repository_left(module.namespace)
    release_name(module.namespace, module.name)
    try:
        with transaction.atomic():
            module.save()
    except IntegrityError:
        require_name_free(module.namespace, module.name)  # someone else was faster
        raise


def module_save(module: Module) -> None:
    """Save the module with what the search reads; the Hub behind this site, if any, follows."""
    describe_for_search(module)
    module.save_all_but_counts()
    if module.current is not None:
        text_sketch_save(module, module.current)
        repository_request(module)


def tags_named(names: list[str]) -> list[Tag]:
    Tag.objects.bulk_create([Tag(name=name) for name in names], ignore_conflicts=True)
    return list(Tag.objects.filter(name__in=names))


def lock_head(module: Module) -> Version:
    """The newest state of main, once nobody else is changing the module: published, or a draft's."""
    row = Module.objects.select_for_update().get(pk=module.pk)
    if row.hold:
        raise Refusal(row.hold, f"{row.hold_text} Nothing of it can be changed.", status=403)
    head = row.current or row.draft
    if head is None:
        raise Refusal("module_deleted", f"{module.full_name} was just deleted.", status=404)
    module.current, module.draft = row.current, row.draft
    return head


def version_insert(
    module: Module, author: User, message: str, files: Mapping[str, Blob], facts: Mapping[str, object]
) -> Version:
    """Add the next version of main: published if the facts are those of a whole adapter, else a draft's."""
    is_complete = "rank" in facts
    number = next_number(module) if is_complete else None
    head = module.current or module.draft
    version = step_insert(module, head, author, message, files, facts, number=number)
    module.current, module.draft = (version, None) if is_complete else (None, version)
    module_save(module)
    return version


def step_insert(
    module: Module,
    parent: Version | None,
    author: User,
    message: str,
    files: Mapping[str, Blob],
    facts: Mapping[str, Any],
    *,
    number: int | None = None,
) -> Version:
    """Add one state after another; nothing points to it yet."""
    require_weights_not_held(files)
    require_fits(module, files)
    now = database_now()
    message = one_line(message, "message", MESSAGE_LENGTH_MAX)
    repairs = with_license_note(module, facts.get("repairs", []), files)
    version = Version(
        module=module,
        number=number,
        parent=parent,
        commit_id=commit_id(module, parent, author, message, files, now),
        message=message,
        author=author,
        size_bytes=sum(blob.size_bytes for blob in files.values()),
        **{**facts, "repairs": repairs},
    )
    version.save()
    stored = [
        VersionFile(version=version, path=path, sha256=blob.sha256, size_bytes=blob.size_bytes)
        for path, blob in files.items()
    ]
    for file in stored:
        file.git_sha1 = git_blob_id(file)
    VersionFile.objects.bulk_create(stored)
    if version.is_complete and version.sketch_id is None:
        transaction.on_commit(lambda: measure_version.delay(version.pk), robust=True)
    return version


def with_license_note(
    module: Module, repairs: Iterable[Mapping[str, str]], files: Mapping[str, Blob]
) -> list[Mapping[str, str]]:
    """What is said of a version, and of its license where the card names another one than the module has.

    Args:
        repairs: what is said of it so far.
        files: of the version, stored.
    """
    kept = [made for made in repairs if made["code"] != DIFFERS]
    said = front_matter_in(files[CARD_FILE].sha256) if CARD_FILE in files else {}
    return kept + [asdict(note) for note in license_difference(said, module.licence)]


def require_fits(module: Module, files: Mapping[str, Blob]) -> None:
    """Refuse files that their owner has no storage left for. What is there already needs no more."""
    Namespace.objects.select_for_update().get(pk=module.namespace_id)
    sizes = {blob.sha256: blob.size_bytes for blob in files.values()}
    there = VersionFile.objects.filter(version__module__namespace=module.namespace_id, sha256__in=sizes)
    waiting = module.incoming.filter(sha256__in=sizes)
    for known in (there, waiting):
        for sha256 in known.values_list("sha256", flat=True):
            sizes.pop(sha256, None)
    require_storage_left(module.namespace, sum(sizes.values()))


def require_weights_not_held(files: Mapping[str, Blob]) -> None:
    """Refuse weights that staff took from everybody, under whatever name they come again."""
    weights = files.get(WEIGHTS_FILE)
    if weights is None:
        return
    held = Version.objects.exclude(module__hold="").filter(weights_sha256=weights.sha256)
    if held.exists():
        message = "Staff have removed these weights from this site. Upload others."
        raise Refusal("weights_held", message, status=403, fields={"weights_file": [message]})


def commit_id(
    module: Module,
    parent: Version | None,
    author: User,
    message: str,
    files: Mapping[str, Blob],
    at: datetime,
) -> str:
    """The sha1 of everything a version is, so that no two are alike."""
    commit = {
        "module": module.full_name,
        "parent": parent.commit_id if parent else None,
        "author": author.username,
        "message": message,
        "files": {path: blob.sha256 for path, blob in files.items()},
        "at": at.isoformat(),
    }
    canonical = json.dumps(commit, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha1(canonical.encode(), usedforsecurity=False).hexdigest()


def facts_of(
    accepted: AcceptedFiles, earlier: Sequence[Mapping[str, str]] = (), *, is_converted: bool = False
) -> dict[str, object]:
    """What the gate read, as a version's columns.

    Args:
        earlier: repairs that were made before, such as of files that a draft stored already.
        is_converted: the weights were sent as adapter_model.bin.
    """
    facts = accepted.facts
    repairs = (*([CONVERTED] if is_converted else []), *facts.repairs, *accepted.card_repairs)
    return {
        "base_name": facts.base,
        "base": None if facts.not_composable else accepted.base,
        "base_revision": facts.revision or "",
        "task_type": facts.task_type or "",
        "rank": facts.rank,
        "alpha": facts.alpha,
        "scaling": facts.scaling,
        "targets": list(facts.targets),
        "parameters": facts.parameters,
        "dtype": facts.dtype,
        "weights_sha256": facts.weights_sha256,
        "prompt_template": accepted.prompt_template,
        "has_own_ranks": facts.has_own_ranks,
        "not_composable": facts.not_composable,
        "repairs": [*earlier, *map(asdict, repairs)],
    }


def same_facts(version: Version, card: ReadCard | None = None) -> dict[str, object]:
    """The facts of a version whose weights and config stay, under another card if one is given.

    A draft has none, except for its prompt template.
    """
    columns = FACT_COLUMNS if version.is_complete else ("prompt_template",)
    facts = {column: getattr(version, column) for column in columns}
    if card is not None:
        facts["prompt_template"] = template_under(card.card, version)
        of_card = repairs_of_card(card, version.base_name)
        facts["repairs"] = repairs_beside_card(version) + [asdict(repair) for repair in of_card]
    return facts


def repairs_beside_card(version: Version) -> list[dict[str, str]]:
    """What was repaired of a version's other files."""
    return [made for made in version.repairs if not made["code"].startswith(OF_THE_CARD)]


def template_under(card: Card, version: Version) -> str:
    """The prompt template of a version once this card is its own.

    What only the config stated stays: the stored config does not hold it any more.
    """
    config, base_has_chat = {"task_type": version.task_type}, has_chat(version.base)
    before = trained_template(card_of(version), config, {}, base_has_chat=base_has_chat)
    is_from_old_card = before == version.prompt_template
    template = trained_template(card, config, {}, base_has_chat=base_has_chat)
    return template or ("" if is_from_old_card else version.prompt_template)


def current_card(module: Module) -> BytesIO | None:
    """The card that a module has now, for a version that brings none."""
    head = module.current or module.draft
    text = card_of(head).text if head else ""
    return BytesIO(text.encode()) if text else None


def edited_card(module: Module, card: str | None, prompt_template: str | None) -> BytesIO | None:
    """The card after an edit; None if it stays."""
    head = module.current or module.draft
    new = None if card is None else normalize_card(card.encode())
    if prompt_template is None or head is None or prompt_template == head.prompt_template:
        return new
    require_prompt_template(prompt_template)
    old = new.getvalue().decode() if new is not None else card_of(head).text
    return normalize_card(card_stating(old, prompt_template).encode())


def blobs_of(version: Version) -> dict[str, Blob]:
    return {file.path: Blob(file.sha256, file.size_bytes) for file in version.files.all()}
