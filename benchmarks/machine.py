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


def matrix_units() -> str:
    """What multiplies bf16 here."""
    import torch  # slow, and most benchmarks without it

    if torch.cpu._is_amx_tile_supported():
        return "bf16 matrix units (AMX)"
    if torch.cpu._is_avx512_bf16_supported():
        return "no bf16 matrix units; bf16 dot products (AVX512_BF16)"
    return "no bf16 matrix units: fp32 only"
