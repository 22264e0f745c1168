"""LoraHub's loop as it was published, restated: what our own figures are compared with.

Every module is loaded by peft into the base model and its state dict kept; a candidate's
state dicts are summed key by key in Python and put into the model by peft; transformers
computes the loss in fp32, padded and batch by batch; nevergrad's NGOpt chooses the weights
within ±1.5, from zero.

Source: Huang et al., LoraHub, arXiv:2307.13269, and the code released with it.
"""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nevergrad as ng
import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

BOUND = 1.5
PENALTY = 0.05  # times mean|w|


class Reference:
    """A base model and its modules as the released code holds them."""

    def __init__(self, base: Any, folders: Sequence[Path]) -> None:
        self.model: Any = None
        self.state_dicts: list[Mapping[str, Tensor]] = []
        for folder in folders:
            if self.model is not None:
                self.model.unload()
            self.model = PeftModel.from_pretrained(base, folder)
            self.state_dicts.append(copy.deepcopy(get_peft_model_state_dict(self.model)))
        self.model.eval()

    @classmethod
    def load(cls, base_folder: Path, folders: Sequence[Path], *, causal: bool = False) -> "Reference":
        kind = AutoModelForCausalLM if causal else AutoModelForSeq2SeqLM
        return cls(kind.from_pretrained(base_folder, dtype=torch.float32), folders)

    def use(self, weights: Sequence[float]) -> None:
        """Put the product of sums of these weights into the model."""
        final: dict[str, Tensor] = {}
        for weight, state_dict in zip(weights, self.state_dicts, strict=True):
            for key, value in state_dict.items():
                final[key] = final[key] + weight * value if key in final else weight * value
        set_peft_model_state_dict(self.model, final)

    @torch.no_grad()
    def score(self, weights: Sequence[float], batches: Sequence[Mapping[str, Tensor]]) -> float:
        """Σ over batches of the model's own loss, divided by the number of examples, plus the penalty.

        Args:
            batches: what the model takes, `labels` included.
        """
        self.use(weights)
        n_examples = sum(len(batch["labels"]) for batch in batches)
        loss = sum(float(self.model(**batch).loss) for batch in batches) / n_examples
        return loss + PENALTY * sum(map(abs, weights)) / len(weights)

    def search(
        self, batches: Sequence[Mapping[str, Tensor]], *, budget: int = 40, seed: int = 42
    ) -> list[float]:
        """The weights that NGOpt recommends after `budget` scores."""
        n = len(self.state_dicts)
        space = ng.p.Array(init=[0.0] * n, lower=[-BOUND] * n, upper=[BOUND] * n)
        space.random_state.seed(seed)
        optimizer = ng.optimizers.NGOpt(space, budget=budget)
        recommended = optimizer.minimize(lambda weights: self.score(list(weights), batches))
        return [float(weight) for weight in recommended.value]
