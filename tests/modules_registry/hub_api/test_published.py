"""A published composition, loaded by its name with the site as the Hub: the adapter that was composed."""

import json

import pytest

from composer.core.spec.examples import Example
from composer.models import Composition
from composer.publish.services import composition_publish
from composer.request.services import composition_request
from composer.run.job_folder import job_description
from composer.run.results import keep_result
from composer.run.tasks import wake_worker
from hub_site.jobs import leases
from modules_registry.base_models import base_model_add
from modules_registry.blobs import open_stored
from modules_registry.services import module_publish
from tests.composer.fake_jobs import report_of
from tests.modules_registry.hub_api.test_peft import MAKE_BASE

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

MAKE_ADAPTER = """
from peft import LoraConfig, get_peft_model
base = T5ForConditionalGeneration(config)
settings = LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "v"], init_lora_weights=False)
get_peft_model(base, settings).save_pretrained({folder!r})
"""
SAME = """
import torch
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM
ids = torch.arange(1, 9).reshape(1, 8)
def logits(name):
    base = AutoModelForSeq2SeqLM.from_pretrained("tests/t5")
    with torch.no_grad():
        return PeftModel.from_pretrained(base, name).eval()(input_ids=ids, decoder_input_ids=ids).logits
torch.testing.assert_close(logits("alice/mix"), logits("alice/french"))
print("the same")
"""


def test_peft_loads_a_published_composition_by_its_name(site, alice, machine_of, tmp_path, monkeypatch):
    monkeypatch.setattr(wake_worker, "delay", lambda: None)
    adapter = tmp_path / "adapter"
    machine_of().says(
        MAKE_BASE.format(folder=str(tmp_path / "t5")) + MAKE_ADAPTER.format(folder=str(adapter))
    )
    base, _ = base_model_add(folder=tmp_path / "t5", name="tests/t5")
    with (
        (adapter / "adapter_config.json").open("rb") as config,
        (adapter / "adapter_model.safetensors").open("rb") as weights,
    ):
        parent = module_publish(
            author=alice, namespace=alice.namespace, name="french", licence="mit", base=base.name,
            config_file=config, weights_file=weights,
        )  # fmt: skip
    composition = composed_as(parent, alice, base, tmp_path / "out")
    composition_publish(
        owner=alice, composition_id=composition.pk, namespace=alice.namespace, name="mix", site=site.address
    )
    assert machine_of().says(SAME).endswith("the same")


def composed_as(parent, owner, base, out) -> Composition:
    """A composition whose search ended with the one module as it is."""
    asked = composition_request(
        owner=owner,
        name="Mix",
        base=base.name,
        method="exact",
        budget=10,
        seed=7,
        examples=[Example("a", "A")],
    )
    composition = leases.claim(Composition, asked.pk, worker="tests")
    out.mkdir()
    for file in parent.current.files.all():
        with open_stored(file.sha256) as stored:
            (out / file.path).write_bytes(stored.read())
    (out / "README.md").write_text("# A composed adapter\n")
    job = job_description(composition, list(composition.modules.select_related("version")))
    (out / "report.json").write_text(json.dumps(report_of(job)))
    keep_result(composition, out)
    return composition
