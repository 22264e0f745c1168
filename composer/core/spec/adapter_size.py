"""How large an adapter is, and what serves it, in words: for report, page, card and terminal."""

from collections.abc import Mapping
from typing import Any

from composer.core.spec.counting import count_noun
from modules_registry.core.serving import vllm_rank_limit
from modules_registry.core.sizes import size_in_words


def vllm_rank(rank: int, *, is_encoder_decoder: bool) -> int | None:
    """Return the smallest --max-lora-rank with which vLLM serves an adapter of this rank.

    None if vLLM does not serve it: a rank above the highest of VLLM_RANKS, or an encoder-decoder.
    """
    if is_encoder_decoder:
        return None
    return vllm_rank_limit(rank)


def size_text(report: Mapping[str, Any]) -> str:
    """Return sentences on what a report's adapter is made of; without its size for a report that lacks it."""
    modules = count_noun(len(modules_with_weight(report)), "module")
    unchanged = unchanged_text(report)
    made_of = f"{unchanged} It" if unchanged else f"The adapter is made of {modules},"
    if not report.get("size_bytes"):
        return unchanged
    taken = report["vllm_max_lora_rank"]
    by_vllm = f"vLLM serves it with --max-lora-rank {taken}, " if taken else ""
    return (
        f"{made_of} has rank {report['rank']} and {size_in_words(report['size_bytes'])} of weights; "
        f"{by_vllm}peft takes any rank."
    )


def unchanged_text(report: Mapping[str, Any]) -> str:
    """Return the sentence on an adapter that changes nothing; the empty text for any other."""
    if not modules_with_weight(report):
        return "No module has a weight: the adapter answers as the base model does."
    if report.get("is_zero"):
        return "What the modules add is zero: the adapter answers as the base model does."
    return ""


def modules_with_weight(report: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of the modules whose numbers are in a report's adapter.

    Where layers have weights of their own, a mean of 0 may hide weights that cancel out.
    """
    by_layer = (report.get("weights_by_layer") or {}).values()
    return [
        row
        for position, row in enumerate(report["modules"])
        if row["weight"] or any(layer[position] for layer in by_layer)
    ]
