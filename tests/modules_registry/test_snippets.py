"""The code on a module's page: whole, right for its base, and it runs."""

import ast
import json
import shlex
import subprocess
import sys

import pytest
from django.conf import settings

from modules_registry.models import BaseModel, Module, Version
from modules_registry.services import version_add
from modules_registry.snippets import (
    AUTO_CLASS,
    PEFT,
    TRANSFORMERS,
    kind_of,
    python_words,
    snippets_for_base,
    snippets_for_module,
    vllm_snippet,
)
from tests.factories import adapter_files

SITE = "https://hub.example.org"
CAUSAL, SEQ2SEQ = BaseModel.Kind.CAUSAL, BaseModel.Kind.SEQ2SEQ


@pytest.mark.parametrize(
    ("kind", "task_type", "loaded_as"),
    [
        (CAUSAL, "", CAUSAL),
        (CAUSAL, "SEQ_2_SEQ_LM", CAUSAL),
        (SEQ2SEQ, "CAUSAL_LM", SEQ2SEQ),
        (None, "CAUSAL_LM", CAUSAL),
        (None, "", SEQ2SEQ),
    ],
)
def test_the_architecture_of_a_known_base_decides_whatever_the_adapter_says(kind, task_type, loaded_as):
    version = Version(base=BaseModel(kind=kind) if kind else None, task_type=task_type)
    assert kind_of(version) == loaded_as


@pytest.mark.django_db
def test_every_way_to_use_a_module_is_whole_and_parses(french):
    made = {snippet.label: snippet.code for snippet in snippets_for_module(french, french.current, SITE)}
    python = [code for label, code in made.items() if label.startswith("Python")]
    notebook = made["Notebook"].replace("%pip install peft transformers", "")
    for code in (*python, notebook):
        ast.parse(code)
        for part in ("AutoTokenizer.from", AUTO_CLASS[SEQ2SEQ], "alice/french", "generate", "decode"):
            assert part in code
    assert notebook.index("HF_ENDPOINT") < notebook.index("from peft")
    assert made["Shell: download the folder with hf"] == "hf download alice/french --local-dir french"
    assert f"export HF_ENDPOINT={SITE}" in made.values()
    assert "lh_" not in "".join(made.values())
    for snippet in snippets_for_base(french.current.base, SITE):
        if snippet.label == "Python":
            ast.parse(snippet.code)
            assert "generate" in snippet.code


@pytest.mark.django_db
def test_what_is_private_carries_the_token_line_in_shell_and_notebook(french):
    french.private = True
    made = {snippet.label: snippet.code for snippet in snippets_for_module(french, french.current, SITE)}
    assert "export HF_TOKEN=lh_…" in made["Shell: use this site as the Hub"]
    assert 'os.environ["HF_TOKEN"] = "lh_…"' in made["Notebook"]
    assert '-H "Authorization: Bearer lh_…"' in made["Shell: download the files"]


@pytest.mark.django_db
def test_an_earlier_version_is_used_at_its_revision(alice, french):
    earlier = french.current
    version_add(author=alice, module=french, **adapter_files(seed=1))
    made = {snippet.label: snippet.code for snippet in snippets_for_module(french, earlier, SITE)}
    assert '"alice/french", revision="v1"' in made["Python, with peft"]
    assert "hf download alice/french --revision v1 --local-dir" in made["Shell: download the folder with hf"]


def vllm(**changes):
    of_base = {"kind": CAUSAL, "architecture": "LlamaForCausalLM"}
    base = BaseModel(**{name: changes.pop(name, value) for name, value in of_base.items()})
    facts = {"base": base, "base_name": "meta/llama", "rank": 17, "prompt_template": "Q: {input}\nA:"}
    return vllm_snippet(Module(name="squad"), Version(**(facts | changes)))


def test_vllm_serves_the_module_at_the_smallest_limit_and_is_asked_in_its_template():
    code = vllm().code
    serve = next(line for line in code.splitlines() if line.startswith("vllm serve"))
    words = shlex.split(serve)
    assert words[:3] == ["vllm", "serve", "meta/llama"]
    assert words[words.index("--max-lora-rank") + 1] == "32"
    assert words[-1] == "squad=./squad"
    body = json.loads(shlex.split(code.splitlines()[-1])[-1])
    assert (body["model"], body["prompt"]) == ("squad", "Q: What you ask\nA:")
    chat = json.loads(shlex.split(vllm(prompt_template="chat").code.splitlines()[-1])[-1])
    assert chat["messages"] == [{"role": "user", "content": "What you ask"}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"kind": SEQ2SEQ}, "encoder-decoder"),
        ({"architecture": "GPT2LMHeadModel"}, "no LoRA on a GPT2LMHeadModel"),
        ({"rank": 513}, "up to rank 512"),
    ],
)
def test_what_vllm_does_not_serve_gets_the_reason_and_no_command(changes, reason):
    snippet = vllm(**changes)
    assert snippet.code == ""
    assert reason in snippet.note


@pytest.mark.slow
@pytest.mark.parametrize("code", [PEFT, TRANSFORMERS], ids=["peft", "transformers"])
def test_the_python_runs_as_it_stands_and_answers_as_the_module_does(code, tmp_path):
    bundle = settings.BASE_DIR / "demo/bundle"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/tiny-t5").symlink_to(bundle / "base")
    (tmp_path / "demo/upper").symlink_to(bundle / "modules/upper")
    version = Version(base=BaseModel(kind=SEQ2SEQ), base_name="demo/tiny-t5")
    written = code.format(**python_words(version, '"demo/upper"')).replace("What you ask", ": sock")
    ran = subprocess.run(
        [sys.executable, "-c", written], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "SOCK"


@pytest.mark.django_db
def test_the_api_tells_the_snippets_of_the_page(client, french):
    told = client.get("/api/v1/modules/alice/french/snippets").json()
    made = snippets_for_module(french, french.current, "http://testserver")
    assert told == [{"label": each.label, "code": each.code, "note": each.note} for each in made]
    assert client.get("/api/v1/modules/alice/french/snippets?revision=v7").status_code == 404
