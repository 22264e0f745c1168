"""Folders as their trainers push them, with the clients that people have."""

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from modules_registry.maintenance import sweep_refused
from modules_registry.models import Module
from modules_registry.selectors import module_find

pytestmark = [pytest.mark.slow, pytest.mark.django_db(transaction=True)]

MODEL = """
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from peft import LoraConfig, get_peft_model
torch.manual_seed(0)
base = LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=1, vocab_size=64,
                                    num_attention_heads=2, num_key_value_heads=2, pad_token_id=0))
base.config._name_or_path = base.name_or_path = "tests/llama"
lora = LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["q_proj", "v_proj"])
"""
# What axolotl writes beside the adapter, in a folder that transformers' Trainer pushes.
TRAIN = (
    MODEL
    + """
from pathlib import Path
from transformers import Trainer, TrainingArguments
model = get_peft_model(base, lora)
rows = [{"input_ids": torch.arange(3, 11), "labels": torch.arange(3, 11)} for _ in range(4)]
Path("out").mkdir()
Path("out/debug.log").write_text("noise")
base.config.save_pretrained("out")
arguments = TrainingArguments("out", max_steps=2, save_steps=1, report_to=[], push_to_hub=True,
                              hub_model_id="alice/trained", use_cpu=True, hub_strategy="all_checkpoints")
trainer = Trainer(model, arguments, train_dataset=rows)
trainer.train()
trainer.push_to_hub()
print("pushed")
"""
)
# Its reference is a second adapter, which TRL writes into ref/.
TRAIN_BY_PREFERENCES = (
    MODEL
    + """
from pathlib import Path
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer
words = ["<pad>", "<eos>", "<unk>", "cat", "chat", "chien"]
known = {word: number for number, word in enumerate(words)}
tokenizer = Tokenizer(models.WordLevel(known, unk_token="<unk>"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
special = {"pad_token": "<pad>", "eos_token": "<eos>", "unk_token": "<unk>"}
reads = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
rows = Dataset.from_list([{"prompt": "cat ", "chosen": "chat", "rejected": "chien"}] * 4)
arguments = DPOConfig("out", max_steps=2, report_to=[], use_cpu=True, bf16=False, push_to_hub=True,
                      gradient_checkpointing=False, hub_model_id="alice/preferred")
trainer = DPOTrainer(get_peft_model(base, lora), args=arguments, train_dataset=rows, processing_class=reads)
trainer.train()
trainer.push_to_hub()
assert Path("out/ref/adapter_model.safetensors").exists()
print("pushed")
"""
)


UPLOAD = """
from huggingface_hub import HfApi
HfApi().create_repo("alice/french", exist_ok=True)
HfApi().upload_folder(repo_id="alice/french", folder_path={folder!r})
"""


# The client's upload-large-folder repeats a refused request for ever; what it logs each time is kept.
UPLOAD_LARGE = """
import logging, os
from huggingface_hub import HfApi
class Counting(logging.Handler):
    said = []
    def emit(self, record):
        if record.levelno >= logging.ERROR:
            self.said.append(record.getMessage())
        if len(self.said) == 3:
            print("\\n=".join(self.said), flush=True)
            os._exit(3)
logging.getLogger("huggingface_hub").addHandler(Counting())
HfApi().upload_large_folder("alice/french", {folder!r}, repo_type="model", num_workers=1, print_report=False)
"""


def by_products(folder: Path) -> list[str]:
    names = [
        "config.json",
        "debug.log",
        "args.json",
        "latest",
        "zero_to_fp32.py",
        "ref/adapter_model.safetensors",
    ]
    names += [".ipynb_checkpoints/a.ipynb", "last-checkpoint/trainer_state.json", "training_args.bin"]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    return names


def test_transformers_trainer_pushes_what_it_trained(site, alice, machine_of):
    assert machine_of(alice).says(TRAIN).endswith("pushed")
    module = module_find("alice", "trained")
    assert module.current.targets == ["q_proj", "v_proj"]
    assert {"debug.log", "training_args.bin", "config.json"} <= set(module.left_out)


def test_trls_dpo_trainer_pushes_its_adapter_without_its_reference(site, alice, machine_of, trl_python):
    assert machine_of(alice, python=trl_python).says(TRAIN_BY_PREFERENCES).endswith("pushed")
    module = module_find("alice", "preferred")
    assert module.current.targets == ["q_proj", "v_proj"]
    assert {"ref/adapter_model.safetensors", "ref/adapter_config.json", "tokenizer.json"} <= set(
        module.left_out
    )


@pytest.mark.parametrize("client", ["current", "old", "old, a large folder"])
def test_a_folder_with_by_products_comes_in_and_all_of_them_are_said(
    site, alice, machine_of, old_python, folder, client
):
    left_out = by_products(folder)
    laptop = machine_of(alice) if client == "current" else machine_of(alice, python=old_python)
    if client == "current":
        done = laptop.hf("upload", "alice/french", str(folder))
    elif client == "old":
        done = laptop.python_code(UPLOAD.format(folder=str(folder)))
    else:  # it would repeat a refusal for ever
        code = "from huggingface_hub import HfApi; HfApi().upload_large_folder('alice/french', "
        done = laptop.python_code(code + f"{str(folder)!r}, repo_type='model', num_workers=1)")
    assert done.returncode == 0, done.stderr
    module = module_find("alice", "french")
    assert module.current.number == 1
    assert set(left_out) <= set(module.left_out)
    if client == "current":
        assert all(name in done.stdout + done.stderr for name in left_out)


@pytest.mark.parametrize("is_old", [False, True], ids=["current", "old"])
def test_a_folder_whose_weights_lie_below_is_refused_with_the_folder_to_upload(
    site, alice, machine_of, old_python, folder, is_old
):
    (folder / "checkpoint-200").mkdir()
    (folder / "adapter_model.safetensors").rename(folder / "checkpoint-200" / "adapter_model.safetensors")
    laptop = machine_of(alice, python=old_python) if is_old else machine_of(alice)
    done = laptop.python_code(UPLOAD.format(folder=str(folder)))
    assert done.returncode != 0
    assert 'hf upload OWNER/NAME "checkpoint-200"' in done.stdout + done.stderr
    assert Module.objects.get().refused_at is not None


@pytest.mark.parametrize("refused_by", ["preupload", "commit"])
def test_an_upload_that_the_client_repeats_for_ever_says_each_time_why_and_how_to_end_it(
    site, alice, machine_of, old_python, folder, refused_by
):
    if refused_by == "preupload":
        (folder / "below").mkdir()
        (folder / "adapter_model.safetensors").rename(folder / "below" / "adapter_model.safetensors")
    else:
        (folder / "adapter_config.json").write_text('{"peft_type": "IA3"}')
    done = machine_of(alice, python=old_python).python_code(UPLOAD_LARGE.format(folder=str(folder)))
    assert done.returncode == 3, done.stderr
    said = done.stdout.split("\n=")
    assert len(said) == 3
    for line in said:
        assert ('hf upload OWNER/NAME "below"' if refused_by == "preupload" else "peft_type") in line
        assert "stop it with Ctrl-C" in line


def test_a_client_prints_each_note_on_a_line_of_its_own(site, alice, machine_of, folder):
    (folder / "README.md").write_text("---\nlicense: Apache 2.0\nbase_model: some/other\n---\n# Mine\n")
    (folder / "debug.log").write_text("x")
    done = machine_of(alice).hf("upload", "alice/french", str(folder))
    assert done.returncode == 0, done.stderr
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    begins = (
        "Not part of a module, so left out",
        'Read the license "Apache 2.0"',
        "README.md names some/other",
    )
    assert all(any(line.startswith(words) for line in lines) for words in begins), lines


def test_a_client_names_a_tag_like_a_version(site, alice, machine_of, folder):
    laptop = machine_of(alice)
    laptop.hf("upload", "alice/french", str(folder))
    made = "from huggingface_hub import HfApi; HfApi().create_tag('alice/french', tag='v1'); print('made')"
    assert laptop.says(made) == "made"


def test_only_a_repository_that_a_refused_upload_made_is_swept(site, alice, machine_of, folder):
    """`hf repos create` makes one for its own sake, whatever is refused afterwards."""
    (folder / "below").mkdir()
    (folder / "adapter_model.safetensors").rename(folder / "below" / "adapter_model.safetensors")
    laptop = machine_of(alice)
    assert laptop.hf("repos", "create", "alice/by-hand").returncode == 0
    for name in ("by-hand", "by-upload", "by-upload"):  # it is tried again, too
        assert laptop.hf("upload", f"alice/{name}", str(folder)).returncode != 0
    Module.objects.filter(refused_at__isnull=False).update(refused_at=timezone.now() - timedelta(days=2))
    assert sweep_refused() == 1
    assert [module.name for module in Module.objects.all()] == ["by-hand"]
