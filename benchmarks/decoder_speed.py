"""How fast one evaluation of a decoder is, beside transformers and peft.

    python -m benchmarks.compose_speed --size smol [--threads 1] [--repetitions 5] [--out FOLDER]

A Llama with random weights and the dimensions of SmolLM2-135M, ten modules of rank 8 on all seven
projections, and five examples: of 10 tokens on average, and of 107. One evaluation is the loss of one
weighted sum of the modules on the five. It is measured in turn, in one process, in fp32 and, where the
processor multiplies it, in bf16:

* merged: transformers with the sum added to its weights before; adding it is not counted;
* peft: transformers with the sum as an adapter of rank 80, loaded before;
* one: ours, one candidate;
* sixteen: ours, sixteen candidates at once, a sixteenth of the time.

transformers computes its loss from the labels, as its users do. On a CPU the seconds are those that the
process computed, so that other processes beside it change them less.

The share of the limit is the work of one candidate without padding (`work` has the formula) through its
time, over the rate of the faster of plain and packed products on this model's own shapes and rows.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from benchmarks.machine import machine, matrix_units
from benchmarks.synthetic import ANSWER_TOKENS, make_base, make_examples, make_module
from composer.core.evaluation.export import write_adapter
from composer.core.methods.exact import ExactSum
from composer.core.model.base_model import FrozenBaseModel, multiplies_bf16
from composer.core.model.packed_linear import PackedProduct, can_pack
from composer.core.model.scorer import FewShotScorer
from composer.core.modules.module_stack import read_module, stack_modules

SIZES = ("smol", "tiny-smol")
N_MODULES, RANK, AT_ONCE = 10, 8, 16
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
TOKENS = {"5 x 10 tokens": (8, 9, 10, 11, 12), "5 x 107 tokens": (96, 101, 107, 112, 119)}  # answers included
TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
GIGA = 1e9


def run(arguments: argparse.Namespace) -> None:
    """Measure, write the result file and print it."""
    torch.set_num_threads(arguments.threads)
    precisions = ("fp32", "bf16") if multiplies_bf16(torch.device(arguments.device)) else ("fp32",)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        folder = Path(scratch)
        make_world(folder, arguments.size)
        rows = {precision: measured(folder, precision, arguments) for precision in precisions}
    content = {
        "schema": 1,
        "size": arguments.size,
        "machine": machine(),
        "matrix_units": matrix_units(),
        "device": arguments.device,
        "threads": arguments.threads,
        "precisions": rows,
    }
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"compose_speed_{arguments.size}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(as_text(content))


def make_world(folder: Path, size: str) -> None:
    """Write the base, the modules, and the sum of the modules as an adapter."""
    make_base(folder / "base", size)
    base = FrozenBaseModel.load(folder / "base", packs=False)
    for i in range(N_MODULES):
        make_module(folder / "modules" / f"{i:02}", base.model, seed=i, rank=RANK, targets=TARGETS)
    write_adapter(method_of(folder).lora(weights()[0].tolist()), base, "base", folder / "adapter")


def method_of(folder: Path) -> ExactSum:
    modules = sorted((folder / "modules").iterdir())
    return ExactSum(stack_modules([read_module(module, module.name) for module in modules]))


def weights() -> Tensor:
    """(AT_ONCE, N_MODULES) weights; the adapter is made of the first."""
    return torch.rand(AT_ONCE, N_MODULES, generator=torch.Generator().manual_seed(0)) - 0.5


@dataclass
class Measurement:
    """Seconds and losses, by what was measured."""

    clock: Callable[[], float]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    losses: dict[str, float] = field(default_factory=dict)

    def note(self, name: str, call: Callable[[], float], *, times: int = 1) -> None:
        """Measure one call, which evaluates `times` candidates and returns the loss of the first."""
        started = self.clock()
        self.losses[name] = call()
        self.seconds.setdefault(name, []).append((self.clock() - started) / times)


@torch.no_grad()
def measured(folder: Path, precision: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Measure all four in one precision, on short and on long examples."""
    device, dtype = torch.device(arguments.device), TYPES[precision]
    ours = FrozenBaseModel.load(folder / "base", precision=precision, device=arguments.device)
    method = method_of(folder)
    method.stack = method.stack.to(device)
    ours.hook(layer.path for layer in method.stack.layers)
    adapted, merged = (
        PeftModel.from_pretrained(
            AutoModelForCausalLM.from_pretrained(folder / "base", dtype=torch.float32), folder / "adapter"
        )
        for _ in range(2)
    )
    theirs = {"merged": merged.merge_and_unload(), "peft": adapted}
    theirs = {name: model.to(device, dtype).eval() for name, model in theirs.items()}
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    found, w = {}, weights()
    for length, lengths in TOKENS.items():
        examples = make_examples(
            ours.model.config.vocab_size, ends=False, lengths=[n - ANSWER_TOKENS for n in lengths]
        )
        scorer = FewShotScorer(ours, ours.encode(examples))
        batch = {**scorer.batch.inputs, "labels": scorer.batch.labels}
        tokens = int(scorer.label_tokens.sum())

        def loss_of(model: Any, batch: dict[str, Tensor] = batch) -> float:
            return float(model(**batch, use_cache=False).loss)

        def own_loss(w: Tensor, scorer: FewShotScorer = scorer, tokens: int = tokens) -> float:
            return float(scorer.nats(method, w)[0].sum() / tokens)

        measurement, rates = Measurement(clock), []
        for repetition in range(arguments.repetitions + 1):  # the first lays things out, and is dropped
            if repetition == 1:
                measurement = Measurement(clock)
            for name, model in theirs.items():
                measurement.note(name, partial(loss_of, model))
            measurement.note("one", partial(own_loss, w[:1]))
            measurement.note("sixteen", partial(own_loss, w), times=AT_ONCE)
            rates.append(
                rate_of_products(ours.model.config, sum(lengths) - len(lengths), dtype, device, clock)
            )
        found[length] = row(measurement, rates[1:], work(ours.model.config, lengths))
    return found


def row(measurement: Measurement, rates: Sequence[float], operations: float) -> dict[str, Any]:
    """Ratios to the faster of merged and peft: of the medians, of the minima, and of each repetition."""
    seconds = measurement.seconds

    def ratio(name: str, of: Callable[[Sequence[float]], float]) -> float:
        return round(min(of(seconds["merged"]), of(seconds["peft"])) / of(seconds[name]), 2)

    pairs = list(zip(seconds["merged"], seconds["peft"], strict=True))
    return {
        "seconds": {name: [round(value, 4) for value in values] for name, values in seconds.items()},
        "loss_nats_per_token": measurement.losses,
        "ratios": {
            name: {
                "median": ratio(name, statistics.median),
                "minimum": ratio(name, min),
                "pairs": [round(min(pair) / own, 2) for pair, own in zip(pairs, seconds[name], strict=True)],
            }
            for name in ("one", "sixteen")
        },
        "gflop": round(operations / GIGA, 1),
        "gflop_per_s_of_products": [round(rate / GIGA, 1) for rate in rates],
        "share_of_limit": {
            name: round(operations / min(seconds[name]) / max(rates), 3) for name in ("one", "sixteen")
        },
    }


def work(config: Any, lengths: Sequence[int]) -> float:
    """Floating-point operations of one candidate on examples of these lengths without padding.

    A product of T rows with a (d_out, d_in) weight takes 2 T d_out d_in. Counted are, for each token but the
    last of each example, the seven projections of each layer and the modules' factors on them, the scores
    and their use (2 L inner for a token that sees L / 2 on average), and for each label token the head.
    """
    d, inner, ff = config.hidden_size, config.num_attention_heads * config.head_dim, config.intermediate_size
    keys = config.num_key_value_heads * config.head_dim
    shapes = [(inner, d), (keys, d), (keys, d), (d, inner), (ff, d), (ff, d), (d, ff)]
    rows = sum(lengths) - len(lengths)
    low_rank = N_MODULES * RANK * sum(a + b for a, b in shapes)
    layer = 2 * rows * (sum(a * b for a, b in shapes) + low_rank) + sum(2 * n * n * inner for n in lengths)
    head = 2 * len(lengths) * ANSWER_TOKENS * d * config.vocab_size
    return float(config.num_hidden_layers * layer + head)


def rate_of_products(
    config: Any, rows: int, dtype: torch.dtype, device: torch.device, clock: Callable[[], float]
) -> float:
    """FLOP/s of the faster of plain and packed products, of the feed-forward's shapes and so many rows."""
    d, ff = config.hidden_size, config.intermediate_size
    pairs = [
        (
            torch.randn(rows, shape[1], device=device, dtype=dtype),
            torch.randn(shape, device=device, dtype=dtype),
        )
        for shape in ((ff, d), (ff, d), (d, ff))
    ]
    kinds: list[list[Callable[[], Tensor]]] = [[partial(torch.nn.functional.linear, x, W) for x, W in pairs]]
    if can_pack(device, dtype):
        kinds.append([partial(PackedProduct(W, None, dtype).forward, x) for x, W in pairs])
    seconds = []
    for products in kinds:
        for _ in range(6):
            started = clock()
            for product in products:
                product()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(clock() - started)
    return float(2 * rows * 3 * ff * d / min(seconds))


def as_text(content: dict[str, Any]) -> str:
    lines = [f"{content['size']}: {content['machine']}; {content['matrix_units']}"]
    for precision, rows in content["precisions"].items():
        for length, found in rows.items():
            fastest = {name: min(values) for name, values in found["seconds"].items()}
            lines.append(f"{precision}, {length}: {fastest}")
            for name, ratio in found["ratios"].items():
                share = found["share_of_limit"][name]
                lines.append(
                    f"  {name:8} {ratio['median']:5.2f} median {ratio['minimum']:5.2f} minimum, "
                    f"{100 * share:.0f} % of the limit"
                )
    return "\n".join(lines)
