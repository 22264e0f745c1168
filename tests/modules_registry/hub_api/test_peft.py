"""peft and transformers as people use them, with the site as their Hub."""

import pytest

from hub_site.accounts.models import User
from modules_registry.base_models import base_model_add
from modules_registry.selectors import module_find

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

MAKE_BASE = """
import torch
from transformers import T5Config, T5ForConditionalGeneration
torch.manual_seed(0)
config = T5Config(vocab_size=32, d_model=16, d_kv=8, d_ff=32, num_layers=1, num_heads=2,
                  decoder_start_token_id=0)
T5ForConditionalGeneration(config).save_pretrained({folder!r})
"""
PUSH = """
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSeq2SeqLM
base = AutoModelForSeq2SeqLM.from_pretrained("tests/t5")
model = get_peft_model(base, LoraConfig(task_type="SEQ_2_SEQ_LM", r=2, target_modules=["q", "v"],
                                        init_lora_weights=False))
model.push_to_hub("alice/french")
"""
USE = """
import torch
from peft import PeftModel
from transformers import AutoModelForSeq2SeqLM
ids = torch.arange(1, 9).reshape(1, 8)
def logits(model):
    with torch.no_grad():
        return model.eval()(input_ids=ids, decoder_input_ids=ids).logits
base = AutoModelForSeq2SeqLM.from_pretrained("tests/t5")
plain = logits(base)
model = PeftModel.from_pretrained(base, "alice/french")
adapted = logits(model)
assert not torch.allclose(plain, adapted), "the adapter changes nothing"
model.load_adapter("alice/french", adapter_name="first", revision="v1")
model.set_adapter("first")
torch.testing.assert_close(logits(model), adapted)
whole = AutoModelForSeq2SeqLM.from_pretrained("alice/french")
torch.testing.assert_close(logits(whole), adapted)
print("the same")
"""


def test_a_model_is_pushed_and_loaded_by_its_name(site, alice: User, machine_of, tmp_path):
    laptop = machine_of(alice)
    laptop.says(MAKE_BASE.format(folder=str(tmp_path / "t5")))
    base_model_add(folder=tmp_path / "t5", name="tests/t5")
    laptop.says(PUSH)
    version = module_find("alice", "french").current
    assert (version.number, version.rank, version.base.name) == (1, 2, "tests/t5")
    assert machine_of().says(USE).endswith("the same")
