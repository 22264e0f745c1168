"""One forward pass decides what generating would have: which answers are right, and what is shown."""

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from composer.core.evaluation.baselines import HeldOutQuestions
from composer.core.methods.base import single_modules
from composer.core.methods.exact import ExactSum
from composer.core.model import known_answers
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.known_answers import (
    KnownQuestions,
    answer_known,
    blocks,
    can_become,
    greedy_tokens,
    is_plain_greedy,
)
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.spec.example_files import read_examples
from composer.core.spec.examples import Example
from composer.core.spec.metrics import is_exact_match, longest_useful_answer
from demo import BUNDLE
from tests.composer.core.tiny import FAMILIES, TARGETS, WORDS, make_base, make_module

LENGTH = 6


@pytest.fixture
def generated(monkeypatch):
    """The numbers of prompts that were generated for, one for each call."""
    counts, answers = [], FrozenBaseModel.answers

    def noted(self, prompts, *args, **options):
        counts.append(len(prompts))
        return answers(self, prompts, *args, **options)

    monkeypatch.setattr(FrozenBaseModel, "answers", noted)
    return counts


def require_same(base, questions, adapters, length, n_shown):
    """Hold the answers against those that are all generated; return how many are right."""
    (whole,) = base.answers(questions.prompts, length, adapters, end=questions.end)
    found = answer_known(questions, length, adapters, n_shown=n_shown)
    right = [is_exact_match(a, e.output) for a, e in zip(whole, questions.examples, strict=True)]
    assert [is_exact_match(a, e.output) for a, e in zip(found, questions.examples, strict=True)] == right
    for i, (ours, theirs) in enumerate(zip(found, whole, strict=True)):
        if right[i] or i < n_shown:
            assert ours == theirs
        else:
            assert "".join(theirs.split()).startswith("".join(ours.split()))  # its beginning
    return sum(right)


@pytest.mark.parametrize(
    ("kind", "length"), [*((kind, LENGTH) for kind in FAMILIES), ("t5", 1), ("llama", 1)]
)
def test_right_answers_are_those_of_generating_and_shown_ones_are_whole(tmp_path, kind, length):
    folder = make_base(tmp_path / "base", kind)
    base = FrozenBaseModel.load(folder)
    stack = stack_modules(
        [read_module(make_module(tmp_path / "m", folder, seed=1, targets=TARGETS[kind]), "m")]
    )
    base.hook(layer.path for layer in stack.layers)
    inputs = [f"{a} {b}" for a in WORDS[:4] for b in WORDS[:4]]
    for adapters in ({}, single_modules(stack, [0])):
        (greedy,) = base.answers(inputs, LENGTH, adapters)
        for step, n_shown in ((2, 0), (3, 5)):  # every second or third is asked for what it does not say
            outputs = [text if i % step else f"{text} dog" for i, text in enumerate(greedy)]
            examples = tuple(Example(i, o or "dog") for i, o in zip(inputs, outputs, strict=True))
            questions = HeldOutQuestions(base, examples, length).known()
            n_right = require_same(base, questions, adapters, length, n_shown)
            assert n_right < len(inputs)
            assert n_right or length == 1


def test_what_is_surely_wrong_and_not_shown_is_not_generated(tmp_path, generated):
    base = FrozenBaseModel.load(make_base(tmp_path, "llama"))
    (greedy,) = base.answers(["cat", "dog", "fig"], LENGTH, {})
    generated.clear()
    others = [next(word for word in WORDS if not text.startswith(word)) for text in greedy]
    examples = [Example(i, o) for i, o in zip(["cat", "dog", "fig"], others, strict=True)]
    questions = KnownQuestions(base, *base.prompts_and_answers(examples))
    answer_known(questions, LENGTH, {})
    assert generated == []
    answer_known(questions, LENGTH, {}, n_shown=2)
    assert generated == [2]


def test_the_same_text_in_other_tokens_is_right(tmp_path, generated):
    base = FrozenBaseModel.load(make_base(tmp_path, "llama"))
    vocabulary = {t: i for i, t in enumerate(("<pad>", "</s>", "<unk>", "a", "b", "ab", "c"))}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    base.tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    follows = {6: 3, 3: 4, 4: 1}  # c -> a -> b -> the end

    def forward(input_ids, **_options):
        logits = torch.zeros(*input_ids.shape, len(vocabulary))
        for token, after in follows.items():
            logits[..., after][input_ids == token] = 1.0
        return type("Output", (dict,), {"logits": logits})(logits=logits)

    base._decoder = None  # its own forward pass would read the weights
    base._keeps_positions = False
    base.model.forward = forward
    assert base.tokenizer("ab", add_special_tokens=False)["input_ids"] == [5]
    questions = KnownQuestions(base, ["c"], [Example("c", "ab")])
    assert answer_known(questions, 4, {}) == ["ab"]
    assert generated == [1]
    assert answer_known(KnownQuestions(base, ["c"], [Example("c", "ac")]), 4, {}) == [
        "ab"
    ]  # "a" may become it


def test_a_penalty_that_changes_the_likeliest_token_leaves_all_to_generating(tmp_path, generated):
    base = FrozenBaseModel.load(make_base(tmp_path, "llama"))
    assert is_plain_greedy(base.model.generation_config)
    base.model.generation_config.repetition_penalty = 1.3
    questions = KnownQuestions(
        base, *base.prompts_and_answers([Example("cat", "dog"), Example("dog", "fig")])
    )
    answer_known(questions, LENGTH, {})
    assert generated == [2]


def test_a_right_answer_beyond_the_context_leaves_the_question_to_generating(tmp_path, generated):
    base = FrozenBaseModel.load(make_base(tmp_path, "gpt2"))  # of 64 tokens
    questions = KnownQuestions(base, *base.prompts_and_answers([Example("cat " * 60, "dog " * 10)]))
    answer_known(questions, LENGTH, {})
    assert generated == [1]


@pytest.mark.parametrize("blocks_of", [1, 10_000])
def test_the_demo_world_is_answered_as_by_generating(monkeypatch, blocks_of):
    monkeypatch.setattr(known_answers, "PROMPT_TOKENS_AT_ONCE", blocks_of)
    base = FrozenBaseModel.load(BUNDLE / "base")
    task = BUNDLE / "tasks" / "animal-spanish"
    examples = read_examples(task / "heldout.jsonl", 2000)[:24]
    stack = stack_modules([read_module(BUNDLE / "modules" / name, name) for name in ("animal", "spanish")])
    base.hook(layer.path for layer in stack.layers)
    length = longest_useful_answer(examples, 32)
    questions = HeldOutQuestions(base, examples, length).known()
    with base.single_thread_if_small():
        composed = ExactSum(stack).adapters(torch.tensor([[1.0, 1.0]]))
        rights = [require_same(base, questions, own, length, 4) for own in ({}, composed)]
    assert rights[0] < rights[1]


@pytest.mark.parametrize(
    ("beginning", "text", "can"),
    [
        ("", "chat", True),
        ("ch", "chat", True),
        ("chat", "chat", True),
        ("ch at", "chat", True),  # a space that decoding the whole may take away
        ("ch\ufffd", "chéri", True),  # the first byte of two
        ("cha", "chéri", False),
        ("chats", "chat", False),
    ],
)
def test_a_beginning_is_wrong_only_if_nothing_makes_it_right(beginning, text, can):
    assert can_become(beginning, text) is can


@pytest.mark.parametrize(
    ("predicted", "tokens"),
    [
        ([5, 6, 1], [5, 6, 1]),
        ([5, 7, 1], [5, 7]),  # what follows another token is not known
        ([1, 6, 1], [1]),
        ([5, 6, 9], [5, 6, 9]),
    ],
)
def test_a_greedy_answer_is_known_up_to_its_first_other_token(predicted, tokens):
    assert greedy_tokens(predicted, [5, 6, 1], {1}, 4) == tokens
    assert greedy_tokens(predicted, [5, 6, 1], {1}, 1) == tokens[:1]


def test_blocks_hold_similar_lengths_and_not_too_many_tokens(monkeypatch):
    monkeypatch.setattr(known_answers, "PROMPT_TOKENS_AT_ONCE", 10)
    assert list(blocks([5, 2, 30, 3, 5])) == [[1, 3], [0, 4], [2]]
