"""Folds of the examples, and fits that each left one fold out.

Letters of shapes: F fits, n examples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from composer.core.spec.training import FOLDS


@dataclass(frozen=True)
class FoldFits:
    """F fits, each of which left out one fold of the examples.

    Attributes:
        weights: (F, n_weights).
        nats: (F, n) of every example under every fit, summed over its label tokens.
        train_mask: (F, n) train mask: 1 where a fit saw the example, else 0.
    """

    weights: Tensor
    nats: Tensor
    train_mask: Tensor

    @property
    def left_out_nats(self) -> Tensor:
        """Return (n,) nats of each example under the fit that left it out; NaN if no fit left it out."""
        left_out = 1 - self.train_mask
        return (self.nats * left_out).sum(0) / left_out.sum(0)


def fold_masks(n_shots: int, parts: int = FOLDS) -> Tensor:
    """Return the train masks (F, n) of 0 and 1: row f leaves fold f out.

    F is the smaller of `parts` and n. A single example is not left out: the result is then (1, 1) of 1.
    """
    if n_shots == 1:
        return torch.ones(1, 1)
    n_parts = min(parts, n_shots)
    return torch.stack([(torch.arange(n_shots) % n_parts != part).float() for part in range(n_parts)])
