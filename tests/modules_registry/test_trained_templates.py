"""Which template a module was trained with: stated, or told by what its trainer left in the folder."""

import json
import re

import pytest

from composer.core.modules.sources import base_source, module_source
from composer.core.spec import templates
from composer.core.spec.examples import Example
from composer.library.job_folder import Options, TaskExamples, write_job
from modules_registry.core.cards import check_card
from modules_registry.core.prompt_template import CHAT, INPUT, is_prompt_template
from modules_registry.trained_templates import (
    card_stating,
    find_template,
    template_of_folder,
    trained_template,
)
from tests.composer.core.tiny import make_job

# Cards and by-products as the trainers write them: the same heads, headings and file names.
TRL = """---
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
library_name: peft
model_name: out
tags:
- base_model:adapter:HuggingFaceTB/SmolLM2-135M-Instruct
- lora
- sft
- transformers
- trl
licence: license
pipeline_tag: text-generation
---

# Model Card for out

It has been trained using [TRL](https://github.com/huggingface/trl).

## Quick start

```python
generator = pipeline("text-generation", model="None", device="cuda")
output = generator([{"role": "user", "content": question}], max_new_tokens=128, return_full_text=False)[0]
```
"""
AXOLOTL = """---
library_name: peft
base_model: meta-llama/Llama-3.2-1B
tags:
- generated_from_trainer
datasets:
- data.jsonl
---

[<img src="https://axolotl/badge.png" alt="Built with Axolotl"/>](https://github.com/axolotl-ai-cloud/axolotl)
<details><summary>See axolotl config</summary>

axolotl version: `0.9.1`
```yaml
base_model: meta-llama/Llama-3.2-1B
adapter: lora
{datasets}
val_set_size: 0.05
```

</details><br>

# out
"""
CHAT_DATA = "datasets:\n  - path: data.jsonl\n    type: chat_template\n    field_messages: messages\n"
OWN_DATA = """datasets:
- path: data.jsonl
  type:
    field_instruction: context
    field_output: target
    format: '[INST] {instruction} [/INST]'
    no_input_format: '[INST] {instruction} [/INST]'
"""
LLAMA_FACTORY = """---
library_name: peft
license: other
base_model: Qwen/Qwen2.5-0.5B-Instruct
tags:
- llama-factory
- lora
- generated_from_trainer
---

# sft
"""
BOARD = "finetuning_type: lora\nmodel_name_or_path: Qwen/Qwen2.5-0.5B\nstage: sft\ntemplate: {name}\n"
UNSLOTH = """---
base_model: unsloth/llama-3.2-1b-instruct-bnb-4bit
tags:
- text-generation-inference
- transformers
- unsloth
- llama
- trl
license: apache-2.0
language:
- en
---

# Uploaded  model

This llama model was trained 2x faster with [Unsloth](https://github.com/unslothai/unsloth) and TRL.
"""
JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}"


def of(card="", config=None, **beside):
    files = {name.replace("__", "."): text for name, text in beside.items()}
    return trained_template(check_card(card.encode()), config or {}, files)


def axolotl(datasets):
    return AXOLOTL.replace("{datasets}", datasets)


@pytest.mark.parametrize(
    ("card", "beside", "template"),
    [
        (TRL, {}, ""),  # the quick start shows a chat whatever it was trained on
        (TRL, {"chat_template__jinja": JINJA}, CHAT),
        (TRL, {"tokenizer_config__json": json.dumps({"chat_template": JINJA})}, CHAT),
        (TRL, {"tokenizer_config__json": json.dumps({"eos_token": "</s>"})}, ""),
        (TRL.replace('[{"role": "user", "content": question}]', "question"), {}, ""),
        (axolotl(CHAT_DATA), {}, CHAT),
        (axolotl(OWN_DATA), {}, "[INST] {input} [/INST]"),
        (axolotl("datasets:\n  - path: data.jsonl\n    type: alpaca\n"), {}, ""),
        (axolotl(CHAT_DATA + "  - path: b.jsonl\n    type: alpaca\n"), {}, ""),  # not one template
        (axolotl("datasets:\n  - path: d\n    type: completion\n"), {"chat_template__jinja": JINJA}, ""),
        (axolotl("datasets: &a [*a]"), {}, ""),
        (LLAMA_FACTORY, {}, CHAT),
        (LLAMA_FACTORY, {"training_args__yaml": BOARD.format(name="qwen")}, CHAT),
        (LLAMA_FACTORY, {"training_args__yaml": BOARD.format(name="default")}, "Human: {input}\nAssistant:"),
        (UNSLOTH, {}, ""),
        (UNSLOTH, {"chat_template__jinja": JINJA}, CHAT),
        ("", {"tokenizer_config__json": json.dumps({"chat_template": JINJA})}, CHAT),
        ("", {"tokenizer_config__json": json.dumps({"eos_token": "</s>"})}, ""),
        ("", {"tokenizer_config__json": "{"}, ""),
        ("", {}, ""),
    ],
)  # fmt: skip
def test_a_trainer_is_recognized_by_what_it_writes(card, beside, template):
    assert of(card, **beside) == template


def test_no_chat_is_recognized_where_none_can_be():
    for card in (LLAMA_FACTORY, axolotl(CHAT_DATA), TRL):
        beside = {"chat_template.jinja": JINJA}
        assert trained_template(check_card(card.encode()), {}, beside) == CHAT
        assert trained_template(check_card(card.encode()), {}, beside, base_has_chat=False) == ""
        assert trained_template(check_card(card.encode()), {"task_type": "SEQ_2_SEQ_LM"}, beside) == ""
    stated = check_card(b"---\nprompt_template: chat\n---\n")
    assert trained_template(stated, {}, {}, base_has_chat=False) == CHAT


@pytest.mark.parametrize(
    ("line", "template"),
    [
        ("prompt_template: chat", CHAT),
        ('prompt_template: "{input}\\n"', "{input}\n"),
        ("prompt_template: '{input} ?'", "{input} ?"),
        ("prompt_template: |\n  say {input}\n  now", "say {input}\nnow\n"),
        ("prompt_template: {input}", INPUT),  # a mapping in YAML
        ("prompt_template: chatml", ""),
        ("prompt_template: [chat]", ""),
        ("prompt_template: say it", ""),
    ],
)
def test_a_card_states_the_template(line, template):
    assert of(f"---\n{line}\n---\n") == template
    assert of(f"---\n{line}\n---\n", {"prompt_template": "{input}!"}) == (template or "{input}!")
    assert template == "" or of(TRL.replace("licence: license", line)) == template


def test_what_is_stated_is_a_template_of_the_composer():
    for text in (CHAT, INPUT, "say {input}", "{input}\n", "say", "", "auto", "chatml", None, 3, ["chat"]):
        assert is_prompt_template(text) == templates.is_template(text)
    assert (CHAT, INPUT) == (templates.CHAT, templates.INPUT)


@pytest.mark.parametrize("card", ["", "# A title\n", TRL, UNSLOTH, "---\n---\nbody\n"])
@pytest.mark.parametrize("template", ["chat", "{input}\n", 'say "{input}"', "ä {input}: \\n"])
def test_a_card_is_made_to_state_a_template_and_nothing_else_of_it_changes(card, template):
    stated = card_stating(card, template)
    assert of(stated) == template
    assert check_card(stated.encode()).body.strip() == check_card(card.encode()).body.strip()
    again = card_stating(stated, "{input} again")
    assert of(again) == "{input} again"
    assert again.count("prompt_template") == 1
    without = card_stating(again, "")
    assert "prompt_template" not in without
    assert check_card(without.encode()).front_matter == check_card(card.encode()).front_matter


@pytest.mark.parametrize(
    ("card", "config", "told"),
    [
        ("---\nprompt_template: say it\n---\n", {}, 'prompt_template in README.md is neither text.*"say it"'),
        ("---\nprompt_template: 3\n---\n", {}, "in README.md is neither text"),
        ("", {"prompt_template": "say it"}, "prompt_template in adapter_config.json is neither text"),
        (axolotl("datasets:\n  - path: data.jsonl\n    type: alpaca\n"), {}, 'one template .type "alpaca"'),
    ],
)
def test_what_tells_of_a_template_that_cannot_be_read_is_told(card, config, told, tmp_path):
    found = find_template(check_card(card.encode()), config, {})
    assert found.template == ""
    assert re.search(told, found.unread)
    job = make_job(tmp_path, n_modules=2)
    folder = job / "modules/0"
    (folder / "README.md").write_text(card)
    file = folder / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | config))
    sources = [module_source(str(job / f"modules/{i}")) for i in range(2)]

    def notes(template):
        write_job(tmp_path, TaskExamples(()), Options(template=template), sources[0], sources)
        return json.loads((tmp_path / "job.json").read_text())["notes"]

    (note,) = notes("auto")
    assert note.startswith(f"0: {found.unread}. ")
    assert notes("say {input}") == []


@pytest.mark.parametrize("template", ["auto", "say {input}"])
def test_a_card_whose_head_cannot_be_read_is_told_in_the_job(template, tmp_path):
    job = make_job(tmp_path, n_modules=3)
    for number in (0, 2):
        (job / f"modules/{number}/README.md").write_text("---\nprompt_template: Q: {input}\n---\n")
    sources = [module_source(str(job / f"modules/{i}")) for i in range(3)]
    write_job(tmp_path, TaskExamples(()), Options(template=template), sources[0], sources)
    (note,) = json.loads((tmp_path / "job.json").read_text())["notes"]
    assert note.startswith("0, 2: Did not read the head of README.md, so its prompt_template")
    assert "line 2" in note


def test_a_template_that_is_known_in_spite_of_a_wrong_statement_is_taken_and_told():
    card = check_card(b"---\nprompt_template: say it\n---\n")
    found = find_template(card, {"prompt_template": "say {input}"}, {})
    assert found.template == "say {input}"
    assert "README.md" in found.unread


def test_a_template_of_several_lines_is_replaced_whole():
    card = "---\nlicense: mit\nprompt_template: |\n  say {input}\n\n  now\ntags:\n- lora\n---\nbody\n"
    stated = card_stating(card, "chat")
    assert check_card(stated.encode()).front_matter == {
        "license": "mit", "tags": ["lora"], "prompt_template": "chat",
    }  # fmt: skip


def test_a_folder_on_this_machine_is_read_into_the_job(tmp_path):
    job = make_job(tmp_path, n_modules=3)
    (job / "modules/0/README.md").write_text("---\nprompt_template: say {input}\n---\n")
    (job / "modules/1/chat_template.jinja").write_text(JINJA)
    assert [template_of_folder(job / f"modules/{i}").template for i in range(3)] == ["say {input}", CHAT, ""]
    assert template_of_folder(tmp_path / "nowhere").template == ""
    sources = [module_source(str(job / f"modules/{i}")) for i in range(3)]
    out = tmp_path / "written"
    out.mkdir()
    write_job(
        out, TaskExamples((Example("cat", "chat"),)), Options(), base_source(str(job / "base")), sources
    )
    written = json.loads((out / "job.json").read_text())
    assert written["template"] == "auto"
    assert [row["template"] for row in written["modules"]] == ["say {input}", CHAT, None]
