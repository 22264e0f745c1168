"""A verdict in a few words, as the largest letters of its report's page have it."""

from collections.abc import Mapping, Sequence
from typing import Any

from composer.core.spec.verdict_rule import ABOUT_AS_WELL_POINTS, TUNED, WITH_EXAMPLES

BaselineRow = Mapping[str, Any]
LABELS = {  # by decision
    "use": "Use it",
    "prompt": "Use it with the examples in its prompt",
    "tune": "Tune it, then use it",
    "single": "Take the single module",
    "train": "Train a LoRA instead",
    "unsure": "Too few examples to tell",
    "none": "No gain",
    "unmeasured": "Not measured",
}
LEVEL_LABELS = {"train": "A trained LoRA does as well"}  # and is no better
SHARES = ("held_out_exact_match_percent", "left_out_chance_percent")  # of a row; the first known one decides
ADVISED = {  # the key of the row that is to be taken, by decision
    "use": "composed",
    "prompt": WITH_EXAMPLES,
    "tune": TUNED,
    "single": "best_single",
    "train": "lora_on_shots",
}


USES = frozenset({"use", "prompt", "tune"})  # decisions for a form of the composition
HOW_OFTEN = {  # by the share of right answers, in percent
    10: "one time in ten",
    20: "one time in five",
    25: "one time in four",
    33: "one time in three",
    40: "two times in five",
}
NUMBER_WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


def report_label(report: Mapping[str, Any]) -> str:
    """Return the label of a report's verdict."""
    return verdict_label(report["verdict"]["decision"], quality_level(report), report["baselines"])


def verdict_label(decision: str, level: str | None, rows: Sequence[BaselineRow]) -> str:
    """Return the label of a verdict; of one that advises something weak, how often that is right.

    Args:
        decision: of the report.
        level: its quality; None if it was not measured.
        rows: the baselines of the report.
    """
    if is_weak_advice(decision, level):
        return weak_label(decision, rows)
    labels = LABELS | LEVEL_LABELS if is_level(decision, rows) else LABELS
    return labels.get(decision, "Verdict")


def is_level(decision: str, rows: Sequence[BaselineRow]) -> bool:
    """Return whether what is advised instead of the composition only does about as well as it."""
    by_key = {row["key"]: row for row in rows}
    advised, composed = by_key.get(ADVISED.get(decision, "")), by_key.get("composed")
    if decision in USES or advised is None or composed is None:
        return False
    shares = ((advised.get(name), composed.get(name)) for name in SHARES)
    first, other = next(((a, b) for a, b in shares if a is not None and b is not None), (None, None))
    return first is not None and other is not None and abs(first - other) <= ABOUT_AS_WELL_POINTS


def is_weak_advice(decision: str, level: str | None) -> bool:
    """Return whether a form of the composition is advised that is more often wrong than right."""
    return decision in USES and level == "weak"


def quality_level(report: Mapping[str, Any]) -> str | None:
    """The level of the verdict's quality; None where it was not measured, as in an earlier report."""
    quality = report["verdict"].get("quality")
    if not quality:
        return None
    level: str = quality["level"]  # earlier reports called a few left-out examples good
    return "fair" if level == "good" and quality.get("measured_on") == "left_out" else level


def weak_label(decision: str, rows: Sequence[BaselineRow]) -> str:
    """The best of what was compared, and yet more often wrong than right: how often, where that is known."""
    percent = {row["key"]: row["held_out_exact_match_percent"] for row in rows}
    share = percent.get(ADVISED[decision])
    if share is None:
        return (
            f"Best of {number_word(sum(row.get('left_out_loss_nats') is not None for row in rows))}, but weak"
        )
    n_answered = sum(each is not None for each in percent.values())
    return f"Best of {number_word(n_answered)}, but right {how_often(share)}"


def how_often(percent: float) -> str:
    """A share of right answers below a half, in words."""
    if percent < min(HOW_OFTEN) / 2:
        return "almost never"
    if percent > max(HOW_OFTEN) + 5:
        return "less than half the time"
    return HOW_OFTEN[min(HOW_OFTEN, key=lambda share: abs(share - percent))]


def number_word(number: int) -> str:
    return NUMBER_WORDS[number] if number < len(NUMBER_WORDS) else str(number)
