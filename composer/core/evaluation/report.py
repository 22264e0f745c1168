"""Parts of report.json; docs/core/report.md describes every field."""

import hashlib
import importlib.metadata
import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from composer.core.evaluation.baselines import ANSWERS_SHOWN, BaselineResult
from composer.core.evaluation.export import ExportCheck
from composer.core.modules.sources import BASE_FILES, MODULE_FILES
from composer.core.spec.examples import Example
from composer.core.spec.job_spec import ModuleSource
from composer.core.spec.metrics import accuracy, is_exact_match

SCHEMA = 2


def baseline_row(baseline: BaselineResult, held_out: Sequence[Example]) -> dict[str, Any]:
    """Return a baseline, or the composition, as a row of the report; null where nothing was measured.

    Losses are in nats per label token, exact match and its interval in percent, seconds in the cost.
    """
    found = accuracy(baseline.answers, held_out) if baseline.answers is not None else None
    left_out = baseline.left_out
    return {
        "key": baseline.key,
        "label": baseline.label,
        "few_shot_loss_nats": baseline.few_shot_loss_nats,
        "left_out_loss_nats": left_out.loss_nats if left_out else None,
        "left_out_chance_percent": left_out.mean_chance_percent if left_out else None,
        "left_out_interval_percent": rounded(left_out.chance_interval_percent) if left_out else None,
        "held_out_exact_match_percent": round(found.percent, 2) if found else None,
        "interval_percent": rounded(found.interval_percent) if found else None,
        "detail": baseline.detail,
        "cost": asdict(baseline.cost),
        "adapter": baseline.adapter,
        "prompt_tokens": None if baseline.prompt_tokens is None else round(baseline.prompt_tokens, 1),
    }


def rounded(interval_percent: Sequence[float] | None) -> list[float] | None:
    """Return the bounds of an interval, 0 to 100, as the report has them."""
    return None if interval_percent is None else [round(bound, 2) for bound in interval_percent]


def export_row(checked: ExportCheck, *, is_recomputed: bool) -> dict[str, Any]:
    """Return how the written adapter compares with the search; losses in nats per label token."""
    return {
        "compared_in": checked.precision,
        "is_recomputed": is_recomputed,
        "searched_loss_nats": checked.searched_loss_nats,
        "loss_nats": checked.loss_nats,
    }


def prediction_rows(
    held_out: Sequence[Example], base: Sequence[str], composed: Sequence[str]
) -> list[dict[str, Any]]:
    """Return the first ANSWERS_SHOWN held-out examples, each with the answers of base and composition."""
    rows = zip(held_out, base, composed, strict=True)
    return [
        {
            "input": example.input,
            "expected": example.output,
            "base": before,
            "composed": after,
            "correct": is_exact_match(after, example.output),
        }
        for example, before, after in list(rows)[:ANSWERS_SHOWN]
    ]


def module_name(source: ModuleSource) -> dict[str, str]:
    """Return what names a module: its name, its revision and the SHA-256 of its weights."""
    return {"name": source.name, "revision": source.revision, "sha256": source.sha256}


def peak_memory_mb() -> int:
    """Return the most memory that this process has held so far, in MiB (2**20 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)


def versions() -> dict[str, str]:
    """Return what computed the result: machine, threads and packages.

    With the same versions, threads and machine type, the same job gives the same bytes.
    """
    packages = ("torch", "transformers", "peft", "safetensors", "nevergrad", "numpy")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def base_sha256(base_folder: Path) -> dict[str, str]:
    """Return the SHA-256 of every file of a base model, in hexadecimal, by file name."""
    files = sorted({path for pattern in BASE_FILES for path in base_folder.glob(pattern) if path.is_file()})
    return {f"base/{path.name}": file_sha256(path) for path in files}


def examples_sha256(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of the files of examples, in hexadecimal, by file name."""
    files = [folder / "examples.jsonl", folder / "held_out.jsonl"]
    return {path.name: file_sha256(path) for path in files if path.exists()}


def modules_sha256(modules: Sequence[ModuleSource]) -> dict[str, str]:
    """Return the SHA-256 of both files of every module of the job, in hexadecimal, composed or not."""
    sums = {}
    for module in modules:
        config, weights = (f"modules/{module.name}/{name}" for name in MODULE_FILES[:2])
        sums[config] = file_sha256(module.folder / MODULE_FILES[0])
        sums[weights] = weights_sha256(module)
    return sums


def weights_sha256(module: ModuleSource) -> str:
    """Return the SHA-256 of a module's weights file, in hexadecimal: the caller's if given, else computed."""
    return module.sha256 or file_sha256(module.folder / MODULE_FILES[1])


def with_sha256(module: ModuleSource) -> ModuleSource:
    """Return the module with the SHA-256 of its weights file, so that the file is read for it once."""
    return replace(module, sha256=weights_sha256(module))


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
