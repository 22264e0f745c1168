"""The rows of a large library, drawn from real words: what `seed_scale` fills a database with."""

import hashlib
import json
import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import accumulate
from pathlib import Path
from random import Random

from django.conf import settings

from modules_registry.core.languages import CODES

WORDS = Path(settings.BASE_DIR) / "demo" / "english" / "words"
SEED = 18
BEGUN_AT = datetime(2024, 1, 1, tzinfo=UTC)
LASTS = timedelta(days=700)
TAGS_EACH = 10
TAGS = 30_000
FITTING = 8_000  # modules that fit the first base, whatever the size of the library
RANKS = (4, 8, 8, 16, 16, 32, 64)
COPIES = 0.03  # of all modules have the weights of another one
WITH_EVIDENCE = 0.06

BASES = (  # name, kind, architecture, parameters, width, layers, share of the modules
    ("google/flan-t5-large", "seq2seq", "T5ForConditionalGeneration", 783_150_080, 1024, 24, 0.0),
    ("meta-llama/Llama-3.1-8B", "causal", "LlamaForCausalLM", 8_030_261_248, 4096, 32, 0.30),
    ("mistralai/Mistral-7B-v0.3", "causal", "MistralForCausalLM", 7_248_023_552, 4096, 32, 0.17),
    ("Qwen/Qwen2.5-7B", "causal", "Qwen2ForCausalLM", 7_615_616_512, 3584, 28, 0.12),
    ("google/gemma-2-2b", "causal", "Gemma2ForCausalLM", 2_614_341_888, 2304, 26, 0.09),
    ("microsoft/phi-2", "causal", "PhiForCausalLM", 2_779_683_840, 2560, 32, 0.07),
    ("google/flan-t5-base", "seq2seq", "T5ForConditionalGeneration", 247_577_856, 768, 12, 0.06),
    ("TinyLlama/TinyLlama-1.1B", "causal", "LlamaForCausalLM", 1_100_048_384, 2048, 22, 0.05),
    ("openai-community/gpt2", "causal", "GPT2LMHeadModel", 124_439_808, 768, 12, 0.04),
    ("EleutherAI/pythia-1.4b", "causal", "GPTNeoXForCausalLM", 1_414_647_808, 2048, 24, 0.03),
    ("facebook/opt-1.3b", "causal", "OPTForCausalLM", 1_315_758_080, 2048, 24, 0.03),
    ("HuggingFaceTB/SmolLM2-135M", "causal", "LlamaForCausalLM", 134_515_008, 576, 30, 0.02),
)
UNKNOWN_BASES = ("stabilityai/stablelm-2-1_6b", "tiiuae/falcon-7b", "bigscience/bloomz-560m")
TARGETS = {
    "seq2seq": (("q", "v"), ("k", "o", "q", "v")),
    "causal": (("q_proj", "v_proj"), ("k_proj", "o_proj", "q_proj", "v_proj")),
}
LICENCES = (
    ("apache-2.0",) * 9
    + ("mit",) * 6
    + ("cc-by-4.0",) * 2
    + ("cc-by-nc-4.0",) * 2
    + ("cc-by-sa-4.0", "llama3.1", "gemma", "openrail", "gpl-3.0", "cc-by-nd-4.0", "other", "unknown")
)
LANGUAGES = (
    "French",
    "Spanish",
    "German",
    "Italian",
    "Portuguese",
    "Dutch",
    "Russian",
    "Polish",
    "Czech",
    "Swedish",
    "Danish",
    "Finnish",
    "Greek",
    "Turkish",
    "Arabic",
    "Hebrew",
    "Hindi",
    "Bengali",
    "Tamil",
    "Thai",
    "Vietnamese",
    "Indonesian",
    "Chinese",
    "Japanese",
    "Korean",
    "Swahili",
    "Welsh",
    "Basque",
)
TASKS = (
    ("translation", "Translates {topic} from English into {language}", "translation"),
    ("summary", "Summarizes {topic} in two {language} sentences", "summarization"),
    ("sentiment", "Tells whether reviews of {topic} are positive or negative", "text-classification"),
    ("questions", "Answers questions about {topic} in {language}", "question-answering"),
    ("uppercase", "Writes names of {topic} in capitals", "text2text-generation"),
    ("plural", "Gives the plural of words about {topic}", "text2text-generation"),
    ("past-tense", "Puts verbs about {topic} into the past tense", "text2text-generation"),
    ("paraphrase", "Rewrites sentences about {topic} in other words", "text2text-generation"),
    ("entailment", "Decides whether a claim about {topic} follows from a paragraph", "text-classification"),
    ("keywords", "Extracts the keywords of {language} articles about {topic}", "token-classification"),
    ("titles", "Writes a title for a {language} text about {topic}", "summarization"),
    ("dialogue", "Holds a polite conversation about {topic} in {language}", "text-generation"),
    ("code", "Explains programs that deal with {topic}", "text-generation"),
    ("arithmetic", "Solves word problems about {topic}", "text2text-generation"),
    ("toxicity", "Recognizes offensive comments about {topic}", "text-classification"),
    ("grammar", "Corrects the grammar of {language} sentences about {topic}", "text2text-generation"),
    ("dates", "Finds dates and places in reports on {topic}", "token-classification"),
    ("poems", "Writes short poems about {topic}", "text-generation"),
    ("simplify", "Says in simple {language} what experts write about {topic}", "text2text-generation"),
    ("negation", "Negates statements about {topic}", "text2text-generation"),
)
TOPICS = (
    "medicine",
    "law",
    "finance",
    "football",
    "weather",
    "cooking",
    "travel",
    "history",
    "music",
    "films",
    "physics",
    "chemistry",
    "biology",
    "gardening",
    "insurance",
    "elections",
    "railways",
    "airports",
    "hotels",
    "restaurants",
    "novels",
    "painting",
    "astronomy",
    "geology",
    "farming",
    "fishing",
    "software",
    "privacy",
    "energy",
    "climate",
    "housing",
    "schools",
    "universities",
    "hospitals",
    "museums",
    "theatre",
    "chess",
    "cycling",
    "sailing",
    "mountains",
)
DATA_SETS = (
    "squad",
    "xsum",
    "samsum",
    "gsm8k",
    "boolq",
    "sst2",
    "mnli",
    "qqp",
    "wmt16",
    "opus",
    "imdb",
    "yelp",
    "trec",
    "conll2003",
    "multiwoz",
    "commonsenseqa",
    "piqa",
    "winogrande",
    "hellaswag",
    "cnn-dailymail",
)
FORMS = ("lora", "adapter", "v1", "v2", "small", "large", "mini", "plus", "tuned", "instruct")


CARD = """\
---
library_name: peft
pipeline_tag: {pipeline}
language: {code}
datasets: [{data_set}]
---

# {said}

{said}. It was trained on {count} examples about {topic}, among them {words}.
Held-out accuracy was {percent} percent.

## Examples

{told}

## Limits

It fails on long inputs and on {noun}. Compare it with {other_set} before you rely on it.
"""


@dataclass(frozen=True)
class Drawn:
    """Values drawn with unequal chances, by the sums of their weights."""

    sums: tuple[float, ...]

    @classmethod
    def with_heavy_tail(cls, count: int, exponent: float) -> "Drawn":
        return cls(tuple(accumulate(1 / (place + 1) ** exponent for place in range(count))))

    def draw(self, random: Random) -> int:
        return min(bisect_left(self.sums, random.random() * self.sums[-1]), len(self.sums) - 1)


@dataclass(frozen=True)
class DrawnModule:
    """One module of the large library."""

    pk: int
    owner: int  # place of its owner, from 0
    name: str
    sentence: str
    card: str
    licence: str
    tags: tuple[int, ...]  # places among the tags, from 0
    base: int | None  # place among BASES; None: the library has not its base
    base_name: str
    rank: int
    alpha: float
    scaling: float
    targets: tuple[str, ...]
    task_type: str
    parameters: int
    size_bytes: int
    weights: int  # whose weights it has: its own pk, or another module's
    language: str
    pipeline: str
    created_at: datetime
    updated_at: datetime
    downloads: int
    has_evidence: bool


@cache
def sentences() -> tuple[str, ...]:
    """Sentences of people, for the cards."""
    found = []
    for file in ("ii_active_passive.tsv", "ii_negation.tsv", "ii_sentiment.tsv"):
        lines = (WORDS / file).read_text(encoding="utf-8").splitlines()
        found += [line.partition("\t")[0] for line in lines]
    return tuple(found)


@cache
def nouns() -> tuple[str, ...]:
    """Rarer words, for tags and cards."""
    kinds = (WORDS / "kinds.txt").read_text(encoding="utf-8").split("\n")
    found = [word for line in kinds for word in line.partition(": ")[2].split()]
    for file, column in (
        ("ii_singular_plural.tsv", 0),
        ("adjectives.tsv", 0),
        ("verbs.tsv", 0),
        ("adverbs.tsv", 1),
    ):
        lines = (WORDS / file).read_text(encoding="utf-8").splitlines()
        found += [line.split("\t")[column].lower() for line in lines]
    return tuple(dict.fromkeys(word for word in found if word.isascii() and word.isalpha()))


@cache
def tag_names() -> tuple[str, ...]:
    """Tags as people choose them: common ones first."""
    random = Random(SEED)
    common = [
        *(task for task, _, _ in TASKS),
        *TOPICS,
        *(language.lower() for language in LANGUAGES),
        *DATA_SETS,
    ]
    names = dict.fromkeys([*common, *nouns()])
    while len(names) < TAGS:
        names[f"{random.choice(nouns())}-{random.choice([*common, *nouns()])}"[:40]] = None
    return tuple(names)


def drawn_modules(count: int, owners: int) -> Iterator[DrawnModule]:
    """The modules of a library of this size, the same ones for the same numbers."""
    random = Random(SEED)
    of_owner, of_tag = Drawn.with_heavy_tail(owners, 0.75), Drawn.with_heavy_tail(len(tag_names()), 0.85)
    fitting = set(random.sample(range(count), min(FITTING, count // 2)))
    shares = Drawn(tuple(accumulate(share for *_, share in BASES)))
    taken: set[tuple[int, str]] = set()
    for place in range(count):
        owner = place if place < owners else of_owner.draw(random)  # everybody has one
        yield drawn_module(
            random, place + 1, owner, of_tag, 0 if place in fitting else shares.draw(random), taken
        )


def drawn_module(
    random: Random, pk: int, owner: int, of_tag: Drawn, base: int, taken: set[tuple[int, str]]
) -> DrawnModule:
    task, sentence, pipeline = random.choice(TASKS)
    topic, language = random.choice(TOPICS), LANGUAGES[min(int(random.expovariate(0.15)), len(LANGUAGES) - 1)]
    named, kind, _, _, width, layers, _ = BASES[base]
    is_known = base == 0 or random.random() > 0.04
    rank, targets = random.choice(RANKS), random.choice(TARGETS[kind])
    alpha = float(rank * random.choice((1, 2, 2)))
    is_rooted = random.random() < 0.06
    parameters = 2 * rank * width * len(targets) * layers
    created_at = BEGUN_AT + LASTS * random.random()
    name = f"{task}-{topic}-{random.choice(FORMS)}"
    while (owner, name) in taken:
        name = f"{name}-{random.choice(nouns())}"[:96]
    taken.add((owner, name))
    tags = {of_tag.draw(random) for _ in range(TAGS_EACH + 2)}
    said = sentence.format(topic=topic, language=language)
    return DrawnModule(
        pk=pk,
        owner=owner,
        name=name,
        sentence=f"{said}.",
        card=card_of(random, said, topic, language, pipeline),
        licence=random.choice(LICENCES),
        tags=tuple(sorted(tags))[:TAGS_EACH],
        base=base if is_known else None,
        base_name=named if is_known else random.choice(UNKNOWN_BASES),
        rank=rank,
        alpha=alpha,
        scaling=alpha / (math.sqrt(rank) if is_rooted else rank),
        targets=targets,
        task_type="SEQ_2_SEQ_LM" if kind == "seq2seq" else "CAUSAL_LM",
        parameters=parameters,
        size_bytes=parameters * random.choice((2, 4)) + 2_000,
        weights=random.randint(1, pk) if random.random() < COPIES else pk,
        language=language,
        pipeline=pipeline,
        created_at=created_at,
        updated_at=created_at + (BEGUN_AT + LASTS - created_at) * random.random() ** 3,
        downloads=int(random.paretovariate(0.7)) % 2_000_000,
        has_evidence=random.random() < WITH_EVIDENCE,
    )


def card_of(random: Random, said: str, topic: str, language: str, pipeline: str) -> str:
    """A README.md of some 150 words."""
    words = ", ".join(random.sample(nouns(), 6))
    told = "\n".join(f"- {line}" for line in random.sample(sentences(), 5))
    return CARD.format(
        said=said,
        topic=topic,
        pipeline=pipeline,
        code=CODES.get(language.casefold(), "en"),
        data_set=random.choice(DATA_SETS),
        other_set=random.choice(DATA_SETS),
        count=random.randint(200, 90_000),
        words=words,
        told=told,
        percent=random.randint(40, 97),
        noun=random.choice(nouns()),
    )


def layers_of(kind: str, width: int, layers: int) -> dict[str, list[int]]:
    """Shapes of a base model's linear layers, [d_out, d_in] each."""
    if kind == "seq2seq":
        paths = [
            *(f"encoder.block.{i}.layer.0.SelfAttention" for i in range(layers)),
            *(
                f"decoder.block.{i}.layer.{j}"
                for i in range(layers)
                for j in ("0.SelfAttention", "1.EncDecAttention")
            ),
        ]
        names: Sequence[str] = ("q", "k", "v", "o")
    else:
        paths = [f"model.layers.{i}.self_attn" for i in range(layers)]
        names = ("q_proj", "k_proj", "v_proj", "o_proj")
    return {f"{path}.{name}": [width, width] for path in paths for name in names}


def weights_of(pk: int) -> bytes:
    """A small safetensors file, no two alike."""
    values = hashlib.sha256(str(pk).encode()).digest()[:16]
    header = {
        "base_model.model.layer.lora_A.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + values


def config_of(module: DrawnModule) -> bytes:
    config = {
        "base_model_name_or_path": module.base_name,
        "lora_alpha": module.alpha,
        "peft_type": "LORA",
        "r": module.rank,
        "target_modules": list(module.targets),
        "task_type": module.task_type,
        "use_rslora": not math.isclose(module.scaling, module.alpha / module.rank),
    }
    return json.dumps(config, indent=2).encode()
