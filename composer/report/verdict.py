"""The verdict in one sentence: what it rests on, how good its advice is, and what a question costs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from composer.core.spec.counting import count_noun
from composer.core.spec.verdict_labels import (
    ADVISED,
    BaselineRow,
    is_level,
    is_weak_advice,
    quality_level,
    report_label,
)
from composer.core.spec.verdict_rule import (
    ABOUT_AS_WELL_POINTS,
    BASELINE_NAMES,
    COMPOSITIONS,
    FAR_LEFT_OUT,
    HELD_AGAINST,
    LUCK_LEVEL,
    SURE_LEFT_OUT,
    UNTOLD,
    UNTOLD_SENTENCE,
    WORTH_LEFT_OUT,
    QuestionTokens,
    meaning_of,
    question_tokens,
)

BADGES = {  # by decision
    "use": "success",
    "prompt": "success",
    "tune": "success",
    "single": "warning",
    "train": "warning",
    "unsure": "quiet",
    "none": "warning",
    "unmeasured": "quiet",
}
QUALITIES = {  # badge, icon and label of a level
    "good": ("success", "check", "Good by itself"),
    "fair": ("quiet", "", "Fair by itself"),
    "weak": ("warning", "triangle-alert", "Weak by itself"),
}


@dataclass(frozen=True)
class Measure:
    """A figure of the rows, and how a sentence tells it."""

    field: str
    interval_field: str  # the lower and upper bound of the figure; empty where it has none
    sign: int  # 1: the more the better
    does: str
    unit: str
    basis: str  # what was measured, before the number of examples

    def knows(self, rows: Mapping[str, BaselineRow], key: str) -> bool:
        return key in rows and rows[key].get(self.field) is not None

    def points_in(self, rows: Mapping[str, BaselineRow]) -> Callable[[str], float]:
        return lambda key: self.sign * rows[key][self.field]

    def number(self, row: BaselineRow) -> str:
        value = row[self.field]
        return f"{value:.0f}" if self.sign == 1 else nats_text(value)

    def text(self, row: BaselineRow) -> str:
        return f"{self.number(row)} %" if self.sign == 1 else self.number(row)


HELD_OUT = Measure(
    "held_out_exact_match_percent", "interval_percent", 1, "answers", "", "Right answers (exact match) to"
)
# Of left-out examples. What decides is the chance; earlier reports have the loss alone.
LEFT_OUT = (
    Measure(
        "left_out_chance_percent",
        "left_out_interval_percent",
        1,
        "gives the right token a probability of",
        "",
        "Mean probability of the right token on",
    ),
    Measure("left_out_loss_nats", "", -1, "costs", " nats per token", "Loss on"),
)
BEYOND_LUCK = f"the exact one-sided McNemar test at {100 * LUCK_LEVEL:.0f} %"


def verdict_view(report: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict for its page: a label, two figures, one sentence, its basis, and the core's own words."""
    decision = report["verdict"]["decision"]
    tokens = tokens_of(report)
    return {
        "decision": decision,
        "badge": verdict_badge(decision, quality_level(report)),
        "label": report_label(report),
        "figures": figure_rows(report),
        "basis": basis(report),
        "sentence": verdict_sentence(report),
        "certainty": " ".join(certainty(report)),
        "text": report["verdict"]["text"],
        "quality": quality_view(report),
        "tokens": tokens.text if tokens else "",
    }


def verdict_badge(decision: str, level: str | None) -> str:
    """The kind of badge of a verdict: a warning where what it advises is weak."""
    return "warning" if is_weak_advice(decision, level) else BADGES.get(decision, "quiet")


def figure_rows(report: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The two figures that decide, what the verdict is about first; none where nothing was decided.

    Each has its value as text with its unit, the name of its row, and its interval (None where unknown).
    """
    measure, rows = measure_of(report), rows_by_key(report)
    if measure is None:
        return []
    return [
        {
            "key": key,
            "name": "this composition" if key == "composed" else baseline_name(key, rows),
            "value": measure.number(rows[key]),
            "unit": measure.unit.strip() or "%",
            "interval_percent": rows[key].get(measure.interval_field),
        }
        for key in compared_keys(report, measure)
    ]


def basis(report: Mapping[str, Any]) -> str:
    """What the two figures are: a measure, how many examples it is of, and whether these were seen before."""
    measure = measure_of(report)
    if measure is None:
        return ""
    if measure is HELD_OUT:
        return (
            f"{measure.basis} {count_noun(report['n_held_out'], 'held-out example')}, unseen by the search."
        )
    return f"{measure.basis} {count_noun(report['n_shots'], 'example')}, each left out of one fit."


def measure_of(report: Mapping[str, Any]) -> Measure | None:
    """The figure that decided; None where nothing did."""
    rows = rows_by_key(report)
    if report["verdict"]["decision"] == "unmeasured":
        return None
    if is_on_held_out(report):
        return HELD_OUT
    if not is_judged_left_out(report):
        return None
    return next((m for m in LEFT_OUT if any(m.knows(rows, key) for key in BASELINE_NAMES)), None)


def compared_keys(report: Mapping[str, Any], measure: Measure) -> tuple[str, str]:
    """The row that the verdict is about, and the row that it is held against."""
    decision, rows = report["verdict"]["decision"], rows_by_key(report)
    points = measure.points_in(rows)
    if decision == "unsure":
        return report["verdict"]["advised"], max(others_known(rows, measure), key=points)
    if decision in ADVISED and decision != "use":
        pair = (ADVISED[decision], "composed")
        is_behind = is_level(decision, report["baselines"]) and points(pair[0]) < points(pair[1])
        return (pair[1], pair[0]) if is_behind else pair
    known = [key for key in BASELINE_NAMES if measure.knows(rows, key)]
    others = others_known(rows, measure)
    held_against = others if decision == "use" and others else known
    return "composed", max(held_against, key=points)


def quality_view(report: Mapping[str, Any]) -> dict[str, str] | None:
    """How good what the verdict advises is by itself; None where it was not measured."""
    level = quality_level(report)
    if level is None:
        return None
    badge, icon, label = QUALITIES.get(level, ("quiet", "", level))
    quality = report["verdict"]["quality"]
    is_untold = quality["measured_on"] == "left_out"
    if is_untold and level != "weak":
        badge, icon, label = "quiet", "", "How often it is right: unknown"
    return {
        "level": level,
        "badge": badge,
        "icon": icon,
        "label": label,
        "meaning": UNTOLD if is_untold else meaning_of(quality["interval_percent"]),
        "text": UNTOLD_SENTENCE if is_untold else quality["text"],
    }


def tokens_of(report: Mapping[str, Any]) -> QuestionTokens | None:
    """What a question costs with the adapter and with the examples in the prompt; None where unknown."""
    tokens = {row["key"]: row.get("prompt_tokens") for row in report["baselines"]}
    return question_tokens(tokens, report["verdict"].get("advised"))


def verdict_sentence(report: Mapping[str, Any]) -> str:
    """The advice and the two figures that decide it; where nothing was decided, the core's own words."""
    measure = measure_of(report)
    if measure is None:
        words: str = report["verdict"]["text"]
        return words
    rows = rows_by_key(report)
    keys = compared_keys(report, measure)
    return (
        held_out_sentence(report, rows, *keys)
        if measure is HELD_OUT
        else left_out_sentence(report, rows, measure, *keys)
    )


def held_out_sentence(
    report: Mapping[str, Any], rows: Mapping[str, BaselineRow], first: str, other: str
) -> str:
    decision = report["verdict"]["decision"]
    answers = accuracy_text(rows[first], report["n_held_out"])
    name = "the composition" if other == "composed" else baseline_name(other, rows)
    theirs = percent_text(rows[other])
    if decision == "use":
        return f"{use_words(report)} it answers {answers}; the best baseline, {name}, {theirs}."
    if decision in ADVISED:
        it = subject(report, first)
        return f"{advice(report)}: {it} answers {answers}; {name} {theirs}."
    if decision == "unsure":
        return f"{unsure_words(first)} It answers {answers}, {name} {theirs}: add held-out examples to know."
    return f"No sure gain from composing: the composition answers {answers}; {name} {theirs}."


def left_out_sentence(
    report: Mapping[str, Any], rows: Mapping[str, BaselineRow], measure: Measure, first: str, other: str
) -> str:
    decision = report["verdict"]["decision"]
    it = subject(report, first)
    figures = f"on examples left out of its fit {it} {measure.does} {measure.text(rows[first])}{measure.unit}"
    name = "the composition" if other == "composed" else baseline_name(other, rows)
    theirs = measure.text(rows[other])
    if decision == "use":
        words = use_words(report, usual="The composition looks useful:")
        return f"{words} {figures}; the best baseline, {name}, {theirs}."
    if decision in ADVISED:
        return f"{advice(report)}: {figures}; {name} {theirs}."
    if decision == "unsure":
        return f"{unsure_words(first)} O{figures[1:]}, {name} {theirs}: held-out examples would tell."
    return f"No clear gain from composing: {figures}; the best baseline, {name}, {theirs}."


def unsure_words(form: str) -> str:
    """How the sentence begins where a form of the composition leads, and that may be luck."""
    name = "the composition" if form == "composed" else BASELINE_NAMES[form]
    return f"{name[0].upper()}{name[1:]} leads, but that may be luck."


def others_known(rows: Mapping[str, BaselineRow], measure: Measure) -> list[str]:
    """The rows that a form of the composition is held against, of which the figure is known."""
    return [key for key in BASELINE_NAMES if key in HELD_AGAINST and measure.knows(rows, key)]


def use_words(report: Mapping[str, Any], usual: str = "Use the composition:") -> str:
    """How the sentence begins that advises the composition: not without a warning where it is weak."""
    return "The composition is the best of all, but weak:" if quality_level(report) == "weak" else usual


def subject(report: Mapping[str, Any], first: str) -> str:
    """What the first figure is of, in a sentence that has begun with the advice."""
    is_other = first == "composed" and report["verdict"]["decision"] in ADVISED.keys() - {"use"}
    return "the composition" if is_other else "it"


def advice(report: Mapping[str, Any]) -> str:
    decision, rows = report["verdict"]["decision"], rows_by_key(report)
    if is_level(decision, report["baselines"]):
        if decision == "single":
            return f"Use {rows['best_single']['detail']} by itself, which does about as well"
        return "Either will do, as a LoRA trained on your examples does about as well"
    if decision == "prompt":
        return "Use the composition with your examples in its prompt"
    if decision == "tune":
        return "Use the composition tuned on your examples"
    if decision == "single":
        return f"Use {rows['best_single']['detail']} by itself"
    return "Train a LoRA on your examples instead"


def baseline_name(key: str, rows: Mapping[str, BaselineRow]) -> str:
    """A baseline in the middle of a sentence; a single module by its name."""
    return f"{BASELINE_NAMES[key]} ({rows[key]['detail']})" if key == "best_single" else BASELINE_NAMES[key]


def nats_text(loss: float) -> str:
    return f"{loss:.2f}" if loss >= 0.1 else f"{loss:.3f}"  # small ones would otherwise all be 0.00 or 0.01


def percent_text(row: BaselineRow) -> str:
    return f"{row['held_out_exact_match_percent']:.0f} % ({interval_text(row)})"


def accuracy_text(row: BaselineRow, n: int) -> str:
    figure = f"{row['held_out_exact_match_percent']:.0f} %"
    return f"{figure} of {count_noun(n, 'held-out example')} correctly (95 % interval {interval_text(row)})"


def interval_text(row: BaselineRow) -> str:
    low, high = row["interval_percent"]
    return f"{low:.0f} to {high:.0f} %"


def certainty(report: Mapping[str, Any]) -> Iterator[str]:
    """How far the verdict can be trusted: on what it was decided, and by which rule."""
    others = sum(row["key"] in BASELINE_NAMES.keys() - COMPOSITIONS for row in report["baselines"])
    if report["verdict"]["decision"] == "unmeasured":
        yield "Nothing was measured that could decide it."
    elif is_on_held_out(report):
        examples = count_noun(report["n_held_out"], "held-out example")
        yield f"Decided on {examples}, which the search never saw."
        if report["verdict"]["decision"] in ("use", "prompt", "tune"):
            baselines = count_noun(others, "baseline")
            yield f"It is right more often than each of {baselines}, beyond luck by {BEYOND_LUCK}."
        else:
            yield (
                "A composition is recommended only when it is right more often than each baseline, "
                f"beyond luck by {BEYOND_LUCK}, and not less often than the uniform average. What is at most "
                f"{ABOUT_AS_WELL_POINTS} points behind it does about as well, and needs fewer modules."
            )
    elif is_judged_left_out(report) and others:
        yield (
            f"Decided on the {count_noun(report['n_shots'], 'example')} alone, each judged by a fit that had "
            "left it out. A composition is recommended only when it is ahead of each baseline with "
            f"{100 * SURE_LEFT_OUT:.0f} % certainty and has {100 * (1 - WORTH_LEFT_OUT):.0f} % less loss, or "
            f"has less than {FAR_LEFT_OUT:g} of its loss. This is weaker evidence than held-out examples. "
            "Add some and compose again to be surer."
        )
    else:
        yield "Nothing was measured that could decide it."


def rows_by_key(report: Mapping[str, Any]) -> dict[str, BaselineRow]:
    rows: Sequence[BaselineRow] = report["baselines"]
    return {row["key"]: row for row in rows}


def is_on_held_out(report: Mapping[str, Any]) -> bool:
    """Held-out examples were answered, by the composition and by something to compare it with."""
    rows = rows_by_key(report)
    measured = {key for key, row in rows.items() if row["held_out_exact_match_percent"] is not None}
    return "composed" in measured and not measured.isdisjoint(BASELINE_NAMES)


def is_judged_left_out(report: Mapping[str, Any]) -> bool:
    """Without held-out examples, some searches are judged by fits that each left some examples out."""
    if report["n_held_out"]:
        return False
    if report["schema"] == 1:  # which did not say so
        return bool(report["n_shots"] > 1 and report["method"] == "exact")
    return rows_by_key(report)["composed"]["left_out_loss_nats"] is not None
