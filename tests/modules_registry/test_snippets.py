"""The code on a module's page: whole, right for its base, and it runs."""

import ast
import json
import os
import shlex
import subprocess
import sys

import pytest
from django.conf import settings

from modules_registry.core.errors import WEIGHTS_FILE
from modules_registry.models import BaseModel, Module, Version
from modules_registry.services import module_publish, version_add
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
from tests.factories import BASE_NAME, adapter_files, make_module
from tests.served_site import served_site

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


WAYS = {
    "Python, with peft",
    "Python, with transformers alone",
    "Notebook",
    "Shell: download the folder with hf",
    "Shell, with vLLM",
    "Shell: download the files",
}


@pytest.mark.django_db
@pytest.mark.parametrize("is_private", [False, True], ids=["public", "private"])
def test_a_module_whose_base_is_elsewhere_can_be_used_in_all_the_same_ways(alice, is_private):
    module = make_module(alice, "foreign")  # the library has no base at all
    module.private = is_private
    snippets = snippets_for_module(module, module.current, SITE)
    made = {snippet.label: snippet.code for snippet in snippets}
    assert set(made) == WAYS
    assert all(snippet.code or snippet.note for snippet in snippets)
    token = '"lh_…"' if is_private else "False"  # a token of another Hub is not sent here
    for label in ("Python, with peft", "Python, with transformers alone", "Notebook"):
        code = made[label].replace("%pip install peft transformers", "")
        calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
        [fetch] = [call for call in calls if ast.unparse(call.func) == "snapshot_download"]
        assert ast.unparse(fetch) == ast.unparse(
            ast.parse(f'snapshot_download("alice/foreign", endpoint="{SITE}", token={token})')
        )
        for part in (f'from_pretrained("{BASE_NAME}")', "generate", "decode"):
            assert part in code
    sent = "HF_TOKEN=lh_… " if is_private else ""
    expected = f"HF_ENDPOINT={SITE} {sent}hf download alice/foreign --local-dir foreign"
    assert made["Shell: download the folder with hf"] == expected
    assert ("lh_…" in made["Shell: download the files"]) == is_private


@pytest.mark.django_db
def test_an_earlier_version_for_a_base_elsewhere_is_used_at_its_revision(alice):
    module = make_module(alice, "foreign")
    earlier = module.current
    version_add(author=alice, module=module, **adapter_files(seed=1))
    made = {snippet.label: snippet.code for snippet in snippets_for_module(module, earlier, SITE)}
    for label in ("Python, with peft", "Python, with transformers alone", "Notebook"):
        assert '"alice/foreign", revision="v1", endpoint=' in made[label]
    assert "--revision v1" in made["Shell: download the folder with hf"]
    assert "/resolve/v1" in made["Shell: download the files"]


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_the_python_for_a_base_elsewhere_fetches_the_module_and_answers(alice, settings, tmp_path):
    """The base is found under its name, as if it had come from its Hub; the module comes from this site."""
    bundle = settings.BASE_DIR / "demo/bundle"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo/tiny-t5").symlink_to(bundle / "base")
    with served_site(settings.HUB_DATA) as site:
        files = [bundle / "modules/upper" / name for name in ("adapter_config.json", WEIGHTS_FILE)]
        with files[0].open("rb") as config, files[1].open("rb") as weights:
            module = module_publish(
                author=alice, namespace=alice.namespace, name="upper", sentence="Upper case.",
                licence="mit", tags=[], config_file=config, weights_file=weights,
            )  # fmt: skip
        assert (module.current.base, module.current.base_name) == (None, "demo/tiny-t5")
        made = {each.label: each.code for each in snippets_for_module(module, module.current, site.address)}
        for label in ("Python, with peft", "Python, with transformers alone"):
            code = made[label].replace("What you ask", ": sock")
            ran = subprocess.run(
                [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True,
                env={**os.environ, "HF_HOME": str(tmp_path / "home")},
            )  # fmt: skip
            assert ran.stdout.strip() == "SOCK"


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
