"""The template of a composition on the site: left open or asked for, shown, passed to the run."""

import json

import pytest

from composer.matching.templates import composition_template, preview_of
from composer.report.page import prompt_view
from composer.run.job_folder import job_description
from composer.share.services import redacted_report, share_renew
from hub_site.common.visible_text import escaped, visible
from modules_registry.models import BaseModel
from modules_registry.services import module_edit
from tests.composer.conftest import SHOTS

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("wakes")]
CHAT_PROMPT = "<user>{input}<end>\n<assistant>"


@pytest.fixture
def chatty(base):
    """The base as a decoder-only model with a chat template."""
    base.kind, base.chat_prompt, base.answer_end = BaseModel.Kind.CAUSAL, CHAT_PROMPT, "<end>"
    base.save()
    return base


def test_a_request_that_names_no_template_leaves_it_open(ask):
    for nothing in ({}, {"template": ""}, {"template": None}, {"template": "auto"}):
        assert ask(name=str(nothing), **nothing).template == "auto"


def test_the_run_gets_each_module_s_own_template(ask, bob, modules):
    module_edit(editor=bob, module=modules[1], prompt_template="say {input}\n")
    composition = ask()
    job = job_description(composition, list(composition.modules.select_related("version")))
    assert job["template"] == "auto"
    assert [row["template"] for row in job["modules"]] == [None, "say {input}\n", None]
    json.dumps(job)


def test_before_its_report_a_composition_has_the_template_that_the_run_will_choose(ask, bob, modules, chatty):
    assert composition_template(ask()) == "chat"
    module_edit(editor=bob, module=modules[1], prompt_template="say {input}")
    assert composition_template(ask(name="again")) == "say {input}"
    assert composition_template(ask(name="asked", template="{input}!")) == "{input}!"
    chatty.chat_prompt = None  # of a base that came before it was kept
    chatty.save()
    module_edit(editor=bob, module=modules[1], prompt_template="")
    assert composition_template(ask(name="unknown")) == "auto"


@pytest.mark.parametrize(
    ("asked", "stated", "prompt", "answer", "warned"),
    [
        ("auto", {}, "<user>cat<end>\n<assistant>", "chat<end>", []),
        ("auto", {"a/m": "say {input}:"}, "say cat:", " chat<end>", []),
        ("{input}\n", {}, "cat\n", "chat<end>", []),
        ("{input}", {}, "cat", "chat<end>", ["no white space"]),
        ("{input}", {"a/m": "{input}"}, "cat", "chat<end>", []),
        ("chat", {"a/m": "{input}:", "a/n": ""}, "<user>cat<end>\n<assistant>", "chat<end>", ["(a/m)"]),
        ("no place", {}, "", "", []),  # as it is typed; the form refuses it when it is sent
    ],
)
def test_the_form_shows_what_the_model_will_read(chatty, asked, stated, prompt, answer, warned):
    shown = preview_of(chatty, asked, stated, "cat", " chat")
    assert (shown.prompt, shown.answer) == (prompt, answer)
    assert len(shown.warnings) == len(warned)
    assert all(words in text for words, text in zip(warned, shown.warnings, strict=True))


def test_an_encoder_decoder_reads_the_bare_input(base):
    shown = preview_of(base, "auto", {}, "cat", "chat")
    assert (shown.template, shown.prompt, shown.answer, shown.warnings) == ("{input}", "cat", "chat", ())


def test_page_and_api_tell_the_prompt_before_anything_runs(client, alice, modules, chatty):
    client.force_login(alice)
    page = client.get("/compositions/new/").content.decode()
    assert 'id="prompt-preview"' in page
    assert "the base model has a chat template" in page
    asked = {"name": "x", "examples": [{"input": "cat", "output": "chat"}], "base": chatty.name}
    answer = client.post("/api/v1/compositions/estimate", asked, content_type="application/json")
    assert answer.status_code == 200
    assert answer.json()["prompt"] == {
        "template": "chat", "reason": "the base model has a chat template",
        "prompt": "<user>cat<end>\n<assistant>", "answer": "chat<end>", "warnings": [],
    }  # fmt: skip
    for nothing in ("", None):
        made = client.post(
            "/api/v1/compositions", asked | {"template": nothing, "name": f"{nothing!r}"},
            content_type="application/json",
        )  # fmt: skip
        assert (made.status_code, made.json()["template"]) == (202, "auto")


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{input}", "puts no white space"),
        ("nothing", "must contain {input}"),
        ("chat", "has no chat template"),
        ("say {input}:", ""),
    ],
)
def test_what_the_model_reads_and_its_warnings_lie_in_the_open(
    client, alice, modules, chatty, template, said
):
    if template == "chat":
        chatty.chat_prompt = ""
        chatty.save()
    client.force_login(alice)
    page = client.post("/compositions/new/", {"template": template, "base": chatty.name}).content.decode()
    before, preview = page[: page.index('id="step-far"')].split('id="prompt-preview"')
    assert before.count("<details") == before.count("</details>")
    assert (said in preview) if said else ("notice--warning" not in preview)


def test_the_form_keeps_a_line_break_at_the_end_of_a_template(client, alice, modules):
    client.force_login(alice)
    said = {
        "shots_input": ["cat"], "shots_output": ["chat"], "base": modules[0].current.base.name,
        "selection": "auto", "method": "exact", "level": "quick", "seed": "1",
    }  # fmt: skip
    for typed, kept in (("{input}\r\n", "{input}\n"), ("", "auto"), ("  ", "auto")):
        answer = client.post("/compositions/new/", said | {"template": typed, "name": typed})
        assert answer.status_code == 302
        assert alice.compositions.order_by("-created_at").first().template == kept


def test_the_report_shows_what_was_read_to_its_owner_alone(client, alice, done):
    composition = done()
    composition.report |= {
        "template": "{input}\n", "template_reason": "as asked for",
        "prompt_shown": {
            "prompt": "<s>apple\n", "answer": " APPLE</s>", "prompt_tokens": 3, "answer_tokens": 1,
        },
        "examples_in_prompt": {"as": "text", "template": "{input}\n", "before": SHOTS[0].input, "end": "\n"},
    }  # fmt: skip
    composition.save(update_fields=["report"])
    shown = prompt_view(composition.report)
    assert (shown["prompt"], shown["answer"]) == ("<s>apple↵\n", "␣APPLE</s>")
    assert (shown["prompt_label"], shown["answer_label"]) == ("Prompt, 3 tokens", "Answer, 1 token")
    client.force_login(alice)
    page = client.get(composition.get_absolute_url()).content.decode()
    assert "What the model reads" in page
    assert "&lt;s&gt;apple↵" in page
    shared = redacted_report(share_renew(owner=alice, composition_id=composition.pk))
    assert not {"prompt_shown", "examples_in_prompt"} & set(shared)
    assert prompt_view(shared) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a b", "a b"), (" a ", "␣a␣"), ("  ", "␣␣"), ("a\n", "a↵\n"), ("a\n\nb", "a↵\n↵\nb"), ("", "")],
)
def test_white_space_that_matters_can_be_seen(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a\x01b", "a\\x01b"), ("\x1b[0m", "\\x1b[0m"), ("\x7f\x9f", "\\x7f\\x9f"), ("a\tb\nç", "a\tb\nç")],
)
def test_control_characters_are_shown_as_escapes(text, shown):
    assert escaped(text) == shown
