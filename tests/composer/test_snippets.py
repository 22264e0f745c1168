"""The lines that use an adapter: right for this very one."""

import json
import shlex

import pytest

from composer.core.spec.examples import Example
from composer.report.snippets import (
    Snippet,
    SnippetQuestion,
    get_published,
    own_question,
    own_snippets,
    snippets,
)
from modules_registry.models import BaseModel

pytestmark = pytest.mark.usefixtures("wakes")
GET = Snippet("get", "", "")


@pytest.fixture
def code_of(ask):
    """A snippet for a decoder-only base."""

    def code(
        key, rank=16, template="Q: {input}", architecture="LlamaForCausalLM", kind=BaseModel.Kind.CAUSAL
    ):
        composition = ask()
        composition.base.kind, composition.base.architecture = kind, architecture
        made = snippets(composition, rank=rank, question=SnippetQuestion(template, 'it\'s "x"'), get=GET)
        return next(snippet for snippet in made if snippet.key == key)

    return code


@pytest.mark.parametrize(
    ("rank", "limit"), [(4, 8), (8, 8), (16, 16), (17, 32), (216, 256), (257, 320), (321, 512), (512, 512)]
)
def test_vllm_is_told_the_smallest_limit_it_knows_that_the_rank_fits(code_of, rank, limit):
    words = shlex.split(code_of("vllm", rank).code.splitlines()[0])
    assert words[words.index("--max-lora-rank") + 1] == str(limit)
    assert "--enable-lora" in words
    assert "fruit-in-capitals=./fruit-in-capitals" in words


@pytest.mark.parametrize(
    ("rank", "architecture", "reason"),
    [
        (513, "LlamaForCausalLM", "up to rank 512, and this one has 513"),
        (8, "GPT2LMHeadModel", "takes no LoRA on a GPT2"),
    ],
)
def test_what_vllm_takes_no_adapter_of_is_served_merged(code_of, rank, architecture, reason):
    snippet = code_of("vllm", rank, architecture=architecture)
    assert snippet.code.startswith(
        "vllm serve ./fruit-in-capitals-merged --served-model-name fruit-in-capitals"
    )
    assert reason in snippet.note


def test_an_encoder_decoder_gets_no_command_for_vllm_and_the_reason(code_of):
    snippet = code_of("vllm", kind=BaseModel.Kind.SEQ2SEQ, architecture="T5ForConditionalGeneration")
    assert snippet.code == ""
    assert "does not serve T5ForConditionalGeneration" in snippet.note


def test_the_question_goes_to_vllm_in_the_composition_s_template(code_of):
    asked = shlex.split(code_of("vllm").code.splitlines()[-1])
    assert asked[1].endswith("/v1/completions")
    body = json.loads(asked[-1])
    assert (body["model"], body["prompt"], body["temperature"]) == ("fruit-in-capitals", 'Q: it\'s "x"', 0)


def test_a_chat_template_is_the_tokenizer_s_and_the_server_s_own(code_of):
    asked = shlex.split(code_of("vllm", template="chat").code.splitlines()[-1])
    assert asked[1].endswith("/v1/chat/completions")
    assert json.loads(asked[-1])["messages"] == [{"role": "user", "content": 'it\'s "x"'}]
    code = code_of("peft", template="chat").code
    assert "tokenizer.apply_chat_template" in code
    compile(code, "snippet", "exec")


@pytest.mark.parametrize("key", ["peft", "merged"])
def test_a_decoder_s_answer_is_what_follows_its_prompt(code_of, key):
    code = code_of(key).code
    assert 'output[0, inputs["input_ids"].shape[1]:]' in code
    assert "AutoModelForCausalLM" in code
    compile(code, "snippet", "exec")


def test_a_published_adapter_is_fetched_by_hf_and_a_private_one_with_a_token(done, modules):
    composition = done()
    published = get_published(composition, modules[0], "http://testserver")
    assert published.code.splitlines() == [
        "export HF_ENDPOINT=http://testserver",
        "hf download bob/first --local-dir fruit-in-capitals",
    ]
    assert not published.note
    modules[0].private = True
    assert "token" in get_published(composition, modules[0], "http://testserver").note


def test_one_that_is_not_published_comes_from_the_api_with_a_token(done):
    composition = done()
    first = own_snippets(composition, "http://testserver")[0]
    assert f"http://testserver/api/v1/compositions/{composition.pk}/adapter" in first.code
    assert "Bearer $HF_TOKEN" in first.code


SHOWN = [Example("apple", "APPLE"), Example("pear", "PEAR")]
TEXT = {"as": "text", "template": "{input}\n", "before": "apple\nAPPLE\n\n", "end": "\n"}
TURNS = {"as": "turns", "template": "say {input}", "before": "", "end": None}


def asked_with(ask, recipe, key):
    composition = ask()
    composition.base.kind = BaseModel.Kind.CAUSAL
    question = SnippetQuestion("chat", "plum", recipe, SHOWN)
    return next(
        one.code for one in snippets(composition, rank=8, question=question, get=GET) if one.key == key
    )


def test_with_examples_as_text_the_prompt_holds_them_and_the_answer_is_cut(ask):
    code = asked_with(ask, TEXT, "peft")
    assert 'inputs = tokenizer("apple\\nAPPLE\\n\\nplum\\n"' in code
    assert code.endswith('skip_special_tokens=True).partition("\\n")[0])')
    body = json.loads(shlex.split(asked_with(ask, TEXT, "vllm").splitlines()[-1])[-1])
    assert (body["prompt"], body["stop"]) == ("apple\nAPPLE\n\nplum\n", "\n")


def test_with_examples_as_turns_each_is_a_question_and_an_answer(ask):
    roles = ["user", "assistant", "user", "assistant", "user"]
    texts = ["say apple", "APPLE", "say pear", "PEAR", "say plum"]
    turns = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    body = json.loads(shlex.split(asked_with(ask, TURNS, "vllm").splitlines()[-1])[-1])
    assert body["messages"] == turns
    code = asked_with(ask, TURNS, "peft")
    assert all(json.dumps(turn) in code for turn in turns)
    compile(code, "snippet", "exec")


def test_a_template_that_ends_in_a_space_asks_as_the_run_did(code_of):
    assert 'inputs = tokenizer("Q: it\'s \\"x\\" A:"' in code_of("peft", template="Q: {input} A: ").code


def test_examples_stand_in_the_prompt_only_where_the_verdict_says_so(done):
    composition = done()
    composition.report["examples_in_prompt"] = TEXT
    assert own_question(composition, composition.report).recipe is None
    composition.report["verdict"]["decision"] = "prompt"
    assert own_question(composition, composition.report).recipe == TEXT
