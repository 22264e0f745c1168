"""The library with names of a Hub: this site, and a Hub as it was when LoraHub's modules were put there."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from django.conf import settings

from hub_site.accounts.services import token_create
from modules_registry.base_models import base_model_add
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.selectors import module_find
from modules_registry.services import module_publish
from tests.factories import named
from tests.modules_registry.importing.paper_modules import make_base_folder, paper_repository
from tests.modules_registry.importing.source_server import small_hub
from tests.served_site import served_site

pytestmark = pytest.mark.slow

DEMO = Path(settings.HUB_DEMO_BUNDLE)
MODULES = ("animal", "answer", "french", "spanish")

# LoraHub's Quickstart in its own steps; only the place of the import is ours.
QUICKSTART = """
import random
from composer.lorahub import LORA_MODULE_NAMES, lorahub_inference, lorahub_learning

def get_lora_module_list():
    random.seed(42)
    return random.sample(LORA_MODULE_NAMES, 20)

examples = [
    {"input": "pick the animal : apple dog hammer", "output": "dog"},
    {"input": "pick the animal : cat plum saw", "output": "cat"},
]
modules = get_lora_module_list()
example_inputs = [example["input"] for example in examples]
examples_outputs = [example["output"] for example in examples]
module_weights, model, tokenizer = lorahub_learning(lora_module_list=modules,
                                                    example_inputs=example_inputs,
                                                    example_outputs=examples_outputs,
                                                    max_inference_step=40,
                                                    batch_size=1)
example_predictions, perf = lorahub_inference(example_inputs=example_inputs,
                                              model_or_name_path=model,
                                              tokenizer_or_tokenizer_path=tokenizer,
                                              batch_size=10,
                                              example_outputs=examples_outputs)
import json
print(json.dumps({"modules": modules, "weights": module_weights.tolist(), "kind": type(model).__name__,
                  "predictions": example_predictions, "perf": perf}))
"""

COMPOSE = """
import json
import composer
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM

lines = open({examples!r}, encoding="utf-8").read().splitlines()
made = composer.compose(base="demo/tiny-t5", modules={modules!r}, examples=map(json.loads, lines),
                        budget=60, rank="full", baselines="none")
address = made.push_to_hub("alice/composed")
base = AutoModelForSeq2SeqLM.from_pretrained("demo/tiny-t5")
model = PeftModel.from_pretrained(base, "alice/composed")
own = made.model().state_dict()
assert all((tensor == own[name]).all() for name, tensor in model.state_dict().items())
print(json.dumps({{"weights": made.weights, "address": address, "base": made.report["base"]}}))
"""


def test_lorahubs_quickstart_runs_on_the_papers_modules_as_they_lie_on_the_hub(tmp_path):
    base = make_base_folder(tmp_path / "base", DEMO / "base")
    repositories = {name: paper_repository(seed) for seed, name in enumerate(drawn_modules())}
    repositories["google/flan-t5-large"] = {path.name: path.read_bytes() for path in base.iterdir()}
    with small_hub(repositories) as address:
        done = subprocess.run(
            [sys.executable, "-c", QUICKSTART],
            env={
                **os.environ,
                "PYTHONPATH": str(settings.BASE_DIR),
                "HF_ENDPOINT": address,
                "HF_HOME": str(tmp_path / "home"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
                "OMP_NUM_THREADS": "1",
            },
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["modules"] == drawn_modules()
    assert len(told["weights"]) == 20
    assert all(abs(weight) <= 1.5 for weight in told["weights"])
    assert told["kind"] == "PeftModelForSeq2SeqLM"
    assert len(told["predictions"]) == 2
    assert 0 <= told["perf"] <= 100


def drawn_modules():
    """The 20 modules that the Quickstart draws."""
    import random

    from composer.lorahub import LORA_MODULE_NAMES

    return random.Random(42).sample(LORA_MODULE_NAMES, 20)


@pytest.mark.django_db(transaction=True)
def test_a_composition_of_this_sites_modules_is_pushed_and_loaded_by_its_name(alice, settings, tmp_path):
    with tempfile.TemporaryDirectory(prefix="lora-hub-served-") as name, served_site(Path(name)) as site:
        settings.HUB_DATA = site.data
        settings.FILE_UPLOAD_TEMP_DIR = site.data / "uploads"
        base_model_add(folder=DEMO / "base", name="demo/tiny-t5")
        for module in MODULES:
            publish(alice, module)
        laptop = site.client(
            tmp_path / "laptop", token=token_create(user=alice, label="laptop", scope="write")[1]
        )
        code = COMPOSE.format(
            examples=str(DEMO / "tasks" / "animal-spanish" / "shots-0.jsonl"),
            modules=[f"alice/{module}" for module in MODULES],
        )
        told = json.loads(laptop.says(code, PYTHONPATH=str(settings.BASE_DIR)))
    assert set(told["weights"]) == {f"alice/{module}" for module in MODULES}
    assert told["address"] == f"{site.address}/alice/composed"
    assert told["base"]["revision"]
    assert module_find("alice", "composed").current.base.name == "demo/tiny-t5"


def publish(owner, name):
    files = {
        file: named((DEMO / "modules" / name / file).read_bytes(), file)
        for file in (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
    }
    module_publish(
        author=owner,
        namespace=owner.namespace,
        name=name,
        config_file=files[CONFIG_FILE],
        weights_file=files[WEIGHTS_FILE],
        card_file=files[CARD_FILE],
    )
