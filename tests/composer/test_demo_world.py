"""One composition with everything real: the demo's base and modules, the launcher, the core, the store."""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from composer import selectors
from composer.core.spec.choices import METHODS
from composer.report.adapter_zip import write_zip
from composer.report.snippets import own_snippets
from composer.request.services import composition_request
from composer.run import runner
from composer.task.demo_tasks import demo_task
from hub_site.accounts.services import user_create
from hub_site.jobs.models import Status
from modules_registry.base_models import base_model_add
from modules_registry.core.gate import check_adapter
from modules_registry.services import module_publish

pytestmark = pytest.mark.slow
WANTED = ("fruit", "upper", "french")


@pytest.fixture(autouse=True)
def one_thread(settings):
    settings.HUB_THREADS = 1


@pytest.fixture(scope="module", autouse=True)
def launcher():
    runner.launcher.cache_clear()
    yield
    runner.launcher().stop()
    runner.launcher.cache_clear()


@pytest.fixture
def library(db, demo_bundle):
    """The demo's base and three of its modules."""
    owner = user_create(username="demo")
    base, _ = base_model_add(folder=demo_bundle / "base", name="demo/tiny-t5")
    for name in WANTED:
        folder = demo_bundle / "modules" / name
        with (
            (folder / "adapter_config.json").open("rb") as config,
            (folder / "adapter_model.safetensors").open("rb") as weights,
        ):
            module_publish(
                author=owner, namespace=owner.namespace, name=name, config_file=config, weights_file=weights
            )
    return base


@pytest.fixture
def compose(alice, library):
    def run(method):
        task = demo_task("fruit-upper")
        composition = composition_request(
            owner=alice, name=task.name, base=library.name, method=method, budget=40, seed=1,
            examples=task.shots, held_out=task.held_out[:10],
        )  # fmt: skip
        runner.composition_run(composition.pk)
        composition.refresh_from_db()
        assert composition.status == Status.DONE, composition.error_message
        return composition

    return run


def test_every_method_on_offer_goes_from_request_to_report(compose):
    for method in METHODS:
        composition = compose(method.name)
        rows = composition.report["modules"] + composition.report["modules_pruned"]
        assert sorted(row["name"] for row in rows) == sorted(f"demo/{name}" for name in WANTED)
        assert composition.steps_done > 0
        assert composition.report["n_held_out"] == 10


def test_the_adapter_that_is_handed_out_names_its_base_and_has_finite_weights(compose):
    composition = compose("exact")
    with write_zip("it", list(composition.files.all()), {}) as archive, zipfile.ZipFile(archive) as files:
        config = json.loads(files.read("it/adapter_config.json"))
        facts = check_adapter(
            io.BytesIO(files.read("it/adapter_config.json")),
            io.BytesIO(files.read("it/adapter_model.safetensors")),
            composition.base.layers,
        )
    assert config["base_model_name_or_path"] == facts.base == "demo/tiny-t5"


@pytest.mark.parametrize("key", ["peft", "merged"])
def test_a_report_s_snippet_runs_as_it_stands_and_answers_in_capitals(compose, demo_bundle, tmp_path, key):
    composition = compose("exact")
    with (
        write_zip(composition.slug, list(composition.files.all()), {}) as archive,
        zipfile.ZipFile(archive) as files,
    ):
        files.extractall(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / composition.base.name).symlink_to(demo_bundle / "base")
    code = next(snippet.code for snippet in own_snippets(composition, "") if snippet.key == key)
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    shortest = min(selectors.few_shot_examples(composition), key=lambda pair: len(pair.input))
    assert ran.stdout.strip().isupper()  # as the adapter does and the base alone does not
    assert ran.stdout.strip().lower() in shortest.input.split()


def test_the_same_seed_gives_the_same_adapter_bytes(compose):
    first, second = (compose("exact").files.get(path="adapter_model.safetensors").sha256 for _ in range(2))
    assert first == second


def test_the_launcher_that_has_imported_the_core_has_one_thread(compose):
    compose("exact")
    tasks = Path(f"/proc/{runner.launcher().process.pid}/task")
    assert len(list(tasks.iterdir())) == 1
