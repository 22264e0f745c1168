"""What the gate says: what it refuses, and what it repaired. The codes stay; the sentences are for people."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from modules_registry.core.refusal_table import require_known

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
LEGACY_FILE = "adapter_model.bin"  # how peft saved weights before safetensors


@dataclass(frozen=True)
class Repair:
    """One thing that was repaired."""

    code: str
    sentence: str


class GateRefusal(ValueError):
    """A file that may not be published. Nothing of it has been stored."""

    def __init__(self, code: str, message: str, file: str) -> None:
        require_known(code)
        self.code, self.message, self.file = code, message, file
        self.parts: tuple[GateRefusal, ...] = (self,)  # all that is said in the message
        super().__init__(f"{file}: {message}" if file else message)

    @property
    def codes(self) -> tuple[str, ...]:
        """Of all that is said in the message."""
        return tuple(dict.fromkeys(part.code for part in self.parts))


class ConfigRefusal(GateRefusal):
    """Something in adapter_config.json."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, CONFIG_FILE)


class WeightsRefusal(GateRefusal):
    """Something in adapter_model.safetensors."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, WEIGHTS_FILE)


class FolderRefusal(GateRefusal):
    """Something in the names of a folder's files."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, "")


class CardRefusal(GateRefusal):
    """Something in README.md."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, CARD_FILE)


class CheckpointRefusal(GateRefusal):
    """Something in adapter_model.bin, which is converted and never kept."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, LEGACY_FILE)


class BaseModelRefusal(GateRefusal):
    """Something in the files of a base model that staff wanted in the library."""


class Findings:
    """Several refusals, said at once: nobody should find the next one with every try."""

    def __init__(self) -> None:
        self.found: list[GateRefusal] = []

    def add(self, refusal: GateRefusal) -> None:
        self.found.append(refusal)

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Keep a refusal and go on after the block."""
        try:
            yield
        except GateRefusal as refusal:
            self.found.append(refusal)

    def raise_all(self) -> None:
        """Raise what was collected as one refusal."""
        if self.found:
            raise self.joined()

    def joined(self) -> GateRefusal:
        """What was collected as one refusal, with the code of the first; each file is named once."""
        parts = tuple({str(part): part for refusal in self.found for part in refusal.parts}.values())
        first = parts[0]
        if len(parts) == 1:
            return first
        files = dict.fromkeys(part.file for part in parts)
        messages = [part.message if len(files) == 1 else str(part) for part in parts]
        joined = GateRefusal(first.code, " ".join(messages), first.file if len(files) == 1 else "")
        joined.parts, joined.__cause__ = parts, first
        return joined
