"""How large an adapter is, and what serves it, in words: for report, page, card and terminal."""

from collections.abc import Mapping
from typing import Any

from composer.core.spec.choices import VLLM_RANKS
from composer.core.spec.counting import count_noun

MB = 1_000_000  # bytes


def vllm_rank(rank: int, *, is_encoder_decoder: bool) -> int | None:
    """Return the smallest --max-lora-rank with which vLLM serves an adapter of this rank.

    None if vLLM does not serve it: a rank above the highest of VLLM_RANKS, or an encoder-decoder.
    """
    if is_encoder_decoder:
        return None
    return next((taken for taken in VLLM_RANKS if rank <= taken), None)


def size_text(report: Mapping[str, Any]) -> str:
    """Return a sentence on rank and size of a report's adapter; empty for a report that lacks them."""
    if not report.get("size_bytes"):
        return ""
    modules = count_noun(sum(row["weight"] != 0 for row in report["modules"]), "module")
    taken = report["vllm_max_lora_rank"]
    by_vllm = f"vLLM serves it with --max-lora-rank {taken}, " if taken else ""
    return (
        f"The adapter is made of {modules}, has rank {report['rank']} and {megabytes(report['size_bytes'])}; "
        f"{by_vllm}peft takes any rank."
    )


def megabytes(size_bytes: int) -> str:
    """Return a size in MB, with two digits that count below 10 MB."""
    size = size_bytes / MB
    return f"{size:.0f} MB" if size >= 10 else f"{size:.1f} MB" if size >= 1 else f"{size:.2f} MB"
