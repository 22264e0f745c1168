"""Every module alone on the shots: scored once, and not again where the caller knows the loss."""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import ModuleStack
from composer.core.search.journal import finite_or_penalty
from composer.core.spec.errors import InvalidJobError
from composer.core.spec.examples import Example, example_sha256

Known = Mapping[tuple[str, str, str], float]  # nats by context, module and example


MANY = 64  # modules; fewer are all scored on every shot
# Of many, so many go on after one shot. One shot tells most: of 27 modules the best 12 by the longest
# answer held 92 % of those that 57 draws of tasks needed, the best 12 by all five shots 93 %.
SURVIVORS = 0.2


class Screening:
    """The cross entropy of each example under each module alone, found when it is asked for.

    Args:
        contexts: for each module, what its losses depend on beside its weights and the example.
        modules: for each module, the sha256 of its weights.
        known: losses that need no scoring.
        tell: told of each module that was scored, and how well each does as soon as that is known.
    """

    def __init__(
        self,
        scorer: FewShotScorer,
        stack: ModuleStack,
        *,
        contexts: Sequence[str],
        modules: Sequence[str],
        examples: Sequence[Example],
        known: Known,
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        self._scorer, self._stack, self._shots = scorer, stack, examples
        self._contexts, self._modules, self._tell = contexts, modules, tell
        self._examples = [example_sha256(example) for example in examples]
        self._asked: set[int] = set()
        self._counted: set[int] = set()  # modules scored here, on one shot or all: a candidate each
        self._shots_told = [0] * len(stack)  # by module: of how many shots its loss was told
        self._nats: list[dict[int, float]] = [  # by module, then by the number of the shot
            {
                number: known[context, module, example]
                for number, example in enumerate(self._examples)
                if (context, module, example) in known
            }
            for context, module in zip(contexts, modules, strict=True)
        ]

    def nats(self, indices: Sequence[int]) -> Tensor:
        """(len(indices), n) in nats; only what is not known is scored, all of it at once."""
        self._asked.update(indices)
        everything = range(len(self._shots))
        self._score(indices, everything)
        return torch.tensor([[self._nats[i][number] for number in everything] for i in indices])

    def losses(
        self, indices: Sequence[int], wanted: int | None = None, *, numbers: Sequence[int] | None = None
    ) -> list[float]:
        """Nats per token of each module alone; infinite where it is not a number.

        `numbers` of the shots to go by; all if None.

        Where only a few of many are `wanted`, one shot sorts out most of them: all modules are scored on
        the shot with the longest answer, and those that do worst there are left at infinity.

        Source: a first step of successive halving, Jamieson and Talwalkar, AISTATS 2016.
        """
        seen = list(range(len(self._shots)) if numbers is None else numbers)
        tokens = self._scorer.label_tokens[seen]
        n_kept = max(2 * (wanted or len(indices)), round(SURVIVORS * len(indices)))
        if len(indices) >= MANY and n_kept < len(indices):
            longest = seen[int(tokens.argmax())]
            self._score(indices, [longest])
            survivors = sorted(indices, key=lambda i: (finite_or_penalty(self._nats[i][longest]), i))[:n_kept]
            losses = dict(zip(survivors, self.losses(survivors, numbers=seen), strict=True))
            return [losses.get(i, math.inf) for i in indices]
        means = token_mean(self.nats(indices)[:, seen], tokens)
        return [loss if math.isfinite(loss) else math.inf for loss in means.tolist()]

    def best_known(self, numbers: Sequence[int]) -> int | None:
        """The best module alone, by these shots, of those asked for; what a cache knows beside them
        changes no choice."""
        asked = sorted(self._asked)
        return min(zip(self.losses(asked, numbers=numbers), asked, strict=True))[1] if asked else None

    def _score(self, indices: Sequence[int], numbers: Sequence[int]) -> None:
        """Find the losses of these shots under these modules, all that are not known at once."""
        missing = [i for i in indices if any(number not in self._nats[i] for number in numbers)]
        self._tell_alone(indices)
        if not missing:
            return
        lacking = [n for n in numbers if any(n not in self._nats[i] for i in missing)]
        base = self._scorer.base
        scorer = FewShotScorer(base, base.encode([self._shots[number] for number in lacking]))

        def take(rows: Sequence[int], nats: Tensor) -> None:
            taken = [missing[row] for row in rows]
            for i, own in zip(taken, nats.tolist(), strict=True):
                self._nats[i].update(zip(lacking, own, strict=True))
                self._tell_one(i, dict(zip(lacking, own, strict=True)))
            self._tell_alone(taken)

        scorer.nats_of_singles(self._stack.subset(missing), take)
        self._scorer.candidates_scored += len(set(missing) - self._counted)
        self._counted.update(missing)

    def _tell_alone(self, indices: Sequence[int]) -> None:
        """How well modules do alone, in one event: those of whom more is known than was told."""
        news = [i for i in indices if len(self._nats[i]) > self._shots_told[i]]
        if not news:
            return
        for i in news:
            self._shots_told[i] = len(self._nats[i])
        self._tell(
            {
                "event": "alone",
                "of": len(self._stack),
                "n_shots": len(self._shots),
                "modules": [
                    {
                        "name": self._stack.names[i],
                        "loss_nats": self._loss_of_known(i),
                        "n_shots": len(self._nats[i]),
                    }
                    for i in news
                ],
            }
        )

    def _loss_of_known(self, i: int) -> float | None:
        """Nats per token on the shots that are known of this module; None if that is no number."""
        known = self._nats[i]
        tokens = self._scorer.label_tokens[list(known)].sum()
        loss = sum(known.values()) / float(tokens)
        return loss if math.isfinite(loss) else None

    def _tell_one(self, i: int, nats: Mapping[int, float]) -> None:
        if all(map(math.isfinite, nats.values())):
            self._tell(
                {
                    "event": "screened",
                    "context": self._contexts[i],
                    "module": self._modules[i],
                    "nats": {self._examples[number]: value for number, value in nats.items()},
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
