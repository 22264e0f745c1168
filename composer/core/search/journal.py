"""The journal of one search: its steps, its states, and the record of an earlier attempt.

A search without gradients continues from its recorded losses: it asks for the same candidates and gets
the recorded losses. A gradient fit continues from a state, which holds everything that its next
step depends on.
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

NON_FINITE_PENALTY = 1e6  # nats; in place of NaN, which would make an optimizer recommend useless weights
STATE_EVERY = 10  # steps of a gradient fit between two states
STATE_BYTES_MAX = 1_000_000  # of the tensors of one state; a larger fit cannot be resumed and starts again


@dataclass(frozen=True)
class SearchStep:
    """One step of a search.

    The loss means the same in every search: the few-shot loss, without the penalty on the weights that most
    searches add to it. For lorahub with nevergrad it is `lorahub_loss`, and for the objective exact_match the
    share of wrong answers with its tie-break.

    Attributes:
        number: from 1.
        weights: (n_weights,).
        loss: in nats per label token, or the share of wrong answers; NON_FINITE_PENALTY for NaN or infinity.
        best_loss: the lowest loss so far.
    """

    number: int
    weights: tuple[float, ...]
    loss: float
    best_loss: float


@dataclass(frozen=True)
class FitState:
    """All that a gradient fit needs to continue after `step` of its own steps.

    Attributes:
        fit: the name of the fit; a search may run several fits, one after the other.
        step: how many steps of the fit are done.
        n_steps: how many steps of the whole search were noted by then.
        tensors: float32, float64 or int64, by name.
    """

    fit: str
    step: int
    n_steps: int
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class SearchResult:
    """The result of a search.

    Attributes:
        weights: (n_weights,), recommended.
        steps: every step in order.
        optimizer: the algorithm that really ran.
        stopped: whether a callback stopped the search.
        left_out: (n,) nats of each example under weights fitted without it, summed over its label tokens;
            None if the search did not compute them.
        fold_weights: (P, n_weights) of the fits that each left out one fold of the examples, and whose mean
            are the weights; empty if the weights are no such mean.
    """

    weights: tuple[float, ...]
    steps: tuple[SearchStep, ...]
    optimizer: str
    stopped: bool = False
    left_out: tuple[float, ...] | None = None
    fold_weights: tuple[tuple[float, ...], ...] = ()


@dataclass(frozen=True)
class SearchRecord:
    """What an earlier attempt at the same search noted.

    Attributes:
        steps: in order, from step 1.
        states: the last state of each fit, by the name of the fit.
    """

    steps: Sequence[SearchStep] = ()
    states: Mapping[str, FitState] = field(default_factory=dict)


OnStep = Callable[[SearchStep], None]


class Journal:
    """Keeps the steps of one search, and calls the caller for every step that is not in the record."""

    def __init__(
        self,
        on_step: OnStep,
        *,
        on_state: Callable[[FitState], None] = lambda state: None,
        record: SearchRecord | None = None,
    ) -> None:
        """Start an empty journal.

        Args:
            on_step: called with each new step. It may raise `StopSearch` to end the search with the best step
                so far; any other error ends the job.
            on_state: called with each new state of a gradient fit.
            record: of an earlier attempt at the same search.
        """
        self.steps: list[SearchStep] = []
        self._on_step = on_step
        self._on_state = on_state
        self._record = record or SearchRecord()
        self._any_finite = False

    def note(self, weights: Sequence[float], loss: float) -> None:
        """Keep one step; a loss of NaN or infinity counts as NON_FINITE_PENALTY.

        Args:
            weights: (n_weights,).
            loss: as in `SearchStep`.
        """
        finite_loss = finite_or_penalty(loss)
        best = min(finite_loss, self.steps[-1].best_loss) if self.steps else finite_loss
        self._keep(SearchStep(len(self.steps) + 1, tuple(float(w) for w in weights), finite_loss, best))
        if len(self.steps) > len(self._record.steps):
            self._on_step(self.steps[-1])

    def known_loss(self, weights: tuple[float, ...], ahead: int = 0) -> float | None:
        """Return the recorded loss of the next step, or None beyond the record.

        Args:
            weights: (n_weights,) of that step.
            ahead: how many steps behind the next one it is; 0 for the next one.

        Raises:
            InvalidJobError: the recorded step has other weights, so the record is of another search.
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
        """Return the recorded state of a fit, and take its steps over; None if there is no usable state.

        Args:
            fit: the name of the fit.
            shapes: tensors with the shapes that the state's tensors of these names must have.

        Raises:
            InvalidJobError: the state lacks such a tensor, or it has another shape.
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
        """Report the state of a fit, unless its tensors have more than STATE_BYTES_MAX bytes together.

        Args:
            fit: the name of the fit.
            step: how many steps of the fit are done.
            tensors: float32, float64 or int64, by name; they are copied.
        """
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
        fold_weights: Sequence[Sequence[float]] = (),
    ) -> SearchResult:
        """Return the result of the search.

        Args:
            weights: (n_weights,), recommended.
            optimizer: the algorithm that really ran.
            stopped: whether a callback stopped the search.
            left_out: (n,) nats, as in `SearchResult`.
            fold_weights: (P, n_weights), as in `SearchResult`.

        Raises:
            NonFiniteLossError: there are steps, and none has a finite loss.
        """
        if self.steps and not self._any_finite:
            raise NonFiniteLossError(len(self.steps))
        told = tuple(left_out) if left_out is not None else None
        return SearchResult(
            tuple(float(w) + 0.0 for w in weights),
            tuple(self.steps),
            optimizer,
            stopped,
            told,
            tuple(map(tuple, fold_weights)),
        )

    def finish_early(self, optimizer: str) -> SearchResult:
        """Return the result of a search that was stopped: the best of its steps, at least one.

        Raises:
            NonFiniteLossError: no step has a finite loss.
        """
        return self.finish(self.best.weights, optimizer, stopped=True)

    @property
    def best(self) -> SearchStep:
        """Return the step with the lowest loss, the first one of equal losses.

        Raises:
            ValueError: there is no step.
        """
        return min(self.steps, key=lambda step: step.loss)

    def _keep(self, step: SearchStep) -> None:
        self._any_finite |= step.loss < NON_FINITE_PENALTY
        self.steps.append(step)


def finite_or_penalty(loss: float) -> float:
    """Return the loss, or NON_FINITE_PENALTY for NaN and infinity."""
    return loss if math.isfinite(loss) else NON_FINITE_PENALTY


# --- as events ----------------------------------------------------------------


def state_event(state: FitState) -> dict[str, Any]:
    """Return a state as JSON, with every number exact to the bit."""
    return {
        "event": "state",
        "fit": state.fit,
        "step": state.step,
        "told": state.n_steps,
        "tensors": {name: encode_tensor(tensor) for name, tensor in state.tensors.items()},
    }


def encode_tensor(tensor: Tensor) -> dict[str, Any]:
    """Return a tensor as JSON: its type, its shape and its little-endian bytes in base64."""
    array = tensor.detach().cpu().contiguous().numpy()
    little = array.astype(array.dtype.newbyteorder("<"))
    return {
        "type": array.dtype.name,
        "shape": list(array.shape),
        "base64": base64.b64encode(little.tobytes()).decode("ascii"),
    }


def decode_tensor(stored: Mapping[str, Any]) -> Tensor:
    """Return the tensor that `encode_tensor` stored, on the CPU.

    Raises:
        ValueError: the type is not float32, float64 or int64.
    """
    if stored["type"] not in ("float32", "float64", "int64"):
        raise ValueError(stored["type"])
    values = np.frombuffer(base64.b64decode(stored["base64"]), np.dtype(stored["type"]).newbyteorder("<"))
    return torch.from_numpy(values.astype(stored["type"]).reshape(stored["shape"]).copy())


def read_record(lines: Iterable[str]) -> SearchRecord:
    """Read the steps and states from the events of an earlier attempt, one JSON object per line.

    A step may occur twice if that attempt had itself continued from a record; the first one counts.

    Raises:
        InvalidJobError: a line is not an event, or a step is missing.
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
