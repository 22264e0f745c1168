"""A frozen base model, encoder-decoder or decoder-only, that scores P candidates at once.

The parameters of the base never change. A hook adds the candidate's delta to the output of each linear
layer. P candidates are P copies of the examples in one batch, ordered candidate by candidate.
transformers' own forward pass scores any architecture. T5 and the families of composer.core.model.decoder
are scored on rows of tokens without padding.

In bf16 only the products of the linear layers and of the modules' factors are rounded. The residual
stream, the norms, the attention, the logits and the loss stay fp32. On the demo world, bf16 changes a
loss by less than 1 % or 0.002 nats per label token, whichever is more.

Letters of shapes: P candidates, n examples.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from inspect import signature
from pathlib import Path
from typing import Any

import torch
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
from composer.core.model.decoder import (
    Decoder,
    DecoderRows,
    common_beginning,
    computes_as_decoder,
    decoder_rows,
)
from composer.core.model.packed_linear import (
    BF16_GAIN,
    bf16_gain,
    can_pack,
    pack_linear,
    round_linear,
)
from composer.core.model.page_cache import keep_freed_memory
from composer.core.model.prompt_reader import PromptReader, first_line
from composer.core.model.t5 import IGNORED, READ_AS_WEIGHTS, Rows, T5Rows, rows_of
from composer.core.modules.module_stack import Layer
from composer.core.spec.errors import (
    BaseModelError,
    ExampleTooLongError,
    InvalidJobError,
    MismatchedModulesError,
)
from composer.core.spec.examples import Example
from composer.core.spec.templates import INPUT, warning_of_gluing

MAX_TOKENS = 2048  # of one text; LoraHub's code truncates there, and this one refuses the text
# A base with fewer parameters is small. A whole run of a base of 1 M parameters took 4.0 s on one thread and
# 5.4 s on two, and casting to bf16 takes longer than the faster product saves.
SMALL_BASE_PARAMETERS = 10_000_000
# Every tokenizer that transformers reads has its vocabulary in one of these files.
VOCABULARIES = ("tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json", "vocab.txt")
ROWS_AT_ONCE = 256  # sequences in one forward pass; bounds the memory
TOKENS_AT_ONCE = (
    1024  # of a decoder in one forward pass; more do not make a product faster, and leave the cache
)
LOGITS_BYTES = 500_000_000  # of the whole vocabulary's logits that are in memory at once


@dataclass(frozen=True)
class TokenBatch:
    """n examples as padded tensors.

    Attributes:
        inputs: the model's inputs, each (n, length) int64, on the base's device.
        labels: (n, label length) int64, on the base's device; IGNORED where no token is scored.
        examples: the n examples as texts.
    """

    inputs: Mapping[str, Tensor]
    labels: Tensor
    examples: tuple[Example, ...]

    def __len__(self) -> int:
        """Return n."""
        return len(self.labels)

    @property
    def label_tokens(self) -> Tensor:
        """Return (n,) int64 on the CPU: how many label tokens each example has."""
        return (self.labels != IGNORED).sum(-1).cpu()

    def part(self, examples: slice) -> "TokenBatch":
        """Return the batch of some of the examples, with the padding of the whole batch."""
        inputs = {name: tensor[examples] for name, tensor in self.inputs.items()}
        return TokenBatch(inputs, self.labels[examples], self.examples[examples])

    @cached_property
    def rows(self) -> Rows:
        """Return the examples of an encoder-decoder as rows of tokens without padding."""
        return rows_of(self.inputs, self.labels)

    @cached_property
    def decoder_rows(self) -> DecoderRows:
        """Return the examples of a decoder as rows of tokens without padding."""
        return decoder_rows(self.inputs, self.labels)


class FrozenBaseModel(PromptReader):
    """A language model in evaluation mode, its tokenizer, and the hooks on its linear layers.

    Attributes:
        template: of a prompt, if a call names none.
        precision: "fp32" or "bf16", as really computed.
        device: the torch device of the model.
        n_parameters: of the model.
        is_encoder_decoder: whether the model is an encoder-decoder.
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
        """Prepare a model that is in memory already.

        Args:
            model: a transformers model; its parameters are frozen.
            tokenizer: of the model; EOS becomes its padding token if it has none.
            template: of a prompt, if a call names none.
            precision: "fp32" or "bf16".
            packs: whether the weights of a base that is not small may be packed for oneDNN.
        """
        self.model = model.eval().requires_grad_(False)
        super().__init__(tokenizer, template, is_encoder_decoder=bool(model.config.is_encoder_decoder))
        self.precision = precision
        self.device: torch.device = model.device
        self._keeps_positions = "logits_to_keep" in signature(model.forward).parameters
        self.n_parameters = count_parameters(model)
        self._adapters: Adapters = {}
        self._n_candidates = 1
        self._lay_out_products(packs=packs and not is_small(model))
        self._paths = {module: path for path, module in self.model.named_modules()}
        # not isinstance: a subclass may compute something else
        is_t5 = type(model) is T5ForConditionalGeneration
        self._t5 = T5Rows(model, self, self._product_dtype) if is_t5 else None
        is_decoder = computes_as_decoder(model, MAX_TOKENS)
        self._decoder = Decoder(model, self, self._product_dtype) if is_decoder else None

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
        """Load a plain transformers folder: only safetensors, no remote code, no download.

        Args:
            folder: holds config.json, the weights and the tokenizer.
            template: of a prompt, if a call names none.
            precision: fp32, bf16 or auto. auto is bf16 for a base that is not small, where bf16 products were
                measured to be faster.
            device: cpu, cuda or auto. auto is cuda if there is one.
            packs: whether the weights of a base that is not small may be packed for oneDNN. Unpacked in fp32,
                they stay a view of their file, whose pages all processes share.
            name: the name in messages; the folder's name if empty.

        Raises:
            BaseModelError: the folder holds no such model, a weight or the tokenizer is missing, or the
                tokenizer has no EOS token.
            InvalidJobError: the device is cuda, and there is none.
        """
        logging.disable_progress_bar()  # else transformers draws one on the caller's terminal
        options = {"local_files_only": True, "trust_remote_code": False}
        where = find_device(device)
        name = name or folder.name
        if not any((folder / file).is_file() for file in VOCABULARIES):
            raise BaseModelError(  # else transformers makes an empty tokenizer
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
        except Exception as error:  # these libraries raise many kinds of error on a bad file
            raise BaseModelError(f"The base model {name} cannot be loaded: {first_line(error)}") from error
        missing = sorted(found["missing_keys"]) + [str(key) for key in found["mismatched_keys"]]
        if missing:
            raise BaseModelError(  # else transformers fills it with random numbers
                f"The base model {name} lacks {missing[0]}, or has it in a different size."
            )
        if tokenizer.eos_token_id is None:
            raise BaseModelError(
                "The base model's tokenizer has no end-of-sequence token, so no answer would end."
            )
        keep_freed_memory()
        if precision == "auto":
            precision = "bf16" if not is_small(model) and is_bf16_faster(where) else "fp32"
        return cls(model.to(where), tokenizer, template, precision, packs=packs)

    @property
    def _product_dtype(self) -> torch.dtype:
        return torch.bfloat16 if self.precision == "bf16" else torch.float32

    def _lay_out_products(self, *, packs: bool) -> None:
        """Pack or round the weights of all linear layers.

        The output head stays fp32, because bf16 would round its logits.

        Args:
            packs: whether weights are packed where that is possible.
        """
        head, dtype = self.model.get_output_embeddings(), self._product_dtype
        packs_all = packs and can_pack(self.device, dtype)
        for path, module in self.model.named_modules():
            if module is head:
                if packs and can_pack(self.device, torch.float32):
                    pack_linear(head, torch.float32)
            elif isinstance(module, nn.Linear | Conv1D):
                lay_out = pack_linear if packs_all and not path.endswith(READ_AS_WEIGHTS) else round_linear
                lay_out(module, dtype)

    @contextmanager
    def single_thread_if_small(self) -> Iterator[None]:
        """Compute a small base model on one thread: more threads cost more time than they save."""
        before = torch.get_num_threads()
        if is_small(self.model):
            torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def linear_layers(self) -> dict[str, Layer]:
        """Return every layer that a LoRA module can change, by path."""
        return linear_layers(self.model)

    def stores_transposed(self, paths: Iterable[str]) -> bool:
        """Return whether one of these layers stores its weight as (d_in, d_out), as GPT-2 does.

        peft needs this as `fan_in_fan_out`.
        """
        return any(isinstance(self.model.get_submodule(path), Conv1D) for path in paths)

    def require_layers(self, layers: Iterable[Layer]) -> None:
        """Refuse layers that this base model does not have in that size.

        Raises:
            MismatchedModulesError: names the first such layer.
        """
        own = self.linear_layers()
        for layer in layers:
            if own.get(layer.path) != layer:
                raise MismatchedModulesError(
                    f"A module changes {layer.path} ({layer.d_out} x {layer.d_in}), "
                    "which this base model does not have in that size."
                )

    def hook(self, paths: Iterable[str]) -> None:
        """Register a hook on each of these layers, so that candidates can change it.

        Call it once per layer: a second hook would add the delta twice.
        """
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
        """Return a layer's output (…, d_out) for x (…, d_in) plus the candidates' deltas."""
        delta = self._delta(low_rank, x).view(output.shape)
        # without a graph nothing else reads the output, so it can be changed in place
        return output + delta if torch.is_grad_enabled() else output.add_(delta)

    def _delta(self, low_rank: LowRank, x: Tensor) -> Tensor:
        """Return (P, rows, d_out) for x (…, d_in), whose rows are P equal blocks."""
        return low_rank(x.reshape(self._n_candidates, -1, x.shape[-1]).to(self._product_dtype))

    # T5Rows and Decoder call no linear layer, so no hook runs there: they ask for the deltas by the next
    # three methods.

    def adapts(self, module: nn.Module) -> bool:
        """Return whether the candidates have a delta in this layer."""
        return self._paths[module] in self._adapters

    def delta(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return only what the candidates add, (P, rows, d_out), for x (…, d_in)."""
        return self._delta(self._adapters[self._paths[module]], x)

    def product(self, module: nn.Module, x: Tensor) -> Tensor:
        """Return the layer's output (…, d_out) for x (…, d_in), the candidates' deltas included."""
        output: Tensor = module.forward(x)
        low_rank = self._adapters.get(self._paths[module])
        return output if low_rank is None else self._with_delta(low_rank, x, output)

    @contextmanager
    def with_adapters(self, adapters: Adapters, n_candidates: int) -> Iterator[None]:
        """Apply these candidates to every forward pass inside the context.

        Args:
            adapters: by the path of the layer; {} for the base model alone.
            n_candidates: P; the rows of every layer's input are P equal blocks, candidate by candidate.
        """
        self._adapters, self._n_candidates = adapters, n_candidates
        try:
            yield
        finally:
            self._adapters, self._n_candidates = {}, 1

    # --- tokens ---------------------------------------------------------------

    def encode(self, examples: Sequence[Example], template: str | None = None) -> TokenBatch:
        """Encode n examples as one padded batch; only the output and its end are scored.

        An output ends with EOS; in the chat template of the base model it ends as an assistant's turn does.
        A decoder-only base reads the output without outer white space, behind the space that the template
        puts between prompt and answer (`templates.split_prompt`).

        Args:
            examples: at least one.
            template: of the prompts; the model's own if None.

        Raises:
            ExampleTooLongError: an example has more tokens than the context; names the example.
            BaseModelError: as `prompt`.
        """
        prompts, answered, end = self.prompts_and_answers(examples, template)
        return replace(self.encode_prompts(prompts, answered, end), examples=tuple(examples))

    def encode_prompts(
        self, prompts: Sequence[str], examples: Sequence[Example], end: str | None = None, after: str = ""
    ) -> TokenBatch:
        """Encode n examples whose prompts are whole already, as `encode` does.

        A decoder-only base reads prompt and output as one text, split into tokens as the whole. If no token
        ends where the prompt does, both are split alone, so that an answer begins where generating begins.

        Args:
            prompts: n prompts.
            examples: n examples; their outputs are scored as they are.
            end: the text that ends an output, scored with it; EOS if None.
            after: the text that would follow. It is not scored, but decides how the end is split into tokens.

        Raises:
            ExampleTooLongError: an example has more tokens than the context; names the example.
        """
        encode = self._encode_pairs if self.is_encoder_decoder else self._encode_joined
        inputs, labels = encode(
            [self.prompt_ids(prompt) for prompt in prompts],
            [
                self.answer_ids(prompt, example.output, end, after)
                for prompt, example in zip(prompts, examples, strict=True)
            ],
        )
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

    def context_length(self) -> int:
        """Return the most tokens of a text: the positions of the architecture, at most MAX_TOKENS.

        T5 has no limit of its own, so MAX_TOKENS holds for it.
        """
        return min(MAX_TOKENS, int(getattr(self.model.config, "max_position_embeddings", None) or MAX_TOKENS))

    def describe_prompt(self, batch: TokenBatch) -> dict[str, Any]:
        """Return what the model reads of the first example, with special tokens visible.

        Returns:
            prompt and answer as texts, and prompt_tokens and answer_tokens, the lengths of both.
        """
        answer = [token for token in batch.labels[0].tolist() if token != IGNORED]
        prompt = batch.inputs["input_ids"][0][batch.inputs["attention_mask"][0].bool()].tolist()
        if not self.is_encoder_decoder:  # both are one text, and only its end is scored
            prompt = prompt[: -len(answer)]
        read = partial(self.tokenizer.decode, clean_up_tokenization_spaces=False)
        before, whole = read(prompt), read(prompt + answer)
        is_joined = not self.is_encoder_decoder and whole.startswith(before)
        return {
            "prompt": before,
            "answer": whole.removeprefix(before) if is_joined else read(answer),
            "prompt_tokens": len(prompt),
            "answer_tokens": len(answer),
        }

    def template_warning(self) -> str:
        """Return a warning if the template glues words together, else the empty text."""
        return warning_of_gluing(
            self.template, is_encoder_decoder=self.is_encoder_decoder, has_chat=self.has_chat
        )

    def round_trip(self, text: str) -> str:
        """Return what an answer of this text reads as, once it was tokens."""
        ids = self.texts.ids(self.texts.marked(text))
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))

    # --- scores ---------------------------------------------------------------

    def candidates_at_once(self, batch: TokenBatch) -> int:
        """Return how many candidates one forward pass shall score, at least one.

        Args:
            batch: n examples.
        """
        labels = int(batch.label_tokens.sum())
        fit = LOGITS_BYTES // (4 * labels * int(self.model.config.vocab_size))
        if self._decoder is not None:
            return max(1, min(fit, TOKENS_AT_ONCE // len(batch.decoder_rows.ids)))
        return max(1, min(fit, ROWS_AT_ONCE // len(batch)))

    def token_nats(self, batch: TokenBatch, adapters: Adapters, n_candidates: int = 1) -> Tensor:
        """Return the cross entropy of every example under every candidate, summed over its label tokens.

        Args:
            batch: n examples.
            adapters: P candidates; {} for the base model alone.
            n_candidates: P.

        Returns:
            (P, n) in nats, fp32, on the CPU; differentiable in the candidates if gradients are enabled.
        """
        if self._t5 is not None:
            with self.with_adapters(adapters, n_candidates):
                return self._t5.nats(batch.rows, n_candidates).cpu()
        if self._decoder is not None:
            with self.with_adapters(adapters, n_candidates):
                return self._decoder.nats(batch.decoder_rows, n_candidates).cpu()
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
        wrapped: Any = None,
    ) -> Tensor:
        """Return logits (P * n, length, vocabulary), candidate by candidate.

        Args:
            batch: n examples.
            adapters: P candidates; {} for the base model alone.
            n_candidates: P.
            positions: (K,) indices into the length; then the result is (P * n, K, vocabulary). For a small
                decoder, an output head of 100 000 tokens costs more than all layers, so only the positions of
                the labels are computed.
            wrapped: this model as peft wrapped it; if given, its logits are returned.
        """
        inputs = {name: tensor.repeat(n_candidates, 1) for name, tensor in batch.inputs.items()}
        if positions is not None and self._keeps_positions:
            inputs["logits_to_keep"] = positions
        with self.with_adapters(adapters, n_candidates):
            logits: Tensor = (wrapped or self.model)(**inputs, use_cache=False).logits
        return logits if positions is None or self._keeps_positions else logits[:, positions]

    def label_logits(
        self, batch: TokenBatch, adapters: Adapters, n_candidates: int = 1, wrapped: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (P, T, vocabulary), fp32, that predict the T label tokens of all examples.

        Args:
            batch: n examples.
            adapters: P candidates; {} for the base model alone.
            n_candidates: P.
            wrapped: this model as peft wrapped it; if given, its logits are returned.

        Returns:
            The logits and (T,) the index in the batch of each label token's example, on the CPU.
        """
        if self._t5 is not None and wrapped is None:
            rows = batch.rows
            with self.with_adapters(adapters, n_candidates):
                logits = self._t5.logits(rows, self._t5.encoder_output(rows, n_candidates))
            return logits.float(), rows.order[rows.example].cpu()
        if self._decoder is not None and wrapped is None:
            with self.with_adapters(adapters, n_candidates):
                logits = self._decoder.logits(batch.decoder_rows, n_candidates)
            return logits.float(), batch.decoder_rows.example.cpu()
        labels, positions = batch.labels, None
        if not self.is_encoder_decoder:  # position t predicts token t + 1
            positions = (labels[:, 1:] != IGNORED).any(0).nonzero().flatten()
            labels = labels[:, positions + 1]
        scored = labels != IGNORED
        logits = self.logits(batch, adapters, n_candidates, positions, wrapped)
        by_candidate = logits.view(n_candidates, len(batch), *logits.shape[1:])
        return by_candidate[:, scored].float(), scored.nonzero()[:, 0].cpu()

    # --- answers --------------------------------------------------------------

    @torch.no_grad()
    def answers(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        adapters: Adapters,
        n_candidates: int = 1,
        *,
        end: str | None = None,
        wrapped: Any = None,
    ) -> list[list[str]]:
        """Return P lists of n greedy answers, without special tokens and outer white space.

        An answer ends at EOS, or as an assistant's turn does in the chat template of the base model.

        Args:
            prompts: n prompts, whole, with the template around the input.
            max_new_tokens: the most tokens of one answer.
            adapters: P candidates; {} for the base model alone.
            n_candidates: P.
            end: a text that ends an answer too; the answer is cut there.
            wrapped: this model as peft wrapped it; if given, it answers instead.

        Raises:
            ExampleTooLongError: a prompt does not fit the context; names its number.
        """
        answers: list[list[str]] = [[] for _ in range(n_candidates)]
        size = max(1, ROWS_AT_ONCE // n_candidates)
        for start in range(0, len(prompts), size):
            block = list(prompts[start : start + size])
            with self.with_adapters(adapters, n_candidates):
                flat = self._generate(wrapped or self.model, block * n_candidates, max_new_tokens, end)
            for i, own in enumerate(answers):
                own.extend(flat[i * len(block) : (i + 1) * len(block)])
        return answers

    def _generate(
        self, model: Any, prompts: Sequence[str], max_new_tokens: int, end: str | None
    ) -> list[str]:
        ids = [self.prompt_ids(prompt) for prompt in prompts]
        left = not self.is_encoder_decoder  # a decoder continues at the right, so it is padded on the left
        context_length = self.context_length()
        require_short(context_length - left, ids)
        if left:
            max_new_tokens = min(max_new_tokens, context_length - max(map(len, ids)))
        shared = common_beginning(ids, min(map(len, ids)) - 1) if self._decoder is not None else 0
        rest = [row[shared:] for row in ids]  # padding stands between the common beginning and the rest
        begin = torch.tensor([ids[0][:shared]] * len(ids), dtype=torch.long)
        inputs = torch.cat([begin, pad_rows(rest, self.tokenizer.pad_token_id, left=left)], 1)
        mask = torch.cat(
            [torch.ones_like(begin), pad_rows([[1] * len(row) for row in rest], 0, left=left)], 1
        )
        tokens = model.generate(
            input_ids=inputs.to(self.device),
            attention_mask=mask.to(self.device),
            do_sample=False,
            num_beams=1,
            max_new_tokens=max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=sorted(self.stop_ids(end)) or None,
            **self._read_once(model, begin.to(self.device)),
        )
        if left:
            tokens = tokens[:, inputs.shape[1] :]
        decoded: list[str] = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [self.cut(answer, end).strip() for answer in decoded]

    def _read_once(self, model: Any, begin: Tensor) -> dict[str, Any]:
        """Return the option of `generate` with the cache of the tokens (P * n, length) that prompts share.

        Each candidate reads them once. There is no such option if the prompts share nothing.
        """
        if not begin.shape[1]:
            return {}
        own = begin[: self._n_candidates]
        cache = model(input_ids=own, use_cache=True, logits_to_keep=1).past_key_values
        cache.batch_repeat_interleave(len(begin) // self._n_candidates)
        return {"past_key_values": cache}

    def stop_ids(self, end: str | None) -> set[int]:
        """Return the tokens that end an answer: EOS, the end of a turn, and `end` if it is one token."""
        return self.end_ids(end, self.model.generation_config.eos_token_id)


def linear_layers(model: nn.Module) -> dict[str, Layer]:
    """Return every layer of a model without adapters that a LoRA module can change, by path."""
    layers = {}
    for path, module in model.named_modules():
        if isinstance(module, nn.Linear):
            layers[path] = Layer(path, d_out=module.out_features, d_in=module.in_features)
        elif isinstance(module, Conv1D):
            layers[path] = Layer(path, d_out=module.nf, d_in=module.nx)
    return layers


def is_small(model: nn.Module) -> bool:
    """Return whether the model has fewer than SMALL_BASE_PARAMETERS parameters.

    What makes a large model faster, such as threads, packing and bf16, makes a small one slower.
    """
    return count_parameters(model) < SMALL_BASE_PARAMETERS


def count_parameters(model: nn.Module) -> int:
    """Return the number of parameters; of a packed model, only of those that are not packed."""
    return sum(parameter.numel() for parameter in model.parameters())


def find_device(name: str) -> torch.device:
    """Return the torch device for cpu, cuda or auto.

    Raises:
        InvalidJobError: the name is cuda, and torch finds no such device.
    """
    has_cuda = torch.cuda.is_available()
    if name == "cuda" and not has_cuda:
        raise InvalidJobError("This machine has no GPU that torch can use. Choose auto or cpu.")
    return torch.device("cuda" if has_cuda and name != "cpu" else "cpu")


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether the device has instructions for bf16 products."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_avx512_bf16_supported())  # every processor with AMX has AVX-512's bf16 too


def is_bf16_faster(device: torch.device) -> bool:
    """Return whether bf16 products are so much faster on this device that their rounding pays.

    Having the instructions does not say so: with AVX-512's bf16 dot products a Zen 4 core took half the
    time of fp32, and a Xeon whose AMX was masked 1.7 times as long. So a processor is measured, once in a
    process. The report holds the precision that was chosen.
    """
    return multiplies_bf16(device) and (device.type == "cuda" or bf16_gain() >= BF16_GAIN)


def pad_rows(rows: Sequence[Sequence[int]], filler: int, *, left: bool = False) -> Tensor:
    """Return (n, longest) int64: the n rows, filled up on the right, or on the left if `left`."""
    length = max(map(len, rows))
    fill = [[filler] * (length - len(row)) for row in rows]
    pairs = zip(rows, fill, strict=True)
    return torch.tensor([[*f, *row] if left else [*row, *f] for row, f in pairs], dtype=torch.long)


def require_short(limit: int, *columns: Sequence[Sequence[int]]) -> None:
    """Refuse a text with more than `limit` tokens, which the base model would have to cut off.

    Args:
        limit: in tokens.
        columns: lists of n rows of token ids; row i of each belongs to example i + 1.

    Raises:
        ExampleTooLongError: names the example.
    """
    for rows in columns:
        for number, ids in enumerate(rows, start=1):
            if len(ids) > limit:
                message = f"Example {number} is {len(ids)} tokens long; at most {limit} fit. Shorten it."
                raise ExampleTooLongError(message, len(ids), limit)
