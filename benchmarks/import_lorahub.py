"""All 196 modules of the LoraHub paper, in their own form: how many come in, how soon, and one composition.

    python -m benchmarks.import_lorahub [--repositories 196] [--composed 20] [--out FOLDER]

A Hub on this machine serves repositories with the real names, files, config (411 bytes), card (27 bytes) and
tensor names; the weights are random and fit a small T5, which the library holds as google/flan-t5-large.
The site's own database, command, limited converter and runner do the rest.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import django

from benchmarks.machine import machine
from composer.lorahub.constant import LORA_MODULE_NAMES
from hub_site.embedded.environment import site_environment
from hub_site.embedded.folders import REPOSITORY, DataFolder
from hub_site.embedded.servers import running_servers

RESULTS = REPOSITORY / "benchmarks" / "results"
TOKENIZER = REPOSITORY / "demo" / "bundle" / "base"
BASE = "google/flan-t5-large"
SHOTS = [("apple", "APPLE"), ("pear", "PEAR"), ("plum", "PLUM"), ("fig", "FIG"), ("lime", "LIME")]
BUDGET = 40


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repositories", type=int, default=196)
    parser.add_argument("--composed", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args(arguments)
    names = LORA_MODULE_NAMES[: asked.repositories]
    with tempfile.TemporaryDirectory(prefix="lora-hub-import-") as name:
        root = Path(name)
        root.chmod(0o711)  # the database's account passes through
        with running_site(root):
            result = measure(root, names, asked.composed)
    write(asked.out, {"machine": machine(), **result})


@contextmanager
def running_site(root: Path) -> Iterator[None]:
    """A new site in this process, its servers beside it."""
    folder = DataFolder(root / "var")
    folder.make()
    with running_servers(folder, is_forgetful=True) as servers:
        mine = site_environment(folder, servers.environment, "hub_site.settings.prod")
        os.environ.update(mine | {"HUB_PUBLIC_URL": "http://127.0.0.1:8000"})
        django.setup()
        try:
            yield
        finally:
            from django.db import connections

            connections.close_all()


def measure(root: Path, names: list[str], composed: int) -> dict[str, Any]:
    from django.core.management import call_command

    from hub_site.accounts.services import user_create
    from modules_registry.base_models import base_model_add
    from tests.modules_registry.importing.paper_modules import make_base_folder, paper_repository
    from tests.modules_registry.importing.source_server import small_hub

    call_command("migrate", verbosity=0)
    user_create(username="stella", staff=True)
    base_folder = make_base_folder(root / "base", TOKENIZER)
    base_model_add(folder=base_folder, name=BASE)
    repositories = {name: paper_repository(seed) for seed, name in enumerate(names)}
    begun = time.perf_counter()
    with small_hub(repositories) as address:
        call_command("import_lorahub", endpoint=address)
    import_s = time.perf_counter() - begun
    return {"import": imported(import_s), "composition": compose(root, base_folder, composed)}


def imported(seconds: float) -> dict[str, Any]:
    from modules_registry.importing.models import ImportItem
    from modules_registry.models import Module

    items = ImportItem.objects.all()
    modules = Module.objects.filter(namespace__name="lorahub", current__base__name=BASE)
    return {
        "repositories": items.count(),
        "imported": items.filter(state=ImportItem.State.IMPORTED).count(),
        "refused": {item.repo_id: item.message for item in items.filter(state=ImportItem.State.REFUSED)},
        "composable": modules.count(),
        "with_data_set_link": sum("datasets/" in card_of(module) for module in modules),
        "seconds": round(seconds, 1),
        "seconds_each": round(seconds / items.count(), 3),
    }


def card_of(module: Any) -> str:
    from modules_registry.blobs import store

    with store().open(module.current.files.get(path="README.md").sha256) as file:
        return file.read().decode()


def compose(root: Path, base_folder: Path, count: int) -> dict[str, Any]:
    """One composition by the worker's own runner, and its adapter in peft's hands."""
    from composer.core.spec.examples import Example
    from composer.request.services import composition_request
    from composer.run import runner
    from hub_site.accounts.models import User
    from modules_registry.models import Module

    modules = Module.objects.filter(namespace__name="lorahub").order_by("name")[:count]
    composition = composition_request(
        owner=User.objects.get(username="stella"),
        name="In capitals",
        base=BASE,
        method="exact",
        selection="chosen",
        modules=[str(module) for module in modules if module.current],
        budget=BUDGET,
        seed=1,
        examples=[Example(*shot) for shot in SHOTS],
    )
    begun = time.perf_counter()
    try:
        runner.composition_run(composition.pk)
    finally:
        runner.launcher().stop()
    seconds = time.perf_counter() - begun
    composition.refresh_from_db()
    assert composition.report is not None, composition.error_message
    return {
        "modules": composition.modules.count(),
        "status": composition.status,
        "seconds": round(seconds, 1),
        "rank": composition.report["rank"],
        "adapter_differs_from_base_by": loaded_by_peft(base_folder, written(composition, root / "adapter")),
    }


def written(composition: Any, folder: Path) -> Path:
    from modules_registry.blobs import store

    folder.mkdir()
    for file in composition.files.exclude(path__contains="/"):  # without the adapters of baselines
        with store().open(file.sha256) as content:
            (folder / file.path).write_bytes(content.read())
    return folder


def loaded_by_peft(base_folder: Path, adapter: Path) -> float:
    """The largest difference that the adapter makes to the base's logits."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForSeq2SeqLM

    ids = torch.arange(1, 9).reshape(1, 8)
    base = AutoModelForSeq2SeqLM.from_pretrained(base_folder).eval()
    with torch.no_grad():
        plain = base(input_ids=ids, decoder_input_ids=ids).logits
        adapted = PeftModel.from_pretrained(base, adapter).eval()(input_ids=ids, decoder_input_ids=ids).logits
    return round(float((adapted - plain).abs().max()), 4)


def write(folder: Path, result: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=2)
    (folder / "import_lorahub.json").write_text(text + "\n", encoding="utf-8")
    (folder / "import_lorahub.md").write_text(page(result), encoding="utf-8")
    print(text)


def page(result: dict[str, Any]) -> str:
    came, made = result["import"], result["composition"]
    refused = "".join(f"- {name}: {why}\n" for name, why in came["refused"].items())
    return (
        "# The LoraHub paper's modules, imported\n\n"
        "Written by `python -m benchmarks.import_lorahub`. Made repositories on a local Hub in the form\n"
        "of the real ones: real names, a 411-byte config, a 27-byte card, pickled weights; a small base.\n\n"
        f"| | |\n|---|---|\n"
        f"| Imported | {came['imported']} of {came['repositories']} |\n"
        f"| Composable on the base | {came['composable']} |\n"
        f"| With a link to their training data | {came['with_data_set_link']} |\n"
        f"| Seconds | {came['seconds']} ({came['seconds_each']} each) |\n"
        f"| Composition of {made['modules']} of them | {made['status']}, {made['seconds']} s, "
        f"rank {made['rank']} |\n"
        f"| Its adapter in peft changes the logits by up to | {made['adapter_differs_from_base_by']} |\n\n"
        f"{refused}Machine: {result['machine']}.\n"
    )


if __name__ == "__main__":
    main()
