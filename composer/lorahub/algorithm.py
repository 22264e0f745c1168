"""lorahub_learning and lorahub_inference, as LoraHub's Quickstart calls them.

With the default loss and penalty the search is the method lorahub of composer.core: the same objective and
the same optimizer, faster. With others it is a plain loop over peft's model.
"""

import operator
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from composer.core.modules.sources import Source
from composer.core.spec import choices
from composer.core.spec.counting import count_noun
from composer.core.spec.errors import BaseModelError, ExamplesError, InvalidJobError
from composer.core.spec.examples import Example
from composer.core.spec.metrics import is_reference_match
from composer.library.calls import compose, module_list
from composer.library.inputs import find_base, read_given
from composer.library.job_folder import OnEvent
from composer.library.progress import shown_progress
from composer.library.quiet import quiet_libraries
from composer.lorahub.modules import base_of, find_paper_modules, require_all_fit

if TYPE_CHECKING:
    import numpy as np

    from composer.lorahub.dataset import ExampleDataset

EXAMPLES_LIMIT = 10_000  # of one call; the released code has none


def default_get_loss(example_dataset: "ExampleDataset", model: Any, batch_size: int | None) -> float:
    """Return the sum of the model's losses of all batches, divided by the number of examples.

    Args:
        example_dataset: n examples.
        model: a PeftModel.
        batch_size: examples in one batch; None for all n.
    """
    import torch
    from torch.utils.data import DataLoader
    from transformers import default_data_collator

    size = min(len(example_dataset), batch_size or len(example_dataset))
    rows: Any = list(example_dataset)
    total = 0.0
    with torch.no_grad():
        for batch in DataLoader(rows, collate_fn=default_data_collator, batch_size=size):
            total += float(model(**{name: tensor.to(model.device) for name, tensor in batch.items()}).loss)
    return total / len(example_dataset)


def default_l1_regularization(weights: Sequence[float]) -> float:
    """Return 0.05 times the mean size of the weights."""
    return choices.LORAHUB_PENALTY * sum(abs(weight) for weight in weights) / len(weights)


def lorahub_learning(
    lora_module_list: Sequence["str | os.PathLike[str]"],
    example_inputs: Sequence[str],
    example_outputs: Sequence[str],
    max_inference_step: int,
    model_name_or_path: "str | os.PathLike[str] | None" = None,
    batch_size: int | None = None,
    get_loss: "Callable[[ExampleDataset, Any, int | None], float]" = default_get_loss,
    get_regular: Callable[[Sequence[float]], float] = default_l1_regularization,
    seed: int = choices.DEFAULT_SEED,
) -> "tuple[np.ndarray[Any, Any], Any, Any]":
    """Find the weights of LoRA modules on a few examples.

    Args:
        lora_module_list: N modules of one rank, one set of target modules and one alpha / r: names of a Hub
            or folders. Pickled weights are read without unpickling.
        example_inputs: n inputs.
        example_outputs: n outputs.
        max_inference_step: how many candidates to score, from 1 on.
        model_name_or_path: the base model; None takes the one that the first module names.
        batch_size: examples in one batch; another size is another objective. None for all n.
        get_loss: gets the examples, a PeftModel and batch_size; returns a number to be minimized.
        get_regular: gets the weights; what it returns is added to the loss.
        seed: of the optimizer.

    Returns:
        The weights (N,), the PeftModel with these weights in evaluation mode, on the graphics card if there
        is one, and the tokenizer.

    Raises:
        ComposeError: something that was given cannot be used; the message says what.
    """
    budget = read_steps(max_inference_step)
    examples = pair_examples(example_inputs, example_outputs)
    references = module_list(lora_module_list)
    with TemporaryDirectory(prefix="lorahub-") as name, shown_progress(True) as show, quiet_libraries():
        show({"event": "stage", "text": f"Fetching {count_noun(len(references), 'module')}"})
        modules = find_paper_modules(references, Path(name))
        base = find_base(model_name_or_path or base_of(modules[0]), Path(name) / "base", show)
        is_default = get_loss is default_get_loss and get_regular is default_l1_regularization
        if is_default and len(examples) <= choices.EXAMPLES_LIMIT:  # the core reads no more
            weights, model, tokenizer = learned_by_core(
                base,
                modules,
                examples,
                template=template_of(base),
                batch_size=batch_size,
                budget=budget,
                seed=seed,
                on_event=show,
            )
        else:
            from composer.lorahub.custom_search import search_weights

            weights, model, tokenizer = search_weights(
                base,
                modules,
                examples,
                get_loss=get_loss,
                get_regular=get_regular,
                batch_size=batch_size,
                budget=budget,
                seed=seed,
                on_event=show,
            )
    import numpy as np
    import torch

    return np.array(weights), model.to("cuda" if torch.cuda.is_available() else "cpu"), tokenizer


def read_steps(max_inference_step: int) -> int:
    """Return the number of candidates.

    Raises:
        InvalidJobError: it is not a whole number that a search can have.
    """
    try:
        steps = operator.index(max_inference_step)
    except TypeError:
        steps = 0
    if isinstance(max_inference_step, bool) or not 1 <= steps <= choices.BUDGET_LIMIT:
        raise InvalidJobError(
            f"max_inference_step must be a whole number from 1 to {choices.BUDGET_LIMIT}, not "
            f"{max_inference_step!r}."
        )
    return steps


def learned_by_core(
    base: Source,
    modules: Sequence[Source],
    examples: Sequence[Example],
    *,
    template: str,
    batch_size: int | None,
    budget: int,
    seed: int,
    on_event: OnEvent,
) -> tuple[list[float], Any, Any]:
    """Return the weights, the PeftModel and the tokenizer, found by the method lorahub of the core.

    Raises:
        MismatchedModulesError: the modules do not agree in rank, targets or alpha / r.
        ComposeError: something else cannot be used.
    """

    def tell(event: dict[str, Any]) -> None:
        """Pass the event on, and refuse to search without some of the modules."""
        on_event(event)
        if event.get("stage") == "search":
            require_all_fit(len(event["modules"]), len(modules))

    made = compose(
        base=base,
        modules=modules,
        examples=examples,
        method="lorahub",
        budget=budget,
        batch_size=None if batch_size is None else min(batch_size, len(examples)),
        seed=seed,
        template=template,
        precision="fp32",  # as released
        rank=choices.FULL_RANK,
        baselines="none",
        progress=False,  # `on_event` shows it
        on_event=tell,
    )
    return list(made.weights.values()), made.model(), made.tokenizer()


def lorahub_inference(
    example_inputs: Sequence[str],
    model_or_name_path: Any,
    tokenizer_or_tokenizer_path: Any,
    batch_size: int,
    example_outputs: Sequence[str] | None = None,
) -> tuple[list[str], float | None]:
    """Answer inputs by greedy decoding, at most 256 new tokens each, in the template of `lorahub_learning`.

    An input that is too long for the model is cut at its end. A base with few positions gives at most half of
    them to the answer.

    Args:
        example_inputs: n inputs.
        model_or_name_path: a model of transformers or peft, a folder or a Hub's name.
        tokenizer_or_tokenizer_path: its tokenizer, a folder or a Hub's name.
        batch_size: inputs in one batch.
        example_outputs: n expected answers.

    Returns:
        The n answers, and the percentage of them that equal the expected one if case, full stops and outer
        white space are ignored; None without example_outputs.

    Raises:
        ComposeError: something that was given cannot be used; the message says what.
    """
    inputs = list(example_inputs)
    if example_outputs is not None and len(example_outputs) != len(inputs):
        raise ExamplesError(
            f"There are {count_noun(len(inputs), 'input')} and {count_noun(len(example_outputs), 'output')}."
        )
    model, tokenizer = load_model(model_or_name_path, tokenizer_or_tokenizer_path)
    answers: list[str] = []
    for start in range(0, len(inputs), batch_size):
        answers.extend(answers_of(model, tokenizer, inputs[start : start + batch_size]))
    if example_outputs is None:
        return answers, None
    right = sum(map(is_reference_match, answers, example_outputs))
    return answers, 100 * right / len(inputs)


def load_model(model: Any, tokenizer: Any) -> tuple[Any, Any]:
    """Return the model in evaluation mode and the tokenizer, loaded if they are named."""
    from transformers import AutoTokenizer

    from composer.library.composition import load_model

    if isinstance(model, str | os.PathLike):
        model = load_model(find_base(model, Path(), lambda event: None).folder)
    if isinstance(tokenizer, str | os.PathLike):
        tokenizer = AutoTokenizer.from_pretrained(tokenizer)
    return model.eval(), tokenizer


def answers_of(model: Any, tokenizer: Any, inputs: Sequence[str]) -> list[str]:
    """Return the greedy answers to one batch."""
    import torch

    from composer.core.model.base_model import pad_rows
    from composer.lorahub.prompts import LorahubReader

    reader = LorahubReader(tokenizer, model.config)
    rows = reader.prompt_rows(inputs)
    joined = not model.config.is_encoder_decoder  # a decoder goes on behind its prompt
    ids = pad_rows(rows, tokenizer.pad_token_id, left=joined)
    with torch.no_grad():
        tokens = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=pad_rows([[1] * len(row) for row in rows], 0, left=joined).to(model.device),
            do_sample=False,
            num_beams=1,
            max_new_tokens=reader.answer_tokens,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=sorted(reader.prompts.end_ids(None, model.generation_config.eos_token_id)) or None,
        )
    new = tokens[:, ids.shape[1] :] if joined else tokens
    answers = tokenizer.batch_decode(new, skip_special_tokens=True)
    return [reader.prompts.cut(answer, None).strip() for answer in answers]


def template_of(base: Source) -> str:
    """Return the template in which LoraHub's functions read an input of this base model.

    Raises:
        BaseModelError: its config or its tokenizer cannot be loaded.
    """
    from transformers import AutoConfig, AutoTokenizer

    from composer.lorahub.prompts import LorahubReader

    try:
        config, tokenizer = (kind.from_pretrained(base.folder) for kind in (AutoConfig, AutoTokenizer))
    except Exception as error:  # transformers raises many kinds of error on a bad file
        raise BaseModelError(f"The config or the tokenizer of {base.name} cannot be loaded.") from error
    return LorahubReader(tokenizer, config).prompts.template


def pair_examples(inputs: Sequence[str], outputs: Sequence[str]) -> tuple[Example, ...]:
    """Return the examples of two lists.

    Raises:
        ExamplesError: the lists differ in length, or an input or output cannot be used.
    """
    if len(inputs) != len(outputs):
        raise ExamplesError(
            f"There are {count_noun(len(inputs), 'input')} and {count_noun(len(outputs), 'output')}."
        )
    return read_given(list(zip(inputs, outputs, strict=True)), EXAMPLES_LIMIT).examples
