"""The report of a finished composition, arranged for its page: what to draw, in which order."""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django.core.paginator import Paginator

from composer.core.spec.adapter_size import modules_with_weight, size_text
from composer.core.spec.choices import GRADIENT_STEP_COST, SMALL_RANK, TAKES_ANY_SHAPE
from composer.core.spec.counting import count_noun
from composer.core.spec.stages import STAGES
from composer.core.spec.verdict_labels import verdict_label
from composer.core.spec.verdict_rule import BASELINE_NAMES
from composer.matching.selection import remaining_selection
from composer.matching.templates import composition_template, prompt_blocks
from composer.models import Composition, Example
from composer.report.next_steps import next_steps
from composer.report.scales import axis_end, loss_scale
from composer.report.verdict import is_judged_left_out, tokens_of, verdict_badge, verdict_view
from composer.selectors import withheld_because
from hub_site.common.visible_text import visible

ViewRow = dict[str, Any]

KIND_OF_BASELINE = {"composed": "ours", "lorahub": "reference"}
SHOWN = {"different": "Differences", "wrong": "Wrong answers", "all": "All"}
FILE_OF_ROLE: dict[str, str] = {Example.Role.SHOT: "examples.jsonl", Example.Role.HELD_OUT: "held_out.jsonl"}
BARS_MAX = 12  # what one looks at; the table has them all
CONTRIBUTIONS_MAX = 6
ANSWERS_IN_SIGHT = 3
SAME_WEIGHT = 0.005  # weights that differ by less are the same on the page, which shows two digits
NEGLIGIBLE = 1e-4  # a weight that rounds to 0.00 and a little less
PREDICTIONS_PER_PAGE = 15
ORIGINS = {"chosen": "{} chosen by hand", "random": "{} drawn at random"}
CHOICES = {
    "screen": "{} chosen for you by measured loss",
    "near": "{} chosen for you by text",
    "random": "{} drawn at random",
}
PRUNED_WORDS = (
    "Without all of them the few-shot loss is less than 0.01 nats per token higher once the other weights "
    "are fitted again, and the left-out loss is no higher. "
    "Each change is for this module alone, before refitting."
)


def report_view(
    composition: Composition, report: Mapping[str, Any], *, show: str = "", page: str | None = None
) -> dict[str, Any]:
    """Everything the report page shows, of the report as its reader may have it."""
    weights = weight_rows(report["modules"])
    judged_left_out = is_judged_left_out(report)
    left_out = loss_chart(report["baselines"], "left_out_loss") if judged_left_out else None
    return {
        "report": report,
        "withheld": withheld_because(composition),
        "verdict": verdict_view(report),
        **next_steps(report),
        "size_words": size_text(report),
        "comparison": (comparison := comparison_rows(report["baselines"])),
        "comparison_text": comparison_text(comparison),
        "losses": left_out or loss_chart(report["baselines"], "loss"),
        "are_left_out_losses": left_out is not None,
        "is_judged_left_out": judged_left_out,
        "weights": weights,
        "weight_words": weight_words(report),
        "contributions": contribution_view(weights["rows"], report["few_shot_loss_nats"]),
        "predictions": prediction_view(report["predictions"], show, page),
        "few_shot_loss": f"{report['few_shot_loss_nats']:.3f}",
        "base_loss": base_loss(report["baselines"]),
        "stages": stage_rows(report["seconds"]),
        "work_text": work_text(report["gradient_steps"]),
        "total_seconds": sum(report["seconds"].values()),
        "tokens": tokens_of(report),
        "modules_text": modules_text(composition.selection, composition.modules.count()),
        "costs": baseline_rows(report["baselines"]) if report["schema"] > 1 else [],
        "layers": layer_view(report),
        "prompt": prompt_view(report),
        "pruned_words": PRUNED_WORDS,
        "pruned": [pruned_row(row) for row in report.get("modules_pruned", ())],
        "authors": author_rows(credited_names(report)),
        "copies": [group for group in map(copies_row, report["modules"]) if group["copies"]],
    }


def prompt_view(report: Mapping[str, Any]) -> ViewRow | None:
    """What the model read of the first example; None in reports that did not keep it, and in shared ones."""
    shown = report.get("prompt_shown")
    if not shown:
        return None
    said = {"template": visible(report["template"]), "reason": report.get("template_reason", "")}
    return said | prompt_blocks(**shown)


def command(composition: Composition, endpoint: str) -> str:
    """What makes the same adapter again, on a machine of the same kind."""
    threads = (composition.report or {}).get("versions", {}).get("threads")
    return command_line(endpoint, command_options(composition), threads=threads)


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
        "select": remaining_selection(composition),
        "budget": report.get("budget_fitted") or composition.budget,
        "batch-size": composition.batch_size,
        "seed": composition.seed,
        "precision": report["precision"],
        "device": report.get("device", "cpu"),
        "rank": composition.rank if composition.rank != SMALL_RANK else None,
        "template": composition_template(composition),
        "max-new-tokens": composition.max_new_tokens,
        "baselines": composition.baselines,
        "task": composition.sentence or None,
        "out": composition.slug,
    }


def command_line(endpoint: str, options: Mapping[str, Any], *, threads: str | None = None) -> str:
    """Options as a line for a shell; None leaves one out. Another number of threads may round otherwise."""
    with_threads = f"OMP_NUM_THREADS={threads} " if threads else ""
    words = [f"{with_threads}HF_ENDPOINT={shlex.quote(endpoint)} python -m composer compose"]
    for name, value in options.items():
        if value is not None:
            values = value if isinstance(value, list) else [value]
            words.append(" ".join([f"--{name}", *(shlex.quote(str(each)) for each in values)]))
    return " \\\n  ".join(words)


def weight_words(report: Mapping[str, Any]) -> str:
    """How to read a weight of this method."""
    if report["method"] == "cat":
        return "These are the modules' shares, averaged over the layers; they add up to 1."
    if report["method"] not in TAKES_ANY_SHAPE:
        return (
            "The method multiplies the weighted sums of both factors, so the sign and size of one weight "
            "mean little alone."
        )
    words = "1 adds the whole module, 0 leaves it out, a negative weight subtracts it."
    by_layer = " Each layer has its own weights; these are their means."
    return words + (by_layer if layers_differ(report) else "")


def outcome(decision: str, level: str | None, baselines: Sequence[Mapping[str, Any]]) -> ViewRow:
    """A report in a line: its verdict, and how often it is right or else its few-shot loss."""
    composed = next(row for row in baselines if row["key"] == "composed")
    return {
        "badge": verdict_badge(decision, level),
        "label": verdict_label(decision, level, baselines),
        "percent": composed["held_out_exact_match_percent"],
        "loss": composed["few_shot_loss_nats"],
    }


def base_loss(baselines: Sequence[Mapping[str, Any]]) -> str:
    """The base alone, for comparison; empty when it was not measured."""
    loss = next((row["few_shot_loss_nats"] for row in baselines if row["key"] == "zero_shot"), None)
    return f"the base alone: {loss:.3f}" if loss is not None else ""


def work_text(gradient_steps: int) -> str:
    """The gradient steps beside the scored candidates, and what one costs."""
    if not gradient_steps:
        return "the search, the baselines and the refits together"
    steps = count_noun(gradient_steps, "gradient step")
    work = f"each about {GRADIENT_STEP_COST} candidates' work"
    return f"in the search, the baselines and the refits; and {steps}, {work}"


def modules_text(selection: str, n_tried: int) -> str:
    """How the modules of the search came to be chosen: by the request, by chance, or by what was measured.

    Args:
        selection: as it is stored, such as "screen:40" or "chosen".
        n_tried: modules that the search was given to choose from.
    """
    first, *steps = selection.split("+")
    kind = first.partition(":")[0]
    if kind in ORIGINS:
        text = ORIGINS[kind].format(n_tried)
    else:
        steps = [first, *steps]
        text = (
            f"{n_tried} tried"
            if any(keeps_fewer(step, n_tried) for step in steps)
            else f"all {n_tried} that fit"
        )
    for step in steps:
        if keeps_fewer(step, n_tried):
            kind, _, count = step.partition(":")
            text, n_tried = f"{CHOICES[kind].format(count)}, of {text}", int(count)
    return text


def keeps_fewer(step: str, count: int) -> bool:
    """Whether a step of a selection leaves any of so many modules out."""
    most = step.partition(":")[2]
    return bool(most) and int(most) < count


def comparison_rows(baselines: Sequence[Mapping[str, Any]]) -> list[ViewRow]:
    """Held-out exact match, best first; empty when nothing was held out."""
    rows = [row for row in baseline_rows(baselines) if row["percent"] is not None]
    return sorted(rows, key=lambda row: -row["percent"])


def comparison_text(comparison: Sequence[ViewRow]) -> str:
    """What the comparison shows: which is best, by how much, and whether their intervals overlap."""
    ours = next((row for row in comparison if row["kind"] == "ours"), None)
    others = [row for row in comparison if row["kind"] != "ours" and row["key"] in BASELINE_NAMES]
    if ours is None or not others:
        return ""
    best = max(others, key=lambda row: row["percent"])
    gap = ours["percent"] - best["percent"]
    if not gap:
        return f"This composition and “{best['label']}” are level."
    first, second = (ours, best) if gap > 0 else (best, ours)
    apart = "do not overlap" if first["low"] > second["high"] else "overlap"
    leads = f"“{first['label']}” is {count_noun(round(abs(gap)), 'point')} ahead of “{second['label']}”"
    return f"{leads}, and their intervals {apart}."


def baseline_rows(told: Sequence[Mapping[str, Any]]) -> list[ViewRow]:
    """Rows of the comparison as they are measured, in that order."""
    return [
        baseline_row(row)
        | {"percent": row["held_out_exact_match_percent"], **interval_bounds(row["interval_percent"])}
        for row in told
    ]


def baseline_row(row: Mapping[str, Any]) -> ViewRow:
    return {
        "key": row["key"],
        "label": row["label"],
        "detail": row["detail"],
        "kind": KIND_OF_BASELINE.get(row["key"], "baseline"),
        "loss": row["few_shot_loss_nats"],
        "left_out_loss": row.get("left_out_loss_nats"),
        "prompt_tokens": row.get("prompt_tokens"),
        "has_adapter": bool(row.get("adapter")),
        "cost": row.get("cost"),
    }


def interval_bounds(bounds: Sequence[float] | None) -> ViewRow:
    low, high = bounds or (None, None)
    return {"low": low, "high": high}


def loss_chart(
    baselines: Sequence[Mapping[str, Any]], which: str, *, base_loss: float | None = None
) -> dict[str, Any] | None:
    """The losses called `which`, lowest first, on one scale with the base alone; None where there are none.

    Args:
        baselines: rows as in report.json.
        which: loss or left_out_loss.
        base_loss: of the base alone, in nats per token; None: that of its row, if it has one.
    """
    measured = [row for row in map(baseline_row, baselines) if row[which] is not None]
    if not measured:
        return None
    measured.sort(key=lambda row: row[which])
    if base_loss is None:
        base_loss = next((row[which] for row in measured if row["key"] == "zero_shot"), None)
    scale = loss_scale([row[which] for row in measured] + ([] if base_loss is None else [base_loss]))
    return {
        "rows": [row | {"shown": row[which], "place": scale.place(row[which])} for row in measured],
        "scale": scale,
        "base": None if base_loss is None else {"loss": base_loss, "place": scale.place(base_loss)},
    }


def weight_rows(modules: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The modules as bars about zero, heaviest first; those without weight apart."""
    by_size = [module_row(module) for module in sorted(modules, key=lambda module: -abs(module["weight"]))]
    bars = [row for row in by_size if abs(row["weight"]) > NEGLIGIBLE]
    low = min([0.0, *(row["weight"] for row in bars)])
    high = max([0.0, *(row["weight"] for row in bars)])
    span = (high - low) or 1.0
    for row in bars:
        row["start"] = 100 * (min(0.0, row["weight"]) - low) / span
        row["width"] = 100 * abs(row["weight"]) / span
    return {
        "bars": bars[:BARS_MAX],
        "rows": bars,
        "zero": -100 * low / span,
        "idle": by_size[len(bars) :],
    }


def module_row(module: Mapping[str, Any]) -> ViewRow:
    return {
        "label": module["name"],
        "href": module_href(module["name"]),
        "weight": module["weight"],
        "alone_loss": module["alone_loss_nats"],
        "without_loss": module.get("without_loss_nats"),
    }


REASON_TEXT = {
    "equal": "the same weights",
    "weights": "similar weights, cosine {:.2f}",
    "examples": "the same on your examples, cosine {:.2f}",
}


def copies_row(module: Mapping[str, Any]) -> ViewRow:
    """A module and those that it stands for, each with the reason in words."""
    copies = [
        {
            "label": copy["name"],
            "href": module_href(copy["name"]),
            "reason": REASON_TEXT[copy["reason"]].format(copy["similarity"]),
        }
        for copy in module.get("copies", ())
    ]
    return {"label": module["name"], "href": module_href(module["name"]), "copies": copies}


def credited_names(report: Mapping[str, Any]) -> list[str]:
    """The modules whose numbers are in the adapter, and the copies that they stand for."""
    carrying = modules_with_weight(report)
    copies = [copy["name"] for row in carrying for copy in row.get("copies", ())]
    return [row["name"] for row in carrying] + copies


def author_rows(names: Iterable[str]) -> list[ViewRow]:
    """The owners of modules with the number of each one's, most first; without names that tell no owner."""
    counts = Counter(owner for owner, slash, _ in (name.partition("/") for name in names) if slash)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return [{"name": owner, "count": count, "href": f"/{owner}"} for owner, count in ordered]


def pruned_row(module: Mapping[str, Any]) -> ViewRow:
    """A module that took part in the search and is not in the adapter."""
    return {
        "label": module["name"],
        "href": module_href(module["name"]),
        "weight": module["weight"],
        "change": module["loss_change_nats"],
    }


def module_href(name: str) -> str:
    """The address of a module's page; empty for a module whose name is not told."""
    return f"/{name}" if "/" in name else ""


def contribution_view(rows: Sequence[ViewRow], composed_loss: float) -> dict[str, Any] | None:
    """The modules that are missed most, with their marks on one axis of losses; None if nothing was measured.

    The axis begins at 0 and breaks for outliers.
    """
    measured = [row for row in rows if row["without_loss"] is not None]
    if not measured:
        return None  # a report of an earlier version
    measured.sort(key=lambda row: -row["without_loss"])
    end = axis_end(composed_loss, [row["without_loss"] for row in measured]) or 1.0
    for row in measured:
        row["is_beyond"] = row["without_loss"] > end
        row["mark"] = 100.0 if row["is_beyond"] else 100 * row["without_loss"] / end
    most = measured[0]
    return {
        "rows": measured[:CONTRIBUTIONS_MAX],
        "count": len(measured),
        "whole": composed_loss,
        "whole_mark": 100 * composed_loss / end,
        "end": end,
        "most": most if most["without_loss"] > composed_loss else None,
        "dispensable": sum(row["without_loss"] <= composed_loss for row in measured),
    }


def stage_rows(seconds: Mapping[str, float]) -> list[ViewRow]:
    """How long each stage took, in their order, with each bar's length in percent of the longest."""
    longest = max(seconds.values(), default=0) or 1
    return [
        {"label": stage.label, "seconds": seconds[stage.name], "width": 100 * seconds[stage.name] / longest}
        for stage in STAGES
        if stage.name in seconds
    ]


def layers_differ(report: Mapping[str, Any]) -> bool:
    """Whether some module's weight is not the same in every layer, as far as the page shows weights."""
    columns = zip(*(report.get("weights_by_layer") or {}).values(), strict=True)
    return any(max(column) - min(column) >= SAME_WEIGHT for column in columns)


def layer_view(report: Mapping[str, Any]) -> dict[str, Any] | None:
    """The heaviest modules' weights by layer: a strip each, and as a table; None if all are alike."""
    if not layers_differ(report):
        return None
    by_layer: Mapping[str, Sequence[float]] = report["weights_by_layer"]
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


def predictions_kept(predictions: Sequence[Mapping[str, Any]]) -> dict[str, list[ViewRow]]:
    """The answers that each filter leaves, those that composing changed first."""
    marked = [dict(row) | {"different": row["base"] != row["composed"]} for row in predictions]
    marked.sort(key=lambda row: not row["different"])
    return {
        "different": [row for row in marked if row["different"]],
        "wrong": [row for row in marked if not row["correct"]],
        "all": marked,
    }


def prediction_view(
    predictions: Sequence[Mapping[str, Any]], show: str, page: str | None = None
) -> dict[str, Any]:
    """Predictions side by side, differences first: a page of those a filter leaves, and all for paper."""
    kept = predictions_kept(predictions)
    chosen = show if show in kept else "all"
    filters = [
        {"name": name, "label": label, "count": len(kept[name]), "is_chosen": name == chosen}
        for name, label in SHOWN.items()
    ]
    rows = Paginator(kept[chosen], PREDICTIONS_PER_PAGE).get_page(page)
    return {
        "rows": rows,
        "filters": filters,
        "all": kept["all"],
        "count": len(predictions),
        "in_sight": kept["all"][:ANSWERS_IN_SIGHT],
        "n_different": len(kept["different"]),
    }
