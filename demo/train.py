"""Train the base model and its modules, and count how often they are right."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from demo.grammar import DemoExample

BASE_NAME = "demo/tiny-t5"
IGNORED = -100  # label of padding: the cross entropy skips it
SORTED_TOGETHER = 8  # batches drawn at once and sorted by length, so that little is padding


@dataclass(frozen=True)
class Schedule:
    """AdamW, a short warm-up, a constant rate, then straight down to zero."""

    steps: int
    batch_size: int
    learning_rate: float
    warm_up: int
    constant_share: float  # of all steps, before the rate falls

    def rate(self, step: int) -> float:
        """The share of the learning rate at a step counted from 0."""
        falling = self.steps * (1 - self.constant_share)
        return min(1.0, (step + 1) / self.warm_up, (self.steps - step) / falling)


BASE_SCHEDULE = Schedule(steps=3000, batch_size=64, learning_rate=2e-3, warm_up=100, constant_share=0.6)
EXTRA_SCHEDULE = Schedule(steps=1000, batch_size=64, learning_rate=1e-3, warm_up=50, constant_share=0.4)
MODULE_SCHEDULE = Schedule(steps=80, batch_size=32, learning_rate=5e-3, warm_up=10, constant_share=0.0)
NEW_KNOWLEDGE_SCHEDULE = Schedule(
    steps=400, batch_size=32, learning_rate=5e-3, warm_up=10, constant_share=0.0
)


def new_base(vocabulary_size: int, seed: int) -> T5ForConditionalGeneration:
    """A T5 of about one million parameters with random weights."""
    config = T5Config(  # type: ignore[call-arg]  # its stub leaves out what **kwargs take: the last one
        vocab_size=vocabulary_size,
        d_model=128,
        d_kv=32,
        d_ff=512,
        num_layers=2,
        num_decoder_layers=2,
        num_heads=4,
        relative_attention_max_distance=64,
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = T5ForConditionalGeneration(config)
    model.name_or_path = BASE_NAME  # peft writes it into every module's config
    model.generation_config.max_new_tokens = 32
    return model


def new_module(base: T5ForConditionalGeneration, seed: int) -> PeftModel:
    """A LoRA module on top of the base: A random (by the seed), B zero, so it changes nothing yet."""
    config = LoraConfig(task_type="SEQ_2_SEQ_LM", r=8, lora_alpha=16, target_modules=["q", "v"])
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(base, config)


def fit(
    model: torch.nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    examples: Iterator[DemoExample],
    schedule: Schedule,
) -> None:
    """Train whatever parameters of the model ask for a gradient."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=schedule.learning_rate, betas=(0.9, 0.98), weight_decay=0.01, fused=True
    )
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule.rate)
    model.train()
    for batch in islice(_batches(examples, schedule.batch_size), schedule.steps):
        model(**_encode(tokenizer, batch)).loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        scheduler.step()
    model.eval()


def _batches(examples: Iterator[DemoExample], size: int) -> Iterator[Sequence[DemoExample]]:
    """Batches without end, from an endless stream."""
    while True:
        drawn = sorted(islice(examples, SORTED_TOGETHER * size), key=lambda example: len(example.input))
        for start in range(0, len(drawn), size):
            yield drawn[start : start + size]


def _encode(tokenizer: PreTrainedTokenizerFast, batch: Sequence[DemoExample]) -> dict[str, Tensor]:
    inputs = tokenizer([example.input for example in batch], padding=True, return_tensors="pt")
    outputs = tokenizer([example.output for example in batch], padding=True, return_tensors="pt")
    labels = outputs.input_ids.masked_fill(outputs.attention_mask == 0, IGNORED)
    return {"input_ids": inputs.input_ids, "attention_mask": inputs.attention_mask, "labels": labels}


@torch.inference_mode()
def exact_match_percent(
    model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, examples: Iterable[DemoExample]
) -> float:
    """How often the greedy answer is the expected text, letter for letter."""
    examples = list(examples)
    prompts = tokenizer([example.input for example in examples], padding=True, return_tensors="pt")
    generate: Any = model.generate  # a T5 has it, be it alone or inside peft's model
    tokens = generate(input_ids=prompts.input_ids, attention_mask=prompts.attention_mask, do_sample=False)
    answers = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    right = sum(answer == example.output for answer, example in zip(answers, examples, strict=True))
    return round(100 * right / len(examples), 1)
