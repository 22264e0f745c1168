"""A text as 256 numbers, so that the similarity of two texts is a dot product.

Each word, without its accents, and each run of three letters in it get a place and a sign by their hash; a
place holds the sum of what falls on it. Words that say nothing about a task are left out. The runs of
letters make "translate" and "translation", and a word with a typo, similar.
Source: Weinberger et al., Feature Hashing for Large Scale Multitask Learning, arXiv:0902.2206.
"""

import hashlib
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import numpy.typing as npt

TEXT_SKETCH_LENGTH = 256
LETTERS = 3  # in a run
WORDS_MAX = 2_000  # of one text
SHARE_OF_LETTERS = 0.5  # of a word's weight is that of its runs of letters
WORD = re.compile(r"[a-z]+|[0-9]+|[^\W\d_a-z]+")
CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
SAY_NOTHING = frozenset((
    "a", "an", "and", "any", "are", "as", "at", "be", "by", "can", "do", "each", "every", "for",
    "from", "has", "have", "how", "if", "in", "into", "is", "it", "its", "like", "make", "many",
    "more", "no", "not", "of", "on", "one", "only", "or", "other", "out", "same", "so", "some",
    "such", "than", "that", "the", "their", "them", "then", "there", "these", "they", "this", "to",
    "two", "up", "use", "used", "uses", "using", "was", "were", "what", "when", "where", "which",
    "who", "will", "with", "you", "your", "adapter", "adapters", "answer", "answers", "base",
    "card", "data", "dataset", "example", "examples", "input", "inputs", "language", "license",
    "licence", "lora", "model", "models", "module", "modules", "output", "outputs", "peft", "rank",
    "text", "texts", "train", "trained", "training", "task", "tasks", "weights",
))  # fmt: skip


def text_sketch(fields: Mapping[str, float]) -> npt.NDArray[np.float32]:
    """Sketch a text of several fields: (256,), of length 1; zero for a text that says nothing.

    Args:
        fields: a text -> its weight, dimensionless.
    """
    total = np.zeros(TEXT_SKETCH_LENGTH)
    for text, weight in fields.items():
        counts = Counter(words_of(text))
        for word, count in counts.items():
            size = weight * (1 + math.log(count)) / math.sqrt(len(counts))
            for place, share in places_of(word):
                total[place] += size * share
    length = float(np.linalg.norm(total))
    return (total / length if length else total).astype(np.float32)


def words_of(text: str) -> list[str]:
    """The words of a text in small letters, without accents and without those that say nothing of a task."""
    plain = unicodedata.normalize("NFKD", CAMEL.sub(" ", text)).casefold()
    plain = "".join(letter for letter in plain if not unicodedata.combining(letter))
    return [word for word in WORD.findall(plain)[:WORDS_MAX] if word not in SAY_NOTHING and len(word) > 1]


@lru_cache(maxsize=20_000)  # the words of a library repeat
def places_of(word: str) -> tuple[tuple[int, float], ...]:
    """Where a word and its runs of letters fall, with their signs and weights."""
    framed = f"<{word}>"
    runs = sorted({framed[start : start + LETTERS] for start in range(len(framed) - LETTERS + 1)})
    of_runs = math.sqrt(SHARE_OF_LETTERS / len(runs))
    features = [(f"w {word}", math.sqrt(1 - SHARE_OF_LETTERS)), *((f"l {run}", of_runs) for run in runs)]
    return tuple(_place(name, weight) for name, weight in features)


def _place(name: str, weight: float) -> tuple[int, float]:
    digest = hashlib.blake2b(name.encode(), digest_size=2).digest()
    return digest[0], weight if digest[1] & 1 else -weight
