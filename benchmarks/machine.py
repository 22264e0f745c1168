"""The machine a figure was measured on, in one line."""

import importlib.metadata
import os
import platform
from pathlib import Path


def machine() -> str:
    """The processor, how many of them, and what computed."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = names[0] if names else platform.processor() or platform.machine()
    packages = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "peft")
    )
    return f"{processor}, {os.cpu_count()} cores; Python {platform.python_version()}, {packages}"
