"""How far the time that is told before a composition begins is from the time that it takes.

    python -m benchmarks.estimates [--large 1] [--english FOLDER] [--jobs N] [--out FOLDER]

Thirty mixed compositions, one after the other, on a site of its own: the demo world, the English library, a
Llama of 134 million and a T5 of 60 million parameters with random weights, and at most three at the size of
flan-t5-large; all levels, few and many modules, with and without held-out examples. Each is asked for as
the form asks, so its row holds the estimate, and then done by the worker's own code. The first one on a
base goes by the base's size and by what was measured on others, the later ones by those before them.

It needs a machine with nothing else to do.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.hub_upload import manage
from benchmarks.machine import machine
from demo.english.base import default_folder
from hub_site.embedded.environment import site_environment
from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.processes import wait_for
from hub_site.embedded.servers import running_servers

RESULTS = REPOSITORY / "benchmarks" / "results"
FACTOR = 1.5
PROMISE = "27 of 30 within a factor of 1.5"
RANDOM_MODULES = 20
SIZES = {"D": "random/llama-134m", "M": "random/t5-60m", "L": "random/flan-t5-large-size"}
SMALL, ENGLISH = "demo/tiny-t5", "demo/smollm2-135m"


@dataclass(frozen=True)
class Job:
    """One composition to be asked for; `modules` 0 leaves the choice to the site."""

    base: str
    task: str
    level: str = "balanced"
    modules: int = 0
    held_out: int = 50
    method: str = "auto"


JOBS: Sequence[Job] = (
    Job(SMALL, "animal-spanish"),
    Job(SMALL, "animal-french-dots", modules=6),
    Job(ENGLISH, "en-past-quotes", "quick", modules=6, held_out=20),
    Job(SMALL, "animal-spanish", "quick", held_out=20),
    Job(SMALL, "animal-french-dots", held_out=100),
    Job(SIZES["M"], "random", "quick", modules=8, held_out=10),
    Job(SMALL, "animal-spanish", "thorough"),
    Job(ENGLISH, "en-ing-bold", "quick", held_out=50),
    Job(SMALL, "animal-french-dots", "quick", modules=12, held_out=0),
    Job(SMALL, "animal-spanish", modules=12, held_out=0),
    Job(SIZES["M"], "random", modules=20, held_out=20),
    Job(SMALL, "animal-spanish", method="lorahub"),
    Job(SMALL, "animal-french-dots", "thorough", modules=12, held_out=20),
    Job(ENGLISH, "en-plural-brackets", modules=6, held_out=20),
    Job(SMALL, "animal-spanish", modules=3, held_out=100),
    Job(SIZES["D"], "random", "quick", modules=20, held_out=10),
    Job(SMALL, "animal-french-dots", method="lorahub", modules=12, held_out=20),
    Job(SMALL, "animal-spanish", "quick", modules=6, held_out=100),
    Job(ENGLISH, "en-third-shout", "quick", modules=12, held_out=20),
    Job(SMALL, "animal-french-dots", "balanced", modules=20, held_out=20),
    Job(SIZES["M"], "random", "quick", modules=20, held_out=20),
    Job(SMALL, "animal-spanish", "thorough", modules=6, held_out=100),
    Job(SIZES["D"], "random", modules=8, held_out=20),
    Job(ENGLISH, "en-past-json", held_out=50),
    Job(SMALL, "animal-french-dots", "quick"),
    Job(SMALL, "animal-spanish", method="exact", modules=12),
    Job(SMALL, "animal-french-dots", modules=6, held_out=0),
    Job(SMALL, "animal-spanish", "quick", modules=20, held_out=50),
    Job(ENGLISH, "en-plural-saying", modules=12, held_out=50),
)
LARGE = Job(SIZES["L"], "random", modules=20, held_out=50)


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--large", type=int, default=1, help="jobs at flan-t5-large's size, 0 to 3")
    parser.add_argument("--english", type=Path, help="the base of the English library; default: HUB_DATA's")
    parser.add_argument("--jobs", type=int, help="only so many, from the first on")
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(words)
    jobs = [*JOBS, *[LARGE] * asked.large][: asked.jobs]
    english = asked.english or default_folder()
    if not english.is_dir():
        parser.error(f"no base model in {english}. Make it with ./hub demo english, or name it: --english")
    with tempfile.TemporaryDirectory(prefix="lora-hub-estimates-") as name:
        Path(name).chmod(0o711)
        rows = list(measured(Path(name) / "site", jobs, english))
    within = sum(row["factor"] <= FACTOR for row in rows)
    result = {
        "machine": machine(),
        "promise": PROMISE,
        "within": within,
        "of": len(rows),
        "rows": rows,
    }
    (asked.out / "estimates.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"{within} of {len(rows)} within a factor of {FACTOR}")


def measured(root: Path, jobs: Sequence[Job], english: Path) -> Iterator[dict[str, Any]]:
    """Make a site with its library, and do the jobs on it."""
    folder = DataFolder(root)
    folder.make()
    with running_servers(folder, is_forgetful=True) as servers:
        environment = site_environment(folder, servers.environment, "hub_site.settings.prod") | {
            "PYTHONPATH": str(REPOSITORY)
        }
        manage(environment, "migrate", "--verbosity", "0")
        for _ in printed(environment, f"prepare({[job.base for job in jobs]!r}, {str(english)!r})"):
            pass
        for line in printed(environment, f"do({[asdict(job) for job in jobs]!r})"):
            print(line, end="", flush=True)
            yield json.loads(line)


def printed(environment: Mapping[str, str], call: str) -> Iterator[str]:
    """What a function of this module prints, line by line, run within the site's own Django."""
    code = f"from benchmarks import estimates; estimates.{call}"
    command = [sys.executable, "-W", "ignore", str(REPOSITORY / "manage.py"), "shell", "--verbosity", "0"]
    with subprocess.Popen(
        [*command, "-c", code], env=dict(environment), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield from process.stdout
    if process.returncode:
        raise SystemExit(f"{call} failed; its output says why.")


# --- in the place of the site and of its worker, inside manage.py ------------------


def prepare(bases: Sequence[str], english: str) -> None:
    """An owner, and each base that a job names with its modules."""
    from demo import BUNDLE
    from demo.english import BUNDLE as ENGLISH_BUNDLE
    from hub_site.accounts.services import user_create

    owner = user_create(username="alice", password=None)
    if SMALL in bases:
        add_library(owner, SMALL, BUNDLE / "base", sorted((BUNDLE / "modules").iterdir()))
    if ENGLISH in bases:
        add_library(owner, ENGLISH, Path(english), sorted((ENGLISH_BUNDLE / "modules").iterdir()))
    for size, name in SIZES.items():
        if name in bases:
            with tempfile.TemporaryDirectory() as scratch:
                add_library(owner, name, *random_library(Path(scratch), size))


def random_library(folder: Path, size: str) -> tuple[Path, list[Path]]:
    """Files of a base of that size with random weights, and of its modules."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    from benchmarks.synthetic import T5_SIZES, make_base, make_module

    base = make_base(folder / "base", size)
    automatic = AutoModelForSeq2SeqLM if size in T5_SIZES else AutoModelForCausalLM
    model = automatic.from_pretrained(base)
    return base, [make_module(folder / f"{size}-{i}", model, seed=i) for i in range(RANDOM_MODULES)]


def add_library(owner: Any, name: str, base: Path, modules: Sequence[Path]) -> None:
    from modules_registry.base_models import base_model_add
    from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
    from modules_registry.services import module_publish

    row, _ = base_model_add(folder=base, name=name)
    for folder in modules:
        with (folder / CONFIG_FILE).open("rb") as config, (folder / WEIGHTS_FILE).open("rb") as weights:
            module_publish(
                author=owner,
                namespace=owner.namespace,
                name=folder.name,
                config_file=config,
                weights_file=weights,
                base=row.name,
            )


def do(jobs: Sequence[Mapping[str, Any]]) -> None:
    """Do one composition after the other, and print of each what was told and what it took."""
    from django.conf import settings

    from composer.run import runner

    ready = settings.HUB_DATA / "run" / "launcher.ready"
    runner.launcher().start()
    wait_for(ready.exists, timeout_s=300)
    for job in jobs:
        print(json.dumps(done(job)), flush=True)
    runner.launcher().stop()


def done(job: Mapping[str, Any]) -> dict[str, Any]:
    """Ask for one composition and do it: what was told before and what it took."""
    from composer.core.spec.choices import BASELINES_OF_LEVEL, level_budget
    from composer.models import Composition
    from composer.request.services import composition_request
    from composer.run import runner
    from hub_site.accounts.models import User

    shots, held_out = examples_of(job["base"], job["task"])
    owner = User.objects.get(username="alice")
    names = [f"alice/{name}" for name in modules_of(job["base"])]
    composition = composition_request(
        owner=owner,
        name="Estimated",
        base=job["base"],
        selection="chosen" if job["modules"] else "auto",
        modules=names[: job["modules"]],
        level=job["level"],
        examples=shots,
        held_out=held_out[: job["held_out"]],
        method=job["method"],
        budget=level_budget(job["level"], job["method"]),
        baselines=BASELINES_OF_LEVEL[job["level"]],
        seed=1,
    )
    began = time.monotonic()
    runner.composition_run(composition.pk)
    took = time.monotonic() - began
    row = Composition.objects.get(pk=composition.pk)
    told = composition.estimated_s
    assert row.status == "done", row.error_message
    assert row.report is not None
    return {
        **job,
        "n_modules": row.modules.count(),
        "told_s": round(told, 1),
        "took_s": round(took, 1),
        "factor": round(max(told / took, took / told), 2),
        "budget": row.budget,
        "budget_fitted": row.budget_fitted,
        "seconds": row.report["seconds"],
    }


def modules_of(base: str) -> list[str]:
    from modules_registry.models import Module

    rows = Module.objects.filter(current__base__name=base).order_by("name")
    return list(rows.values_list("name", flat=True))


def examples_of(base: str, task: str) -> tuple[list[Any], list[Any]]:
    """Five examples to compose from, and others held out."""
    from benchmarks import english, unseen
    from benchmarks.synthetic import LLAMA_SIZES, T5_SIZES, make_examples
    from composer.core.spec.examples import Example
    from demo.english.catalog import task_examples

    if base == SMALL:
        draw = unseen.draw_examples(unseen.TASKS_BY_NAME[task].combination, 1, verdict=100, truth=0)
        pairs: Sequence[Any] = (*draw.shots, *draw.verdict)
    elif base == ENGLISH:
        own = task_examples(english.TASKS_BY_NAME[task].combination)
        pairs = (*own.shots[0], *own.held_out)
    else:
        (size,) = [size for size, name in SIZES.items() if name == base]
        vocabulary = {**T5_SIZES, **LLAMA_SIZES}[size]["vocab_size"]
        pairs = make_examples(vocabulary, ends=size in T5_SIZES, lengths=[107] * 55)
    examples = [Example(pair.input, pair.output) for pair in pairs]
    return examples[:5], examples[5:]


if __name__ == "__main__":
    main()
