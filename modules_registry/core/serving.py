"""What vLLM serves: decoder-only models, with LoRA modules up to a rank that it is told."""

# What --max-lora-rank takes; 16 unless told. Source: vLLM, vllm/config/lora.py, MaxLoRARanks
VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
# Served, but without LoRA. Source: vLLM, its list of supported models
VLLM_WITHOUT_LORA = frozenset({"GPT2LMHeadModel"})


def vllm_rank_limit(rank: int) -> int | None:
    """The smallest --max-lora-rank with which vLLM takes an adapter of this rank; None: it takes none."""
    return next((taken for taken in VLLM_RANKS if rank <= taken), None)
