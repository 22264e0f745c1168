"""Repositories as they lie on a Hub since 2023: a short config, pickled weights, a card that says nothing."""

import json

from tests.factories import adapter_config
from tests.modules_registry.importing.checkpoints import attacks, lora, saved

CARD = b"---\nlibrary_name: peft\n---\n"


def repository(weights: bytes | None = None, card: bytes = CARD, **changes: object) -> dict[str, bytes]:
    return {
        "adapter_config.json": json.dumps(adapter_config(**changes)).encode(),
        "adapter_model.bin": saved(lora()) if weights is None else weights,
        "README.md": card,
    }


def far_repositories() -> dict[str, dict[str, bytes]]:
    """One as it should be, one to mend, one that attacks, one that is no adapter."""
    return {
        "far/good": repository(),
        "far/wrong-rank": repository(r=8, peft_type="lora"),
        "far/harmful": repository(attacks()["code in a zip"][0]),
        "far/empty": {"README.md": CARD},
    }
