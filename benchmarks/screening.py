"""What it takes to find the best of 200 modules by trying each alone, beside one run of the published loop.

    python -m benchmarks.screening [--modules 200] [--evaluations 3] [--out FOLDER]

A T5 of flan-t5-large's dimensions with random weights, modules of rank 16 on q and v (20 files, each taken
as often as it needs), five examples of about 107 tokens, fp32, one thread. Screening is run whole. Of the
published loop loading 20 modules and --evaluations evaluations are measured; a run is 40 of them.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor
from transformers import T5Config, T5ForConditionalGeneration

from benchmarks.machine import machine
from benchmarks.reference import Reference
from composer.core.base_model import BaseModel, TokenBatch
from composer.core.examples import Example
from composer.core.module_stack import read_module, stack_modules
from composer.core.objective import FewShotScorer
from composer.core.screening import Screening

RESULTS = Path(__file__).resolve().parent / "results"
LENGTHS, ANSWER_TOKENS = (96, 101, 107, 112, 119), 4
FILES, RUN_EVALUATIONS, WANTED = 20, 40, 20
LARGE = {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16, "d_kv": 64, "vocab_size": 32128}
SMALL = {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4, "d_kv": 16, "vocab_size": 512}


def main(arguments: list[str] | None = None) -> None:
    asked = read_arguments(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = T5ForConditionalGeneration(
        T5Config(
            **(SMALL if asked.small else LARGE),
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            decoder_start_token_id=0,
        )
    ).eval()
    with tempfile.TemporaryDirectory() as scratch:
        folders = [write_module(model, Path(scratch) / str(i)) for i in range(FILES)]
        row = measured(model, folders, asked)
    row = {"schema": 1, "machine": machine(), "parameters": model.num_parameters(), **row}
    asked.out.mkdir(parents=True, exist_ok=True)
    (asked.out / "screening.json").write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(row, indent=1))


def read_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modules", type=int, default=200)
    parser.add_argument("--evaluations", type=int, default=3)
    parser.add_argument("--small", action="store_true", help="a tiny base, to see that it works")
    parser.add_argument("--out", type=Path, default=RESULTS)
    return parser.parse_args(arguments)


def write_module(model: T5ForConditionalGeneration, folder: Path) -> Path:
    """A module with random factors, as peft writes it; the model is as before."""
    wrapped = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=["q", "v"]))
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            parameter.data.normal_(std=0.01)
    wrapped.save_pretrained(str(folder))
    wrapped.unload()
    return folder


def measured(
    model: T5ForConditionalGeneration, folders: list[Path], asked: argparse.Namespace
) -> dict[str, Any]:
    batch = random_batch(model)
    loading, reference = timed(lambda: Reference(model, folders))
    inputs = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
    batches = [{**inputs, "labels": batch.labels}]
    weights = [0.1] * len(folders)
    scores = [timed(lambda: reference.score(weights, batches))[0] for _ in range(asked.evaluations)]
    reference.model.unload()
    read = [read_module(folder, folder.name) for folder in folders]
    stack = stack_modules([read[i % len(read)] for i in range(asked.modules)])
    base = TokensOnly(model, NoTokenizer())
    base.hook(layer.path for layer in stack.layers)
    scorer = FewShotScorer(base, batch)
    screening = Screening(
        scorer,
        stack,
        contexts=[""] * len(stack),
        modules=[str(i) for i in range(len(stack))],
        shots=batch.examples,
        known={},
        tell=lambda event: None,
    )
    screened_s, _ = timed(lambda: screening.losses(range(len(stack)), WANTED))
    run_s = loading + statistics.median(scores) * RUN_EVALUATIONS
    return {
        "modules": len(stack),
        "candidates_scored": scorer.candidates_scored,
        "screening_s": round(screened_s, 1),
        "reference_loading_s": round(loading, 2),
        "reference_evaluation_s": [round(score, 2) for score in scores],
        "reference_run_s": round(run_s, 1),
        "ratio": round(screened_s / run_s, 3),
    }


class TokensOnly(BaseModel):
    """Examples whose texts are the numbers of random token rows."""

    def encode(self, examples: Sequence[Example], template: str | None = None) -> TokenBatch:
        rows = [int(example.input) for example in examples]
        return part_of(random_batch(self.model), rows)


def part_of(batch: TokenBatch, rows: list[int]) -> TokenBatch:
    """These examples alone, without the padding that only the others needed."""
    longest = max(LENGTHS[row] for row in rows)
    inputs = {name: tensor[rows] for name, tensor in batch.inputs.items()}
    for name in ("input_ids", "attention_mask"):
        inputs[name] = inputs[name][:, :longest]
    return TokenBatch(inputs, batch.labels[rows], tuple(batch.examples[row] for row in rows))


class NoTokenizer:
    """Examples come as tokens here."""

    pad_token_id = 0
    eos_token_id = 1


def random_batch(model: T5ForConditionalGeneration) -> TokenBatch:
    generator = torch.Generator().manual_seed(1)

    def tokens(*shape: int) -> Tensor:
        return torch.randint(2, model.config.vocab_size, shape, generator=generator)

    mask = torch.tensor([[1] * n + [0] * (max(LENGTHS) - n) for n in LENGTHS])
    labels = tokens(len(LENGTHS), ANSWER_TOKENS)
    return TokenBatch(
        {
            "input_ids": tokens(*mask.shape) * mask,
            "attention_mask": mask,
            "decoder_input_ids": model.prepare_decoder_input_ids_from_labels(labels=labels),
        },
        labels,
        tuple(Example(str(row), "") for row in range(len(LENGTHS))),
    )


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.monotonic()
    result = call()
    return time.monotonic() - started, result


if __name__ == "__main__":
    main()
