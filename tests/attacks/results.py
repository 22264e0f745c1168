"""results.json: what the full counts of --long found, kept with the tests."""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")


def record_result(name: str, found: dict[str, Any]) -> None:
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps(results | {name: found}, indent=2) + "\n")
