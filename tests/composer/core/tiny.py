"""Tiny random base models, modules and jobs: real files, real code paths, no meaning."""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen2Tokenizer,
    T5Config,
    T5ForConditionalGeneration,
)

WORDS = (
    "cat",
    "dog",
    "fig",
    "saw",
    "bay",
    "leg",
    "hat",
    "chat",
    "chien",
    "figue",
    "scie",
    "baie",
    "CAT",
    "DOG",
    "FIG",
)
SIZE = len(WORDS) + 3
LETTERS = ("Ġ", *sorted(set("".join(WORDS))))  # the first is a space, as byte-level tokenizers write it
TARGETS = {
    "t5": ("q", "v"),
    "t5-untied": ("q", "v"),
    "llama": ("q_proj", "v_proj"),
    "qwen2": ("q_proj", "v_proj"),
    "gpt2": ("c_attn",),
    "gpt-neox": ("query_key_value",),
}
FAMILIES = tuple(TARGETS)
SIZES: dict[str, dict[str, tuple[int, int]]] = {}  # (d_out, d_in) by path, by configuration


def make_base(folder: Path, kind: str = "t5", seed: int = 0) -> Path:
    """A base model of one or two layers, saved as transformers saves it."""
    files = base_files(kind, seed)
    torch.manual_seed(seed)  # what a test draws next does not depend on the tests before it
    return write_files(folder, files)


@cache
def base_files(kind: str, seed: int) -> dict[str, bytes]:
    """The files of a base model by name; made once, because making them takes longer than most tests."""
    make = {
        "t5": tiny_t5,
        "t5-untied": partial(tiny_t5, tied=False),
        "llama": tiny_llama,
        "qwen2": tiny_qwen2,
        "gpt2": tiny_gpt2,
        "gpt-neox": tiny_gpt_neox,
    }[kind]
    tokenizer = tiny_letters() if kind == "qwen2" else tiny_tokenizer(with_eos=kind.startswith("t5"))
    return saved_files(make, tokenizer, seed)


def saved_files(
    make: Callable[[], PreTrainedModel], tokenizer: PreTrainedTokenizerBase, seed: int
) -> dict[str, bytes]:
    """What transformers saves of a model with random weights, and of its tokenizer."""
    torch.manual_seed(seed)
    model = make()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def tiny_t5(*, tied: bool = True) -> T5ForConditionalGeneration:
    return T5ForConditionalGeneration(
        T5Config(
            vocab_size=SIZE,
            d_model=16,
            d_kv=8,
            num_heads=2,
            d_ff=32,
            num_layers=1,
            num_decoder_layers=1,
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
            tie_word_embeddings=tied,
        )
    )


def tiny_llama() -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=SIZE,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )
    )


def tiny_qwen2() -> Qwen2ForCausalLM:
    return Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=3 + len(LETTERS),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            tie_word_embeddings=True,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=1,
        )
    )


def tiny_gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=SIZE, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=1
        )
    )


def tiny_gpt_neox() -> GPTNeoXForCausalLM:
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=SIZE,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=256,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=1,
        )
    )


def tiny_tokenizer(*, with_eos: bool) -> PreTrainedTokenizerFast:
    vocabulary = {token: i for i, token in enumerate(("<pad>", "</s>", "<unk>", *WORDS))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if with_eos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", special_tokens=[("</s>", 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def tiny_letters() -> Qwen2Tokenizer:
    """A token a letter: transformers reads whatever lies beside a Qwen2 as byte pairs."""
    vocabulary = {token: i for i, token in enumerate(("<pad>", "</s>", "<unk>", *LETTERS))}
    return Qwen2Tokenizer(
        vocab=vocabulary, merges=[], unk_token="<unk>", bos_token=None, eos_token="</s>", pad_token="<pad>"
    )


def layer_sizes(base: Path, targets: Sequence[str]) -> dict[str, tuple[int, int]]:
    """(d_out, d_in) by path of the layers whose last name is a target."""
    from composer.core.model.base_model import FrozenBaseModel

    config = (base / "config.json").read_text()  # it alone decides the sizes
    if config not in SIZES:
        layers = FrozenBaseModel.load(base).linear_layers()
        SIZES[config] = {path: (layer.d_out, layer.d_in) for path, layer in layers.items()}
    return {path: size for path, size in SIZES[config].items() if path.split(".")[-1] in targets}


def make_module(
    folder: Path,
    base: Path,
    *,
    seed: int,
    rank: int = 2,
    alpha: float = 4,
    targets: Sequence[str] = ("q", "v"),
    rslora: bool = False,
) -> Path:
    """A random module as peft would have saved it."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for path, (d_out, d_in) in layer_sizes(base, targets).items():
        tensors[f"base_model.model.{path}.lora_A.weight"] = 0.5 * torch.randn(rank, d_in, generator=generator)
        tensors[f"base_model.model.{path}.lora_B.weight"] = 0.5 * torch.randn(
            d_out, rank, generator=generator
        )
    folder.mkdir(parents=True)
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    config = {
        "peft_type": "LORA",
        "r": rank,
        "lora_alpha": alpha,
        "target_modules": list(targets),
        "bias": "none",
        "use_rslora": rslora,
        "fan_in_fan_out": "c_attn" in targets,
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


EXAMPLES = (("cat", "chat"), ("dog", "chien"), ("fig fig", "figue figue"), ("saw", "scie"), ("bay", "baie"))


def as_dora(folder: Path) -> Path:
    """The module in a folder with the magnitudes of a DoRA beside its factors."""
    path = folder / "adapter_model.safetensors"
    tensors = load_file(path)
    magnitudes = {
        name.replace("lora_B.weight", "lora_magnitude_vector"): torch.ones(tensor.shape[0])
        for name, tensor in tensors.items()
        if name.endswith("lora_B.weight")
    }
    save_file(tensors | magnitudes, path)
    return folder


def make_job(
    folder: Path, *, kind: str = "t5", n_modules: int = 3, held_out: bool = True, **asked: Any
) -> Path:
    """A whole job folder, ready to run."""
    folder.mkdir(parents=True, exist_ok=True)
    base = make_base(folder / "base", kind)
    rows = []
    for i in range(n_modules):
        make_module(folder / "modules" / str(i), base, seed=i, targets=TARGETS[kind])
        rows.append(
            {"name": f"alice/m{i}", "folder": f"modules/{i}", "revision": f"rev{i}", "sha256": f"{i}" * 64}
        )
    job = {
        "schema": 1,
        "base": {"name": f"tiny/{kind}", "revision": "r"},
        "modules": rows,
        "seed": 7,
        **asked,
    }
    (folder / "job.json").write_text(json.dumps(job))
    write_examples(folder / "examples.jsonl", EXAMPLES)
    if held_out:
        write_examples(folder / "held_out.jsonl", (("hat", "CAT"), ("leg dog", "FIG"), ("cat dog", "DOG")))
    return folder


def write_examples(path: Path, pairs: Sequence[tuple[str, str]]) -> None:
    path.write_text("".join(json.dumps({"input": i, "output": o}) + "\n" for i, o in pairs))
