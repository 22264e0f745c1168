"""How to use a module or a base model elsewhere: lines that run as they are."""

from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
from modules_registry.models import BaseModel, Module, Version

AUTO_CLASSES = {"SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM", "CAUSAL_LM": "AutoModelForCausalLM"}
PEFT = """\
from peft import PeftModel
from transformers import {auto_class}

base = {auto_class}.from_pretrained("{base}"){where}
model = PeftModel.from_pretrained(base, "{folder}")"""
BASE = """\
from transformers import AutoTokenizer, {auto_class}

tokenizer = AutoTokenizer.from_pretrained("{folder}")
model = {auto_class}.from_pretrained("{folder}")"""

Snippet = dict[str, str]


def snippets_for_module(module: Module, version: Version, site: str) -> list[Snippet]:
    """First fetch the files, then load them."""
    address = f"{site}/{module.full_name}/resolve/{version.revision}"
    peft = PEFT.format(
        auto_class=AUTO_CLASSES.get(version.task_type, AUTO_CLASSES["SEQ_2_SEQ_LM"]),
        base=version.base_name,
        where=f"  # also at {site}{version.base.get_absolute_url()}" if version.base else "",
        folder=module.name,
    )
    return [
        download_snippet(module.name, address, [CONFIG_FILE, WEIGHTS_FILE]),
        {"label": "2. Load it with peft", "code": peft},
    ]


def snippets_for_base(base: BaseModel, site: str) -> list[Snippet]:
    folder = base.name.rpartition("/")[2]
    address = f"{site}/{base.name}/resolve/main"
    task_type = "CAUSAL_LM" if base.kind == BaseModel.Kind.CAUSAL else "SEQ_2_SEQ_LM"
    load = BASE.format(auto_class=AUTO_CLASSES[task_type], folder=folder)
    return [
        download_snippet(folder, address, [file.path for file in base.files.all()]),
        {"label": "2. Load it with transformers", "code": load},
    ]


def download_snippet(folder: str, address: str, files: list[str]) -> Snippet:
    lines = [f"curl -fL --create-dirs --output-dir {folder} --remote-name-all"]
    lines += [f"  {address}/{file}" for file in files]
    return {"label": "1. Download it", "code": " \\\n".join(lines)}
