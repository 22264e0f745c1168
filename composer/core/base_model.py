"""A frozen base model, encoder-decoder or decoder-only, that scores P candidates at once.

The weights of the base are never touched. Each candidate's delta is added to a linear
layer's output by a hook; P candidates are P copies of the examples in one batch, ordered
candidate by candidate.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer
from transformers.pytorch_utils import Conv1D
from transformers.utils import logging

from composer.core.combine import Adapters
from composer.core.errors import BaseModelError, ExampleTooLongError, MismatchedModulesError
from composer.core.examples import Example
from composer.core.module_stack import Layer

IGNORED = -100  # a label that counts for no loss, as transformers writes it
MAX_TOKENS = 2048  # of one input; LoraHub's code truncates there, we refuse
ONE_THREAD_PARAMETERS = (
    10_000_000  # below: one thread took 4.0 s for a whole run of 1 M parameters, two took 5.4 s
)
ROWS_AT_ONCE = 256  # sequences in one forward pass; bounds the memory


@dataclass(frozen=True)
class TokenBatch:
    """n examples as padded tensors, each of shape (n, length).

    `label_tokens` (n,) counts the tokens that the loss of each example averages over.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def label_tokens(self) -> Tensor:
        return (self.labels != IGNORED).sum(-1)


class BaseModel:
    """A language model in evaluation mode, its tokenizer, and the hooks on its linear layers."""

    def __init__(self, model: Any, tokenizer: Any, template: str = "{input}") -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.template = template
        self.is_encoder_decoder = bool(model.config.is_encoder_decoder)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        self._adapters: Adapters = {}
        self._n_candidates = 1

    @classmethod
    def load(cls, folder: Path, template: str = "{input}") -> "BaseModel":
        """Load a plain transformers folder: safetensors only, no code of its own, nothing fetched.

        Raises:
            BaseModelError: the folder holds no such model.
        """
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers would draw one on our caller's terminal
        options = {"local_files_only": True, "trust_remote_code": False}
        try:
            config = AutoConfig.from_pretrained(folder, **options)
            kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
            model = kind.from_pretrained(folder, use_safetensors=True, dtype=torch.float32, **options)
            tokenizer = AutoTokenizer.from_pretrained(folder, **options)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise BaseModelError(
                f"The base model in {folder.name} cannot be loaded: {first_line(error)}"
            ) from error
        if tokenizer.eos_token_id is None:
            raise BaseModelError(
                "The base model's tokenizer has no end-of-sequence token, so no answer would end."
            )
        return cls(model, tokenizer, template)

    @contextmanager
    def threads_that_pay(self) -> Iterator[None]:
        """Compute a small base on one thread: waking others takes longer than what they would do."""
        before = torch.get_num_threads()
        if sum(parameter.numel() for parameter in self.model.parameters()) < ONE_THREAD_PARAMETERS:
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
            x: Tensor = args[0]
            return output + low_rank(x.reshape(self._n_candidates, -1, x.shape[-1])).view(output.shape)

        return add_delta

    @contextmanager
    def using(self, adapters: Adapters, n_candidates: int) -> Iterator[None]:
        """Inside, every forward pass takes its rows as `n_candidates` equal blocks."""
        self._adapters, self._n_candidates = adapters, n_candidates
        try:
            yield
        finally:
            self._adapters, self._n_candidates = {}, 1

    # --- tokens ---------------------------------------------------------------

    def prompt(self, text: str) -> str:
        """The input as the model reads it; the template is replaced, never formatted."""
        return self.template.replace("{input}", text)

    def encode(self, examples: Sequence[Example]) -> TokenBatch:
        """Pad the examples to one batch; the output ends with EOS, and only it is scored."""
        return self._encode_pairs(examples) if self.is_encoder_decoder else self._encode_joined(examples)

    def _encode_pairs(self, examples: Sequence[Example]) -> TokenBatch:
        sources = [self.tokenizer(self.prompt(example.input))["input_ids"] for example in examples]
        targets = [self.tokenizer(text_target=example.output)["input_ids"] for example in examples]
        eos = self.tokenizer.eos_token_id
        targets = [ids if ids and ids[-1] == eos else [*ids, eos] for ids in targets]
        require_short(sources, targets)
        labels = padded(targets, IGNORED)
        return TokenBatch(
            {
                "input_ids": padded(sources, self.tokenizer.pad_token_id),
                "attention_mask": padded([[1] * len(ids) for ids in sources], 0),
                "decoder_input_ids": self.model.prepare_decoder_input_ids_from_labels(labels=labels),
            },
            labels,
        )

    def _encode_joined(self, examples: Sequence[Example]) -> TokenBatch:
        prompts = [self._prompt_ids(self.prompt(example.input)) for example in examples]
        answers = [
            [
                *self.tokenizer(example.output, add_special_tokens=False)["input_ids"],
                self.tokenizer.eos_token_id,
            ]
            for example in examples
        ]
        joined = [p + a for p, a in zip(prompts, answers, strict=True)]
        require_short(joined)
        return TokenBatch(
            {
                "input_ids": padded(joined, self.tokenizer.pad_token_id),
                "attention_mask": padded([[1] * len(ids) for ids in joined], 0),
            },
            padded([[IGNORED] * len(p) + a for p, a in zip(prompts, answers, strict=True)], IGNORED),
        )

    def _prompt_ids(self, prompt: str) -> list[int]:
        """A prompt as the model reads it: an encoder sees its end, a decoder goes on from it."""
        ids: list[int] = self.tokenizer(prompt)["input_ids"]
        if self.is_encoder_decoder:
            return ids
        while ids and ids[-1] == self.tokenizer.eos_token_id:
            ids = ids[:-1]
        return ids or [self.tokenizer.bos_token_id or self.tokenizer.eos_token_id]

    def prompt_length(self, prompt: str) -> int:
        """How many tokens the model reads for this prompt."""
        return len(self._prompt_ids(prompt))

    def context_length(self) -> int:
        """The most tokens that this architecture has positions for; T5 has no limit of its own."""
        return int(getattr(self.model.config, "max_position_embeddings", None) or MAX_TOKENS)

    # --- scores ---------------------------------------------------------------

    def token_nats(self, batch: TokenBatch, adapters: Adapters, n_candidates: int = 1) -> Tensor:
        """Cross entropy of every example under every candidate, summed over its label tokens.

        Returns:
            (P, n) in nats, fp32.
        """
        logits, labels = self.logits(batch, adapters, n_candidates), batch.labels
        if not self.is_encoder_decoder:
            logits, labels = logits[:, :-1], labels[:, 1:]  # position t predicts token t + 1
        nats = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(),
            labels.repeat(n_candidates, 1).flatten(),
            ignore_index=IGNORED,
            reduction="none",
        )
        return nats.view(n_candidates, len(batch), -1).sum(-1)

    def logits(self, batch: TokenBatch, adapters: Adapters, n_candidates: int = 1) -> Tensor:
        """(P * n, length, vocabulary), candidate by candidate."""
        inputs = {name: tensor.repeat(n_candidates, 1) for name, tensor in batch.inputs.items()}
        with self.using(adapters, n_candidates):
            logits: Tensor = self.model(**inputs, use_cache=False).logits
        return logits

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
        require_short(ids)
        left = not self.is_encoder_decoder  # a decoder continues at its right end
        tokens = model.generate(
            input_ids=padded(ids, self.tokenizer.pad_token_id, left=left),
            attention_mask=padded([[1] * len(row) for row in ids], 0, left=left),
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        if left:
            tokens = tokens[:, max(map(len, ids)) :]
        decoded: list[str] = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [answer.strip() for answer in decoded]


def padded(rows: Sequence[Sequence[int]], filler: int, *, left: bool = False) -> Tensor:
    """(n, longest) int64, the shorter rows filled up at one end."""
    length = max(map(len, rows))
    fill = [[filler] * (length - len(row)) for row in rows]
    pairs = zip(rows, fill, strict=True)
    return torch.tensor([[*f, *row] if left else [*row, *f] for row, f in pairs], dtype=torch.long)


def require_short(*columns: Sequence[Sequence[int]]) -> None:
    """Refuse a text that the base would have to cut off; names its example."""
    for rows in columns:
        for number, ids in enumerate(rows, start=1):
            if len(ids) > MAX_TOKENS:
                raise ExampleTooLongError(number, len(ids), MAX_TOKENS, "tokens")


def first_line(error: Exception) -> str:
    """What a library says, short enough for a sentence."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
