"""The record of one search: every step, the states it can go on from, and who is told of them.

A search without gradients goes on from its recorded losses: it is asked again and told them. A
gradient fit cannot; it goes on from a state, which holds all that its next step depends on.
"""

import base64
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from composer.core.spec.errors import InvalidJobError, NonFiniteLossError

NON_FINITE_PENALTY = 1e6  # nats; told in place of NaN, which would make a search recommend garbage
STATE_EVERY = 10  # steps of a gradient fit between two states
STATE_BYTES_MAX = 1_000_000  # of tensors; a fit of more numbers starts again when it is cut short


@dataclass(frozen=True)
class SearchStep:
    """One step as tried: its weights (n_weights,), its loss, and the lowest loss so far."""

    number: int
    weights: tuple[float, ...]
    loss: float
    best_loss: float


@dataclass(frozen=True)
class FitState:
    """Where a gradient fit stands after `step` of its own steps.

    Attributes:
        fit: which fit of the search; a search may make several, one after the other.
        n_steps: how many steps of the whole search were told by then.
        tensors: float32, float64 or int64, by name.
    """

    fit: str
    step: int
    n_steps: int
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class SearchResult:
    """The recommended weights (n_weights,), every step in order, and the optimiser that really ran.

    `left_out`: (n,) nats of each shot under weights fitted without it, where the search found them anyway.
    """

    weights: tuple[float, ...]
    steps: tuple[SearchStep, ...]
    optimizer: str
    stopped: bool = False
    left_out: tuple[float, ...] | None = None


@dataclass(frozen=True)
class SearchRecord:
    """What an earlier attempt at the same search told: its steps in order, its last state of each fit."""

    steps: Sequence[SearchStep] = ()
    states: Mapping[str, FitState] = field(default_factory=dict)


OnStep = Callable[[SearchStep], None]


class Journal:
    """Keeps the steps of one search and tells the caller of each that was not told before.

    `on_step` may raise `StopSearch` to end the search with the best found so far; whatever else
    it raises ends the job.
    """

    def __init__(
        self,
        on_step: OnStep,
        *,
        on_state: Callable[[FitState], None] = lambda state: None,
        record: SearchRecord | None = None,
    ) -> None:
        self.steps: list[SearchStep] = []
        self._on_step = on_step
        self._on_state = on_state
        self._record = record or SearchRecord()
        self._any_finite = False

    def note(self, weights: Sequence[float], loss: float) -> None:
        """Keep one step; a loss that is not finite counts as a large one."""
        finite_loss = finite_or_penalty(loss)
        best = min(finite_loss, self.steps[-1].best_loss) if self.steps else finite_loss
        self._keep(SearchStep(len(self.steps) + 1, tuple(float(w) for w in weights), finite_loss, best))
        if len(self.steps) > len(self._record.steps):
            self._on_step(self.steps[-1])

    def known_loss(self, weights: tuple[float, ...], ahead: int = 0) -> float | None:
        """The recorded loss of the next step, or of one `ahead` of it; None beyond the record.

        Raises:
            InvalidJobError: the record has other weights there, so it is of another search.
        """
        number = len(self.steps) + ahead
        if number >= len(self._record.steps):
            return None
        step = self._record.steps[number]
        if step.weights != weights:
            raise InvalidJobError(
                f"Step {step.number} on record is of another search, so this one cannot go on from it."
            )
        return step.loss

    def resume(self, fit: str, shapes: Mapping[str, Tensor]) -> FitState | None:
        """The recorded state of this fit, its steps taken over into the journal; None: start at the start.

        Args:
            shapes: tensors that some of the state's must agree with in shape.
        """
        state = self._record.states.get(fit)
        if state is None or not len(self.steps) <= state.n_steps <= len(self._record.steps):
            return None
        for name, like in shapes.items():
            if name not in state.tensors or state.tensors[name].shape != like.shape:
                raise InvalidJobError("The state on record is of another search: it cannot go on from it.")
        for step in self._record.steps[len(self.steps) : state.n_steps]:
            self._keep(step)
        return state

    def keep(self, fit: str, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Tell the state of a fit, unless it is too large to be told."""
        if sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) <= STATE_BYTES_MAX:
            copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
            self._on_state(FitState(fit, step, len(self.steps), copies))

    def finish(
        self,
        weights: Sequence[float],
        optimizer: str,
        *,
        stopped: bool = False,
        left_out: Sequence[float] | None = None,
    ) -> SearchResult:
        """The result of the search.

        Raises:
            NonFiniteLossError: no step had a finite loss.
        """
        if self.steps and not self._any_finite:
            raise NonFiniteLossError(len(self.steps))
        told = tuple(left_out) if left_out is not None else None
        return SearchResult(
            tuple(float(w) + 0.0 for w in weights), tuple(self.steps), optimizer, stopped, told
        )

    def finish_early(self, optimizer: str) -> SearchResult:
        """The result of a search that was stopped: the best of its steps."""
        return self.finish(self.best.weights, optimizer, stopped=True)

    @property
    def best(self) -> SearchStep:
        """The step with the lowest loss, the first of equals."""
        return min(self.steps, key=lambda step: step.loss)

    def _keep(self, step: SearchStep) -> None:
        self._any_finite |= step.loss < NON_FINITE_PENALTY
        self.steps.append(step)


def finite_or_penalty(loss: float) -> float:
    """The loss, or a large number in place of one that is not finite."""
    return loss if math.isfinite(loss) else NON_FINITE_PENALTY


# --- as events ----------------------------------------------------------------


def state_event(state: FitState) -> dict[str, Any]:
    """A state as JSON; every number exactly, bit by bit."""
    return {
        "event": "state",
        "fit": state.fit,
        "step": state.step,
        "told": state.n_steps,
        "tensors": {name: encode_tensor(tensor) for name, tensor in state.tensors.items()},
    }


def encode_tensor(tensor: Tensor) -> dict[str, Any]:
    """A tensor as its type, its shape and its little-endian bytes in base64."""
    array = tensor.detach().cpu().contiguous().numpy()
    little = array.astype(array.dtype.newbyteorder("<"))
    return {
        "type": array.dtype.name,
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def decode_tensor(stored: Mapping[str, Any]) -> Tensor:
    """The tensor that `encode_tensor` stored."""
    if stored["type"] not in ("float32", "float64", "int64"):
        raise ValueError(stored["type"])
    values = np.frombuffer(base64.b64decode(stored["base64"]), np.dtype(stored["type"]).newbyteorder("<"))
    return torch.from_numpy(values.astype(stored["type"]).reshape(stored["shape"]).copy())


def read_record(lines: Iterable[str]) -> SearchRecord:
    """The steps and states among the events of an earlier attempt, one JSON object a line.

    A step may be there twice, when an attempt was itself cut short; the first one counts.

    Raises:
        InvalidJobError: a line is no event, or a step is missing.
    """
    steps: list[SearchStep] = []
    states: dict[str, FitState] = {}
    try:
        for event in map(json.loads, lines):
            if event["event"] == "step" and event["step"] > len(steps):
                weights = tuple(event.get("vector") or event["weights"])
                steps.append(SearchStep(event["step"], weights, event["loss"], event["best_loss"]))
            elif event["event"] == "state":
                tensors = {name: decode_tensor(stored) for name, stored in event["tensors"].items()}
                states[event["fit"]] = FitState(event["fit"], event["step"], event["told"], tensors)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidJobError("steps.jsonl holds a line that is no event of a search.") from error
    if [step.number for step in steps] != list(range(1, len(steps) + 1)):
        raise InvalidJobError("steps.jsonl lacks a step, so the search cannot go on from it.")
    return SearchRecord(steps, states)
