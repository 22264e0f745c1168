"""Outputs that a base model's tokenizer cannot write, asked beside the form, without loading the model."""

from collections.abc import Sequence
from functools import lru_cache

from tokenizers import Tokenizer

from composer.core.spec.examples import Example
from composer.core.spec.metrics import warning_of_unwritable
from modules_registry.blobs import open_stored
from modules_registry.models import BaseModel

TOKENIZER_FILE = "tokenizer.json"
BYTES_MAX = 12 * 1024 * 1024  # a larger vocabulary takes seconds to read: then the run tells
TOKENIZERS_KEPT = 2  # in memory, some 50 MB each


def unwritable_text(base: BaseModel, examples: Sequence[Example]) -> str:
    """What to know of the outputs; empty where all can be written, or only the run can tell."""
    if not examples:
        return ""
    file = base.files.filter(path=TOKENIZER_FILE, size_bytes__lte=BYTES_MAX).first()
    tokenizer = None if file is None else find_tokenizer(file.sha256)
    if tokenizer is None:
        return ""
    return warning_of_unwritable(
        examples, lambda text: tokenizer.decode(tokenizer.encode(text, add_special_tokens=False).ids)
    )


@lru_cache(maxsize=TOKENIZERS_KEPT)
def find_tokenizer(sha256: str) -> Tokenizer | None:
    """The stored tokenizer; None if it is of a kind that this library does not read."""
    with open_stored(sha256) as file:
        data = file.read()
    try:
        tokenizer = Tokenizer.from_str(data.decode())
    except Exception:  # noqa: BLE001  the library raises no other
        return None
    tokenizer.encode_special_tokens = True  # as text, as the core reads what people wrote
    return tokenizer
