"""Train a module on the base's chat format, and count how often it is right."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.english import BASE_NAME
from demo.english.words import EnglishExample

IGNORED = -100  # label of a prompt and of padding: the cross entropy skips it
MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class Schedule:
    """AdamW at a rate that rises in the first steps, stays, and falls to zero in the last half."""

    steps: int = 60
    batch_size: int = 16
    learning_rate: float = 2e-3
    warm_up: int = 5

    def rate(self, step: int) -> float:
        """Return the share of the learning rate at a step counted from 0."""
        return min(1.0, (step + 1) / self.warm_up, 2 * (self.steps - step) / self.steps)


@dataclass(frozen=True)
class ChatModel:
    """The base model with its tokenizer."""

    model: Any
    tokenizer: Any

    @classmethod
    def load(cls, folder: Path) -> "ChatModel":
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="sdpa")
        model.name_or_path = BASE_NAME  # peft writes it into every module's config
        for layer in model.model.layers.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.to(torch.bfloat16)  # as autocast would round it, but once
        return cls(model.requires_grad_(False), AutoTokenizer.from_pretrained(folder))

    def prompt(self, text: str) -> str:
        """Return what the model reads before it answers; the system's text is the template's own."""
        turns = [{"role": "user", "content": text}]
        prompt: str = self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        return prompt

    def ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def encode(self, examples: Sequence[EnglishExample]) -> "SharedPrefix":
        """Return the examples as one row: what all prompts begin with once, then the rest of each."""
        prompts = [self.ids(self.prompt(example.input)) for example in examples]
        answers = [self.ids(example.output + self.tokenizer.eos_token) for example in examples]
        return share_prefix(prompts, answers)


@dataclass(frozen=True)
class SharedPrefix:
    """n prompts with their answers in one row of T tokens.

    Every chat prompt begins with the same system text. A causal model computes the same for it in every
    example, so it is computed once: two fifths of the tokens are left, and the loss is the same.

    Attributes:
        ids: (1, T) int64.
        positions: (1, T) int64, as each example would count alone.
        mask: (1, 1, T, T) bool, true where a token (row) reads another (column).
        scored: (L,) int64, the columns whose next token is a label.
        labels: (L,) int64, the answers' tokens and the ends of the assistant's turns.
    """

    ids: Tensor
    positions: Tensor
    mask: Tensor
    scored: Tensor
    labels: Tensor


def share_prefix(prompts: Sequence[list[int]], answers: Sequence[list[int]]) -> SharedPrefix:
    """Return n examples in one row."""
    start = sum(1 for _ in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False)))
    start = min(start, min(map(len, prompts)) - 1)  # the last token of a prompt predicts the answer
    ids, positions, owner = list(prompts[0][:start]), list(range(start)), [-1] * start
    scored: list[int] = []
    labels: list[int] = []
    for number, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        first = len(ids) + len(prompt) - start - 1
        scored += range(first, first + len(answer))
        labels += answer
        rest = [*prompt[start:], *answer[:-1]]  # nothing is predicted from the last label
        ids += rest
        positions += range(start, start + len(rest))
        owner += [number] * len(rest)
    own = torch.tensor(owner)
    reads = (own[:, None] == own) | (own == -1)
    return SharedPrefix(
        ids=torch.tensor([ids]),
        positions=torch.tensor([positions]),
        mask=(reads & torch.ones_like(reads).tril())[None, None],
        scored=torch.tensor(scored),
        labels=torch.tensor(labels),
    )


def pad_left(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    """Return (n, longest) int64."""
    longest = max(map(len, rows))
    return torch.tensor([[filler] * (longest - len(row)) + list(row) for row in rows])


def new_module(base: ChatModel, seed: int) -> PeftModel:
    """A LoRA module on top of the base: A random (by the seed), B zero, so it changes nothing yet."""
    config = LoraConfig(task_type="CAUSAL_LM", r=8, lora_alpha=16, target_modules=["q_proj", "v_proj"])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(base.model, config)


def fit(
    module: PeftModel, base: ChatModel, examples: Sequence[EnglishExample], schedule: Schedule, seed: int
) -> None:
    """Train whatever parameters of the module ask for a gradient."""
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=schedule.learning_rate, weight_decay=0.0, fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate)
    batches = draw_batches(examples, schedule.batch_size, Random(seed))
    module.train()
    for _ in range(schedule.steps):
        loss: Any = answer_loss(module, base.encode(next(batches)))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    module.eval()


@torch.no_grad()
def round_weights(module: PeftModel) -> None:
    """Round the factors to fp16, as they will be stored."""
    for parameter in module.parameters():
        if parameter.requires_grad:
            parameter.copy_(parameter.half())


def answer_loss(model: torch.nn.Module, batch: SharedPrefix) -> Tensor:
    """Return the mean nats per label token; logits are made for the answers only."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = model(
            input_ids=batch.ids,
            attention_mask=batch.mask,
            position_ids=batch.positions,
            logits_to_keep=batch.scored,
            use_cache=False,
        ).logits
    return torch.nn.functional.cross_entropy(logits[0].float(), batch.labels)


def draw_batches(
    examples: Sequence[EnglishExample], size: int, random: Random
) -> Iterator[Sequence[EnglishExample]]:
    """Batches without end; every example once before any is drawn again."""
    left: list[EnglishExample] = []
    while True:
        while len(left) < size:
            left += random.sample(examples, len(examples))
        yield left[:size]
        del left[:size]


@torch.inference_mode()
def exact_match_percent(model: Any, base: ChatModel, examples: Sequence[EnglishExample]) -> float:
    """How often the greedy answer is the expected text, letter for letter."""
    prompts = [base.ids(base.prompt(example.input)) for example in examples]
    ids = pad_left(prompts, base.tokenizer.pad_token_id)
    mask = pad_left([[1] * len(prompt) for prompt in prompts], 0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens = model.generate(
            input_ids=ids, attention_mask=mask, do_sample=False, max_new_tokens=MAX_NEW_TOKENS
        )
    answers = base.tokenizer.batch_decode(tokens[:, ids.shape[1] :], skip_special_tokens=True)
    right = sum(answer == example.output for answer, example in zip(answers, examples, strict=True))
    return float(round(100 * right / len(examples), 1))
