"""A frozen base model, encoder-decoder or decoder-only, that scores P candidates at once.

The weights of the base are never touched. Each candidate's delta is added to a linear
layer's output by a hook; P candidates are P copies of the examples in one batch, ordered
candidate by candidate. Any architecture is scored through transformers' own forward pass; T5 is scored
on rows of tokens without padding (composer.core.model.t5).

In bf16 only the products of the linear layers, and of the modules' factors, are rounded. What is
added up from layer to layer, the norms, the attention, the logits and the loss stay fp32. Measured on
the demo world: a loss moves by less than 1 % or 0.002 nats, whichever is more.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    T5ForConditionalGeneration,
)
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from composer.core.methods.base import Adapters, LowRank
from composer.core.model.packed_linear import can_pack, pack_linear, round_linear
from composer.core.model.t5 import IGNORED, READ_AS_WEIGHTS, Rows, T5Rows, rows_of
from composer.core.modules.module_stack import Layer
from composer.core.spec.errors import (
    BaseModelError,
    ExampleTooLongError,
    InvalidJobError,
    MismatchedModulesError,
)
from composer.core.spec.examples import Example
from composer.core.spec.templates import CHAT, INPUT, fill_template

MAX_TOKENS = 2048  # of one input; LoraHub's code truncates there, we refuse
# Below so many parameters a base is small: one thread took 4.0 s for a whole run of 1 M parameters, two
# took 5.4 s; and casting to bf16 takes longer than the faster product saves.
SMALL_BASE_PARAMETERS = 10_000_000
# One of these holds the words of every tokenizer that transformers reads.
VOCABULARIES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json", "vocab.txt")
ROWS_AT_ONCE = 256  # sequences in one forward pass; bounds the memory


@dataclass(frozen=True)
class TokenBatch:
    """n examples as padded tensors, each of shape (n, length).

    `inputs` and `labels` lie on the base's device. `label_tokens` (n,), on the CPU, counts the tokens
    that the loss of each example averages over. `examples` are the n texts.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor
    examples: tuple[Example, ...]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def label_tokens(self) -> Tensor:
        return (self.labels != IGNORED).sum(-1).cpu()

    def part(self, examples: slice) -> "TokenBatch":
        """Some of the examples."""
        inputs = {name: tensor[examples] for name, tensor in self.inputs.items()}
        return TokenBatch(inputs, self.labels[examples], self.examples[examples])

    @cached_property
    def rows(self) -> Rows:
        """The examples of an encoder-decoder without their padding."""
        return rows_of(self.inputs, self.labels)


class FrozenBaseModel:
    """A language model in evaluation mode, its tokenizer, and the hooks on its linear layers.

    Attributes:
        template: of a prompt, where none is named.
        precision, device: what is really computed with.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        template: str = INPUT,
        precision: str = "fp32",
        *,
        packs: bool = True,
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.template = template
        self.precision = precision
        self.device: torch.device = model.device
        self._keeps_positions = "logits_to_keep" in signature(model.forward).parameters
        self.is_encoder_decoder = bool(model.config.is_encoder_decoder)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._adapters: Adapters = {}
        self._n_candidates = 1
        self._lay_out_products(packs=packs and can_pack(self.device) and not is_small(model))
        self._paths = {module: path for path, module in self.model.named_modules()}
        # no subclass: it might compute something else
        fast = type(model) is T5ForConditionalGeneration
        self._t5 = T5Rows(model, self, self._product_dtype) if fast else None

    @classmethod
    def load(
        cls,
        folder: Path,
        template: str = INPUT,
        *,
        precision: str = "fp32",
        device: str = "cpu",
        packs: bool = True,
        name: str = "",
    ) -> "FrozenBaseModel":
        """Load a plain transformers folder: safetensors only, no code of its own, nothing fetched.

        Args:
            precision: fp32, bf16, or auto: bf16 for a base that is not small, on hardware made for it.
            device: cpu, cuda, or auto: cuda where there is one.
            packs: whether a base that is not small may be laid out anew for its products. In fp32 a base that
                is not stays a view of its file, whose pages all processes share.
            name: what a refusal calls it; the folder's name if left out.

        Raises:
            BaseModelError: the folder holds no such model.
            InvalidJobError: there is no such device.
        """
        logging.disable_progress_bar()  # transformers would draw one on our caller's terminal
        options = {"local_files_only": True, "trust_remote_code": False}
        where = find_device(device)
        name = name or folder.name
        if not any((folder / file).is_file() for file in VOCABULARIES):
            raise BaseModelError(  # transformers would make up an empty one
                f"The base model {name} has no tokenizer: add its {VOCABULARIES[0]}."
            )
        try:
            config = AutoConfig.from_pretrained(folder, **options)
            kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            loaded: Any = kind.from_pretrained(
                folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **options
            )
            model, found = loaded
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        except Exception as error:  # whatever these libraries make of a file that is not what they expect
            raise BaseModelError(f"The base model {name} cannot be loaded: {first_line(error)}") from error
        missing = sorted(found["missing_keys"]) + [str(key) for key in found["mismatched_keys"]]
        if missing:
            raise BaseModelError(  # transformers would fill it with random numbers
                f"The base model {name} lacks {missing[0]}, or has it in another size."
            )
        if tokenizer.eos_token_id is None:
            raise BaseModelError(
                "The base model's tokenizer has no end-of-sequence token, so no answer would end."
            )
        if precision == "auto":
            precision = "bf16" if not is_small(model) and multiplies_bf16(where) else "fp32"
        return cls(model.to(where), tokenizer, template, precision, packs=packs)

    @property
    def _product_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def _lay_out_products(self, *, packs: bool) -> None:
        """Let the linear layers multiply fast, but for the head, whose logits would be rounded in bf16."""
        if not packs and self.precision == "fp32":
            return
        head = self.model.get_output_embeddings()
        for path, module in self.model.named_modules():
            if isinstance(module, nn.Linear | Conv1D) and module is not head:
                lay_out = pack_linear if packs and not path.endswith(READ_AS_WEIGHTS) else round_linear
                lay_out(module, self._product_dtype)

    @contextmanager
    def threads_that_pay(self) -> Iterator[None]:
        """Compute a small base on one thread: waking others takes longer than what they would do."""
        before = torch.get_num_threads()
        if is_small(self.model):
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def linear_layers(self) -> dict[str, Layer]:
        """Every layer a LoRA module may change, by path."""
        layers = {}
        for path, module in self.model.named_modules():
            if isinstance(module, nn.Linear):
                layers[path] = Layer(path, d_out=module.out_features, d_in=module.in_features)
            elif isinstance(module, Conv1D):
                layers[path] = Layer(path, d_out=module.nf, d_in=module.nx)
        return layers

    def stores_transposed(self, paths: Iterable[str]) -> bool:
        """Whether these layers keep their weight as (d_in, d_out), as GPT-2 does; peft wants to know."""
        return any(isinstance(self.model.get_submodule(path), Conv1D) for path in paths)

    def require_layers(self, layers: Iterable[Layer]) -> None:
        """Refuse layers that this base does not have.

        Raises:
            MismatchedModulesError: names the layer.
        """
        own = self.linear_layers()
        for layer in layers:
            if own.get(layer.path) != layer:
                raise MismatchedModulesError(
                    f"A module changes {layer.path} ({layer.d_out} x {layer.d_in}), "
                    "which this base model does not have in that size."
                )

    def hook(self, paths: Iterable[str]) -> None:
        """Let candidates change these layers from now on."""
        for path in paths:
            self.model.get_submodule(path).register_forward_hook(self._add_delta(path))

    def _add_delta(self, path: str) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]:
        def add_delta(_module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            low_rank = self._adapters.get(path)
            if low_rank is None:
                return None
            return self._with_delta(low_rank, args[0], output)

        return add_delta

    def _with_delta(self, low_rank: LowRank, x: Tensor, output: Tensor) -> Tensor:
        """A layer's output for the rows x, and what the candidates add to it."""
        delta = self._delta(low_rank, x).view(output.shape)
        # without a graph the output is nobody else's
        return output + delta if torch.is_grad_enabled() else output.add_(delta)

    def _delta(self, low_rank: LowRank, x: Tensor) -> Tensor:
        """(P, rows, d_out) for x, which has P equal blocks of rows."""
        rows = x.reshape(self._n_candidates, -1, x.shape[-1])
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            return low_rank(rows)

    # What a forward hook sees to, for T5Rows, which calls no module.

    def adapts(self, module: nn.Module) -> bool:
        """Whether the candidates add something to this layer's output."""
        return self._paths[module] in self._adapters

    def delta(self, module: nn.Module, x: Tensor) -> Tensor:
        """What they add, (P, rows, d_out)."""
        return self._delta(self._adapters[self._paths[module]], x)

    def product(self, module: nn.Module, x: Tensor) -> Tensor:
        """The layer's output with what they add."""
        output: Tensor = module.forward(x)
        low_rank = self._adapters.get(self._paths[module])
        return output if low_rank is None else self._with_delta(low_rank, x, output)

    @contextmanager
    def using(self, adapters: Adapters, n_candidates: int) -> Iterator[None]:
        """Inside, every forward pass takes its rows as `n_candidates` equal blocks."""
        self._adapters, self._n_candidates = adapters, n_candidates
        try:
            yield
        finally:
            self._adapters, self._n_candidates = {}, 1

    # --- tokens ---------------------------------------------------------------

    def prompt(self, text: str, template: str | None = None) -> str:
        """The input as the model reads it, in its own template or another.

        Raises:
            BaseModelError: the template is chat, and the base has none that works.
        """
        template = template or self.template
        return self._chat_prompt(text) if template == CHAT else fill_template(template, text)

    def _chat_prompt(self, text: str) -> str:
        if not self.tokenizer.chat_template:
            raise BaseModelError(
                "This base model has no chat template. Write a template of your own, such as {input}."
            )
        message = {"role": "user", "content": text}
        try:
            prompt = self.tokenizer.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        except (TemplateError, TypeError, ValueError) as error:
            raise BaseModelError(
                f"The base model's chat template does not work: {first_line(error)}"
            ) from error
        return str(prompt)

    def encode(self, examples: Sequence[Example], template: str | None = None) -> TokenBatch:
        """Pad the examples to one batch; the output ends with EOS, and only it is scored.

        Args:
            template: of the prompts; the model's own if None.
        """
        prompts = [self._prompt_ids(self.prompt(example.input, template)) for example in examples]
        encode = self._encode_pairs if self.is_encoder_decoder else self._encode_joined
        inputs, labels = encode(prompts, [self._answer_ids(example.output) for example in examples])
        on_device = {name: tensor.to(self.device) for name, tensor in inputs.items()}
        return TokenBatch(on_device, labels.to(self.device), tuple(examples))

    def _encode_pairs(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> tuple[dict[str, Tensor], Tensor]:
        require_short(self.context_length(), prompts, answers)
        labels = pad_rows(answers, IGNORED)
        return {
            "input_ids": pad_rows(prompts, self.tokenizer.pad_token_id),
            "attention_mask": pad_rows([[1] * len(ids) for ids in prompts], 0),
            "decoder_input_ids": self.model.prepare_decoder_input_ids_from_labels(labels=labels),
        }, labels

    def _encode_joined(
        self, prompts: Sequence[list[int]], answers: Sequence[list[int]]
    ) -> tuple[dict[str, Tensor], Tensor]:
        joined = [p + a for p, a in zip(prompts, answers, strict=True)]
        require_short(self.context_length(), joined)
        labels = [[IGNORED] * len(p) + a for p, a in zip(prompts, answers, strict=True)]
        return {
            "input_ids": pad_rows(joined, self.tokenizer.pad_token_id),
            "attention_mask": pad_rows([[1] * len(ids) for ids in joined], 0),
        }, pad_rows(labels, IGNORED)

    def _answer_ids(self, output: str) -> list[int]:
        """An output as the model should write it, ended by EOS exactly once."""
        if self.is_encoder_decoder:
            ids: list[int] = self.tokenizer(text_target=output)["input_ids"]
        else:
            ids = self.tokenizer(output, add_special_tokens=False)["input_ids"]
        return [*self._without_end(ids), self.tokenizer.eos_token_id]

    def _prompt_ids(self, prompt: str) -> list[int]:
        """A prompt as the model reads it: an encoder sees its end, a decoder goes on from it."""
        bos = self.tokenizer.bos_token
        begun = bool(bos) and prompt.startswith(bos)  # chat templates write it out
        ids: list[int] = self.tokenizer(prompt, add_special_tokens=not begun)["input_ids"]
        if not self.is_encoder_decoder:
            ids = self._without_end(ids)
        return ids or [self._first_id()]

    def _without_end(self, ids: list[int]) -> list[int]:
        """Tokens without the EOS that the tokenizer, or the text itself, put behind them."""
        while ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        return ids

    def _first_id(self) -> int:
        """What an empty prompt is read as: BOS, or EOS where there is none."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return int(eos if bos is None else bos)

    def prompt_length(self, prompt: str) -> int:
        """How many tokens the model reads for this prompt."""
        return len(self._prompt_ids(prompt))

    def context_length(self) -> int:
        """The most tokens that this architecture has positions for; T5 has no limit of its own."""
        return min(MAX_TOKENS, int(getattr(self.model.config, "max_position_embeddings", None) or MAX_TOKENS))

    # --- scores ---------------------------------------------------------------

    def token_nats(self, batch: TokenBatch, adapters: Adapters, n_candidates: int = 1) -> Tensor:
        """Cross entropy of every example under every candidate, summed over its label tokens.

        Returns:
            (P, n) in nats, fp32, on the CPU.
        """
        if self._t5 is not None:
            with self.using(adapters, n_candidates):
                return self._t5.nats(batch.rows, n_candidates).cpu()
        labels, positions = batch.labels, None
        if not self.is_encoder_decoder:  # position t predicts token t + 1
            positions = (labels[:, 1:] != IGNORED).any(0).nonzero().flatten()
            labels = labels[:, positions + 1]
        logits = self.logits(batch, adapters, n_candidates, positions)
        nats = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(),
            labels.repeat(n_candidates, 1).flatten(),
            ignore_index=IGNORED,
            reduction="none",
        )
        return nats.view(n_candidates, len(batch), -1).sum(-1).cpu()

    def logits(
        self,
        batch: TokenBatch,
        adapters: Adapters,
        n_candidates: int = 1,
        positions: Tensor | None = None,
    ) -> Tensor:
        """(P * n, length, vocabulary), candidate by candidate; of some positions only if these are given.

        A head of a hundred thousand tokens costs more than all layers of a small decoder, so it is
        asked only where the answer stands.
        """
        inputs = {name: tensor.repeat(n_candidates, 1) for name, tensor in batch.inputs.items()}
        if positions is not None and self._keeps_positions:
            inputs["logits_to_keep"] = positions
        with self.using(adapters, n_candidates):
            logits: Tensor = self.model(**inputs, use_cache=False).logits
        return logits if positions is None or self._keeps_positions else logits[:, positions]

    # --- answers --------------------------------------------------------------

    @torch.no_grad()
    def answers(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        adapters: Adapters,
        n_candidates: int = 1,
        *,
        wrapped: Any = None,
    ) -> list[list[str]]:
        """P lists of n greedy answers, special tokens dropped, outer white space stripped.

        `prompts`: whole, with the template already around the input.
        `wrapped`: this model as peft wrapped it, to answer in its place.
        """
        answers: list[list[str]] = [[] for _ in range(n_candidates)]
        size = max(1, ROWS_AT_ONCE // n_candidates)
        for start in range(0, len(prompts), size):
            block = list(prompts[start : start + size])
            with self.using(adapters, n_candidates):
                flat = self._generate(wrapped or self.model, block * n_candidates, max_new_tokens)
            for i, own in enumerate(answers):
                own.extend(flat[i * len(block) : (i + 1) * len(block)])
        return answers

    def _generate(self, model: Any, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
        ids = [self._prompt_ids(prompt) for prompt in prompts]
        left = not self.is_encoder_decoder  # a decoder continues at its right end
        room = self.context_length()
        require_short(room - left, ids)
        if left:
            max_new_tokens = min(max_new_tokens, room - max(map(len, ids)))
        tokens = model.generate(
            input_ids=pad_rows(ids, self.tokenizer.pad_token_id, left=left).to(self.device),
            attention_mask=pad_rows([[1] * len(row) for row in ids], 0, left=left).to(self.device),
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        if left:
            tokens = tokens[:, max(map(len, ids)) :]
        decoded: list[str] = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [answer.strip() for answer in decoded]


def is_small(model: nn.Module) -> bool:
    """Whether what makes a large model faster would make this one slower."""
    return sum(parameter.numel() for parameter in model.parameters()) < SMALL_BASE_PARAMETERS


def find_device(name: str) -> torch.device:
    """cpu, cuda, or the better of the two where the name is auto.

    Raises:
        InvalidJobError: cuda is asked for and there is none.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise InvalidJobError("This machine has no graphics card that torch can use. Choose auto or cpu.")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def multiplies_bf16(device: torch.device) -> bool:
    """Whether bf16 products are faster there: about twice by AVX-512's dot products, far more by AMX."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())  # every processor with AMX has these too


def pad_rows(rows: Sequence[Sequence[int]], filler: int, *, left: bool = False) -> Tensor:
    """(n, longest) int64, the shorter rows filled up at one end."""
    length = max(map(len, rows))
    fill = [[filler] * (length - len(row)) for row in rows]
    pairs = zip(rows, fill, strict=True)
    return torch.tensor([[*f, *row] if left else [*row, *f] for row, f in pairs], dtype=torch.long)


def require_short(limit: int, *columns: Sequence[Sequence[int]]) -> None:
    """Refuse a text of more than `limit` tokens, which the base would have to cut off; names its example."""
    for rows in columns:
        for number, ids in enumerate(rows, start=1):
            if len(ids) > limit:
                message = f"Example {number} is {len(ids)} tokens long; at most {limit} fit. Shorten it."
                raise ExampleTooLongError(message, len(ids), limit)


def first_line(error: Exception) -> str:
    """What a library says, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
