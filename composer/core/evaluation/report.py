"""Facts about a run that its report states; docs/core/report.md describes every field."""

import hashlib
import importlib.metadata
import platform
import resource
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from composer.core.evaluation.baselines import BaselineResult
from composer.core.modules.sources import BASE_FILES, MODULE_FILES
from composer.core.spec.examples import Example
from composer.core.spec.job_spec import ModuleSource
from composer.core.spec.metrics import accuracy, is_exact_match

SCHEMA = 2
PREDICTIONS_SHOWN = 200


def baseline_row(baseline: BaselineResult, held_out: Sequence[Example]) -> dict[str, Any]:
    """A rival as the report lists it; null where nothing was measured."""
    found = accuracy(baseline.answers, held_out) if baseline.answers is not None else None
    return {
        "key": baseline.key,
        "label": baseline.label,
        "few_shot_loss_nats": baseline.few_shot_loss_nats,
        "left_out_loss_nats": baseline.left_out.loss_nats if baseline.left_out else None,
        "held_out_exact_match_percent": round(found.percent, 2) if found else None,
        "interval_percent": [round(bound, 2) for bound in found.interval_percent] if found else None,
        "detail": baseline.detail,
        "cost": asdict(baseline.cost),
        "prompt_tokens": None if baseline.prompt_tokens is None else round(baseline.prompt_tokens, 1),
    }


def prediction_rows(
    held_out: Sequence[Example], base: Sequence[str], composed: Sequence[str]
) -> list[dict[str, Any]]:
    """The first held-out examples with both answers, side by side."""
    rows = zip(held_out, base, composed, strict=True)
    return [
        {
            "input": example.input,
            "expected": example.output,
            "base": before,
            "composed": after,
            "correct": is_exact_match(after, example.output),
        }
        for example, before, after in list(rows)[:PREDICTIONS_SHOWN]
    ]


def peak_memory_mb() -> int:
    """The most memory this process ever held, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (1024 * 1024 if sys.platform == "darwin" else 1024)


def versions() -> dict[str, str]:
    """What computed this; the same versions, threads and machine type give the same bytes."""
    packages = ("torch", "transformers", "peft", "safetensors", "nevergrad", "numpy")
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "threads": str(torch.get_num_threads()),
        **{package: importlib.metadata.version(package) for package in packages},
    }


def base_sha256(base_folder: Path) -> dict[str, str]:
    """The sha256 of every file that a base model is read from: weights, configurations, tokenizer."""
    files = sorted({path for pattern in BASE_FILES for path in base_folder.glob(pattern) if path.is_file()})
    return {f"base/{path.name}": file_sha256(path) for path in files}


def examples_sha256(folder: Path) -> dict[str, str]:
    """The sha256 of the examples, by file."""
    files = [folder / "examples.jsonl", folder / "held_out.jsonl"]
    return {path.name: file_sha256(path) for path in files if path.exists()}


def modules_sha256(modules: Sequence[ModuleSource]) -> dict[str, str]:
    """The sha256 of both files of every module that was given, composed or not."""
    sums = {}
    for module in modules:
        config, weights = (f"modules/{module.name}/{name}" for name in MODULE_FILES[:2])
        sums[config] = file_sha256(module.folder / MODULE_FILES[0])
        sums[weights] = weights_sha256(module)
    return sums


def weights_sha256(module: ModuleSource) -> str:
    """As the caller knows it, else computed."""
    return module.sha256 or file_sha256(module.folder / MODULE_FILES[1])


def file_sha256(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
