"""The names of the modules that the LoraHub paper composes."""

from pathlib import Path

OWNER = "lorahub"  # of the repositories on the Hub
NAMES = Path(__file__).with_name("names.txt")

# 196 LoRA modules of google/flan-t5-large.
LORA_MODULE_NAMES = [f"{OWNER}/{name}" for name in NAMES.read_text(encoding="utf-8").split()]
