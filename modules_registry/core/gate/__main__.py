"""The gate as a command, on the author's machine before an upload.

    python -m modules_registry.core.gate FOLDER [--base FOLDER] [--base-names NAME ...]

prints what the site will say of an adapter's folder as one JSON object, and exits with 0 if the adapter is
accepted, else with 1.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from modules_registry.core.accepted_paths import UploadPlan
from modules_registry.core.adapter_folder import plan_folder
from modules_registry.core.advice import WayIn
from modules_registry.core.base_names import (
    LibraryName,
    card_base_repairs,
    read_config_with_base,
)
from modules_registry.core.base_weights import read_base
from modules_registry.core.cards import CARD_BYTES_MAX, ReadCard, base_models_of, read_any_card
from modules_registry.core.errors import (
    CARD_FILE,
    CONFIG_FILE,
    WEIGHTS_FILE,
    Findings,
    GateRefusal,
    Repair,
)
from modules_registry.core.gate import AdapterFacts, check_form, check_weights


def check_folder(
    folder: Path, base_folder: Path | None = None, base_names: Sequence[str] = ()
) -> dict[str, Any]:
    """What the site will say of an adapter's folder, as JSON can hold it.

    Args:
        base_folder: of the base model, as transformers writes it; layers and copies are compared then.
        base_names: what the library calls the base, and then its other names.
    """
    findings, shapes, weights, config = Findings(), None, None, None
    library_name, card = naming(base_names), read_card(folder)
    card_bases = base_models_of(card.card)
    # A file may be a link, as in the cache of a Hub's client.
    config_file, weights_file = ((folder / name).resolve() for name in (CONFIG_FILE, WEIGHTS_FILE))
    with findings.collect():
        if base_folder is not None:
            shapes, weights = read_base(base_folder)
    with findings.collect():
        plan = plan_folder(folder, WayIn.COMMAND)
    with findings.collect():
        if config_file.is_file():
            config = read_config_with_base(
                config_file, library_name, way_in=WayIn.COMMAND, card_bases=card_bases
            )
    with findings.collect():
        if config is not None and weights_file.is_file():
            facts = check_weights(config, weights_file, shapes, weights)
        elif weights_file.is_file():
            check_form(weights_file)
    if findings.found:
        return what_is_refused([part for refusal in findings.found for part in refusal.parts])
    of_base = card_base_repairs(card_bases, facts.base, library_name)
    return what_is_accepted(facts, plan, [*facts.repairs, *card.repairs, *of_base])


def what_is_refused(parts: Sequence[GateRefusal]) -> dict[str, Any]:
    return {
        "accepted": False,
        "codes": list(dict.fromkeys(part.code for part in parts)),
        "findings": [
            {
                "file": part.file,
                "code": part.code,
                "message": part.message,
            }
            for part in parts
        ],
    }


def what_is_accepted(facts: AdapterFacts, plan: UploadPlan, repairs: Sequence[Repair]) -> dict[str, Any]:
    return {
        "accepted": True,
        "base": facts.base,
        "rank": facts.rank,
        "scaling": facts.scaling,
        "targets": list(facts.targets),
        "layers": len(facts.layers),
        "parameters": facts.parameters,
        "dtype": facts.dtype,
        "weights_sha256": facts.weights_sha256,
        "not_composable_because": facts.not_composable,
        "repairs": [asdict(repair) for repair in repairs],
        "left_out": list(plan.left_out),
    }


def naming(base_names: Sequence[str]) -> LibraryName:
    """A library of one base, by its name there and the others that staff declared."""
    known = {name.lower() for name in base_names}
    return lambda name: base_names[0] if name.lower() in known else None


def read_card(folder: Path) -> ReadCard:
    """The folder's card; an empty one if it has none."""
    path = folder / CARD_FILE
    if not path.is_file():
        return read_any_card(b"")
    with path.open("rb") as file:
        return read_any_card(file.read(CARD_BYTES_MAX + 1))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m modules_registry.core.gate",
        description="Check an adapter's folder as the site will, and print one JSON object.",
    )
    parser.add_argument("folder", type=Path, help="holds adapter_config.json and adapter_model.safetensors")
    parser.add_argument("--base", type=Path, help="the base model's folder, to compare layers and copies")
    parser.add_argument(
        "--base-names",
        nargs="+",
        default=(),
        metavar="NAME",
        help="what the site calls the base model, then the other names that its page lists",
    )
    asked = parser.parse_args(arguments)
    found = check_folder(asked.folder, asked.base, asked.base_names)
    sys.stdout.write(json.dumps(found, indent=2) + "\n")
    return 0 if found["accepted"] else 1


if __name__ == "__main__":
    sys.exit(main())
