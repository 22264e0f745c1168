"""A report as a notebook shows it: the verdict, the comparison as bars and a table, and the weights.

Plain HTML and SVG without script; every text of the report is escaped.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from composer.core.spec.verdict_rule import verdict_texts

MODULES_SHOWN = 12
LABEL_WIDTH, BAR_WIDTH, ROW_HEIGHT, FIGURE_WIDTH = 210, 300, 24, 90  # pixels
ACCENT, PLAIN = "#2f7d5b", "#9aa5a0"  # the composition, and what it is compared with

Row = Mapping[str, Any]


def report_html(report: Mapping[str, Any]) -> str:
    """Return the HTML of a whole report."""
    rows: Sequence[Row] = report["baselines"]
    text, *more = map(escape, verdict_texts(report["verdict"]))
    facts = "".join(f"<p>{fact}</p>" for fact in more)
    return (
        f"<div><p><strong>{text}</strong></p>{facts}"
        f"{comparison_svg(rows)}{comparison_table(rows)}{weights_table(report['modules'])}</div>"
    )


def comparison_svg(rows: Sequence[Row]) -> str:
    """Return bars: exact match on held-out examples, or without them the loss on the examples."""
    key = "held_out_exact_match_percent"
    title, form = "Held-out exact match, percent", percent
    if all(row[key] is None for row in rows):
        key = "few_shot_loss_nats"
        title, form = "Loss on the examples, nats per token (lower is better)", nats
    measured = [row for row in rows if row[key] is not None]
    largest = 100.0 if form is percent else max((row[key] for row in measured), default=0.0)
    bars = "".join(bar_svg(row, row[key], largest, form(row[key]), i) for i, row in enumerate(measured))
    width, height = LABEL_WIDTH + BAR_WIDTH + FIGURE_WIDTH, ROW_HEIGHT * len(measured)
    return (
        f'<p>{title}</p><svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" '
        f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-size="13" '
        f'font-family="sans-serif" fill="currentColor">{bars}</svg>'
    )


def bar_svg(row: Row, value: float, largest: float, figure: str, number: int) -> str:
    """Return the label, the bar and the figure of one row."""
    length = BAR_WIDTH * value / largest if largest else 0
    top, middle = ROW_HEIGHT * number, ROW_HEIGHT * number + ROW_HEIGHT / 2
    color = ACCENT if row["key"] == "composed" else PLAIN
    return (
        f'<text x="{LABEL_WIDTH - 8}" y="{middle}" dominant-baseline="middle" text-anchor="end">'
        f"{escape(row['label'])}</text>"
        f'<rect x="{LABEL_WIDTH}" y="{top + 4}" width="{length:.1f}" height="{ROW_HEIGHT - 8}" '
        f'fill="{color}"/>'
        f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{middle}" dominant-baseline="middle">{figure}</text>'
    )


def comparison_table(rows: Sequence[Row]) -> str:
    """Return a table of the baselines and the composition, with both measures."""
    body = "".join(
        f"<tr><td>{escape(row['label'])}</td><td>{percent(row['held_out_exact_match_percent'])}"
        f"{interval(row['interval_percent'])}</td><td>{nats(row['few_shot_loss_nats'])}</td></tr>"
        for row in rows
    )
    head = "<th></th><th>held-out exact match, %</th><th>loss on the examples, nats per token</th>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def weights_table(modules: Sequence[Row]) -> str:
    """Return a table of the heaviest modules."""
    heaviest = sorted(modules, key=lambda row: -abs(row["weight"]))
    body = "".join(
        f"<tr><td>{escape(row['name'])}</td><td>{row['weight']:+.3f}</td>"
        f"<td>{nats(row['alone_loss_nats'])}</td></tr>"
        for row in heaviest[:MODULES_SHOWN]
    )
    left = len(modules) - MODULES_SHOWN
    more = f'<tr><td colspan="3">and {left} more</td></tr>' if left > 0 else ""
    head = "<th>module</th><th>weight</th><th>its loss alone</th>"
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}{more}</tbody></table>"


def percent(value: float | None) -> str:
    """Return a percentage with one decimal, or a dash if it was not measured."""
    return "–" if value is None else f"{value:.1f}"


def nats(value: float | None) -> str:
    """Return a loss with three decimals, or a dash if it was not measured."""
    return "–" if value is None else f"{value:.3f}"


def interval(bounds: Sequence[float] | None) -> str:
    """Return a 95 % interval in brackets, or nothing if there is none."""
    return "" if bounds is None else f" ({bounds[0]:.1f} to {bounds[1]:.1f})"
