"""The report of a finished composition, arranged for its page: what to draw, in which order."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from composer.core.choices import TAKES_ANY_SHAPE
from composer.models import Composition, Example
from composer.selectors import selection_left, shots_of
from modules_registry.models import BaseModel

Row = dict[str, Any]

KIND_OF_BASELINE = {"composed": "ours", "lorahub": "reference"}
DECISIONS = {
    "use": ("success", "Use it"),
    "single": ("warning", "Take the single module"),
    "train": ("warning", "Train a LoRA instead"),
    "none": ("warning", "No gain"),
}
SHOWN = {"different": "Differences", "wrong": "Wrong answers", "all": "All"}
AUTO_CLASS: dict[str, str] = {
    BaseModel.Kind.SEQ2SEQ: "AutoModelForSeq2SeqLM",
    BaseModel.Kind.CAUSAL: "AutoModelForCausalLM",
}
ANSWER: dict[str, str] = {  # of what generate returns; a decoder repeats the prompt first
    BaseModel.Kind.SEQ2SEQ: "output[0]",
    BaseModel.Kind.CAUSAL: 'output[0, inputs["input_ids"].shape[1]:]',
}
SNIPPET = """\
from peft import PeftModel
from transformers import {auto_class}, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{base}")
base = {auto_class}.from_pretrained("{base}")
model = PeftModel.from_pretrained(base, "{slug}")

inputs = tokenizer({prompt}, return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=64)
print(tokenizer.decode({answer}, skip_special_tokens=True))"""
FILE_OF_ROLE = {Example.Role.SHOT: "examples.jsonl", Example.Role.HELD_OUT: "held_out.jsonl"}
BARS_MAX = 12  # what one looks at; the table has them all
NEGLIGIBLE = 1e-4  # a weight that rounds to 0.00 and a little less


def report_view(composition: Composition, show: str = "") -> dict[str, Any]:
    """Everything the report page shows."""
    report = composition.report or {}
    badge, label = DECISIONS.get(report["verdict"]["decision"], ("quiet", "Verdict"))
    return {
        "report": report,
        "verdict": report["verdict"] | {"badge": badge, "label": label},
        "race": race_rows(report["baselines"]),
        "losses": loss_rows(report["baselines"]),
        "weights": weight_rows(report["modules"]),
        "weight_words": weight_words(report),
        "predictions": prediction_view(report["predictions"], show),
        "few_shot_loss": f"{report['few_shot_loss_nats']:.3f}",
        "base_loss": base_loss(report["baselines"]),
        "total_seconds": sum(report["seconds"].values()),
        "selection": selection_words(composition.selection),
        "snippet": snippet(composition, report["template"]),
        "is_judged_left_out": is_judged_left_out(report),
        "costs": race_so_far(report["baselines"]) if report["schema"] > 1 else [],
        "layers": layer_view(report),
    }


def command(composition: Composition, endpoint: str) -> str:
    """What makes the same adapter again, on a machine of the same kind."""
    return command_line(endpoint, command_options(composition))


def command_options(composition: Composition) -> dict[str, Any]:
    """The whole request as the command line takes it: every input with its revision."""
    report, base = composition.report or {}, composition.base
    modules = [f"{m.name}@{m.version.commit_id}" for m in composition.modules.select_related("version")]
    return {
        "base": f"{base.name}@{base.revision}",
        "modules": modules,
        "examples": FILE_OF_ROLE[Example.Role.SHOT],
        "held-out": FILE_OF_ROLE[Example.Role.HELD_OUT] if report["n_held_out"] else None,
        "method": composition.method,
        "search": composition.search,
        "objective": composition.objective,
        "select": selection_left(composition),
        "budget": composition.budget,
        "batch-size": composition.batch_size,
        "seed": composition.seed,
        "precision": report["precision"],
        "device": report.get("device", "cpu"),
        "rank": composition.rank,
        "template": composition.template,
        "max-new-tokens": composition.max_new_tokens,
        "baselines": composition.baselines,
        "task": composition.sentence or None,
        "out": composition.slug,
    }


def command_line(endpoint: str, options: Mapping[str, Any]) -> str:
    """Options as a line for a shell; None leaves one out."""
    words = [f"HF_ENDPOINT={shlex.quote(endpoint)} python -m composer compose"]
    for name, value in options.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words.append(" ".join([f"--{name}", *(shlex.quote(str(each)) for each in values)]))
    return " \\\n  ".join(words)


def snippet(composition: Composition, template: str) -> str:
    """Python that loads the unpacked adapter and answers the shortest of the owner's examples."""
    shortest = min((pair.input for pair in shots_of(composition)), key=len)
    return SNIPPET.format(
        auto_class=AUTO_CLASS[composition.base.kind],
        answer=ANSWER[composition.base.kind],
        base=composition.base.name,
        slug=composition.slug,
        prompt=json.dumps(template.replace("{input}", shortest), ensure_ascii=False),
    )


def weight_words(report: Mapping[str, Any]) -> str:
    """How to read a weight of this method."""
    if report["method"] == "cat":
        return "These are the modules' shares, averaged over the layers; they add up to 1."
    if report["method"] not in TAKES_ANY_SHAPE:
        return (
            "The method multiplies the weighted sums of both factors, so a weight's sign and size mean less "
            "by themselves."
        )
    words = "1 takes a module as it is, 0 leaves it out; a negative weight takes it away."
    by_layer = " Every layer has weights of its own; these are their means."
    return words + (by_layer if report.get("weights_by_layer") else "")


def is_judged_left_out(report: Mapping[str, Any]) -> bool:
    """Without held-out examples, some searches are judged by fits that each left some examples out."""
    if report["schema"] == 1:  # which did not say so
        return report["n_held_out"] == 0 and report["n_shots"] > 1 and report["method"] == "exact"
    composed = next(row for row in report["baselines"] if row["key"] == "composed")
    return report["n_held_out"] == 0 and composed["left_out_loss_nats"] is not None


def outcome(decision: str, baselines: Sequence[Mapping[str, Any]]) -> Row:
    """A report in a line: its verdict, and how often it is right or else its few-shot loss."""
    badge, label = DECISIONS.get(decision, ("quiet", "Verdict"))
    composed = next(row for row in baselines if row["key"] == "composed")
    return {
        "badge": badge,
        "label": label,
        "percent": composed["held_out_exact_match_percent"],
        "loss": composed["few_shot_loss_nats"],
    }


def base_loss(baselines: Sequence[Mapping[str, Any]]) -> str:
    """The base alone, for comparison; empty when it was not measured."""
    loss = next((row["few_shot_loss_nats"] for row in baselines if row["key"] == "zero_shot"), None)
    return f"the base alone: {loss:.3f}" if loss is not None else ""


def selection_words(selection: str) -> str:
    """How the modules were chosen, step by step."""
    said = {
        "all": "all that fit",
        "random": "{} drawn at random",
        "chosen": "chosen by hand",
        "screen": "the best {} alone",
        "near": "the {} nearest by text",
    }
    steps = (step.partition(":") for step in selection.split("+"))
    return ", then ".join(said[kind].format(count) for kind, _, count in steps)


def race_rows(baselines: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Held-out exact match, best first; empty when nothing was held out."""
    rows = [row for row in race_so_far(baselines) if row["percent"] is not None]
    return sorted(rows, key=lambda row: -row["percent"])


def race_so_far(told: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Rows of the race as they are measured, in that order."""
    return [
        named(row) | {"percent": row["held_out_exact_match_percent"], **interval(row["interval_percent"])}
        for row in told
    ]


def named(row: Mapping[str, Any]) -> Row:
    return {
        "label": row["label"],
        "detail": row["detail"],
        "kind": KIND_OF_BASELINE.get(row["key"], "baseline"),
        "loss": row["few_shot_loss_nats"],
        "left_out_loss": row.get("left_out_loss_nats"),
        "cost": row.get("cost"),
    }


def interval(bounds: Sequence[float] | None) -> Row:
    low, high = bounds or (None, None)
    return {"low": low, "high": high}


def loss_rows(baselines: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Few-shot loss, lowest first, with each bar's length in percent of the longest."""
    measured = [row for row in baselines if row["few_shot_loss_nats"] is not None]
    measured.sort(key=lambda row: row["few_shot_loss_nats"])
    longest = max((row["few_shot_loss_nats"] for row in measured), default=0) or 1
    return [named(row) | {"width": 100 * row["few_shot_loss_nats"] / longest} for row in measured]


def weight_rows(modules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The modules as bars about zero, heaviest first; those without weight apart."""
    by_size = sorted(modules, key=lambda module: -abs(module["weight"]))
    heavy = [module for module in by_size if abs(module["weight"]) > NEGLIGIBLE]
    low = min([0.0, *(module["weight"] for module in heavy)])
    high = max([0.0, *(module["weight"] for module in heavy)])
    span = (high - low) or 1.0
    bars = [
        {
            "label": module["name"],
            "href": f"/{module['name']}",
            "weight": module["weight"],
            "alone_loss": module["alone_loss_nats"],
            "start": 100 * (min(0.0, module["weight"]) - low) / span,
            "width": 100 * abs(module["weight"]) / span,
        }
        for module in heavy
    ]
    return {
        "bars": bars[:BARS_MAX],
        "rows": bars,
        "zero": -100 * low / span,
        "idle": by_size[len(heavy) :],
    }


def layer_view(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The heaviest modules' weights by layer: a strip each, and as a table. None if layers share them."""
    by_layer: Mapping[str, Sequence[float]] | None = report.get("weights_by_layer")
    if not by_layer:
        return None
    columns = list(zip(*by_layer.values(), strict=True))  # one for each module, in the modules' order
    order = sorted(range(len(columns)), key=lambda i: -max(map(abs, columns[i])))[:BARS_MAX]
    largest = max(abs(weight) for column in columns for weight in column) or 1.0
    width = 100 / len(by_layer)
    strips = [
        {
            "label": report["modules"][i]["name"],
            "low": min(columns[i]),
            "high": max(columns[i]),
            "strongest": max(columns[i], key=abs),
            "cells": [
                {
                    "x": number * width,
                    "width": width,
                    "strength": abs(weight) / largest,
                    "is_negative": weight < 0,
                    "title": f"{layer}: {weight:.3f}",
                }
                for number, (layer, weight) in enumerate(zip(by_layer, columns[i], strict=True))
            ],
        }
        for i in order
    ]
    table = [{"layer": layer, "weights": [row[i] for i in order]} for layer, row in by_layer.items()]
    return {"strips": strips, "table": table, "largest": largest, "count": len(by_layer)}


def prediction_view(predictions: Sequence[Mapping[str, Any]], show: str) -> dict[str, Any]:
    """Predictions side by side, differences first, and how many each filter leaves."""
    marked = [dict(row) | {"different": row["base"] != row["composed"]} for row in predictions]
    kept = {
        "all": marked,
        "different": [row for row in marked if row["different"]],
        "wrong": [row for row in marked if not row["correct"]],
    }
    chosen = show if show in kept else "all"
    filters = [
        {"name": name, "label": label, "count": len(kept[name]), "is_chosen": name == chosen}
        for name, label in SHOWN.items()
    ]
    rows = sorted(kept[chosen], key=lambda row: not row["different"])
    return {"rows": rows, "filters": filters, "count": len(marked)}
