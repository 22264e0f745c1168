"""A small invented world in which composing LoRA modules can be watched and measured.

Importing this costs nothing: whoever only reads the finished bundle needs no torch.
"""

from pathlib import Path

BUNDLE = Path(__file__).parent / "bundle"
