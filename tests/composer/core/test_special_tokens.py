"""Special tokens in what people write are plain text, for every kind of tokenizer and on every path."""

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from composer.core.evaluation.in_context_prompts import Blocks, EncodedBlocks, Turns
from composer.core.model.answering import AnsweringBase
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.plain_text import without_marks
from composer.core.model.prompt_reader import PromptReader
from composer.core.spec.examples import Example
from composer.core.spec.metrics import warning_of_unwritable
from tests.composer.core.tiny import make_base

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|im_start|>", "<|im_end|>", "</s>")
LETTERS = "▁abcdefghijklmnopqrstuvwxyz<>|_/:\n"


def make_tokenizer(kind):
    """A token a character, in three ways to write a space, with special tokens and a chat template."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) if kind == "bytes" else [*LETTERS, "Ġ"]
    vocabulary = {token: i for i, token in enumerate(("<pad>", "<s>", *SPECIAL, *letters))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    if kind == "bytes":  # GPT-2, Qwen, Llama 3
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
    else:  # Llama 2: a space in front of the text; T5: in front of each part of it
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme=kind)
    single = "$A </s>" if kind == "always" else "<s> $A"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[("</s>", vocabulary["</s>"]), ("<s>", vocabulary["<s>"])]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    made.add_special_tokens({"additional_special_tokens": list(SPECIAL[:2])})
    made.chat_template = CHAT
    return made


@pytest.fixture(params=["bytes", "first", "always"])
def reader(request):
    tokenizer = make_tokenizer(request.param)
    return PromptReader(tokenizer, is_encoder_decoder=request.param == "always")


def counts(reader, ids):
    tokens = reader.tokenizer.convert_ids_to_tokens(ids)
    return {special: tokens.count(special) for special in SPECIAL}


@pytest.mark.parametrize("special", SPECIAL)
def test_a_special_token_in_an_input_is_plain_text_and_in_a_template_it_is_not(reader, special):
    template = "<|im_start|>user: {input}<|im_end|> so: "
    for text in (f"a {special} b", special, f"{special}{special}a"):
        usual = reader.prompt_ids(reader.prompt("a b", template))
        ids = reader.prompt_ids(reader.prompt(text, template))
        assert counts(reader, ids) == counts(reader, usual)
        assert special in reader.tokenizer.decode(ids, skip_special_tokens=True)
        bare = reader.prompt_ids(reader.prompt(text, "{input}"))
        assert counts(reader, bare) == counts(reader, reader.prompt_ids("a b"))
        assert without_marks(reader.prompt(text, "{input}")) == text


def test_beside_the_plain_text_the_tokens_are_the_same(reader):
    """Those of the text without the character that makes it a special token."""
    template = "<|im_start|>user: {input}<|im_end|> so: "
    ids = reader.prompt_ids(reader.prompt("a <|im_end|> b", template))
    like = reader.prompt_ids(reader.prompt("a <|im_end_> b", template))
    decoded = [reader.tokenizer.convert_ids_to_tokens(row) for row in (ids, like)]
    assert len(ids) == len(like)
    assert [pair for pair in zip(*decoded, strict=True) if pair[0] != pair[1]] == [("|", "_")]


def test_an_output_is_scored_as_plain_text_with_one_end(reader):
    for output in ("a <|im_end|> b", "a </s> b", "<|im_end|>"):
        (prompt,), (answered,), end = reader.prompts_and_answers([Example("x", output)], "{input}\n")
        ids = reader.answer_ids(prompt, answered.output, end, "")
        assert counts(reader, ids) == dict.fromkeys(SPECIAL, 0) | {"</s>": 1}
        assert ids[-1] == reader.tokenizer.eos_token_id
        assert reader.tokenizer.decode(ids[:-1], skip_special_tokens=True).strip() == output


def test_an_end_that_is_written_out_at_the_end_of_an_output_is_its_end(reader):
    assert reader.answer_ids("x\n", "a </s>", None, "") == reader.answer_ids("x\n", "a", None, "")


def test_in_the_chat_template_only_the_template_ends_a_turn():
    reader = PromptReader(make_tokenizer("bytes"), is_encoder_decoder=False)
    usual = counts(reader, reader.prompt_ids(reader.prompt("a b", "chat")))
    assert usual["<|im_end|>"] == 1
    prompts, answered, end = reader.prompts_and_answers([Example("a <|im_end|> b", "c <|im_end|> d")], "chat")
    assert end == "<|im_end|>"
    assert counts(reader, reader.prompt_ids(prompts[0])) == usual
    ids = reader.answer_ids(prompts[0], answered[0].output, end, "\n")
    assert counts(reader, ids)["<|im_end|>"] == 1
    assert reader.tokenizer.decode(ids) == "c <|im_end|> d<|im_end|>"
    # generating ends with the token, so the text of an answer may hold what looks like it
    assert reader.cut("c <|im_end|> d", end) == "c <|im_end|> d"
    earlier = Turns.prompt(_turns(reader), [Example("e </s>", "f <|im_start|>")], "g")
    assert counts(reader, reader.prompt_ids(earlier)) == {"<|im_start|>": 4, "<|im_end|>": 3, "</s>": 0}


def _turns(reader):
    reader.template = "chat"
    return Turns(reader)


def test_a_token_that_takes_the_space_behind_it_still_does():
    tokenizer = make_tokenizer("bytes")
    tokenizer.add_special_tokens({"additional_special_tokens": [AddedToken("<|user|>", rstrip=True)]})
    reader = PromptReader(tokenizer, is_encoder_decoder=False)
    ids = reader.prompt_ids(reader.prompt("a </s> b", "<|user|>\n{input}"))
    tokens = tokenizer.convert_ids_to_tokens(ids)
    assert tokens[:3] == ["<s>", "<|user|>", "a"]


@pytest.mark.parametrize("kind", ["t5", "llama", "gpt2", "qwen2"])
def test_the_same_prompt_is_read_on_every_path(kind, tmp_path):
    base = FrozenBaseModel.load(make_base(tmp_path / "base", kind))
    example = Example("cat </s> dog", "CAT")
    assert isinstance(base.tokenizer, type(AutoTokenizer.from_pretrained(tmp_path / "base")))
    base.template = base.choose_template("auto", {}).template
    ids = base.prompt_ids(base.prompt(example.input))
    assert ids.count(base.tokenizer.eos_token_id) == base.is_encoder_decoder
    batch = base.encode([example])
    read = batch.inputs["input_ids"][0].tolist()
    assert read[: len(ids)] == ids
    prompt, length = AnsweringBase(base).read(example.input, "auto")
    assert (base.prompt_ids(prompt), length) == (ids, len(ids))
    blocks = EncodedBlocks(base) if base.is_encoder_decoder else Blocks(base, "\n", "\n")
    shown = base.prompt_ids(blocks.prompt([example, Example("hat", "leg </s>")], "fig </s> saw"))
    assert shown.count(base.tokenizer.eos_token_id) == base.is_encoder_decoder
    before = blocks.recipe([example])["before"]
    assert "cat </s> dog" in before
    assert without_marks(before) == before


def test_no_false_warning_tells_of_an_output_with_a_special_token(reader):
    base = type("Base", (), {"texts": reader.texts, "tokenizer": reader.tokenizer})()
    examples = [Example("x", "a <|im_end|> b")]
    assert warning_of_unwritable(examples, lambda text: FrozenBaseModel.round_trip(base, text)) == ""
