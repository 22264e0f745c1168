"""A library of modules and unseen tasks in real English, on a small instruct model.

Importing this costs nothing: reading the finished bundle needs no torch.
"""

from pathlib import Path

BASE_NAME = "demo/smollm2-135m"
BUNDLE = Path(__file__).parent / "bundle"
