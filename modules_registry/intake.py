"""Files on their way in: through the gate, then into the store together with the rows that name them."""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import BinaryIO

from django.conf import settings
from django.db import connection, transaction
from django.db.models import ProtectedError

from hub_site.common.errors import Refusal, Refusals
from modules_registry import selectors
from modules_registry.cards import CARD_BYTES_MAX, check_card
from modules_registry.core.adapter_config import AdapterConfig, is_base_name, read_config
from modules_registry.core.compatibility import Candidate, reason_not_composable
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE, GateRefusal
from modules_registry.core.gate import AdapterFacts, check_adapter, check_form
from modules_registry.models import BaseModel, Version
from modules_registry.storage import Blob, StorageError, StorageFullError, TooLargeError

FIELD_OF_FILE = {CONFIG_FILE: "config_file", WEIGHTS_FILE: "weights_file", CARD_FILE: "card_file"}
# The rows that name a blob and the blob itself are in two places. Who adds both shares this lock, who
# removes blobs that no row names has it alone: so nothing is removed between its put and its row.
BLOBS_LOCK = 0x6C6F7261


@dataclass(frozen=True)
class Accepted:
    """Files that passed the gate, and what they are."""

    facts: AdapterFacts
    base: BaseModel | None
    files: dict[str, BinaryIO]


def check_files(
    config_file: BinaryIO, weights_file: BinaryIO, card_file: BinaryIO | None, *, base_name: str = ""
) -> Accepted:
    """Let files pass the gate, with the shapes of the base they name when the library has it.

    A base name given with them stands in for the one in the config. Each file is looked at, whatever is
    wrong with the others.
    """
    refusals, named = Refusals(), base_name or None
    with refusals.noted(), said_at_its_field():
        require_base_name(base_name)
        base = base_named_by(read_config(config_file, named))
    with refusals.noted(), said_at_its_field():
        require_size(weights_file)
        if refusals.found:
            check_form(weights_file)
        else:
            facts = check_adapter(config_file, weights_file, base.layers if base else None, base=named)
    with refusals.noted():
        card = read_card(card_file) if card_file else None
    refusals.say()
    # The config is stored as the gate wrote it anew: nothing in it is left that a reader has to trust.
    config = BytesIO(json.dumps(facts.config, indent=2, sort_keys=True).encode() + b"\n")
    files: dict[str, BinaryIO] = {CONFIG_FILE: config, WEIGHTS_FILE: weights_file}
    if card is not None:
        files[CARD_FILE] = card
    return Accepted(facts, base, files)


def base_named_by(config: AdapterConfig) -> BaseModel | None:
    """The library's base of that name, unless the config asks for another revision of it."""
    base = BaseModel.objects.filter(name=config.base).first()
    module = Candidate("", config.base, config.revision, config.rank, config.scaling, config.targets)
    return None if reason_not_composable(module, selectors.library_of(base)) else base


def require_base_name(name: str) -> None:
    if name and not is_base_name(name):
        message = "This names nothing on the Hub. Write the base model's name, like google/flan-t5-large."
        raise Refusal("base_not_a_name", message, fields={"base": [message]})


def require_size(weights_file: BinaryIO) -> None:
    if weights_file.seek(0, 2) > upload_bytes_max():
        raise refused_at("weights_file", TooLargeError(upload_bytes_max()))


def upload_bytes_max() -> int:
    return settings.HUB_UPLOAD_MAX_MB * 1_000_000


def read_card(card_file: BinaryIO) -> BinaryIO:
    card_file.seek(0)
    return checked_card(card_file.read(CARD_BYTES_MAX + 1))


def checked_card(data: bytes) -> BinaryIO:
    """A card as it is stored: UTF-8 with Unix line ends, its front matter readable."""
    with said_at_its_field():
        return BytesIO(check_card(data).text.encode())


@contextmanager
def said_at_its_field() -> Iterator[None]:
    """Let the gate's no be said at the field whose file it is about."""
    try:
        yield
    except GateRefusal as refusal:
        field = FIELD_OF_FILE.get(refusal.file, refusal.file)
        raise Refusal(refusal.code, str(refusal), fields={field: [refusal.message]}) from refusal


def refused_at(field: str, error: StorageError) -> Refusal:
    status = 413 if isinstance(error, TooLargeError) else 507 if isinstance(error, StorageFullError) else 500
    return Refusal(error.code, str(error), status=status, fields={field: [str(error)]})


@contextmanager
def stored(files: Mapping[str, BinaryIO], *, max_bytes: int | None = None) -> Iterator[dict[str, Blob]]:
    """Put files into the store, in one transaction with the rows that will name them.

    Whatever goes wrong before its end, neither the rows nor the new files stay.
    """
    blobs: dict[str, Blob] = {}
    try:
        with transaction.atomic():
            lock_blobs(shared=True)
            for path, file in files.items():
                blobs[path] = put(path, file, max_bytes or upload_bytes_max())
            yield blobs
    except BaseException:  # also an end of the worker in the middle: the transaction takes back rows alone
        blobs_forget({blob.sha256 for blob in blobs.values()})
        raise


def put(path: str, file: BinaryIO, max_bytes: int) -> Blob:
    file.seek(0)
    try:
        return selectors.store().put(file, max_bytes=max_bytes)
    except StorageError as error:
        raise refused_at(FIELD_OF_FILE.get(path, path), error) from error


@transaction.atomic
def blobs_forget(hashes: Iterable[str]) -> None:
    """Remove those of the files that no row names any more."""
    lock_blobs(shared=False)
    for sha256 in selectors.blobs_unnamed(hashes):
        selectors.store().delete(sha256)


def lock_blobs(*, shared: bool) -> None:
    """Until the end of the transaction."""
    function = "pg_advisory_xact_lock_shared" if shared else "pg_advisory_xact_lock"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {function}(%s)", [BLOBS_LOCK])


def delete_unless_needed(version: Version) -> None:
    try:
        with transaction.atomic():
            version.delete()
    except ProtectedError:
        return  # something was made from it and must stay repeatable
