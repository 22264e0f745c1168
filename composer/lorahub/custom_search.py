"""LoraHub's search with a loss and a penalty of the caller: peft's model, transformers' forward pass, NGOpt.

Importing this module loads torch, transformers and peft.
"""

from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any

from peft import PeftModel, set_peft_model_state_dict
from transformers import AutoTokenizer

from composer.core.methods.registry import make_method
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.modules.sources import Source
from composer.core.search.journal import Journal
from composer.core.search.nevergrad_search import search_nevergrad
from composer.core.spec import choices
from composer.core.spec.counting import count_noun
from composer.core.spec.examples import Example
from composer.library.composition import load_model
from composer.library.job_folder import OnEvent
from composer.lorahub.dataset import ExampleDataset

IGNORED = -100  # a label that no loss counts
INPUT_TOKENS, OUTPUT_TOKENS = 2048, 256  # at most, as in the released code; the rest of a text is cut off

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
    model = PeftModel.from_pretrained(load_model(base.folder), str(modules[0].folder)).eval()
    tokenizer = AutoTokenizer.from_pretrained(base.folder)
    dataset = encode_examples(examples, tokenizer, is_encoder_decoder=model.config.is_encoder_decoder)
    stack = stack_modules([read_module(module.folder, module.name) for module in modules])
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


def encode_examples(
    examples: Sequence[Example], tokenizer: Any, *, is_encoder_decoder: bool
) -> ExampleDataset:
    """Return the examples as padded rows; only the tokens of an output are labels."""
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    prompts = [ids(tokenizer, example.input)[:INPUT_TOKENS] for example in examples]
    answers = [ids(tokenizer, example.output)[:OUTPUT_TOKENS] for example in examples]
    if not is_encoder_decoder:  # a decoder reads the prompt and the answer in one row, which ends with EOS
        eos = [tokenizer.eos_token_id]
        prompts = [without_end(prompt, eos) for prompt in prompts]
        answers = [
            without_end(ids(tokenizer, e.output, add_special_tokens=False), eos)[: OUTPUT_TOKENS - 1] + eos
            for e in examples
        ]
        joined = [list(chain(*pair)) for pair in zip(prompts, answers, strict=True)]
        answers = [[IGNORED] * len(p) + a for p, a in zip(prompts, answers, strict=True)]
        prompts = joined
    return ExampleDataset(
        {
            "input": [example.input for example in examples],
            "output": [example.output for example in examples],
            "input_ids": pad_rows(prompts, tokenizer.pad_token_id),
            "attention_mask": pad_rows([[1] * len(row) for row in prompts], 0),
            "labels": pad_rows(answers, IGNORED),
        }
    )


def ids(tokenizer: Any, text: str, **options: Any) -> list[int]:
    """Return the token ids of a text."""
    return list(tokenizer(text, **options)["input_ids"])


def without_end(row: list[int], end: list[int]) -> list[int]:
    """Return the row without `end` at its end."""
    return row[: -len(end)] if row[-len(end) :] == end else row


def pad_rows(rows: Sequence[list[int]], filler: int) -> list[list[int]]:
    """Return the rows filled up on the right to the longest one."""
    longest = max(map(len, rows))
    return [row + [filler] * (longest - len(row)) for row in rows]
