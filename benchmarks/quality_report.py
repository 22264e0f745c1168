"""compose_quality.json as tables and pictures that people read."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import charts
from composer.core.evaluation.verdict import LeftOutLosses, verdict_left_out
from composer.core.spec.metrics import wilson_interval

COLUMNS = {
    "zero_shot": "base alone",
    "best_single": "best single",
    "uniform": "uniform",
    "in_context": "in context",
    "random_loras": "random modules",
    "lora_on_shots": "LoRA on the 5",
    "lorahub": "LoraHub",
    "adam": "exact sum, Adam 150",
    "auto": "**auto**",
    "tuned": "auto, tuned",
    "composed_in_context": "auto, examples in its prompt",
}
KINDS = {
    "composable": "Composable tasks: every skill they need has a module",
    "new_knowledge": "Tasks that need knowledge only one module has",
    "near": "Tasks that are near a module's own, but not the same",
    "negative": "Controls whose skill no module has",
}
CARRIES, COUNTS = 0.25, 0.05  # weights from which a module carries a composition, or has a part in it
FORMS = {"use": "composed", "tune": "tuned", "prompt": "composed_in_context"}  # a verdict that advises one
BASELINES = ("zero_shot", "best_single", "lora_on_shots", "in_context")  # what a gain is measured against
MUCH = 10.0  # points of exact match
Rows = Sequence[Mapping[str, Any]]


def write(out: Path, content: Mapping[str, Any]) -> None:
    """compose_quality.md, and a picture for each part that was measured."""
    parts = [section(content[name]) for name, section in SECTIONS.items() if name in content]
    head = "# How good the default is\n\nMade by `python -m benchmarks.compose_quality` on the demo world.\n"
    (out / "compose_quality.md").write_text("\n".join([head, *parts]), encoding="utf-8")
    if "quality" in content:
        comparison = charts.race(race_rows(content["quality"]["rows"]))
        (out / "compose_quality_race.svg").write_text(comparison, encoding="utf-8")
    if "anytime" in content:
        curve = charts.curve(anytime_points(content["anytime"]["rows"]), reference_seconds(content))
        (out / "compose_quality_anytime.svg").write_text(curve, encoding="utf-8")


def write_english(out: Path, part: Mapping[str, Any]) -> None:
    """compose_quality_english.md."""
    head = "# How good the default is in English\n\n"
    made_by = "Made by `python -m benchmarks.compose_quality --world english` on the English library.\n"
    rows = part["rows"]
    text = "\n".join([head + made_by, quality_section(part), advice_section(rows), seconds_section(rows)])
    (out / "compose_quality_english.md").write_text(text, encoding="utf-8")


def advice_section(rows: Rows) -> str:
    """What the report advised, and how many tokens a question takes."""
    lines = [
        "## The verdict, and tokens a question",
        "",
        "| task | verdict | composition | in context | composition, examples in its prompt | modules |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in rows:
        tokens = [
            row["baselines"][key]["prompt_tokens"]
            for key in ("composed", "in_context", "composed_in_context")
        ]
        cells = " | ".join(f"{number:.0f}" for number in tokens)
        lines.append(f"| {row['task']} | {row['verdict']} | {cells} | {len(row['weights'])} |")
    return "\n".join([*lines, ""])


def seconds_section(rows: Rows) -> str:
    """How long each stage took, one thread each, on a machine that may have had other work."""
    stages = list(dict.fromkeys(stage for row in rows for stage in row["seconds"]))
    lines = [
        "## Seconds of each stage",
        "",
        f"| task | {' | '.join(stages)} | together |",
        f"| --- |{' ---: |' * (len(stages) + 1)}",
    ]
    for row in rows:
        cells = [f"{row['seconds'].get(stage, 0.0):.0f}" for stage in stages]
        lines.append(f"| {row['task']} | {' | '.join(cells)} | {sum(row['seconds'].values()):.0f} |")
    return "\n".join([*lines, ""])


# --- quality ------------------------------------------------------------------


def exact_match(rows: Rows, task: str, column: str) -> list[float]:
    """Of every draw; a baseline is measured along with auto, which stands where no step of tuning helped."""
    variant, key = (column, "composed") if column in ("auto", "adam") else ("auto", column)
    own = [row["exact_match_percent"] for row in rows if row["task"] == task and row["variant"] == variant]
    instead = "composed" if key == "tuned" else key
    found = [
        percents[key] if percents[key] is not None else percents[instead]
        for percents in own
        if key in percents
    ]
    return [percent for percent in found if percent is not None]


def measured(rows: Rows, column: str) -> bool:
    return any(exact_match(rows, row["task"], column) for row in rows)


def mean_over_tasks(rows: Rows, column: str) -> float:
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    return statistics.fmean(statistics.fmean(exact_match(rows, task, column) or [0.0]) for task in tasks)


def quality_section(part: Mapping[str, Any]) -> str:
    rows = part["rows"]
    lines = [
        "## Held-out exact match, percent",
        "",
        "Strict exact match, greedy answers; mean over the draws of five examples and, in brackets, the",
        f"lowest and the highest draw. Machine: {part['machine']}.",
        "",
    ]
    for kind, title in KINDS.items():
        own = [row for row in rows if row["kind"] == kind]
        if own:
            lines += [f"### {title}", "", *quality_table(own), ""]
    return "\n".join(lines)


def quality_table(rows: Rows) -> list[str]:
    columns = {key: label for key, label in COLUMNS.items() if measured(rows, key)}
    lines = [
        f"| task | n | {' | '.join(columns.values())} |",
        f"| --- | ---: |{' ---: |' * len(columns)}",
    ]
    for task in dict.fromkeys(row["task"] for row in rows):
        n = next(row["n"] for row in rows if row["task"] == task)
        cells = [spread(exact_match(rows, task, column)) for column in columns]
        lines.append(f"| {task} | {n} | {' | '.join(cells)} |")
    means = [f"**{mean_over_tasks(rows, column):.1f}**" for column in columns]
    return [*lines, f"| **mean** | | {' | '.join(means)} |"]


def spread(values: Sequence[float]) -> str:
    if not values:
        return "-"
    return f"{statistics.fmean(values):.1f} ({min(values):.0f}-{max(values):.0f})"


def race_rows(rows: Rows) -> list[tuple[str, float, float, float]]:
    """(label, mean, lowest and highest draw) over the composable tasks, best first."""
    own = [row for row in rows if row["kind"] == "composable"]
    draws = sorted({row["draw"] for row in own})
    found = []
    for column, label in COLUMNS.items():
        if not measured(own, column):
            continue
        by_draw = [mean_over_tasks([row for row in own if row["draw"] == draw], column) for draw in draws]
        found.append((label.strip("*"), statistics.fmean(by_draw), min(by_draw), max(by_draw)))
    return sorted(found, key=lambda row: -row[1])


# --- the verdict --------------------------------------------------------------


def verdict_section(part: Mapping[str, Any]) -> str:
    rows = part["rows"]
    groups = {
        "every module there": [row for row in rows if "withheld" not in row],
        "a needed skill withheld": [row for row in rows if "withheld" in row],
    }
    lines = [
        "## How far the verdict can be trusted",
        "",
        "Gain: exact match on examples that neither fit nor verdict saw, minus the best of base alone, best",
        "single module, LoRA on the five and in context. A verdict advises the composition (`use`), it tuned",
        "on the five (`tune`), or it with the five in its prompt (`prompt`). In vain: what it advises gains",
        "nothing. Missed: it advises none of them, and the composition gains 10 points or more; in any form:",
        f"and one of the three does. In brackets 95 % Wilson intervals. Machine: {part['machine']}.",
        "",
        "| library | verdict from | runs | `use` | in vain | `tune` | in vain | `prompt` | in vain "
        "| missed | in any form |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, own in groups.items():
        for source, label in (("held_out", "up to 100 held-out examples"), ("left_out", "the five alone")):
            verdicts = Verdicts.counted(own, source)
            in_vain = (f"{verdicts.given[each]} | {rate(verdicts.in_vain[each], len(own))}" for each in FORMS)
            missed = (rate(count, len(own)) for count in (verdicts.missed, verdicts.missed_in_any_form))
            lines.append(f"| {name} | {label} | {len(own)} | {' | '.join((*in_vain, *missed))} |")
    return "\n".join([*lines, ""])


def decision(row: Mapping[str, Any], source: str) -> str:
    """The verdict from held-out examples as it fell; the one from the five by the figures that were kept.

    So another rule for the five can be tried on the same runs: `--parts` without a part writes the tables.
    """
    if source == "held_out":
        return str(row["decision"]["held_out"])
    tokens = tuple(row["left_out"]["label_tokens"])
    known = {key: LeftOutLosses(tuple(nats), tokens) for key, nats in row["left_out"]["nats"].items()}
    return verdict_left_out(known, "the best single module").decision


@dataclass(frozen=True)
class Verdicts:
    """How often each form was advised, how often in vain, and how often none was that gains much."""

    given: Mapping[str, int]
    in_vain: Mapping[str, int]
    missed: int
    missed_in_any_form: int

    @classmethod
    def counted(cls, rows: Rows, source: str) -> "Verdicts":
        decided = [(decision(row, source), row) for row in rows]
        given = {form: [row for said, row in decided if said == form] for form in FORMS}
        others = [row for said, row in decided if said not in FORMS]
        return cls(
            given={form: len(own) for form, own in given.items()},
            in_vain={form: sum(gain(row, form) <= 0 for row in own) for form, own in given.items()},
            missed=sum(gain(row, "use") >= MUCH for row in others),
            missed_in_any_form=sum(max(gain(row, form) for form in FORMS) >= MUCH for row in others),
        )


def gain(row: Mapping[str, Any], form: str) -> float:
    """Points of exact match above the best baseline; minus infinity where it was not measured."""
    percent = row["exact_match_percent"]
    best: float = max(percent[key] for key in BASELINES)
    return float(percent.get(FORMS[form], float("-inf"))) - best


def rate(count: int, n: int) -> str:
    if n == 0:
        return "-"
    low, high = wilson_interval(count, n)
    return f"{count} = {100 * count / n:.1f} % ({100 * low:.1f}-{100 * high:.1f})"


# --- precision ------------------------------------------------------------------


def precision_section(part: Mapping[str, Any]) -> str:
    """The same runs in fp32 and bf16, side by side."""
    lines = [
        "## In bf16",
        "",
        "The same draws with the products in bf16, which `--precision auto` takes for larger bases only, and",
        f"in fp32. Same modules: those with at least this weight, up or down. Machine: {part['machine']}.",
        "",
        f"| tasks | runs | same modules, {CARRIES} | {COUNTS} | same verdict | % right in fp32 | bf16 |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for kind in KINDS:
        pairs = in_both_precisions([row for row in part["rows"] if row["kind"] == kind])
        if not pairs:
            continue
        same = [sum(chosen(a, least) == chosen(b, least) for a, b in pairs) for least in (CARRIES, COUNTS)]
        same_verdict = sum(a["verdict"] == b["verdict"] for a, b in pairs)
        means = [
            statistics.fmean(row["exact_match_percent"]["composed"] for row in own)
            for own in zip(*pairs, strict=True)
        ]
        lines.append(
            f"| {kind.replace('_', ' ')} | {len(pairs)} | {same[0]} | {same[1]} | {same_verdict} "
            f"| {means[0]:.1f} | {means[1]:.1f} |"
        )
    return "\n".join([*lines, ""])


def in_both_precisions(rows: Rows) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    """(fp32, bf16) of each draw."""
    by_run = {(row["task"], row["draw"], row["variant"]): row for row in rows}
    return [
        (row, by_run[task, draw, "bf16"])
        for (task, draw, precision), row in by_run.items()
        if precision == "fp32" and (task, draw, "bf16") in by_run
    ]


def mean_exact_match(rows: Rows) -> float:
    return statistics.fmean(row["exact_match_percent"]["composed"] for row in rows)


def chosen(row: Mapping[str, Any], least: float) -> set[str]:
    return {name for name, weight in row["weights"].items() if abs(weight) >= least}


# --- anytime ------------------------------------------------------------------


def anytime_points(rows: Rows) -> list[tuple[float, float]]:
    """(seconds, mean exact match) for each moment of stopping, up to the one that no search lived to see."""
    moments = sorted({row["stop_s"] for row in rows if "stop_s" in row})
    points = []
    for moment in moments:
        own = [row for row in rows if row.get("stop_s") == moment]
        seconds = statistics.fmean(row["seconds"] for row in own)
        points.append((seconds, statistics.fmean(row["exact_match_percent"] for row in own)))
        if not any(row["stopped"] for row in own):
            break
    return points


def reference_seconds(content: Mapping[str, Any]) -> float:
    rows = content["anytime"]["rows"]
    return float(statistics.median(row["seconds"] for row in rows if row["variant"] == "reference"))


def anytime_section(part: Mapping[str, Any]) -> str:
    rows = part["rows"]
    reference = reference_seconds({"anytime": part})
    lines = [
        "## How soon",
        "",
        "Screening and search, modules and examples in memory, one thread, a warm process. The search is",
        "stopped after so many seconds and what it has is written and scored; the last row is searches to",
        "their end. Composable tasks, one draw.",
        f"The published loop takes {reference:.2f} s (median) on the same machine: {part['machine']}.",
        "",
        "| seconds, mean | exact match, percent |",
        "| ---: | ---: |",
        *(f"| {seconds:.2f} | {percent:.1f} |" for seconds, percent in anytime_points(rows)),
    ]
    return "\n".join([*lines, ""])


SECTIONS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "quality": quality_section,
    "verdict": verdict_section,
    "precision": precision_section,
    "anytime": anytime_section,
}
