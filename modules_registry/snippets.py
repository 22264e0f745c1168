"""How to use a module elsewhere: lines that run as they are."""

from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
from modules_registry.models import Module, Version

PEFT = """\
from peft import PeftModel
from transformers import {auto_class}

base = {auto_class}.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{folder}")"""

CURL = """\
curl -fL --create-dirs --output-dir {folder} --remote-name-all \\
  {address}/{config} \\
  {address}/{weights}"""


def snippets_for(module: Module, version: Version, site: str) -> list[dict[str, str]]:
    """First fetch the files, then load them."""
    address = f"{site}/{module.full_name}/resolve/{version.commit_id}"
    auto_class = "AutoModelForCausalLM" if version.task_type == "CAUSAL_LM" else "AutoModelForSeq2SeqLM"
    curl = CURL.format(folder=module.name, address=address, config=CONFIG_FILE, weights=WEIGHTS_FILE)
    peft = PEFT.format(auto_class=auto_class, base=version.base_name, folder=module.name)
    return [{"label": "1. Download it", "code": curl}, {"label": "2. Load it with peft", "code": peft}]
