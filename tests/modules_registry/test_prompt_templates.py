"""A module's prompt template, from upload to job: by form, API, edit, commit and import of files."""

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from transformers import AutoTokenizer

from hub_site.common.errors import Refusal
from modules_registry.base_models import base_model_add
from modules_registry.blobs import store
from modules_registry.chat_prompts import ChatPrompt, chat_prompt_of
from modules_registry.commits import Change, module_commit
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.models import Module
from modules_registry.selectors import card_of, module_find
from modules_registry.services import module_edit, version_add
from tests.composer.core.tiny import make_base as tiny_base
from tests.factories import adapter_files, base_folder, card_file, config_file, make_module, weights_file

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("files", "template"),
    [
        ({}, ""),
        ({"card_file": card_file("---\nprompt_template: chat\n---\n")}, "chat"),
        ({"config_file": config_file(prompt_template="say {input}\n")}, "say {input}\n"),
        ({"card_file": card_file(), "prompt_template": "{input} ?"}, "{input} ?"),
        ({"prompt_template": "chat"}, "chat"),
    ],
)
def test_a_published_module_keeps_the_template_that_was_said(alice, base, files, template):
    module = make_module(alice, **files)
    assert module.current.prompt_template == template
    with store().open(module.current.files.get(path=CONFIG_FILE).sha256) as file:
        assert "prompt_template" not in json.load(file)  # peft knows no such key
    if "prompt_template" in files:  # whoever downloads it gets it, too
        assert card_of(module.current).front_matter["prompt_template"] == template


@pytest.mark.parametrize("template", ["say it", "chatml", "auto", "{input}" + "x" * 2000])
def test_what_is_no_template_is_refused_at_its_field(alice, base, template):
    with pytest.raises(Refusal) as refused:
        make_module(alice, prompt_template=template)
    assert "prompt_template" in refused.value.fields
    with pytest.raises(Refusal) as refused:
        make_module(alice, config_file=config_file(prompt_template=template))
    assert refused.value.code == "prompt_template_not_a_template"
    assert not Module.objects.exists()


def test_an_edit_writes_the_template_into_the_card_as_a_new_version(alice, base):
    module = make_module(alice, card_file=card_file("---\nlicense: mit\n---\n# A card\n"))
    module_edit(editor=alice, module=module, prompt_template="chat")
    now = module_find("alice", "french").current
    assert (now.number, now.prompt_template) == (2, "chat")
    assert card_of(now).text == '---\nlicense: mit\nprompt_template: "chat"\n---\n# A card\n'
    module_edit(editor=alice, module=module, prompt_template="chat", sentence="Still the same.")
    assert module_find("alice", "french").current.number == 2
    module_edit(editor=alice, module=module, card="---\nprompt_template: '{input}!'\n---\n# Another\n")
    assert module_find("alice", "french").current.prompt_template == "{input}!"
    module_edit(editor=alice, module=module, prompt_template="")
    assert module_find("alice", "french").current.prompt_template == ""


def test_what_only_the_config_said_stays_under_another_card_and_goes_with_another_config(alice, base):
    module = make_module(alice, config_file=config_file(prompt_template="say {input}"))
    module_edit(editor=alice, module=module, card="# A card\n")
    assert module_find("alice", "french").current.prompt_template == "say {input}"
    version_add(author=alice, module=module, **adapter_files(seed=1))
    assert module_find("alice", "french").current.prompt_template == ""


def test_a_new_version_keeps_what_the_card_states_unless_it_says_another(alice, base):
    module = make_module(alice, prompt_template="chat")
    version, _ = version_add(author=alice, module=module, **adapter_files(seed=1))
    assert version.prompt_template == "chat"
    version, _ = version_add(author=alice, module=module, **adapter_files(seed=2), prompt_template="{input}:")
    assert version.prompt_template == "{input}:"
    assert card_of(version).front_matter["prompt_template"] == "{input}:"


def test_a_commit_of_a_hub_client_is_read_by_the_same_rule(alice, base):
    module = make_module(alice)
    trained = "---\ntags:\n- llama-factory\n- lora\n---\n# sft\n"
    decoder = {"base_model_name_or_path": "some/chat-model", "task_type": "CAUSAL_LM"}
    files = {
        CONFIG_FILE: config_file(**decoder),
        WEIGHTS_FILE: weights_file(seed=3),
        CARD_FILE: card_file(trained),
    }
    version, _ = module_commit(author=alice, module=module, branch="main", change=Change("All", files=files))
    assert version.prompt_template == "chat"
    stated = {CARD_FILE: card_file("---\nprompt_template: 'say {input}'\n---\n")}
    version, _ = module_commit(
        author=alice, module=module, branch="main", change=Change("Card", files=stated)
    )
    assert version.prompt_template == "say {input}"
    weights = {WEIGHTS_FILE: weights_file(seed=4)}
    version, _ = module_commit(author=alice, module=module, branch="main", change=Change("W", files=weights))
    assert version.prompt_template == "say {input}"


def test_the_form_and_the_api_take_a_template_with_its_line_break(client, alice, base):
    client.force_login(alice)
    files = {name: SimpleUploadedFile(file.name, file.read()) for name, file in adapter_files().items()}
    said = {"namespace": "alice", "name": "by-form", "sentence": "Into French.", "licence": "mit"}
    answer = client.post(reverse("modules_registry:new"), said | files | {"prompt_template": "{input}\r\n"})
    assert answer.status_code == 302
    assert module_find("alice", "by-form").current.prompt_template == "{input}\n"
    page = client.get("/alice/by-form").content.decode()
    assert "Prompt template" in page
    files = {name: SimpleUploadedFile(file.name, file.read()) for name, file in adapter_files(1).items()}
    answer = client.post("/api/v1/modules", said | files | {"name": "by-api", "prompt_template": "{input}\n"})
    assert answer.status_code == 201
    assert answer.json()["current"]["prompt_template"] == "{input}\n"
    changed = client.patch(
        "/api/v1/modules/alice/by-api", {"prompt_template": "chat"}, content_type="application/json"
    )
    assert changed.json()["current"]["prompt_template"] == "chat"
    client.post(
        reverse("modules_registry:edit", args=["alice", "by-form"]),
        {"sentence": "Into French.", "licence": "mit", "prompt_template": "say {input}"},
    )
    assert module_find("alice", "by-form").current.prompt_template == "say {input}"


def test_a_module_without_a_known_template_asks_its_owner(client, alice, base):
    make_module(alice)
    assert "Add it" not in client.get("/alice/french").content.decode()
    client.force_login(alice)
    assert "Add it" in client.get("/alice/french").content.decode()


# --- the chat template of a base model ------------------------------------------

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WITH_BOS = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content | trim }} [/INST]"
    "{% else %} {{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
WITH_LOOP = (
    "{%- for m in messages -%}\n  {%- if m.role == 'system' -%}{%- continue -%}{%- endif -%}\n"
    "<{{ m.role }}>{{ m.content | tojson }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


@pytest.mark.parametrize("source", [CHATML, WITH_BOS, WITH_LOOP])
@pytest.mark.parametrize("inside", [True, False])
def test_the_kept_prompt_is_what_transformers_makes(tmp_path, source, inside):
    folder = tiny_base(tmp_path, "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = source
    tokenizer.save_pretrained(folder, save_jinja_files=not inside)
    kept = chat_prompt_of(folder)
    theirs = tokenizer.apply_chat_template(
        [{"role": "user", "content": "{input}"}], tokenize=False, add_generation_prompt=True
    )
    assert kept.prompt == theirs
    assert kept.answer_end in ("<|im_end|>", "</s>", '"<end>')


def test_the_kept_prompt_begins_the_answer_where_the_template_ignores_that_it_is_asked(tmp_path):
    folder = tiny_base(tmp_path, "llama")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = CHATML.partition("{% if add_generation_prompt")[0]
    tokenizer.save_pretrained(folder)
    assert chat_prompt_of(folder) == ChatPrompt(
        "<|im_start|>user\n{input}<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>"
    )


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'User:' }}",
        "{% for m in messages %}{{ m.role }}: {{ m.text }}{% endfor %}",
        "{% for m in messages[1:] %}{{ m.content }}{% endfor %}",
        "{{ messages[0].content[:3] }}",
    ],
)
def test_a_base_whose_chat_template_does_not_show_the_input_is_refused(tmp_path, stored, source):
    folder = base_folder(tmp_path / "base")
    (folder / "chat_template.jinja").write_text(source)
    with pytest.raises(Refusal, match=r"does not show what the user asks.*or remove it") as refusal:
        base_model_add(folder=folder, name="tests/hides")
    assert refusal.value.code == "chat_template_hides_input"
    assert not stored()
    (folder / "chat_template.jinja").unlink()
    assert base_model_add(folder=folder, name="tests/hides")[0].chat_prompt == ""


@pytest.mark.parametrize("source", [CHATML, WITH_BOS, WITH_LOOP, "{{ messages[-1].content | upper }}"])
def test_a_chat_template_that_shows_every_input_hides_none(tmp_path, source):
    folder = base_folder(tmp_path / "base")
    (folder / "chat_template.jinja").write_text(source)
    assert not chat_prompt_of(folder).hides_input


@pytest.mark.parametrize(
    ("source", "prompt"),
    [
        (None, ""),
        ("{{ raise_exception('no') }}", None),
        ("{% for %}", None),
        ("{{ ''.__class__.__mro__[1].__subclasses__() }}{{ messages[0].content }}", None),
        ("{{ messages[0].content[:3] }}", None),  # the input itself is not in it
    ],
)
def test_a_template_that_does_not_work_or_reaches_out_is_not_known(tmp_path, source, prompt):
    folder = base_folder(tmp_path / "base")
    config = {"eos_token": {"content": "</s>"}} | ({"chat_template": source} if source else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    kept = chat_prompt_of(folder)
    assert (kept.prompt, kept.answer_end) == (prompt, "</s>")
