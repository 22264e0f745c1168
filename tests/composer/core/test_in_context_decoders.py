"""Examples in the prompt of decoder-only bases: the forms, what is scored, where an answer ends."""

from types import SimpleNamespace

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from composer.core.evaluation import baselines
from composer.core.evaluation.baselines import (
    HeldOutQuestions,
    in_context,
    show_others,
)
from composer.core.evaluation.in_context_prompts import prompt_forms
from composer.core.methods.base import OwnFactors
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.known_answers import answer_known
from composer.core.model.scorer import FewShotScorer
from composer.core.spec.examples import Example
from tests.composer.core.tiny import LETTERS, TARGETS, make_base

DECODERS = ["llama", "qwen2", "gpt2", "gpt-neox"]
SHOTS = [Example("cat", "chat"), Example("dog", "chien"), Example("fig", "figue")]
ASKED = (Example("saw", "scie"), Example("bay", "baie"))
CHAT = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
SPECIAL = ("<pad>", "</s>", "<unk>", "<user>", "<assistant>", "<end>")


def tokenizer_with_breaks(chat=None):
    """A token a letter, and one for a line break, as byte-level tokenizers write it."""
    vocabulary = {token: i for i, token in enumerate((*SPECIAL, *LETTERS, "Ċ", ":"))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=list(SPECIAL[3:]),
    )
    tokenizer.chat_template = chat
    return tokenizer


def base_with_breaks(folder, kind, chat=None, template="{input}"):
    base = FrozenBaseModel.load(make_base(folder, kind), template)
    base.tokenizer = tokenizer_with_breaks(chat)
    torch.manual_seed(0)
    base.model.resize_token_embeddings(len(base.tokenizer), mean_resizing=False)
    if hasattr(base.model.config, "n_positions"):
        base.model.transformer.wpe = torch.nn.Embedding(256, base.model.config.n_embd)
        base.model.config.n_positions = 256
    return base


def answering(base, monkeypatch, text):
    """Let the model always write this text; return the options that `generate` was called with."""
    ids, called = base.tokenizer(text, add_special_tokens=False)["input_ids"], []

    def generate(input_ids, **options):
        called.append(options)
        return torch.cat([input_ids, torch.tensor([ids] * len(input_ids))], dim=1)

    monkeypatch.setattr(base.model, "generate", generate)
    return called


def measured(base):
    return in_context(FewShotScorer(base, base.encode(SHOTS)), SHOTS, HeldOutQuestions(base, ASKED, 16))


@torch.no_grad()
def nats_by_hand(base, prompt, answer):
    """The cross entropy of `answer` behind `prompt`, by the bare model."""
    begin, end = (base.tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, answer))
    logits = base.model(input_ids=torch.tensor([begin + end])).logits[0, len(begin) - 1 : -1]
    return float(torch.nn.functional.cross_entropy(logits, torch.tensor(end), reduction="sum"))


@pytest.mark.parametrize("kind", DECODERS)
def test_without_a_chat_template_an_answer_is_cut_where_a_shown_one_ends(tmp_path, monkeypatch, kind):
    base = base_with_breaks(tmp_path, kind)
    called = answering(base, monkeypatch, "scie\n\ndog\nchien\n\n")
    (form,) = prompt_forms(base, SHOTS)
    prompts = [form.prompt(SHOTS, text) for text in ("saw", "bay")]
    assert base.answers(prompts, 16, {}, end=form.end) == [["scie", "scie"]]
    assert base.tokenizer.convert_tokens_to_ids("Ċ") in called[0]["eos_token_id"]  # it need not write on


@pytest.mark.parametrize("kind", DECODERS)
def test_without_a_chat_template_the_end_of_a_block_is_scored_and_not_eos(tmp_path, kind):
    base = base_with_breaks(tmp_path, kind)
    prompts = [
        "dog\nchien\n\nfig\nfigue\n\ncat\n",
        "cat\nchat\n\nfig\nfigue\n\ndog\n",
        "cat\nchat\n\ndog\nchien\n\nfig\n",
    ]
    by_hand = [nats_by_hand(base, p, f"{shot.output}\n") for p, shot in zip(prompts, SHOTS, strict=True)]
    left_out = measured(base).left_out
    assert left_out.nats == pytest.approx(by_hand, rel=1e-4)
    assert left_out.label_tokens == tuple(len(shot.output) + 1 for shot in SHOTS)


@pytest.mark.parametrize("kind", DECODERS)
def test_with_a_chat_template_examples_are_earlier_turns(tmp_path, kind):
    base = base_with_breaks(tmp_path, kind, CHAT)
    turns, _ = prompt_forms(base, SHOTS)
    prompt = "<user>dog<end>\n<assistant>chien<end>\n<user>cat<end>\n<assistant>"
    assert turns.prompt(SHOTS[1:2], "cat") == prompt
    left_out = show_others(base, SHOTS[:2], turns, {}).left_out
    assert left_out.nats[0] == pytest.approx(nats_by_hand(base, prompt, "chat<end>"), rel=1e-4)


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("better", [0, 1])
def test_the_form_under_which_left_out_examples_are_likelier_is_taken(tmp_path, monkeypatch, kind, better):
    base = base_with_breaks(tmp_path, kind, CHAT)
    true_nats = base.token_nats
    in_turns = base.tokenizer.convert_tokens_to_ids("<assistant>")

    def token_nats(batch, adapters, n_candidates=1):
        is_form = bool((batch.inputs["input_ids"] == in_turns).any()) == (better == 0)
        return true_nats(batch, adapters, n_candidates) * (0.1 if is_form else 1.0)

    monkeypatch.setattr(base, "token_nats", token_nats)
    form = prompt_forms(base, SHOTS)[better]
    row = measured(base)
    assert form.about in row.detail
    assert row.left_out == show_others(base, SHOTS, form, {}).left_out
    lengths = [base.prompt_length(form.prompt(SHOTS, text)) for text in ("saw", "bay")]
    assert row.prompt_tokens == sum(lengths) / 2
    assert f"{row.prompt_tokens:.0f} tokens a question instead of 3" in row.detail
    assert len(row.answers) == 2
    assert row.cost.candidates == 4


@pytest.mark.parametrize("kind", DECODERS)
def test_a_prompt_in_the_chat_template_is_answered_up_to_the_end_of_the_turn(tmp_path, monkeypatch, kind):
    base = base_with_breaks(tmp_path, kind, CHAT, template="chat")
    end = base.tokenizer.convert_tokens_to_ids("<end>")
    assert base.turn_end == "<end>"
    assert base.encode(SHOTS).labels[0, -3:].tolist()[-1] in (end, -100)
    assert all(end in row for row in base.encode(SHOTS).labels.tolist())
    assert base.tokenizer.eos_token_id not in base.encode(SHOTS).labels
    called = answering(base, monkeypatch, "scie")
    base.answers(["<user>saw<end>\n<assistant>"], 8, {})
    assert set(called[0]["eos_token_id"]) == {base.tokenizer.eos_token_id, end}


@pytest.mark.parametrize(
    ("template", "prompt", "answer"),
    [
        ("{input}", "cat\nchat\n\ndog\n", "chien"),
        ("{input}\n", "cat\nchat\n\ndog\n", "chien"),
        ("say {input}:", "say cat: chat\n\nsay dog:", " chien"),
        ("{input}: ", "cat: chat\n\ndog:", " chien"),
        ("chat", "cat\nchat\n\ndog\n", "chien"),
    ],
)
def test_blocks_part_prompt_and_answer_as_the_template_does(tmp_path, template, prompt, answer):
    base = base_with_breaks(tmp_path, "llama", CHAT, template)
    _, blocks = prompt_forms(base, SHOTS)
    assert blocks.prompt(SHOTS[:1], "dog") == prompt
    assert blocks.answer("chien", "dog") == answer


def test_a_separator_is_one_that_no_example_holds(tmp_path):
    base = base_with_breaks(tmp_path, "llama")
    lines, gaps = [Example("cat", "chat\nchat")], [Example("cat", "chat\n\nchat")]
    (by_lines,), (by_gaps,) = prompt_forms(base, lines), prompt_forms(base, gaps)
    assert (by_lines.end, by_lines.after) == ("\n\n", "")
    assert (by_gaps.end, by_gaps.after) == ("\n\n###\n\n", "")


def test_an_end_is_scored_as_it_is_split_inside_a_text(tmp_path):
    base = base_with_breaks(tmp_path, "llama")
    vocabulary = {token: i for i, token in enumerate(("<unk>", "</s>", "chat", "\n", "\n\n", "a"))}
    inner = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(r"\s+(?!\S)|\s|\w+"), "isolated")  # as GPT-2's
    inner.decoder = decoders.Fuse()
    base.tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="</s>", pad_token="</s>")
    assert base.tokenizer("chat\n\n")["input_ids"] != base.tokenizer("chat\n\na")["input_ids"][:-1]
    batch = base.encode_prompts(["a"], [Example("a", "chat")], "\n", "\n")
    assert batch.label_tokens.tolist() == [2]
    assert batch.labels[0, -2:].tolist() == [vocabulary["chat"], vocabulary["\n"]]


@pytest.mark.parametrize(
    ("shown", "alone", "is_said"),
    [
        ((9.0, 9.0, 9.0), (8.0, 8.0, 8.0), True),  # they raise the loss, and no answer is likely
        ((0.1, 0.1, 40.0), (8.0, 8.0, 8.0), False),  # two of three are likely, whatever the third costs
        ((0.1, 0.1, 0.1), (8.0, 8.0, 8.0), False),
    ],
)
def test_a_base_is_said_not_to_use_examples_only_if_they_do_not_help_it(
    tmp_path, monkeypatch, shown, alone, is_said
):
    base = base_with_breaks(tmp_path, "llama")
    told = iter(nats for pair in zip(shown, alone, strict=True) for nats in pair)
    monkeypatch.setattr(base, "token_nats", lambda batch, adapters: torch.tensor([[next(told)]]))
    (form,) = prompt_forms(base, SHOTS)
    said = show_others(base, SHOTS, form, {}).note
    assert bool(said) == is_said


@pytest.mark.parametrize("kind", [*DECODERS, "t5"])
@pytest.mark.parametrize("chat", [None, CHAT])
def test_a_composition_is_asked_with_the_examples_in_its_own_prompt(tmp_path, monkeypatch, kind, chat):
    base = base_with_breaks(tmp_path / "base", kind, chat, template="say {input}")
    paths = [path for path in base.linear_layers() if path.endswith(TARGETS[kind])]
    base.hook(paths)
    layers = [base.linear_layers()[path] for path in paths]
    torch.manual_seed(1)
    adapters = {
        one.path: OwnFactors(torch.randn(1, 2, one.d_in), 2 * torch.randn(1, one.d_out, 2)) for one in layers
    }
    asked = []

    def noted(questions, max_new_tokens, own):
        asked.append((questions.prompts, own))
        return answer_known(questions, max_new_tokens, own)

    monkeypatch.setattr(baselines, "answer_known", noted)
    questions = HeldOutQuestions(base, ASKED, 4)
    scorer = FewShotScorer(base, base.encode(SHOTS))
    scored, token_nats = [], base.token_nats
    monkeypatch.setattr(base, "token_nats", lambda batch, own: scored.append(own) or token_nats(batch, own))
    alone, composed = (in_context(scorer, SHOTS, questions, own) for own in (None, adapters))
    assert (alone.key, composed.key) == ("in_context", "composed_in_context")
    assert composed.left_out is None  # it was fitted on these examples
    assert len(composed.answers) == 2
    assert "tokens a question instead of" in composed.detail
    assert "does not learn" not in composed.detail
    assert [own for _, own in asked] == [{}, adapters]
    assert (scored.count({}), scored.count(adapters)) == (
        alone.cost.candidates * len(SHOTS),
        len(scored) // 3,
    )
    losses = [[show_others(base, SHOTS, form, own).nats for form in prompt_forms(base, SHOTS)]
              for own in ({}, adapters)]  # fmt: skip
    assert losses[0] != losses[1]
    best = prompt_forms(base, SHOTS)[losses[1].index(min(losses[1]))]
    prompts = [best.prompt(SHOTS, text) for text in ("saw", "bay")]
    assert asked[1][0] == prompts
    assert composed.prompt_tokens == sum(map(base.prompt_length, prompts)) / 2
    recipe = composed.recipe
    if recipe["as"] == "text":  # what the report says makes the very prompt
        assert recipe["before"] + recipe["template"].replace("{input}", "saw") == prompts[0]
        assert recipe["end"] == best.end
    if chat and kind != "t5":
        assert "left-out nats per token: as" in composed.detail


def test_nothing_is_said_of_a_base_that_one_example_cannot_measure(tmp_path):
    base = base_with_breaks(tmp_path, "llama", CHAT)
    scorer = SimpleNamespace(base=base)
    row = in_context(scorer, SHOTS[:1], HeldOutQuestions(base, ASKED, 16))
    assert "does not learn" not in row.detail
    assert row.left_out is None
    assert row.cost.candidates == 0
    assert len(row.answers) == 2


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_as_many_examples_are_shown_as_fit_into_the_context(tmp_path, kind):
    base = base_with_breaks(tmp_path, kind)
    base.model.config.max_position_embeddings = 72
    shots = [Example("cat" * 5, "chat"), Example("dog" * 5, "chien"), Example("fig" * 5, "figue")]
    questions = HeldOutQuestions(base, ASKED, 8)
    row = in_context(FewShotScorer(base, base.encode(shots)), shots, questions)
    assert "2 of the 3 examples, as many as fit" in row.detail
    assert row.recipe["n_shown"] == 2
    assert len(row.answers) == 2
    assert row.left_out == show_others(base, shots, prompt_forms(base, shots)[0], {}, 2).left_out
    base.model.config.max_position_embeddings = 24
    none = in_context(FewShotScorer(base, base.encode(ASKED)), shots, questions)
    assert "not even one example fits" in none.detail
    assert (none.answers, none.left_out) == (None, None)


NO_PROMPT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>\n{% endfor %}"  # it ignores who asks


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_chat_template_that_begins_no_turn_still_gets_the_assistant_s_beginning(tmp_path, kind):
    base, usual = (base_with_breaks(tmp_path / name, kind, chat, "chat") for name, chat in (
        ("without", NO_PROMPT), ("with", CHAT)
    ))  # fmt: skip
    assert base.prompt("cat") == usual.prompt("cat") == "<user>cat<end>\n<assistant>"
    assert base.chat([("user", "cat")], asks=False) == "<user>cat<end>\n"
    for one, other in zip(prompt_forms(base, SHOTS), prompt_forms(usual, SHOTS), strict=True):
        assert one.prompt(SHOTS, "cat") == other.prompt(SHOTS, "cat")
    assert (base.turn_end, base.turn_space) == (usual.turn_end, usual.turn_space)
