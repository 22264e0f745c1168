"""A report to take along: as JSON, as CSV for a spreadsheet, as Markdown for a document."""

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse
from django.utils.http import content_disposition_header

from composer.core.spec.adapter_size import size_text
from composer.core.spec.counting import count_noun
from composer.core.spec.examples import json_lines
from composer.models import Composition
from composer.report.next_steps import what_to_try
from composer.report.page import (
    FILE_OF_ROLE,
    PRUNED_WORDS,
    author_rows,
    baseline_rows,
    copies_row,
    credited_names,
)
from composer.report.verdict import verdict_view
from composer.selectors import examples_of_role

Report = Mapping[str, Any]
# What a spreadsheet would compute: at the start, or after what it may take for the end of a cell.
FORMULA = re.compile(r"(\A|[;\t\r\n])(?=\s*[=+\-@＝＋－＠])")
ANSWERS_IN_MARKDOWN = 30


@dataclass(frozen=True)
class ReportFile:
    """A file as it is sent."""

    content: bytes
    content_type: str


def examples_file(composition: Composition, role: str) -> HttpResponse | None:
    """The examples as the command line reads them, byte for byte what the composition was made from.

    None: it has none of this role.
    """
    pairs = examples_of_role(composition, role)
    headers = {"Content-Disposition": f'attachment; filename="{FILE_OF_ROLE[role]}"'}
    content_type = "application/x-ndjson"
    return HttpResponse(json_lines(pairs), content_type=content_type, headers=headers) if pairs else None


def report_file(name: str, composition: Composition, report: Report) -> ReportFile:
    """One of FILES, of the report as its reader may have it."""
    write, content_type = FILES[name]
    return ReportFile(write(composition, report).encode(), content_type)


# --- JSON -----------------------------------------------------------------------


def as_json(_composition: Composition, report: Report) -> str:
    return json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


# --- CSV ------------------------------------------------------------------------


def comparison_csv(_composition: Composition, report: Report) -> str:
    head = (
        "key", "method", "detail", "exact_match_percent", "interval_low_percent", "interval_high_percent",
        "n_held_out", "few_shot_loss_nats", "left_out_loss_nats", "candidates", "gradient_steps", "seconds",
        "prompt_tokens",
    )  # fmt: skip
    return table_csv(head, (comparison_csv_row(row, report["n_held_out"]) for row in report["baselines"]))


def comparison_csv_row(row: Report, n_held_out: int) -> list[Any]:
    low, high = row["interval_percent"] or (None, None)
    cost = row.get("cost") or {}
    return [
        row["key"], row["label"], row["detail"], row["held_out_exact_match_percent"], low, high, n_held_out,
        row["few_shot_loss_nats"], row.get("left_out_loss_nats"),
        cost.get("candidates"), cost.get("gradient_steps"), cost.get("seconds"), row.get("prompt_tokens"),
    ]  # fmt: skip


def modules_csv(_composition: Composition, report: Report) -> str:
    """Every module that took part: those in the adapter, their copies, and those that were pruned."""
    keys = ("name", "revision", "sha256", "weight", "alone_loss_nats", "without_loss_nats")
    more = ("role", "copy_of", "reason", "similarity", "loss_change_nats")
    return table_csv(
        (*keys, *more), ([row.get(key) for key in (*keys, *more)] for row in module_rows(report))
    )


def module_rows(report: Report) -> Iterator[Report]:
    """Yield the modules in the adapter, then their copies, then those that were pruned with theirs."""
    for role, modules in (("composed", report["modules"]), ("pruned", report.get("modules_pruned", ()))):
        yield from (row | {"role": role} for row in modules)
        for row in modules:
            for copy in row.get("copies", ()):
                yield copy | {"role": "copy", "copy_of": row["name"]}


def predictions_csv(_composition: Composition, report: Report) -> str:
    keys = ("input", "expected", "base", "composed", "correct")
    return table_csv(keys, ([row[key] for key in keys] for row in report["predictions"]))


def table_csv(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """RFC 4180, with the mark by which spreadsheets know UTF-8, every text in quotation marks."""
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(head)
    writer.writerows([cell(value) for value in row] for row in rows)
    return "\ufeff" + text.getvalue()


def cell(value: Any) -> Any:
    """A number as it is; a text with an apostrophe before whatever a spreadsheet would compute."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return FORMULA.sub(r"\1'", value)
    return value


# --- Markdown -------------------------------------------------------------------


def as_markdown(composition: Composition, report: Report) -> str:
    verdict = verdict_view(report)
    parts = [
        f"# {escape_markdown(composition.name)}",
        escape_markdown(composition.sentence),
        f"**{escape_markdown(verdict['label'])}.** {escape_markdown(verdict['sentence'])}",
        "\n".join(f"- {escape_markdown(text)}" for text in what_to_try(report)),
        escape_markdown(verdict["quality"]["text"] if verdict["quality"] else ""),
        escape_markdown(verdict["tokens"]),
        escape_markdown(verdict["certainty"]),
        escape_markdown(size_text(report)),
        "## Comparison",
        table(
            (
                "method",
                "exact match, %",
                "95 % interval",
                "few-shot loss",
                "left-out loss",
                "seconds",
                "tokens per question",
            ),
            [comparison_cells(row) for row in baseline_rows(report["baselines"])],
        ),
        f"{count_noun(report['n_held_out'], 'held-out example')}, {report['n_shots']} to compose from. "
        "Losses in nats per token.",
        "## Contributions",
        table(
            ("module", "weight", "loss without it", "loss alone"),
            [module_cells(row) for row in report["modules"]],
        ),
        f"With all of them the few-shot loss is {figure(report['few_shot_loss_nats'])}.",
        *credits_lines(report),
        *copies(report),
        *pruned_lines(report),
        *answers(report),
        "## Recipe",
        table(("", ""), recipe_cells(composition, report)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def comparison_cells(row: Report) -> list[str]:
    label = f"{row['label']} ({row['detail']})" if row["detail"] else row["label"]
    span = "–" if row["low"] is None else f"{row['low']:.0f}–{row['high']:.0f}"
    seconds = row["cost"]["seconds"] if row["cost"] else None
    losses = [figure(row["loss"]), figure(row["left_out_loss"])]
    return [
        label,
        figure(row["percent"], 1),
        span,
        *losses,
        figure(seconds, 1),
        figure(row["prompt_tokens"], 0),
    ]


def module_cells(row: Report) -> list[str]:
    losses = [figure(row.get("without_loss_nats")), figure(row["alone_loss_nats"])]
    return [row["name"], f"{row['weight']:+.4f}", *losses]


def credits_lines(report: Report) -> Iterator[str]:
    """Whose modules are in the adapter."""
    if authors := credit_text(author_rows(credited_names(report))):
        yield f"Credit for the modules in the adapter: {authors}."


def credit_text(authors: Iterable[Mapping[str, Any]]) -> str:
    return ", ".join(f"{author['name']} ({count_noun(author['count'], 'module')})" for author in authors)


def copies(report: Report) -> Iterable[str]:
    """The modules that stand for others."""
    groups = [group for group in map(copies_row, report["modules"]) if group["copies"]]
    if not groups:
        return
    yield "## Copies, which took part once"
    lines = [[copy["label"], group["label"], copy["reason"]] for group in groups for copy in group["copies"]]
    yield table(("module", "represented by", "because"), lines)


def pruned_lines(report: Report) -> Iterable[str]:
    """The modules that the search tried and the adapter does not use."""
    rows = report.get("modules_pruned", ())
    if not rows:
        return
    yield "## Not used"
    lines = [[row["name"], f"{row['weight']:+.4f}", f"{row['loss_change_nats']:+.4f}"] for row in rows]
    yield PRUNED_WORDS
    change = "change of the loss without it, before refitting, nats per token"
    yield table(("module", "weight before", change), lines)


def answers(report: Report) -> Iterable[str]:
    """The first answers that composing changed."""
    changed = [row for row in report["predictions"] if row["base"] != row["composed"]]
    if not changed:
        return
    yield f"## Answers that composing changed: {len(changed)} of {len(report['predictions'])}"
    lines = [
        [row["input"], row["expected"], row["base"], row["composed"], "yes" if row["correct"] else "no"]
        for row in changed[:ANSWERS_IN_MARKDOWN]
    ]
    yield table(("input", "expected", "base alone", "composed", "right"), lines)


def recipe_cells(composition: Composition, report: Report) -> list[list[str]]:
    return [
        ["base", composition.base.name],
        ["method", report["method"]],
        ["optimizer", report["optimizer"]],
        ["rank", str(report["rank"])],
        ["budget, candidates", str(report.get("budget_fitted") or report["budget"])],
        ["candidates scored", str(report["candidates_scored"])],
        ["seed", str(report["seed"])],
        ["precision", report["precision"]],
        ["seconds", figure(sum(report["seconds"].values()), 1)],
    ]


def figure(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([escape_markdown(text) for text in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def escape_markdown(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~&])", r"\\\1", " ".join(text.split()))


FILES: dict[str, tuple[Callable[[Composition, Report], str], str]] = {
    "report.json": (as_json, "application/json"),
    "report.md": (as_markdown, "text/markdown; charset=utf-8"),
    "comparison.csv": (comparison_csv, "text/csv; charset=utf-8"),
    "modules.csv": (modules_csv, "text/csv; charset=utf-8"),
    "predictions.csv": (predictions_csv, "text/csv; charset=utf-8"),
}


def file_response(composition: Composition, report: dict[str, Any], name: str) -> HttpResponse:
    made = report_file(name, composition, report)
    disposition = content_disposition_header(as_attachment=True, filename=f"{composition.slug}-{name}")
    headers = {"Content-Disposition": str(disposition), "X-Content-Type-Options": "nosniff"}
    return HttpResponse(made.content, content_type=made.content_type, headers=headers)
