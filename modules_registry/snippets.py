"""How to use a module or a base model elsewhere: lines that run as they are, from loading to an answer."""

import json
import shlex
from dataclasses import dataclass

from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE
from modules_registry.core.prompt_template import CHAT, INPUT
from modules_registry.core.serving import VLLM_RANKS, VLLM_WITHOUT_LORA, vllm_rank_limit
from modules_registry.models import BaseModel, Module, Version
from modules_registry.selectors import base_called, pinned_revision

AUTO_CLASS: dict[str, str] = {
    BaseModel.Kind.SEQ2SEQ: "AutoModelForSeq2SeqLM",
    BaseModel.Kind.CAUSAL: "AutoModelForCausalLM",
}
ANSWER: dict[str, str] = {  # of what generate returns; a decoder repeats the prompt first
    BaseModel.Kind.SEQ2SEQ: "output[0]",
    BaseModel.Kind.CAUSAL: 'output[0, inputs["input_ids"].shape[1]:]',
}
LOAD_BASE = """\
tokenizer = AutoTokenizer.from_pretrained("{base}")
base = {auto_class}.from_pretrained("{base}")"""
GENERATE = """\
{inputs}
output = model.generate(**inputs, do_sample=False, max_new_tokens={max_new_tokens})
print(tokenizer.decode({answer}, skip_special_tokens=True){cut})"""
PEFT = f"""\
from peft import PeftModel
from transformers import {{auto_class}}, AutoTokenizer

{LOAD_BASE}
model = PeftModel.from_pretrained(base, {{adapter}})

{GENERATE}"""
TRANSFORMERS = f"""\
from transformers import {{auto_class}}, AutoTokenizer  # peft must be installed

tokenizer = AutoTokenizer.from_pretrained("{{base}}")
model = {{auto_class}}.from_pretrained("{{base}}")
model.load_adapter({{adapter}})

{GENERATE}"""
BASE_ALONE = f"""\
from transformers import {{auto_class}}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{{base}}")
model = {{auto_class}}.from_pretrained("{{base}}")

{GENERATE}"""
INSTALL = "%pip install peft transformers"
ONE_CELL = "One cell for Jupyter, Colab or Kaggle."
IMPORT_FETCH = "from huggingface_hub import snapshot_download\n"
FETCH = """\
snapshot_download(
    {name}{pinned}, endpoint={site}, token={token}
)"""
NOTEBOOK = f"""\
{INSTALL}

import os

os.environ["HF_ENDPOINT"] = "{{site}}"  # before the first import of these libraries
{{token}}"""
BARE_INPUTS = 'inputs = tokenizer({prompt}, return_tensors="pt")'
CHAT_INPUTS = """\
inputs = tokenizer.apply_chat_template(
    {messages},
    add_generation_prompt=True, return_dict=True, return_tensors="pt",
)"""
TOKEN = "lh_…"  # stands for an access token of the reader's
ASKED = "What you ask"  # stands for an input
MAX_NEW_TOKENS = 64

SIGN_IN = """\
export HF_ENDPOINT={site}
hf auth login --token lh_…"""


@dataclass(frozen=True)
class ModuleSnippet:
    """Something to copy; without code, why there is none."""

    label: str
    code: str
    note: str = ""


def snippets_for_module(module: Module, version: Version, site: str) -> list[ModuleSnippet]:
    """By name where the library has the base too; else each fetches the module's folder from here.

    What is private carries a line for an access token.
    """
    revision = "" if version == module.current else pinned_revision(version)
    if version.base is None and not is_shared_only(version):
        return snippets_for_foreign_base(module, version, revision, site)
    is_private = module.is_hidden
    adapter = quote(module.full_name) + (f", revision={quote(revision)}" if revision else "")
    words = python_words(version, adapter)
    return [
        endpoint_snippet(site, is_private=is_private),
        ModuleSnippet("Python, with peft", PEFT.format(**words)),
        ModuleSnippet("Python, with transformers alone", TRANSFORMERS.format(**words)),
        notebook_snippet(PEFT.format(**words), site, is_private=is_private),
        hf_snippet(module, revision),
        vllm_snippet(module, version),
        download_snippet(module, version, site, is_private=is_private),
    ]


def snippets_for_foreign_base(
    module: Module, version: Version, revision: str, site: str
) -> list[ModuleSnippet]:
    """The same ways where the base comes from another Hub: the module's folder is fetched by address."""
    is_private = module.is_hidden
    pinned = f", revision={quote(revision)}" if revision else ""
    token = quote(TOKEN) if is_private else "False"  # never another Hub's token to this site
    fetched = FETCH.format(name=quote(module.full_name), pinned=pinned, site=quote(site), token=token)
    words = python_words(version, fetched)
    peft = IMPORT_FETCH + PEFT.format(**words)
    note = f"{version.base_name} comes from Hugging Face, the module from here."
    return [
        ModuleSnippet("Python, with peft", peft, note),
        ModuleSnippet("Python, with transformers alone", IMPORT_FETCH + TRANSFORMERS.format(**words)),
        ModuleSnippet("Notebook", f"{INSTALL}\n\n{peft}", ONE_CELL),
        hf_snippet(module, revision, f"HF_ENDPOINT={site} " + (f"HF_TOKEN={TOKEN} " if is_private else "")),
        vllm_snippet(module, version),
        download_snippet(module, version, site, is_private=is_private),
    ]


def python_words(version: Version, adapter: str) -> dict[str, object]:
    """What the Python snippets are filled with. Args: adapter: as an argument in Python."""
    kind = kind_of(version)
    return {
        "auto_class": AUTO_CLASS[kind],
        "answer": ANSWER[kind],
        "base": version.base_name,
        "adapter": adapter,
        "inputs": inputs_in(version.prompt_template),
        "max_new_tokens": MAX_NEW_TOKENS,
        "cut": "",
    }


def kind_of(version: Version) -> str:
    """The base's own architecture decides where the library has it; else what the adapter says of it."""
    if version.base is not None:
        return version.base.kind
    return BaseModel.Kind.CAUSAL if version.task_type == "CAUSAL_LM" else BaseModel.Kind.SEQ2SEQ


def inputs_in(template: str) -> str:
    """The line that makes the inputs, in the template that the module was trained with, if it is known."""
    if template == CHAT:
        return CHAT_INPUTS.format(messages=f'[{{"role": "user", "content": {quote(ASKED)}}}]')
    prompt = quote((template or INPUT).replace(INPUT, ASKED))
    return BARE_INPUTS.format(prompt=prompt)


def quote(text: str) -> str:
    """Text as Python, and as JSON, write it."""
    return json.dumps(text, ensure_ascii=False)


def notebook_snippet(code: str, site: str, *, is_private: bool) -> ModuleSnippet:
    token = f'os.environ["HF_TOKEN"] = "{TOKEN}"\n' if is_private else ""
    return ModuleSnippet("Notebook", f"{NOTEBOOK.format(site=site, token=token)}\n{code}", ONE_CELL)


def hf_snippet(module: Module, revision: str, environment: str = "") -> ModuleSnippet:
    pinned = f" --revision {revision}" if revision else ""
    code = f"{environment}hf download {module.full_name}{pinned} --local-dir {module.name}"
    return ModuleSnippet("Shell: download the folder with hf", code)


def vllm_snippet(module: Module, version: Version) -> ModuleSnippet:
    """A server with the module beside its base; a note where vLLM takes no such module."""
    label = "Shell, with vLLM"
    limit = vllm_rank_limit(version.rank)
    if kind_of(version) == BaseModel.Kind.SEQ2SEQ:
        return ModuleSnippet(label, "", "vLLM serves decoder-only models; this base is an encoder-decoder.")
    if version.base is not None and version.base.architecture in VLLM_WITHOUT_LORA:
        return ModuleSnippet(label, "", f"vLLM takes no LoRA on a {version.base.architecture}.")
    if limit is None:
        return ModuleSnippet(label, "", f"vLLM takes modules up to rank {VLLM_RANKS[-1]}.")
    name = module.name
    served = f"--enable-lora --max-lora-rank {limit} --lora-modules {name}=./{name}"
    asked = json.dumps(
        {"model": name, **vllm_question(version), "max_tokens": MAX_NEW_TOKENS, "temperature": 0}
    )
    path = "chat/completions" if version.prompt_template == CHAT else "completions"
    code = (
        f"# after hf download, as above\nvllm serve {version.base_name} {served}\n"
        "# then, in another terminal:\n"
        f"curl http://localhost:8000/v1/{path} -H 'Content-Type: application/json' -d {shlex.quote(asked)}"
    )
    return ModuleSnippet(label, code)


def vllm_question(version: Version) -> dict[str, object]:
    template = version.prompt_template
    if template == CHAT:
        return {"messages": [{"role": "user", "content": ASKED}]}
    return {"prompt": (template or INPUT).replace(INPUT, ASKED)}


def is_shared_only(version: Version) -> bool:
    """Whether it cannot be composed, though the library has its base in the revision that it asks for."""
    base = base_called(version.base_name) if version.not_composable else None
    return base is not None and version.base_revision in ("", "main", base.revision)


def snippets_for_base(base: BaseModel, site: str) -> list[ModuleSnippet]:
    words = {
        "auto_class": AUTO_CLASS[base.kind],
        "answer": ANSWER[base.kind],
        "base": base.name,
        "inputs": inputs_in(""),
        "max_new_tokens": MAX_NEW_TOKENS,
        "cut": "",
    }
    files = [file.path for file in base.files.all()]
    address = f"{site}/{base.name}/resolve/main"
    return [
        endpoint_snippet(site),
        ModuleSnippet("Python", BASE_ALONE.format(**words)),
        ModuleSnippet("Shell: download the files", curl_lines(base.name.rpartition("/")[2], address, files)),
    ]


def upload_snippets(module: Module, site: str) -> list[ModuleSnippet]:
    """How its owner brings files from a terminal or from Python."""
    return [
        ModuleSnippet("Shell: sign in once", SIGN_IN.format(site=site)),
        ModuleSnippet("Shell: upload the adapter folder", f"hf upload {module.full_name} my-adapter"),
        ModuleSnippet("Python", f'model.push_to_hub("{module.full_name}")  # with HF_ENDPOINT set'),
    ]


def endpoint_snippet(site: str, *, is_private: bool = False) -> ModuleSnippet:
    token = f"\nexport HF_TOKEN={TOKEN}" if is_private else ""
    note = "It is private: put one of your access tokens in the second line." if is_private else ""
    label = "Shell: use this site as the Hub"
    return ModuleSnippet(label, f"export HF_ENDPOINT={site}{token}", note)


def download_snippet(module: Module, version: Version, site: str, *, is_private: bool) -> ModuleSnippet:
    revision = "main" if version == module.current else pinned_revision(version)
    address = f"{site}/{module.full_name}/resolve/{revision}"
    token = f'-H "Authorization: Bearer {TOKEN}" ' if is_private else ""
    code = curl_lines(module.name, address, [CONFIG_FILE, WEIGHTS_FILE], token)
    return ModuleSnippet("Shell: download the files", code)


def curl_lines(folder: str, address: str, files: list[str], options: str = "") -> str:
    lines = [f"curl -fL {options}--create-dirs --output-dir {folder} --remote-name-all"]
    lines += [f"  {address}/{file}" for file in files]
    return " \\\n".join(lines)
