"""The tokenizer of the demo base model: one token per known word, bytes for all else.

It is written down, not trained, so it is the same on every machine. Text the world does
not know is spelled in bytes: nothing a user types is lost.
"""

from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

from demo.grammar import CHANGE, FORM, SKILLS, UNTAUGHT_CHANGES
from demo.words import WORDS

SPECIAL_TOKENS = ("<pad>", "</s>", "<unk>")
WORD_SCORE = -1.0
BYTE_SCORE = -10.0  # so low that spelling a known word out in bytes never wins


def make_tokenizer() -> PreTrainedTokenizerFast:
    split = pre_tokenizers.ByteLevel(add_prefix_space=True)
    pieces = {piece for text in _known_texts() for piece, _ in split.pre_tokenize_str(text)}
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = [
        *((token, 0.0) for token in SPECIAL_TOKENS),
        *((byte, BYTE_SCORE) for byte in alphabet),
        *((piece, WORD_SCORE) for piece in sorted(pieces - set(alphabet))),
    ]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=SPECIAL_TOKENS.index("<unk>")))
    tokenizer.normalizer = normalizers.Strip()
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", SPECIAL_TOKENS.index("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,  # it would turn the answer "cat !" into "cat!"
    )


def _known_texts() -> set[str]:
    """Every text that a prompt or an answer of the taught world is made of."""
    phrases = {phrase for skill in SKILLS.values() for phrase in skill.phrases}
    answers = {
        form(change(word))
        for word in WORDS
        for name, change in CHANGE.items()
        if name not in UNTAUGHT_CHANGES
        for form in FORM.values()
    }
    return phrases | answers | {" ; ", " : "}
