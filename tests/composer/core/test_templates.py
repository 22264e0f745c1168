"""Prompts: whose template is used where, and what the word chat means."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from composer.core.evaluation.cross_validation import losses_of_parts
from composer.core.evaluation.scoring import evaluate_adapter
from composer.core.job import CompositionRun, run
from composer.core.methods.base import single_modules
from composer.core.model.base_model import IGNORED, FrozenBaseModel
from composer.core.model.scorer import token_mean
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.modules.sources import Source
from composer.core.spec.errors import BaseModelError, ComposeError, InvalidJobError
from composer.core.spec.examples import Example
from composer.core.spec.job_spec import read_job_spec
from composer.core.spec.templates import (
    choose_template,
    normal_form,
    require_asked_template,
    require_template,
    split_prompt,
    unify_templates,
    warning_of_gluing,
    warning_of_other_templates,
)
from tests.composer.core.tiny import EXAMPLES, TARGETS, make_base, make_job, make_module

SHOTS = [Example(*pair) for pair in EXAMPLES]
OWN = "hat {input} leg"
CHAT_TEMPLATE = (
    "{% for m in messages %}<unk> {{ m['role'] }} {{ m['content'] }} {% endfor %}"
    "{% if add_generation_prompt %}bay{% endif %}"
)


def made(job: Path, templates, **asked) -> CompositionRun:
    """The whole job, with these modules' own templates."""
    description = json.loads((job / "job.json").read_text())
    for row, template in zip(description["modules"], templates, strict=True):
        if template is not None:
            row["template"] = template
    (job / "job.json").write_text(json.dumps({**description, **asked}))
    composition = CompositionRun(read_job_spec(job), lambda event: None)
    composition.make(job / "out")
    return composition


def by_hand(job: Path, index: int, template: str, kind: str = "t5") -> tuple[float, list[str]]:
    """(nats per token on the shots, held-out answers) of one module under one template."""
    base = FrozenBaseModel.load(job / "base", template)
    stack = stack_modules([read_module(job / "modules" / str(index), str(index))])
    base.hook(layer.path for layer in stack.layers)
    batch = base.encode(SHOTS)
    adapters = single_modules(stack, [0])
    with torch.no_grad():
        loss = float(token_mean(base.token_nats(batch, adapters), batch.label_tokens))
    rows = [json.loads(line) for line in (job / "held_out.jsonl").read_text().splitlines()]
    return loss, base.answers([base.prompt(row["input"]) for row in rows], 10, adapters)[0]


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_a_module_alone_is_screened_and_answers_in_its_own_template(tmp_path, kind):
    job = make_job(
        tmp_path, kind=kind, n_modules=2, method="lorahub", budget=2, max_new_tokens=10, template="{input}"
    )
    composition = made(job, (OWN, None))
    report = json.loads((job / "out" / "report.json").read_text())
    assert report["template"] == "{input}"
    expected = [by_hand(job, 0, OWN), by_hand(job, 1, "{input}")]
    alone = [row["alone_loss_nats"] for row in report["modules"]]
    assert alone == pytest.approx([loss for loss, _ in expected], rel=1e-4)
    assert alone[0] != pytest.approx(by_hand(job, 0, "{input}")[0], rel=1e-3)

    single = next(rival for rival in composition.baselines if rival.key == "best_single")
    best = alone.index(min(alone))
    assert single.detail == f"alice/m{best}"
    assert single.few_shot_loss_nats == pytest.approx(alone[best], rel=1e-4)
    race = composition._comparison(composition._held_out_questions(), None)
    for i, (loss, answers) in enumerate(expected):
        rival = replace(race, best=i).measure_best_single()
        assert rival.few_shot_loss_nats == pytest.approx(loss, rel=1e-4)
        # a wrong answer may be only the beginning that makes it wrong
        assert all(whole.startswith(own) for whole, own in zip(answers, rival.answers, strict=True))


def test_a_search_begins_at_what_a_module_does_in_the_composition_s_template(tmp_path):
    job = make_job(tmp_path, n_modules=6, search="greedy", baselines="none", template="{input}")
    composition = made(job, [OWN] * 6)
    in_the_sum = [by_hand(job, i, "{input}")[0] for i in range(6)]
    nothing = float(token_mean(composition.base_nats, composition.scorer.label_tokens))
    assert composition.found.steps[0].loss == pytest.approx(nothing, rel=1e-4)
    assert any(composition.by_module) == (min(in_the_sum) < nothing)
    alone = composition.alone.tolist()  # in their own templates, which are others
    begun = losses_of_parts(composition.scorer, composition.stack, "{input}", alone)
    assert begun == pytest.approx(in_the_sum, rel=1e-4)


@pytest.mark.parametrize(
    ("templates", "asked", "used"),
    [
        ((OWN, OWN), None, OWN),
        ((OWN, "{input} dog"), None, OWN),  # equally many: the one that is stated first
        ((OWN, "{input} dog", "{input} dog"), "", "{input} dog"),
        ((None, OWN), "auto", OWN),
        ((None, None), None, "{input}"),
        ((OWN, OWN), "dog {input}", "dog {input}"),
    ],
)
def test_the_template_that_most_modules_state_is_taken_when_none_is_asked_for(
    tmp_path, templates, asked, used
):
    job = make_job(
        tmp_path, n_modules=len(templates), method="lorahub", budget=2, baselines="none", held_out=False,
        template=asked,
    )  # fmt: skip
    composition = made(job, templates)
    assert json.loads((job / "out" / "report.json").read_text())["template"] == used
    read = composition.scorer.batch.inputs["input_ids"][0]
    tokenizer = AutoTokenizer.from_pretrained(job / "base")
    assert tokenizer.decode(read, skip_special_tokens=True) == used.replace("{input}", "cat")


@pytest.mark.parametrize(
    ("one", "other", "are_same"),
    [
        ("Q: {input}\nA:", "Q: {input}\nA: ", True),
        ("{input} is", "{input} is ", True),
        ("Q: {input}\nA:", "Q: {input}\nA:  ", False),  # the answer begins with two spaces
        ("{input}", "{input} ", False),  # the first glues the answer to the input
        ("{input}\n", "{input}\n ", False),
        ("[INST] {input} [/INST]", "[INST] {input} [/INST] ", False),
        ("chat", "chat", True),
    ],
)
def test_templates_are_compared_by_the_prompts_that_a_decoder_reads(one, other, are_same):
    assert (normal_form(one) == normal_form(other)) == are_same
    stated = {"m0": "{input} dog", "m1": one, "m2": other}
    chosen = choose_template("auto", stated, is_encoder_decoder=False, has_chat=True)
    assert chosen.template == (one if are_same else "{input} dog")
    unified = unify_templates(other, {"m1": one}, is_encoder_decoder=False)
    assert (warning_of_other_templates(other, unified) == "") == are_same
    assert unify_templates(other, stated, is_encoder_decoder=True) == stated


def test_a_module_is_tried_in_the_composition_s_way_of_writing_the_same_template(tmp_path):
    job = make_job(
        tmp_path, kind="llama", n_modules=2, method="lorahub", budget=2, baselines="none", held_out=False,
        template="dog {input} dog ",
    )  # fmt: skip
    composition = made(job, ("dog {input} dog", "cat {input}"))
    assert composition.everything.templates == ("dog {input} dog ", "cat {input}")
    assert "alice/m0" not in composition.warnings[0]


@pytest.mark.parametrize(
    ("is_encoder_decoder", "has_chat", "template"),
    [(True, False, "{input}"), (True, True, "{input}"), (False, True, "chat"), (False, False, "{input}\n")],
)
def test_without_a_word_of_request_or_modules_the_base_decides(is_encoder_decoder, has_chat, template):
    for stated in ({}, {"m0": None, "m1": None}):
        chosen = choose_template("auto", stated, is_encoder_decoder=is_encoder_decoder, has_chat=has_chat)
        assert chosen.template == template


@pytest.mark.parametrize("kind", [kind for kind in TARGETS if not kind.startswith("t5")])
def test_a_decoder_parts_prompt_and_answer_by_default(tmp_path, kind):
    job = make_job(
        tmp_path, kind=kind, n_modules=1, method="lorahub", budget=2, held_out=False, baselines="none"
    )
    made(job, (None,))
    report = json.loads((job / "out" / "report.json").read_text())
    assert (report["template"], report["warnings"]) == ("{input}\n", [])
    with_chat(job / "base")
    made(job, (None,))
    assert json.loads((job / "out" / "report.json").read_text())["template"] == "chat"


def test_only_text_with_a_place_for_the_input_or_a_known_word_is_a_template():
    for bad in ("no place", 3, "{ input }"):
        with pytest.raises(InvalidJobError, match="must contain"):
            require_asked_template(bad)
    assert {require_asked_template(nothing) for nothing in (None, "", "auto")} == {"auto"}
    for bad in ("no place", "", None, 3, "{ input }", "auto"):  # of a module
        with pytest.raises(InvalidJobError, match="must contain"):
            require_template(bad)


def test_modules_of_another_template_are_told_by_name(tmp_path):
    job = make_job(tmp_path, n_modules=4, method="lorahub", budget=2, baselines="none", held_out=False)
    made(job, (OWN, "{input} dog", OWN, None))
    report = json.loads((job / "out" / "report.json").read_text())
    assert report["template"] == OWN
    assert report["template_reason"] == "2 of 4 modules were trained with it; that of alice/m3 is not known"
    (told,) = report["warnings"]
    assert "'{input} dog' (alice/m1)" in told
    assert [row["template"] for row in report["modules"]] == [OWN, "{input} dog", OWN, None]


def test_braces_in_an_input_are_left_alone(tmp_path):
    base = FrozenBaseModel.load(make_base(tmp_path), "{input} {0} {input}")
    assert base.prompt("{input.__class__} %s") == "{input.__class__} %s {0} {input.__class__} %s"


# --- chat ---------------------------------------------------------------------


def with_chat(base: Path, template: str = CHAT_TEMPLATE) -> Path:
    tokenizer = AutoTokenizer.from_pretrained(base)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(base)
    return base


@pytest.mark.parametrize("kind", list(TARGETS))
def test_chat_is_the_base_s_own_template(tmp_path, kind):
    base = FrozenBaseModel.load(with_chat(make_base(tmp_path, kind)), "chat")
    assert base.prompt("cat {input}") == "<unk> user cat {input} bay"
    assert base.prompt("cat", "saw {input}") == "saw cat"
    plain = FrozenBaseModel.load(tmp_path, "<unk> user {input} bay")
    chatted, plain_read = (one.describe_prompt(one.encode(SHOTS)) for one in (base, plain))
    assert chatted["prompt"] == plain_read["prompt"]
    assert chatted["answer"].split() == plain_read["answer"].split()


def test_a_whole_job_can_chat(tmp_path):
    job = make_job(tmp_path, kind="llama", n_modules=2, method="lorahub", budget=2, template="chat")
    with_chat(job / "base")
    composition = made(job, (None, None))
    assert json.loads((job / "out" / "report.json").read_text())["template"] == "chat"
    *rivals, tuned = composition.baselines
    assert all(rival.few_shot_loss_nats is not None or rival.answers for rival in rivals)
    assert (tuned.key, tuned.detail[:9]) == ("tuned", "not tuned")  # two candidates do not pay for it


def test_without_a_chat_template_chat_is_refused_with_a_sentence(tmp_path):
    base = FrozenBaseModel.load(make_base(tmp_path / "base"), "chat")
    with pytest.raises(BaseModelError, match=r"has no chat template\. Write your own template"):
        base.encode(SHOTS)
    job = make_job(tmp_path / "job", template="chat", baselines="none")
    with pytest.raises(ComposeError, match="no chat template") as refusal:
        made(job, (None,) * 3)
    assert refusal.value.code == "base_model_unusable"


def test_a_module_cannot_be_tried_in_a_chat_template_that_the_base_does_not_have(tmp_path):
    job = make_job(tmp_path, n_modules=2, baselines="none", held_out=False, method="lorahub", budget=2)
    made(job, ("chat", None))
    report = json.loads((job / "out" / "report.json").read_text())
    assert report["template"] == "{input}"
    (told,) = report["warnings"]
    assert "no chat template" in told
    assert "alice/m0" in told


def test_modules_whose_template_is_unknown_are_named():
    def reason(**stated):
        return choose_template("auto", stated, is_encoder_decoder=False, has_chat=False).reason

    assert reason(a="x {input}", b="x {input}") == "the modules were trained with it"
    assert reason(a="x {input}", b=None) == "1 of 2 modules was trained with it; that of b is not known"
    assert reason(a="x {input}", b=None, c="chat").endswith("with it; those of b, c are not known")
    assert reason(a="x {input}", b="y {input}") == "1 of 2 modules was trained with it"


@pytest.mark.slow
def test_a_chat_template_that_cannot_be_used_is_told_and_why(tmp_path):
    job = make_job(
        tmp_path, kind="llama", n_modules=1, method="lorahub", budget=2, held_out=False, baselines="none"
    )
    with_chat(job / "base", "{{ raise_exception('no user may speak') }}")
    made(job, (None,))
    report = json.loads((job / "out" / "report.json").read_text())
    assert report["template"] == "{input}\n"
    assert report["template_reason"] == "the base model's chat template cannot be used: no user may speak"
    (told,) = report["warnings"]
    assert "chat template cannot be used: no user may speak. Prompts are written as '{input}\\n'" in told
    events = []
    figures = evaluate_adapter(
        base=Source("base", job / "base"), adapter=None, examples=SHOTS, max_new_tokens=2,
        on_event=events.append,
    )  # fmt: skip
    assert figures["n"] == len(SHOTS)
    assert told in [event.get("text") for event in events]


@pytest.mark.parametrize(
    "broken", ["{{ raise_exception('no user') }}", "{% for %}", "{{ messages[0].content + 1 }}"]
)
def test_a_chat_template_that_does_not_work_is_refused_with_a_sentence(tmp_path, broken):
    base = FrozenBaseModel.load(with_chat(make_base(tmp_path), broken), "chat")
    with pytest.raises(BaseModelError, match="chat template does not work"):
        base.prompt("cat")


HIDING = {
    "nothing of it": "{% for m in messages %}{{ m['role'] }}: {{ m['text'] }}\n{% endfor %}",
    "no first turn": "{% for m in messages[1:] %}{{ m['role'] }} {{ m['content'] }}\n{% endfor %}bay",
    "its beginning": "{% for m in messages %}{{ m['role'] }} {{ m['content'][:3] }}\n{% endfor %}",
    "its length": "{% for m in messages %}{{ m['role'] }} {{ m['content'] | length }}\n{% endfor %}",
    "its last word": "{% for m in messages %}{{ m['content'].split() | last }}\n{% endfor %}",
}


@pytest.mark.parametrize("shown", HIDING)
def test_a_chat_template_that_does_not_show_the_whole_input_is_refused_and_never_chosen(tmp_path, shown):
    base = FrozenBaseModel.load(with_chat(make_base(tmp_path, "llama"), HIDING[shown]), "chat")
    with pytest.raises(BaseModelError, match=r"does not show the input.*write your own template"):
        base.prompt("cat")
    chosen = base.choose_template("auto", {"m0": "chat"})
    assert chosen.template == "{input}\n"
    assert "different inputs give the same prompt" in chosen.reason


def test_python_refuses_a_chat_template_that_hides_the_input_and_warns_where_it_is_left_open(tmp_path):
    base = Source("base", with_chat(make_base(tmp_path, "llama"), HIDING["no first turn"]))
    asked = {"base": base, "adapter": None, "examples": SHOTS, "max_new_tokens": 2}
    with pytest.raises(BaseModelError, match="does not show the input"):
        evaluate_adapter(**asked, template="chat")
    events = []
    evaluate_adapter(**asked, on_event=events.append)
    told = [event["text"] for event in events if event["event"] == "warning"]
    assert any("does not show the input" in text and "Repair its chat template" in text for text in told)


def test_evaluating_a_module_whose_card_cannot_be_read_warns_with_the_line(tmp_path):
    base = make_base(tmp_path / "base")
    module = make_module(tmp_path / "m0", base, seed=0)
    (module / "README.md").write_text("---\nlicense: mit\nprompt_template: Q: {input}\n---\n")
    events = []
    evaluate_adapter(
        base=Source("base", base), adapter=Source("m0", module), examples=SHOTS, max_new_tokens=2,
        on_event=events.append,
    )  # fmt: skip
    (told,) = (event["text"] for event in events if event["event"] == "warning")
    assert told.startswith("m0: Did not read the head of README.md, so its prompt_template counts as not")
    assert "(line 3: mapping values are not allowed in this context)" in told


# --- a template that glues prompt and answer together -------------------------


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "gpt-neox"])
@pytest.mark.parametrize(
    ("template", "is_warned"),
    [
        ("{input}", True),
        ("say {input}", True),
        ("{input}\n", False),
        ("say {input}: ", False),
        ("say\n{input}:", False),  # the answer begins with a space
        ("<|user|>{input}<|assistant|>", False),
    ],
)
def test_a_template_that_glues_prompt_and_answer_is_warned_of_with_the_one_to_use(
    tmp_path, kind, template, is_warned
):
    base = FrozenBaseModel.load(make_base(tmp_path, kind), template)
    warning = base.template_warning()
    assert bool(warning) == is_warned
    assert warning.isprintable()  # one line of a terminal
    assert not is_warned or warning.endswith(f"use the template {template!r} and a line break.")
    chatty = FrozenBaseModel.load(make_base(tmp_path, kind), template)
    chatty.tokenizer.chat_template = CHAT_TEMPLATE
    assert not is_warned or chatty.template_warning().endswith("use the template 'chat'.")


@pytest.mark.parametrize("is_encoder_decoder", [True, False])
@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("Translate{input}\n", "“Translate”"),
        ("{input}Answer:", "“Answer”"),
        ("Q{input}A\n", "“Q” and “A”"),
        ("{input}\n{input}2\n", "“2”"),
        ("Translate {input}\nAnswer:", ""),
        ("“{input}”\n", ""),
        ("n={input};\n", ""),
    ],
)
def test_a_word_that_touches_the_input_is_warned_of(template, words, is_encoder_decoder):
    warning = warning_of_gluing(template, is_encoder_decoder=is_encoder_decoder, has_chat=False)
    assert bool(warning) == bool(words)
    assert f"between the input and {words}, so" in warning or not words


def test_neither_a_chat_nor_an_encoder_decoder_is_warned_of(tmp_path):
    assert FrozenBaseModel.load(make_base(tmp_path / "t5"), "{input}").template_warning() == ""
    base = FrozenBaseModel.load(make_base(tmp_path / "llama", "llama"), "chat")
    base.tokenizer.chat_template = CHAT_TEMPLATE
    assert base.template_warning() == ""


@pytest.mark.parametrize(("own", "is_warned"), [(None, True), ("{input}", False), (OWN, True)])
def test_events_and_report_hold_the_warning_unless_the_modules_were_trained_so(tmp_path, own, is_warned):
    job = make_job(tmp_path, kind="llama", n_modules=1, held_out=False, baselines="none", budget=2)
    description = json.loads((job / "job.json").read_text()) | {"template": "{input}", "method": "lorahub"}
    description["modules"][0] |= {"template": own} if own else {}
    (job / "job.json").write_text(json.dumps(description))
    events = []
    run(job, events.append)
    told = [event["text"] for event in events if event["event"] == "warning"]
    assert bool(told) == is_warned
    assert json.loads((job / "out" / "report.json").read_text())["warnings"] == told


# --- where the answer begins --------------------------------------------------


@pytest.mark.parametrize(
    ("template", "prompt", "space"),
    [
        ("{input}\n", "cat\n", ""),
        ("{input}", "cat", ""),
        ("Q: {input}\nAnswer:", "Q: cat\nAnswer:", " "),
        ("Q: {input}\nAnswer: ", "Q: cat\nAnswer:", " "),
        ("say {input} loud", "say cat loud", " "),
        ("<|user|>{input}<|assistant|>", "<|user|>cat<|assistant|>", ""),
        ("[INST] {input} [/INST]", "[INST] cat [/INST]", ""),
        ("{input}\n  ", "cat\n", "  "),
    ],
)
def test_a_space_between_prompt_and_answer_belongs_to_the_answer(template, prompt, space):
    assert split_prompt(template, "cat") == (prompt, space)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "gpt-neox"])
@pytest.mark.parametrize("template", ["{input}\n", "say {input}:", "say {input}: ", "{input} <a>", "chat"])
def test_an_answer_is_scored_behind_the_very_tokens_that_generating_begins_with(tmp_path, kind, template):
    base = FrozenBaseModel.load(make_base(tmp_path, kind), template)
    base.tokenizer.chat_template = CHAT_TEMPLATE
    for output in ("chien", " chien", "chien "):  # outer white space is no part of an answer
        batch = base.encode([Example("cat", output)])
        read = batch.inputs["input_ids"][0].tolist()
        n_prompt = base.prompt_length(base.prompt("cat"))
        assert read[:n_prompt] == base.prompt_ids(base.prompt("cat"))
        assert batch.labels[0, :n_prompt].tolist() == [IGNORED] * n_prompt
        assert batch.labels[0, n_prompt:].tolist() == read[n_prompt:]
        shown = base.describe_prompt(batch)
        assert (shown["prompt_tokens"], shown["answer_tokens"]) == (n_prompt, len(read) - n_prompt)
        assert "chien" in shown["answer"].replace(" ", "")


def test_a_sentencepiece_answer_behind_a_line_break_begins_without_a_space(tmp_path):
    """Alone, such a tokenizer puts a space before a text; a base reads none behind a line break."""
    base = FrozenBaseModel.load(make_base(tmp_path, "llama"), "{input}\n")
    pieces = {piece: i for i, piece in enumerate(("<unk>", "</s>", "▁cat", "▁chat", "chat", "\n"))}
    inner = Tokenizer(models.WordLevel(pieces, unk_token="<unk>"))
    inner.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n|▁?\w+"), "isolated")
    inner.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    base.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, eos_token="</s>", pad_token="</s>", unk_token="<unk>"
    )
    assert base.tokenizer("chat")["input_ids"] == [pieces["▁chat"]]
    batch = base.encode([Example("cat", "chat")])
    assert batch.inputs["input_ids"].tolist() == [[pieces[p] for p in ("▁cat", "\n", "chat", "</s>")]]
    spaced = base.encode([Example("cat", "chat")], "{input}:")
    assert spaced.labels[0, -2:].tolist() == [pieces["▁chat"], pieces["</s>"]]


def test_an_encoder_decoder_reads_prompt_and_answer_as_before(tmp_path):
    base = FrozenBaseModel.load(make_base(tmp_path), "say {input}: ")
    assert base.prompt("cat") == "say cat: "
    shown = base.describe_prompt(base.encode([Example("cat", "chat")]))
    assert shown["answer"] == "chat</s>" or shown["answer"] == "chat </s>"
    assert shown["prompt"].endswith("</s>")
