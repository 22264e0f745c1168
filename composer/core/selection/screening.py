"""Screening: the loss of every module alone on the examples.

Each pair of module and example is scored at most once, and not at all if the caller knows its loss
from an earlier run. `Screening.losses` is the ranking that selectors use.

Letters of shapes: N modules, n examples.
"""

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
from composer.core.spec.selection import MANY, SURVIVORS

Known = Mapping[tuple[str, str, str], float]  # nats by (context, module, example)


class Screening:
    """The cross entropy of each example under each module alone, computed when it is asked for."""

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
        """Take what is known; nothing is scored yet.

        Args:
            scorer: of the n examples; what is scored here counts there.
            stack: N modules.
            contexts: N hashes of everything that a loss depends on besides the module and the example.
            modules: N SHA-256 of the modules' weights files.
            examples: the n examples as texts.
            known: losses that need no scoring, in nats summed over the label tokens.
            tell: called with an event for each scored module, and with the losses as soon as they are known.
        """
        self._scorer, self._stack, self._shots = scorer, stack, examples
        self.contexts, self._modules, self._tell = contexts, modules, tell
        self._examples = [example_sha256(example) for example in examples]
        self._asked: set[int] = set()
        self._counted: set[int] = set()  # modules scored here, on one example or all; each is one candidate
        self._shots_told = [0] * len(stack)  # by module: on how many examples the reported loss was
        self._nats: list[dict[int, float]] = [  # by module, then by the number of the example
            {
                number: known[context, module, example]
                for number, example in enumerate(self._examples)
                if (context, module, example) in known
            }
            for context, module in zip(contexts, modules, strict=True)
        ]

    def nats(self, indices: Sequence[int]) -> Tensor:
        """Return (len(indices), n) nats of these modules alone, summed over each example's label tokens.

        Only unknown losses are scored, all of them in one call.
        """
        self._asked.update(indices)
        everything = range(len(self._shots))
        self._score(indices, everything)
        return torch.tensor([[self._nats[i][number] for number in everything] for i in indices])

    def losses(
        self, indices: Sequence[int], wanted: int | None = None, *, numbers: Sequence[int] | None = None
    ) -> list[float]:
        """Return the few-shot loss of each module alone, in nats per label token; infinity for NaN.

        If only a few of MANY or more modules are wanted, all are scored on the one example with the most
        label tokens, and only the best of them are scored on the other examples. They are the share SURVIVORS
        of all, but at least twice `wanted`. The others get infinity.

        Args:
            indices: of the modules.
            wanted: how many of them the caller will keep; None for all.
            numbers: of the examples that count; all if None.

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
        """Return the index of the module with the lowest loss alone on these examples; None if unknown.

        Only modules that `nats` was asked for are compared, so a cache of known losses changes no choice.
        """
        asked = sorted(self._asked)
        return min(zip(self.losses(asked, numbers=numbers), asked, strict=True))[1] if asked else None

    def _score(self, indices: Sequence[int], numbers: Sequence[int]) -> None:
        """Score these modules on these examples, as far as their losses are unknown, in one call."""
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
        """Report in one event the losses of those modules of which more examples are known than before."""
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
        """Return nats per label token of one module over the known examples; None for NaN or infinity."""
        known = self._nats[i]
        tokens = self._scorer.label_tokens[list(known)].sum()
        loss = sum(known.values()) / float(tokens)
        return loss if math.isfinite(loss) else None

    def _tell_one(self, i: int, nats: Mapping[int, float]) -> None:
        if all(map(math.isfinite, nats.values())):
            self._tell(
                {
                    "event": "screened",
                    "context": self.contexts[i],
                    "module": self._modules[i],
                    "nats": {self._examples[number]: value for number, value in nats.items()},
                }
            )


def context_sha256(**facts: Any) -> str:
    """Return one hash, in hexadecimal, of everything that a loss depends on besides module and example.

    The caller passes the hashes of the base model's files, the precision, the device, the template and
    the scaling.
    """
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def read_screened(lines: Iterable[str]) -> Known:
    """Read losses from `screened` events, one JSON object per line.

    Returns:
        Nats, summed over the label tokens, by (context, module, example).

    Raises:
        InvalidJobError: a line is not such an event.
    """
    known = {}
    try:
        for event in map(json.loads, lines):
            for example, nats in event["nats"].items():
                known[event["context"], event["module"], example] = float(nats)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidJobError("screened.jsonl holds a line that tells no module's losses.") from error
    return known
