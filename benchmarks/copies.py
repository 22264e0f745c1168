"""Whether copies spoil a composition, on the demo world's composable tasks.

    python -m benchmarks.copies [--tasks T ...] [--draws 1] [--candidates 200] [--out FOLDER]

Each task is composed three times from the same five examples with the same seed: from the demo library;
from it and so many noisy copies of its modules that there are --candidates; and from the demo library with
the rank "full", where nothing is pruned and no rank is cut. The copies have normal noise in both factors,
with a standard deviation of NOISE_LEVELS times the factor's root mean square.

The result file is written after every composition, and a later run continues from it. On one core it takes
about ten minutes. Nothing is tuned on the held-out examples.
"""

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from benchmarks.machine import machine
from benchmarks.unseen import BUNDLE, TASKS_BY_NAME, draw_examples, modules_without, write_job
from composer.core.job import CompositionRun
from composer.core.spec.job_spec import read_job_spec

RESULTS = Path(__file__).resolve().parent / "results"
COMPOSABLE = [name for name, task in TASKS_BY_NAME.items() if task.kind == "composable"]
HELD_OUT = 200  # examples of a task, as far as it has them
NOISE_LEVELS = (0.1, 0.3, 0.6, 1.0)
SETTINGS = ("library", "with_copies", "full_rank")


@dataclass(frozen=True)
class CopiesRun:
    """One composition to be made."""

    task: str
    draw: int
    setting: str


def main(argv: Sequence[str] | None = None) -> None:
    """Make the compositions that the result file lacks, and write it after each."""
    asked = read_arguments(argv)
    torch.set_num_threads(1)
    path = asked.out / "copies.json"
    content = {"schema": 1, "machine": machine(), "candidates": asked.candidates, "rows": []}
    if path.exists():
        content = json.loads(path.read_text(encoding="utf-8"))
    if content["candidates"] != asked.candidates or content["machine"] != machine():
        raise SystemExit(f"{path} is of another machine or number of candidates. Remove it first.")
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        copies = write_copies(Path(scratch), asked.candidates - len(modules_without(None)))
        known = {(row["task"], row["draw"], row["setting"]) for row in content["rows"]}
        for run in runs(asked.tasks, asked.draws):
            if (run.task, run.draw, run.setting) not in known:
                content["rows"].append(made(run, copies if run.setting == "with_copies" else []))
                content["means"] = means(content["rows"])
                path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
                print(json.dumps(content["rows"][-1])[:300], flush=True)
    print(json.dumps(content["means"], indent=1))


def read_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", nargs="+", choices=TASKS_BY_NAME, default=COMPOSABLE)
    parser.add_argument("--draws", type=int, default=1)
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(argv)


def runs(tasks: Sequence[str], draws: int) -> Iterator[CopiesRun]:
    """Yield the compositions, those of one task and draw together."""
    for draw in range(draws):
        for task in tasks:
            yield from (CopiesRun(task, draw, setting) for setting in SETTINGS)


def write_copies(folder: Path, count: int) -> list[tuple[str, Path]]:
    """Write noisy copies of the demo modules, in turn and level by level; return their names and folders."""
    names, written = modules_without(None), []
    for number in range(count):
        name, level = names[number % len(names)], NOISE_LEVELS[number // len(names) % len(NOISE_LEVELS)]
        own = folder / str(number)
        own.mkdir()
        shutil.copy(BUNDLE / "modules" / name / "adapter_config.json", own)
        generator = torch.Generator().manual_seed(number)
        tensors = load_file(BUNDLE / "modules" / name / "adapter_model.safetensors")
        noisy = {key: with_noise(tensor, level, generator) for key, tensor in tensors.items()}
        save_file(noisy, own / "adapter_model.safetensors", metadata={"format": "pt"})
        written.append((f"{name}~{level}~{number}", own))
    return written


def with_noise(factor: torch.Tensor, level: float, generator: torch.Generator) -> torch.Tensor:
    """Return a factor with normal noise of so many times its root mean square."""
    size = level * factor.float().square().mean().sqrt()
    return factor + size * torch.randn(factor.shape, generator=generator)


def made(run: CopiesRun, copies: Sequence[tuple[str, Path]]) -> dict[str, Any]:
    """Make one composition and return its row."""
    draw = draw_examples(TASKS_BY_NAME[run.task].combination, run.draw, verdict=HELD_OUT, truth=0)
    asked = {"method": "auto", "baselines": "none"}
    if run.setting == "full_rank":
        asked["rank"] = "full"
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_job(folder, asked, modules=modules_without(None), examples=draw.shots, held_out=draw.verdict)
        job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
        job["modules"] += [{"name": name, "folder": str(own)} for name, own in copies]
        (folder / "job.json").write_text(json.dumps(job), encoding="utf-8")
        started = time.process_time()
        composition = CompositionRun(read_job_spec(folder), lambda event: None)
        composition.make(folder / "out")
        seconds = time.process_time() - started
        report = json.loads((folder / "out" / "report.json").read_text(encoding="utf-8"))
    (composed,) = [row for row in report["baselines"] if row["key"] == "composed"]
    return {
        **asdict(run),
        "n": len(draw.verdict),
        "exact_match_percent": composed["held_out_exact_match_percent"],
        "few_shot_loss_nats": composed["few_shot_loss_nats"],
        "rank": report["rank"],
        "size_bytes": report["size_bytes"],
        "searched": len(report["modules"]) + len(report["modules_pruned"]),
        "groups_by_weights": len(composition.copy_groups.leaders),
        "modules": {row["name"]: round(row["weight"], 3) for row in report["modules"]},
        "cpu_seconds": round(seconds, 1),
    }


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of each setting over the tasks and draws that all settings have."""
    by_run: dict[tuple[str, int], dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        by_run.setdefault((row["task"], row["draw"]), {})[row["setting"]] = row
    whole = [run for run in by_run.values() if len(run) == len(SETTINGS)]
    if not whole:
        return {}
    return {
        "runs": len(whole),
        **{
            setting: {
                key: round(statistics.fmean(own[setting][key] for own in whole), 2)
                for key in ("exact_match_percent", "rank", "size_bytes", "searched", "cpu_seconds")
            }
            | {"modules": round(statistics.fmean(len(own[setting]["modules"]) for own in whole), 2)}
            for setting in SETTINGS
        },
    }


if __name__ == "__main__":
    main()
