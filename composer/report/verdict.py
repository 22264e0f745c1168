"""The verdict in one sentence: what it rests on, how good its advice is, and what a question costs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from composer.core.spec.counting import count_noun
from composer.core.spec.verdict_rule import (
    BASELINE_NAMES,
    COMPOSITIONS,
    FAR_LEFT_OUT,
    LUCK_LEVEL,
    RIVALS,
    SURE_LEFT_OUT,
    TUNED,
    WITH_EXAMPLES,
    WORTH_LEFT_OUT,
    QuestionTokens,
    question_tokens,
)

BaselineRow = Mapping[str, Any]
DECISIONS = {
    "use": ("success", "Use it"),
    "prompt": ("success", "Use it with the examples in its prompt"),
    "tune": ("success", "Tune it, then use it"),
    "single": ("warning", "Take the single module"),
    "train": ("warning", "Train a LoRA instead"),
    "unsure": ("quiet", "Too few examples to tell"),
    "none": ("warning", "No gain"),
    "unmeasured": ("quiet", "Not measured"),
}
QUALITIES = {  # badge, icon and label of a level
    "good": ("success", "check", "Good by itself"),
    "fair": ("quiet", "", "Fair by itself"),
    "weak": ("warning", "triangle-alert", "Weak by itself"),
}
BEST_BUT_WEAK = ("warning", "Best of all, but weak")
ADVISED = {  # rows, by decision
    "use": "composed",
    "prompt": WITH_EXAMPLES,
    "tune": TUNED,
    "single": "best_single",
    "train": "lora_on_shots",
}


@dataclass(frozen=True)
class Measure:
    """A figure of the rows, and how a sentence tells it."""

    field: str
    sign: int  # 1: the more the better
    does: str
    unit: str

    def knows(self, rows: Mapping[str, BaselineRow], key: str) -> bool:
        return key in rows and rows[key].get(self.field) is not None

    def points_in(self, rows: Mapping[str, BaselineRow]) -> Callable[[str], float]:
        return lambda key: self.sign * rows[key][self.field]

    def text(self, row: BaselineRow) -> str:
        value = row[self.field]
        return f"{value:.0f} %" if self.sign == 1 else nats_text(value)


HELD_OUT = Measure("held_out_exact_match_percent", 1, "answers", "")
# Of left-out examples. What decides is the chance; earlier reports have the loss alone.
MEASURES = (
    Measure("left_out_chance_percent", 1, "gives a right token a chance of", ""),
    Measure("left_out_loss_nats", -1, "costs", " nats per token"),
)
BEYOND_LUCK = f"the exact one-sided McNemar test at {100 * LUCK_LEVEL:.0f} %"


def verdict_view(report: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict for its page: a label, one sentence, what it rests on, and the core's own words."""
    decision = report["verdict"]["decision"]
    badge, label = verdict_badge(decision, quality_level(report))
    tokens = tokens_of(report)
    return {
        "decision": decision,
        "badge": badge,
        "label": label,
        "sentence": verdict_sentence(report),
        "certainty": " ".join(certainty(report)),
        "text": report["verdict"]["text"],
        "advised_adapter": advised_adapter(report),
        "quality": quality_view(report),
        "tokens": tokens.text if tokens else "",
    }


def verdict_badge(decision: str, level: str | None) -> tuple[str, str]:
    """The kind of badge and the label of a verdict; `level` is its quality, None if it was not measured."""
    if decision == "use" and level == "weak":
        return BEST_BUT_WEAK
    badge, label = DECISIONS.get(decision, ("quiet", "Verdict"))
    return "warning" if badge == "success" and level == "weak" else badge, label


def advised_adapter(report: Mapping[str, Any]) -> dict[str, str] | None:
    """The baseline that is advised and has an adapter to download: its key and label; else None."""
    advised = report["verdict"].get("advised")
    row = rows_by_key(report).get(advised) if advised else None
    return {"key": row["key"], "label": row["label"]} if row and row.get("adapter") else None


def quality_level(report: Mapping[str, Any]) -> str | None:
    """The level of the verdict's quality; None where it was not measured, as in an earlier report."""
    quality = report["verdict"].get("quality")
    return quality["level"] if quality else None


def quality_view(report: Mapping[str, Any]) -> dict[str, str] | None:
    """How good what the verdict advises is by itself; None where it was not measured."""
    level = quality_level(report)
    if level is None:
        return None
    badge, icon, label = QUALITIES.get(level, ("quiet", "", level))
    text = report["verdict"]["quality"]["text"]
    return {"level": level, "badge": badge, "icon": icon, "label": label, "text": text}


def tokens_of(report: Mapping[str, Any]) -> QuestionTokens | None:
    """What a question costs with the adapter and with the examples in the prompt; None where unknown."""
    tokens = {row["key"]: row.get("prompt_tokens") for row in report["baselines"]}
    return question_tokens(tokens, report["verdict"].get("advised"))


def verdict_sentence(report: Mapping[str, Any]) -> str:
    """The advice and the two figures that decide it; where nothing was decided, the core's own words."""
    words: str = report["verdict"]["text"]
    if report["verdict"]["decision"] == "unmeasured":
        return words
    rows = rows_by_key(report)
    baselines = [key for key in BASELINE_NAMES if key in rows]
    if is_on_held_out(report):
        answered = [key for key in baselines if rows[key]["held_out_exact_match_percent"] is not None]
        best = max(answered, key=lambda key: rows[key]["held_out_exact_match_percent"])
        return held_out_sentence(report, rows, best)
    for measure in MEASURES:
        if is_judged_left_out(report) and any(measure.knows(rows, key) for key in baselines):
            return left_out_sentence(report, rows, measure)
    return words


def held_out_sentence(report: Mapping[str, Any], rows: Mapping[str, BaselineRow], best: str) -> str:
    n = report["n_held_out"]
    decision = report["verdict"]["decision"]
    ours = f"the composition {percent_text(rows['composed'])}"
    theirs = f"{baseline_name(best, rows)} {percent_text(rows[best])}"
    if decision == "use":
        first = accuracy_text(rows["composed"], n)
        other = f"the best of the others, {baseline_name(best, rows)}, {percent_text(rows[best])}"
        return f"{use_words(report)} it answers {first}; {other}."
    if decision in ADVISED:
        first = accuracy_text(rows[ADVISED[decision]], n)
        return f"{advice(decision, rows)}: it answers {first}; {ours}."
    if decision == "unsure":
        form = report["verdict"]["advised"]
        other = best_rival(rows, HELD_OUT)
        first = accuracy_text(rows[form], n)
        return (
            f"{unsure_words(form)} It answers {first}, {baseline_name(other, rows)} "
            f"{percent_text(rows[other])}: add held-out examples to know."
        )
    first = accuracy_text(rows["composed"], n)
    return f"No sure gain from composing: the composition answers {first}; {theirs}."


def left_out_sentence(report: Mapping[str, Any], rows: Mapping[str, BaselineRow], measure: Measure) -> str:
    decision = report["verdict"]["decision"]
    best = max((key for key in BASELINE_NAMES if measure.knows(rows, key)), key=measure.points_in(rows))
    ours = f"on examples left out of its fit it {measure.does} {measure.text(rows['composed'])}{measure.unit}"
    other = f"the best of the others, {baseline_name(best, rows)}, {measure.text(rows[best])}"
    if decision == "use":
        return f"{use_words(report, usual='The composition looks useful:')} {ours}; {other}."
    if decision in ADVISED:
        advised = measure.text(rows[ADVISED[decision]])
        figures = f"on examples left out of its fit it {measure.does} {advised}{measure.unit}"
        return f"{advice(decision, rows)}: {figures}; the composition {measure.text(rows['composed'])}."
    if decision == "unsure":
        form = report["verdict"]["advised"]
        against = best_rival(rows, measure)
        return (
            f"{unsure_words(form)} On examples left out of its fit it {measure.does} "
            f"{measure.text(rows[form])}{measure.unit}, {baseline_name(against, rows)} "
            f"{measure.text(rows[against])}: held-out examples would tell."
        )
    return f"No clear gain from composing: {ours}; {other}."


def unsure_words(form: str) -> str:
    """How the sentence begins where a form of the composition leads, and that may be luck."""
    name = "the composition" if form == "composed" else BASELINE_NAMES[form]
    return f"{name[0].upper()}{name[1:]} leads, but so few examples cannot tell that from luck."


def best_rival(rows: Mapping[str, BaselineRow], measure: Measure) -> str:
    """The best of the rows that a form of the composition is held against, by a figure that is known."""
    known = (key for key in BASELINE_NAMES if key in RIVALS and measure.knows(rows, key))
    return max(known, key=measure.points_in(rows))


def use_words(report: Mapping[str, Any], usual: str = "Use the composition:") -> str:
    """How the sentence begins that advises the composition: not without a warning where it is weak."""
    return "The composition is the best of all, but weak:" if quality_level(report) == "weak" else usual


def advice(decision: str, rows: Mapping[str, BaselineRow]) -> str:
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
            yield (
                f"It is right more often than each of the {others} others that are no composition, "
                f"beyond luck by {BEYOND_LUCK}."
            )
        else:
            yield (
                "A composition is recommended only when it is right more often than each of the others that "
                f"are no composition, beyond luck by {BEYOND_LUCK}, and not less often than the uniform "
                "average."
            )
    elif is_judged_left_out(report) and others:
        yield (
            f"Decided on the {count_noun(report['n_shots'], 'example')} alone, each judged by a fit that had "
            "left it out. A composition is recommended only when it is ahead of each of the others that are "
            f"no composition with {100 * SURE_LEFT_OUT:.0f} % certainty and has "
            f"{100 * (1 - WORTH_LEFT_OUT):.0f} % less loss, or has less than {FAR_LEFT_OUT:g} of their loss. "
            "This is weaker evidence than held-out examples. Add some and compose again to be surer."
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
