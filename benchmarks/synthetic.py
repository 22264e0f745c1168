"""Models and modules with random weights in the sizes of real ones, as files, to measure time with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from composer.core.spec.examples import Example

LENGTHS = (96, 101, 107, 112, 119)  # tokens of the inputs, the end token included; 107 in the middle
ANSWER_TOKENS = 4  # the end token included
RANK = 16  # of the LoraHub paper's modules; alpha is twice that

T5_SIZES: Mapping[str, Mapping[str, Any]] = {
    "tiny": {"d_model": 64, "d_ff": 128, "num_layers": 2, "num_heads": 4, "d_kv": 16, "vocab_size": 512},
    "S": {"d_model": 256, "d_ff": 1024, "num_layers": 4, "num_heads": 4, "d_kv": 64, "vocab_size": 2048},
    "M": {"d_model": 512, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "d_kv": 64, "vocab_size": 32128},
    "L": {"d_model": 1024, "d_ff": 2816, "num_layers": 24, "num_heads": 16, "d_kv": 64, "vocab_size": 32128},
}
LLAMA_SIZES: Mapping[str, Mapping[str, Any]] = {
    "D": {
        "hidden_size": 768,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "vocab_size": 32000,
    },
    "smol": {  # SmolLM2-135M's
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "rope_theta": 100000.0,
        "vocab_size": 49152,
    },
    "tiny-smol": {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "vocab_size": 512,
    },
}


def make_base(folder: Path, size: str) -> Path:
    """A base of that size ("tiny", S, M or L: T5; D, smol or tiny-smol: Llama), its tokenizer included."""
    torch.manual_seed(0)
    model: Any = make_llama(LLAMA_SIZES[size]) if size in LLAMA_SIZES else make_t5(T5_SIZES[size])
    model.save_pretrained(folder)
    make_tokenizer(model.config.vocab_size, ends=size in T5_SIZES).save_pretrained(folder)
    return folder


def make_t5(sizes: Mapping[str, Any]) -> T5ForConditionalGeneration:
    config = T5Config(  # type: ignore[call-arg]  # its stub leaves out what **kwargs take: the last one
        **sizes,
        feed_forward_proj="gated-gelu",
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def make_llama(sizes: Mapping[str, Any]) -> LlamaForCausalLM:
    config = LlamaConfig(**sizes, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1, eos_token_id=1)
    return LlamaForCausalLM(config)


def make_tokenizer(size: int, *, ends: bool) -> PreTrainedTokenizerFast:
    """One word, one token: w2, w3, …"""
    vocabulary = {"<pad>": 0, "</s>": 1} | {f"w{number}": number for number in range(2, size)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing("$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>")


def make_module(
    folder: Path, base: Any, seed: int, *, rank: int = RANK, targets: Sequence[str] | None = None
) -> Path:
    """A plain LoRA with random factors, on the queries and values of a transformers model or on `targets`."""
    generator = torch.Generator().manual_seed(seed)
    if targets is None:
        targets = ["q", "v"] if base.config.is_encoder_decoder else ["q_proj", "v_proj"]
    factors = {}
    for path, module in base.named_modules():
        if path.rpartition(".")[2] in targets:
            d_out, d_in = module.weight.shape
            for factor, shape in (("A", (rank, d_in)), ("B", (d_out, rank))):
                key = f"base_model.model.{path}.lora_{factor}.weight"
                factors[key] = 0.01 * torch.randn(shape, generator=generator)
    folder.mkdir(parents=True)
    save_file(factors, str(folder / "adapter_model.safetensors"), metadata={"format": "pt"})
    kind = "SEQ_2_SEQ_LM" if base.config.is_encoder_decoder else "CAUSAL_LM"
    write_config(folder, kind, rank, targets)
    return folder


def write_config(folder: Path, kind: str, rank: int, targets: Sequence[str]) -> None:
    from peft import LoraConfig, TaskType

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(targets), task_type=TaskType(kind))
    config.inference_mode = True
    config.save_pretrained(str(folder))


def make_examples(vocabulary: int, *, ends: bool, lengths: Sequence[int] = LENGTHS) -> tuple[Example, ...]:
    """Five examples of random words; with their end tokens the inputs have these lengths."""
    generator = torch.Generator().manual_seed(1)

    def words(count: int) -> str:
        numbers = torch.randint(2, vocabulary, (count,), generator=generator)
        return " ".join(f"w{number}" for number in numbers.tolist())

    return tuple(Example(words(length - ends), words(ANSWER_TOKENS - 1)) for length in lengths)
