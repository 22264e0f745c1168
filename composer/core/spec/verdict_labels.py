"""A verdict in a few words, as the largest letters of its report's page have it."""

from collections.abc import Mapping, Sequence
from typing import Any

from composer.core.spec.verdict_rule import TUNED, WITH_EXAMPLES

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
    return weak_label(decision, rows) if is_weak_advice(decision, level) else LABELS.get(decision, "Verdict")


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
