"""What a verdict implies: the one next action, what else to try, and the other adapters that there are."""

from collections.abc import Iterator, Mapping
from typing import Any

from composer.core.spec.counting import count_noun
from composer.core.spec.verdict_labels import is_level, quality_level
from composer.core.spec.verdict_rule import TUNED
from composer.report.verdict import rows_by_key

Report = Mapping[str, Any]

LARGE_ENOUGH = 100  # held-out examples, with which the 95 % interval of a half is ±10 points
MANY_SHOTS = 20  # examples to compose from; beyond that more of them are rarely what is missing
TRAINED = "lora_on_shots"

# The kinds of action: download the composition's adapter or a baseline's, open a module, or run again.
ADAPTER, BASELINE, MODULE, AGAIN = "adapter", "baseline", "module", "again"


def next_steps(report: Report) -> dict[str, Any]:
    """What the report's page and its summary offer beside the verdict."""
    return {
        "action": next_action(report),
        "tries": list(what_to_try(report)),
        "adapters": kept_adapters(report),
    }


def next_action(report: Report) -> dict[str, str]:
    """The one action that the verdict implies.

    Returns:
        kind: adapter, baseline, module or again.
        key: of the baseline, or the name of the module; else empty.
        label: of its button.
        note: a sentence beside it; may be empty.
    """
    decision = report["verdict"]["decision"]
    if decision == "tune" and has_adapter(report, TUNED):
        return action(BASELINE, "Download the tuned adapter", key=TUNED)
    if decision == "train" and has_adapter(report, TRAINED):
        return action(
            BASELINE, "Download the trained LoRA", "It was trained here as a baseline.", key=TRAINED
        )
    if decision == "single" and "/" in (name := rows_by_key(report)["best_single"]["detail"]):
        return action(MODULE, f"Take {name}", key=name)
    if decision in ("use", "tune", "single"):
        return action(ADAPTER, "Download the adapter")
    if decision == "prompt":
        return action(
            ADAPTER, "Download the adapter", "Put your examples in its prompt; the code under Export does."
        )
    if decision in ("unsure", "unmeasured"):
        return action(AGAIN, "Add held-out examples")
    return action(AGAIN, "Edit and re-run")


def action(kind: str, label: str, note: str = "", *, key: str = "") -> dict[str, str]:
    return {"kind": kind, "key": key, "label": label, "note": note}


def has_adapter(report: Report, key: str) -> bool:
    return bool(rows_by_key(report).get(key, {}).get("adapter"))


def kept_adapters(report: Report) -> list[dict[str, Any]]:
    """The baselines with an adapter to download, with the share of right answers (None: not measured)."""
    return [
        {
            "key": row["key"],
            "label": row["label"],
            "detail": row["detail"],
            "percent": row["held_out_exact_match_percent"],
        }
        for row in report["baselines"]
        if row.get("adapter")
    ]


def what_to_try(report: Report) -> Iterator[str]:
    """Yield sentences on what may give a better adapter or a surer verdict; nothing for one that is good."""
    decision, n_held_out, n_shots = report["verdict"]["decision"], report["n_held_out"], report["n_shots"]
    is_weak = quality_level(report) == "weak"
    is_hopeless = decision == "none" and is_weak  # more of them would only say so again
    if decision in ("none", "unsure", "unmeasured") and n_held_out < LARGE_ENOUGH and not is_hopeless:
        show = "shows" if n_held_out == 1 else "show"
        yield (
            f"Hold out more examples: {n_held_out} {show} only a large gain."
            if n_held_out
            else "Hold out some examples: they measure how often it is right."
        )
    is_behind = decision == "train" and not is_level(decision, report["baselines"])
    if decision == "none" or is_behind or is_weak:
        yield "Look for modules closer to the task, or compose on another base model."
        if n_shots < MANY_SHOTS:
            yield f"Give more examples: these weights rest on {count_noun(n_shots, 'example')}."
