"""How many times faster than LoraHub's published loop composing is, and how close to what the machine can do.

    python -m benchmarks.compose_speed --size S|M|L|D|smol [--threads 1] [--repetitions 5] [--out FOLDER]

Models with random weights in the sizes of real ones: S is a T5 of 6 M parameters, M has flan-t5-small's
dimensions, L flan-t5-large's, D is a Llama of 110 M. 20 modules of rank 16 on queries and values, five
examples of about 107 tokens. The published loop (benchmarks/reference.py: peft for each module, state dicts
summed in Python, transformers' forward pass in fp32) and ours run in turn, in one process:

* one evaluation: what it takes to score one weight vector;
* four at once: the same for four, a quarter of the time;
* loading: 20 modules from their files;
* whole run: loading, then NGOpt with 40 evaluations; and as reckoned, loading and 40 times one evaluation.

Memory is that of a whole run of ours alone, base included, in a process of its own.

The size smol is compared with something else, in `benchmarks/decoder_speed.py`: one evaluation of a Llama of
135 M parameters, beside transformers and peft.

The share of the limit is the work of one evaluation without padding (`work` has the formula) through the
time of one evaluation, over the rate at which bf16 products with packed weights run on this model's own
shapes, measured in the same repetition.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import decoder_speed
from benchmarks.machine import machine, matrix_units
from benchmarks.reference import Reference
from benchmarks.synthetic import ANSWER_TOKENS, LENGTHS, RANK, make_base, make_examples, make_module
from composer.core.methods.lorahub import FactorSum
from composer.core.model.base_model import FrozenBaseModel, multiplies_bf16
from composer.core.model.packed_linear import PackedProduct, can_pack
from composer.core.model.scorer import FewShotScorer, lorahub_objective
from composer.core.modules.module_stack import ModuleStack, read_module, stack_modules
from composer.core.search.journal import Journal
from composer.core.search.nevergrad_search import search_nevergrad

RESULTS = Path(__file__).resolve().parent / "results"
N_MODULES, BUDGET, SEED = 20, 40, 42
GIGA = 1e9


def main(argv: list[str] | None = None) -> None:
    arguments = read_arguments(argv)
    torch.set_num_threads(arguments.threads)
    if arguments.memory_of is not None:
        print(json.dumps(memory_of(arguments.memory_of)))
        return
    if arguments.size in decoder_speed.SIZES:
        decoder_speed.run(arguments)
        return
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as scratch:
        world = make_world(Path(scratch), arguments.size)
        content = measured(world, arguments)
        content["memory"] = memory_apart(world.folder, arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / f"compose_speed_{arguments.size}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(as_text(content))


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", choices=["tiny", "S", "M", "L", "D", *decoder_speed.SIZES], default="M")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--whole-runs", type=int, default=5)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--scratch", type=Path, help="where the models are made; L takes 3.5 GB")
    parser.add_argument("--memory-of", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


@dataclass(frozen=True)
class SpeedInputs:
    """A base and its modules, as files."""

    folder: Path
    modules: list[Path]
    causal: bool
    vocabulary: int


def make_world(folder: Path, size: str) -> SpeedInputs:
    make_base(folder / "base", size)
    model = FrozenBaseModel.load(folder / "base").model  # plain fp32
    for i in range(N_MODULES):
        make_module(folder / "modules" / f"{i:02}", model, seed=i)
    return world_in(folder)


def world_in(folder: Path) -> SpeedInputs:
    config = json.loads((folder / "base" / "config.json").read_text())
    causal = config["model_type"] == "llama"
    return SpeedInputs(folder, sorted((folder / "modules").iterdir()), causal, config["vocab_size"])


# --- ours -----------------------------------------------------------------------


@dataclass(frozen=True)
class Ours:
    """Our side in one precision."""

    scorer: FewShotScorer
    folders: list[Path]

    @classmethod
    def load(cls, world: SpeedInputs, precision: str, device: str = "cpu") -> "Ours":
        base = FrozenBaseModel.load(world.folder / "base", precision=precision, device=device)
        examples = make_examples(world.vocabulary, ends=not world.causal)
        ours = cls(FewShotScorer(base, base.encode(examples)), world.modules)
        base.hook(layer.path for layer in ours.stack().layers)
        return ours

    def stack(self) -> ModuleStack:
        stack = stack_modules([read_module(folder, folder.name) for folder in self.folders])
        return stack.to(self.scorer.base.device)

    def run(self) -> tuple[float, ...]:
        """The weights that NGOpt recommends, by the published objective."""
        method = FactorSum(self.stack())
        return search_nevergrad(
            lambda tried: [lorahub_objective(self.scorer, method, weights) for weights in tried],
            len(method.stack),
            Journal(lambda step: None),
            budget=BUDGET,
            seed=SEED,
        ).weights


# --- measuring --------------------------------------------------------------------


@dataclass
class SpeedComparison:
    """The published loop and ours, timed in turn."""

    world: SpeedInputs
    ours: dict[str, Ours]
    methods: dict[str, FactorSum]
    model: Any
    batches: list[dict[str, Tensor]]
    times: dict[str, list[float]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, call: Callable[[], Any]) -> Any:
        seconds, result = timed(call)
        self.times.setdefault(name, []).append(seconds)
        return result

    def evaluations(self, weights: Tensor) -> None:
        """Loading and scoring, each side once."""
        first = weights[0].tolist()
        reference = self.note("reference.loading", lambda: Reference(self.model, self.world.modules))
        score = self.note("reference.one", lambda: reference.score(first, self.batches))
        self.scores.setdefault("reference", []).append(score)
        reference.model.unload()
        for name, own in self.ours.items():
            method = self.methods[name]
            self.note(f"{name}.loading", own.stack)
            self.note(f"{name}.one", partial(own.scorer.nats, method, weights[:1]))
            self.note(f"{name}.four", partial(own.scorer.nats, method, weights))
            self.scores.setdefault(name, []).append(lorahub_objective(own.scorer, method, first))

    def whole_runs(self) -> None:
        self.note("reference.run", self._published_run)
        for name, own in self.ours.items():
            self.note(f"{name}.run", own.run)

    def _published_run(self) -> None:
        reference = Reference(self.model, self.world.modules)
        reference.search(self.batches, budget=BUDGET, seed=SEED)
        reference.model.unload()


def measured(world: SpeedInputs, arguments: argparse.Namespace) -> dict[str, Any]:
    device = torch.device(arguments.device)
    precisions = ("fp32", "bf16") if multiplies_bf16(device) else ("fp32",)
    ours = {precision: Ours.load(world, precision, arguments.device) for precision in precisions}
    methods = {precision: FactorSum(own.stack()) for precision, own in ours.items()}
    comparison = SpeedComparison(world, ours, methods, *reference_side(world, ours["fp32"]))
    for name, own in ours.items():  # the first call lays things out
        own.scorer.nats(methods[name], torch.zeros(4, N_MODULES))
    generator = torch.Generator().manual_seed(0)
    config = ours["fp32"].scorer.base.model.config
    rates = []
    for repetition in range(arguments.repetitions):
        comparison.evaluations(torch.rand(4, N_MODULES, generator=generator) - 0.5)
        if repetition < arguments.whole_runs:
            comparison.whole_runs()
        if can_pack(device, torch.bfloat16) and "bf16" in ours and not world.causal:
            rates.append(packed_rate(config))
    return {
        "schema": 1,
        "size": arguments.size,
        "machine": machine(),
        "matrix_units": matrix_units(),
        "device": arguments.device,
        "threads": arguments.threads,
        "parameters": ours["fp32"].scorer.base.model.num_parameters(),
        "seconds": {name: [round(value, 4) for value in values] for name, values in comparison.times.items()},
        "objective": comparison.scores,
        "ratios": {name: ratios(comparison.times, name) for name in ours},
        "share_of_limit": share_of_limit(comparison.times["bf16.one"], rates, config) if rates else None,
    }


def reference_side(world: SpeedInputs, own: Ours) -> tuple[Any, list[dict[str, Tensor]]]:
    """A plain fp32 model for the published loop, and what it reads: the same tokens, padded."""
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kind = AutoModelForCausalLM if world.causal else AutoModelForSeq2SeqLM
    model: Any = kind.from_pretrained(world.folder / "base", dtype=torch.float32)
    batch = own.scorer.batch
    inputs = {name: batch.inputs[name] for name in ("input_ids", "attention_mask")}
    return model.to(own.scorer.base.device).eval(), [{**inputs, "labels": batch.labels}]


def ratios(times: dict[str, list[float]], name: str) -> dict[str, dict[str, Any]]:
    """Times the reference, by what is measured: of the medians and of the minima, and the distribution."""
    pairs = {
        "one": (times["reference.one"], times[f"{name}.one"]),
        "four": (times["reference.one"], [seconds / 4 for seconds in times[f"{name}.four"]]),
        "loading": (times["reference.loading"], times[f"{name}.loading"]),
        "run_reckoned": (whole(times, "reference"), whole(times, name)),
    }
    if "reference.run" in times:
        pairs["run"] = times["reference.run"], times[f"{name}.run"]
    return {
        what: {
            "median": round(statistics.median(theirs) / statistics.median(own), 2),
            "minimum": round(min(theirs) / min(own), 2),
            "pairs": [round(a / b, 2) for a, b in zip(theirs, own, strict=True)],
        }
        for what, (theirs, own) in pairs.items()
    }


def whole(times: dict[str, list[float]], name: str) -> list[float]:
    """A run of 40 evaluations as it would be by its parts."""
    parts = zip(times[f"{name}.loading"], times[f"{name}.one"], strict=True)
    return [loading + BUDGET * one for loading, one in parts]


# --- the limit --------------------------------------------------------------------


def work(config: Any) -> float:
    """Floating-point operations of one evaluation of a T5 without padding.

    A product of T rows with a (d_out, d_in) weight takes 2 T d_out d_in. Counted are the encoder's four
    attention products and its feed-forward for each source token, its scores and their use (4 L inner for a
    token that sees L), the decoder's for each target token, cross attention with the keys' and values'
    products taken to the few queries instead of to every source token, the head for each target token, and
    the module's factors on q and v.
    """
    d, inner = config.d_model, config.num_heads * config.d_kv
    ff = config.d_ff * (3 if config.is_gated_act else 2)
    source, target = sum(LENGTHS), len(LENGTHS) * ANSWER_TOKENS
    low_rank = 2 * 2 * RANK * (d + inner)  # two factors on each of q and v
    encoder = source * (2 * (4 * d * inner + ff * d) + low_rank) + sum(4 * n * n * inner for n in LENGTHS)
    decoder = target * (2 * (8 * d * inner + ff * d) + 2 * low_rank)
    decoder += sum(4 * ANSWER_TOKENS * n * config.num_heads * d for n in LENGTHS)
    layers = config.num_layers * encoder + config.num_decoder_layers * decoder
    return float(layers + 2 * target * d * config.vocab_size)


def packed_rate(config: Any) -> float:
    """FLOP/s of bf16 products with packed weights, of the shapes and as many rows as the encoder has."""
    d, inner, ff, rows = config.d_model, config.num_heads * config.d_kv, config.d_ff, sum(LENGTHS)
    shapes = [(inner, d)] * 3 + [(d, inner), (ff, d), (ff, d), (d, ff)]
    products = [PackedProduct(torch.randn(shape), None, torch.bfloat16) for shape in shapes]
    inputs = [torch.randn(rows, shape[1]).bfloat16() for shape in shapes]

    def once() -> None:
        for product, x in zip(products, inputs, strict=True):
            product.forward(x)

    once()
    seconds = min(timed(once)[0] for _ in range(5))
    return float(sum(2 * rows * a * b for a, b in shapes) / seconds)


def share_of_limit(seconds: Sequence[float], rates: Sequence[float], config: Any) -> dict[str, Any]:
    """What of the rate of packed bf16 products one evaluation reaches; by repetition, and of the minima."""
    operations = work(config)
    return {
        "gflop": round(operations / GIGA, 1),
        "gflop_per_s_of_products": [round(rate / GIGA, 1) for rate in rates],
        "share": [round(operations / one / rate, 3) for one, rate in zip(seconds, rates, strict=True)],
        "share_of_minima": round(operations / min(seconds) / max(rates), 3),
    }


# --- memory -----------------------------------------------------------------------


def memory_apart(folder: Path, threads: int) -> dict[str, float]:
    """Of a whole run of ours, in a process that does nothing else."""
    command = [sys.executable, "-m", "benchmarks.compose_speed", "--memory-of", str(folder)]
    done = subprocess.run([*command, "--threads", str(threads)], check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def memory_of(folder: Path) -> dict[str, float]:
    before = peak_gb()
    precision = "bf16" if multiplies_bf16(torch.device("cpu")) else "fp32"
    started = time.monotonic()
    own = Ours.load(world_in(folder), precision)
    loaded = time.monotonic()
    own.run()
    return {
        "peak_gb": peak_gb(),
        "own_gb": memory_gb("RssAnon"),  # in the end, without the pages of the base's file, which jobs share
        "before_gb": before,
        "loading_base_s": round(loaded - started, 2),
        "run_s": round(time.monotonic() - loaded, 2),
    }


def peak_gb() -> float:
    """The most memory this process has held; what getrusage tells would be its parent's."""
    return memory_gb("VmHWM")


def memory_gb(name: str) -> float:
    """A row of /proc/self/status."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return round(int(status[name].split()[0]) * 1024 / GIGA, 2)


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    started = time.perf_counter()
    result = call()
    return time.perf_counter() - started, result


def as_text(content: dict[str, Any]) -> str:
    lines = [f"{content['size']}: {content['machine']}; {content['matrix_units']}"]
    for precision, rows in content["ratios"].items():
        for what, row in rows.items():
            lines.append(f"{precision} {what:12} {row['median']:6.2f} median {row['minimum']:6.2f} minimum")
    lines.append(f"share of the limit: {content['share_of_limit']}")
    lines.append(f"memory: {content['memory']}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
