"""Every module alone on the shots: scored once, and not again where the caller knows the loss."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from composer.core.errors import InvalidJobError
from composer.core.examples import Example, example_sha256
from composer.core.module_stack import ModuleStack
from composer.core.objective import FewShotScorer, token_mean

Known = Mapping[tuple[str, str, str], float]  # nats by context, module and example


class Screening:
    """The cross entropy of each example under each module alone, found when it is asked for.

    Args:
        contexts: for each module, what its losses depend on beside its weights and the example.
        modules: for each module, the sha256 of its weights.
        known: losses that need no scoring.
        tell: told of each module that was scored.
    """

    def __init__(
        self,
        scorer: FewShotScorer,
        stack: ModuleStack,
        *,
        contexts: Sequence[str],
        modules: Sequence[str],
        shots: Sequence[Example],
        known: Known,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._scorer, self._stack = scorer, stack
        self._contexts, self._modules, self._tell = contexts, modules, tell
        self._examples = [example_sha256(shot) for shot in shots]
        self._nats: dict[int, Tensor] = {}
        for i, (context, module) in enumerate(zip(contexts, modules, strict=True)):
            row = [known.get((context, module, example)) for example in self._examples]
            if None not in row:
                self._nats[i] = torch.tensor(row)

    def nats(self, indices: Sequence[int]) -> Tensor:
        """(len(indices), n) in nats; only what is not known is scored, all of it at once."""
        missing = [i for i in indices if i not in self._nats]
        if missing:
            scored = self._scorer.nats_of_singles(self._stack.subset(missing)).cpu()
            for i, row in zip(missing, scored, strict=True):
                self._nats[i] = row
                self._tell_one(i, row.tolist())
        return torch.stack([self._nats[i] for i in indices])

    def losses(self, indices: Sequence[int]) -> list[float]:
        """Nats per token of each module alone; infinite where it is not a number."""
        means = token_mean(self.nats(indices), self._scorer.label_tokens.cpu())
        return [loss if math.isfinite(loss) else math.inf for loss in means.tolist()]

    def best_known(self) -> int | None:
        """The best module alone of those that were scored or known."""
        known = sorted(self._nats)
        return min(zip(self.losses(known), known, strict=True))[1] if known else None

    def _tell_one(self, i: int, row: Sequence[float]) -> None:
        if all(map(math.isfinite, row)):
            nats = dict(zip(self._examples, row, strict=True))
            self._tell(
                {
                    "event": "screened",
                    "context": self._contexts[i],
                    "module": self._modules[i],
                    "nats": nats,
                }
            )


def context_sha256(**facts: Any) -> str:
    """What losses depend on, as one name: base files, template, precision, scaling."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_screened(lines: Iterable[str]) -> Known:
    """Losses from `screened` events, one JSON object a line.

    Raises:
        InvalidJobError: a line is something else.
    """
    known = {}
    try:
        for event in map(json.loads, lines):
            for example, nats in event["nats"].items():
                known[event["context"], event["module"], example] = float(nats)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidJobError("screened.jsonl holds a line that tells no module's losses.") from error
    return known
