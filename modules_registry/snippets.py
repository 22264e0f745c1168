"""How to use a module or a base model elsewhere: lines that run as they are."""

from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
from modules_registry.models import BaseModel, Module, Version
from modules_registry.selectors import base_called, pinned_revision

SEQ2SEQ_CLASS, CAUSAL_CLASS = "AutoModelForSeq2SeqLM", "AutoModelForCausalLM"
PEFT = """\
from peft import PeftModel
from transformers import {auto_class}

base = {auto_class}.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, {module})"""
TRANSFORMERS = """\
from transformers import AutoTokenizer, {auto_class}

tokenizer = AutoTokenizer.from_pretrained("{base}")
model = {auto_class}.from_pretrained("{base}")"""

SIGN_IN = """\
export HF_ENDPOINT={site}
hf auth login --token lh_…"""

ModuleSnippet = dict[str, str]


def snippets_for_module(module: Module, version: Version, site: str) -> list[ModuleSnippet]:
    """By name where the library has the base too; else first the files, then their folder."""
    address = f"{site}/{module.full_name}/resolve/{pinned_revision(version)}"
    download = download_snippet(module.name, address, [CONFIG_FILE, WEIGHTS_FILE])
    if version.base is None and not is_shared_only(version):
        return [download, peft_snippet(version, f'"{module.name}"')]
    pinned = "" if version == module.current else f', revision="{pinned_revision(version)}"'
    return [
        endpoint_snippet(site),
        peft_snippet(version, f'"{module.full_name}"{pinned}'),
        {
            "label": "Shell: download the folder",
            "code": f"hf download {module.full_name} --local-dir {module.name}",
        },
        download,
    ]


def is_shared_only(version: Version) -> bool:
    """Whether it cannot be composed, though the library has its base in the revision that it asks for."""
    base = base_called(version.base_name) if version.not_composable else None
    return base is not None and version.base_revision in ("", "main", base.revision)


def snippets_for_base(base: BaseModel, site: str) -> list[ModuleSnippet]:
    code = TRANSFORMERS.format(auto_class=auto_class_of(base), base=base.name)
    files = [file.path for file in base.files.all()]
    return [
        endpoint_snippet(site),
        {"label": "Python", "code": code},
        download_snippet(base.name.rpartition("/")[2], f"{site}/{base.name}/resolve/main", files),
    ]


def upload_snippets(module: Module, site: str) -> list[ModuleSnippet]:
    """How its owner brings files from a terminal or from Python."""
    return [
        {"label": "Shell: say once who you are and where", "code": SIGN_IN.format(site=site)},
        {
            "label": "Shell: upload the folder that peft wrote",
            "code": f"hf upload {module.full_name} my-adapter",
        },
        {"label": "Python", "code": f'model.push_to_hub("{module.full_name}")  # with HF_ENDPOINT set'},
    ]


def endpoint_snippet(site: str) -> ModuleSnippet:
    return {"label": "Shell: let Hugging Face's libraries look here", "code": f"export HF_ENDPOINT={site}"}


def peft_snippet(version: Version, module: str) -> ModuleSnippet:
    """The base's own architecture decides where the library has it; else what the adapter says of it."""
    said = CAUSAL_CLASS if version.task_type == "CAUSAL_LM" else SEQ2SEQ_CLASS
    auto_class = said if version.base is None else auto_class_of(version.base)
    return {
        "label": "Python",
        "code": PEFT.format(auto_class=auto_class, base=version.base_name, module=module),
    }


def auto_class_of(base: BaseModel) -> str:
    """The class of transformers that loads it."""
    return CAUSAL_CLASS if base.kind == BaseModel.Kind.CAUSAL else SEQ2SEQ_CLASS


def download_snippet(folder: str, address: str, files: list[str]) -> ModuleSnippet:
    lines = [f"curl -fL --create-dirs --output-dir {folder} --remote-name-all"]
    lines += [f"  {address}/{file}" for file in files]
    return {"label": "Shell: download the files", "code": " \\\n".join(lines)}
