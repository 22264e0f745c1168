"""LoraHub's search with a loss and a penalty of the caller: peft's model, transformers' forward pass, NGOpt.

Importing this module loads torch, transformers and peft.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from peft import PeftModel, set_peft_model_state_dict
from transformers import AutoTokenizer

from composer.core.methods.registry import make_method
from composer.core.model.base_model import linear_layers
from composer.core.modules.module_stack import (
    LoraModule,
    base_weights_in,
    read_module,
    repair_texts,
    stack_modules,
)
from composer.core.modules.sources import Source, distinct_names
from composer.core.search.journal import Journal
from composer.core.search.nevergrad_search import search_nevergrad
from composer.core.selection.compatibility import select_compatible
from composer.core.spec import choices
from composer.core.spec.counting import count_noun
from composer.core.spec.examples import Example
from composer.library.composition import load_model
from composer.library.job_folder import OnEvent
from composer.lorahub.dataset import ExampleDataset
from composer.lorahub.modules import require_all_fit
from composer.lorahub.prompts import LorahubReader

IGNORED = -100  # a label that no loss counts

GetLoss = Callable[[ExampleDataset, Any, int | None], float]
GetRegular = Callable[[Sequence[float]], float]


def search_weights(
    base: Source,
    modules: Sequence[Source],
    examples: Sequence[Example],
    *,
    get_loss: GetLoss,
    get_regular: GetRegular,
    batch_size: int | None,
    budget: int,
    seed: int,
    on_event: OnEvent,
) -> tuple[list[float], Any, Any]:
    """Minimize get_loss(dataset, model, batch_size) + get_regular(weights) within ±1.5, from w = 0.

    Args:
        base: the base model.
        modules: N modules of one rank, one set of target modules and one alpha / r.
        examples: n examples.
        get_loss: gets the examples, the PeftModel of the candidate and `batch_size`.
        get_regular: gets the N weights.
        batch_size: passed on.
        budget: how many candidates to score.
        seed: of NGOpt.
        on_event: hears of every step.

    Returns:
        The N weights, the PeftModel with these weights, and the tokenizer.

    Raises:
        ComposeError: the modules cannot be read or do not match, or no candidate has a finite loss.

    Source: the code released with LoraHub, arXiv:2307.13269.
    """
    plain = load_model(base.folder)
    names = distinct_names(modules)
    base_weights = base_weights_in(base.folder)
    read = [
        read_module(module.folder, name, base_weights=base_weights)
        for name, module in zip(names, modules, strict=True)
    ]
    for text in repair_texts(read):
        on_event({"event": "warning", "text": text})
    require_fitting(plain, read)
    stack = stack_modules(read)
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    reader = LorahubReader(tokenizer, plain.config)
    dataset = encode_examples(examples, reader, is_encoder_decoder=plain.config.is_encoder_decoder)
    model = PeftModel.from_pretrained(plain, str(modules[0].folder)).eval()
    method = make_method("lorahub", stack, seed=seed)

    def use(weights: Sequence[float]) -> None:
        """Put the candidate with these weights into the model."""
        factors = method.lora(weights).factors
        state = {
            f"base_model.model.{path}.lora_{letter}.weight": factor
            for path, pair in factors.items()
            for letter, factor in zip("AB", pair, strict=True)
        }
        set_peft_model_state_dict(model, state)

    def score(candidates: Sequence[tuple[float, ...]]) -> list[float]:
        losses = []
        for weights in candidates:
            use(weights)
            losses.append(float(get_loss(dataset, model, batch_size)) + float(get_regular(weights)))
        return losses

    def tell(step: Any) -> None:
        on_event({"event": "step", "step": step.number, "budget": budget, "best_loss": step.best_loss})

    on_event({"event": "stage", "text": f"Searching weights for {count_noun(len(modules), 'module')}"})
    found = search_nevergrad(
        score,
        method.n_weights,
        Journal(tell),
        budget=budget,
        bound=choices.WEIGHT_BOUND,
        seed=seed,
    )
    use(found.weights)
    return list(found.weights), model, tokenizer


def require_fitting(base: Any, modules: Sequence[LoraModule]) -> None:
    """Refuse modules that do not fit the base model or each other, as the method lorahub does.

    Raises:
        MismatchedModulesError: one does not fit.
    """
    kept, _ = select_compatible(modules, linear_layers(base), equal_shapes=True, equal_scalings=True)
    require_all_fit(len(kept), len(modules))


def encode_examples(
    examples: Sequence[Example], reader: LorahubReader, *, is_encoder_decoder: bool
) -> ExampleDataset:
    """Return the examples as padded rows; only the tokens of an answer and of its end are labels."""
    rows, labels = reader.example_rows(examples)
    if not is_encoder_decoder:  # a decoder reads the prompt and the answer in one row
        joined = [list(chain(*pair)) for pair in zip(rows, labels, strict=True)]
        labels = [[IGNORED] * len(p) + a for p, a in zip(rows, labels, strict=True)]
        rows = joined
    return ExampleDataset(
        {
            "input": [example.input for example in examples],
            "output": [example.output for example in examples],
            "input_ids": pad_rows(rows, reader.prompts.tokenizer.pad_token_id),
            "attention_mask": pad_rows([[1] * len(row) for row in rows], 0),
            "labels": pad_rows(labels, IGNORED),
        }
    )


def pad_rows(rows: Sequence[list[int]], filler: int) -> list[list[int]]:
    """Return the rows filled up on the right to the longest one."""
    longest = max(map(len, rows))
    return [row + [filler] * (longest - len(row)) for row in rows]
