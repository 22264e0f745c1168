"""What one event of a composition says: as numbers for a chart, and in words for a log."""

from collections.abc import Mapping
from typing import Any

from composer.core.spec.counting import count_noun
from composer.core.spec.stages import LOAD
from composer.models import CompositionEvent


def event_json(event: CompositionEvent) -> dict[str, Any]:
    """One event as every watcher gets it."""
    return {
        "number": event.number,
        "at": event.at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "attempt": event.generation,
        "kind": event.kind,
        "said": event_text(event),
        "detail": event.shown,
    }


def event_text(event: CompositionEvent) -> str:
    """The event in words; its kind, if it lacks what they need, as an older release may have told it."""
    try:
        return TEXT_BY_KIND[event.kind](event)
    except KeyError:
        return event.kind


def stage_text(event: CompositionEvent) -> str:
    text = str(event.detail.get("text") or event.detail.get("stage", ""))
    if event.generation > 1 and event.detail.get("stage") == LOAD.name:
        return f"Resumed by a worker. {text}"
    return text


def base_text(event: CompositionEvent) -> str:
    return f"The base alone: {loss_text(event.detail['loss_nats'])}"


def loss_text(loss: float | None) -> str:
    return "no finite loss" if loss is None else f"{loss:.3f} nats per token"


def screening_text(event: CompositionEvent) -> str:
    rows = [row for row in event.detail["modules"] if row["loss_nats"] is not None]
    count = len(event.detail["modules"])
    tried = f"{count_noun(count, 'module')} tried alone"
    if not rows:
        return f"{tried}: none gave a finite loss"
    best = min(rows, key=lambda row: row["loss_nats"])
    named = f"{best['name']}, {loss_text(best['loss_nats'])}"
    return f"{tried}: {named}" if count == 1 else f"{tried}; the best is {named}"


def step_text(event: CompositionEvent) -> str:
    step = event.detail
    return f"Step {step['step']} of {step['budget']}: loss {step['loss']:.4f}, lowest {step['best_loss']:.4f}"


def adapter_text(event: CompositionEvent) -> str:
    return "The adapter was written, and gives the same answers when peft loads it"


def baseline_text(event: CompositionEvent) -> str:
    row = event.detail
    named = f"{row['label']} ({row['detail']})" if row["detail"] else row["label"]
    return f"{named}: {measurement_text(row)}"


def measurement_text(row: Mapping[str, Any]) -> str:
    percent, loss = row["held_out_exact_match_percent"], row["few_shot_loss_nats"]
    measured = [] if percent is None else [f"{percent:.1f} % of the held-out examples right"]
    if loss is not None:
        measured.append(f"few-shot loss {loss:.3f}")
    return ", ".join(measured) or "not measured"


TEXT_BY_KIND = {
    "stage": stage_text,
    "warning": lambda event: str(event.detail["text"]),
    "base": base_text,
    "alone": screening_text,
    "step": step_text,
    "adapter": adapter_text,
    "baseline": baseline_text,
}
