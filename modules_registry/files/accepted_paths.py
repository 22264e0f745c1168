"""Which files a Hub client may bring: three are a module, by-products are left out, the rest is refused."""

import re
from enum import Enum

from hub_site.common.errors import Refusal
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE

MODULE_FILES = (CONFIG_FILE, WEIGHTS_FILE, CARD_FILE)
PICKLE = re.compile(r"(?:.+/)?(?P<name>adapter_model\.(?:bin|pt|pth))", re.DOTALL)

# What training and git leave in a folder. None of it is needed to load an adapter.
BY_PRODUCT_NAMES = frozenset(
    """
    .gitattributes .gitignore .gitkeep .DS_Store LICENSE LICENSE.md LICENSE.txt
    added_tokens.json chat_template.jinja chat_template.json merges.txt preprocessor_config.json
    processor_config.json sentencepiece.bpe.model special_tokens_map.json spiece.model tokenizer.json
    tokenizer.model tokenizer_config.json vocab.json vocab.txt
    all_results.json eval_results.json generation_config.json optimizer.bin optimizer.pt report.json
    predict_results.json scaler.pt scheduler.bin scheduler.pt train_results.json trainer_log.jsonl
    trainer_state.json training_args.bin training_args.json training_args.yaml
    training_eval_loss.png training_loss.png llamaboard_config.yaml
    """.split()  # noqa: SIM905  a list of words is easier to keep in order than a list of strings
)
BY_PRODUCTS = re.compile(
    r"(?:baselines|checkpoint-[^/]+|global_step[^/]+|runs|wandb|logs|\.git|\.cache|__pycache__|"
    r"additional_chat_templates)/.+"
    r"|(?:.+/)?events\.out\.tfevents[^/]*|rng_state[^/]*\.pth|optimizer[^/]*\.(?:pt|bin)"
)
CONVERT = (
    "It is a pickle, which can run code when it is loaded. Import it instead (see /help/hub/), or convert it "
    "so: python -c \"import torch; from safetensors.torch import save_file; t = torch.load('{name}', "
    "weights_only=True); save_file({{k: v.contiguous().clone() for k, v in t.items()}}, "
    "'adapter_model.safetensors')\" - then remove {name} and upload again."
)


class UploadDecision(Enum):
    """What becomes of a file that a client sends."""

    TAKEN = "taken"
    LEFT_OUT = "left out"


def decide_upload(path: str) -> UploadDecision:
    """Whether a file is part of a module or a by-product; anything else is refused."""
    if path in MODULE_FILES:
        return UploadDecision.TAKEN
    if path in BY_PRODUCT_NAMES or BY_PRODUCTS.fullmatch(path):
        return UploadDecision.LEFT_OUT
    if pickle := PICKLE.fullmatch(path):
        raise Refusal("pickle", f"{path[:100]} is not accepted. {CONVERT.format(name=pickle['name'])}")
    message = (
        f"“{path[:100]}” is not part of a module: {', '.join(MODULE_FILES)} are, at the top of the "
        f'repository. Leave it out: hf upload … --exclude "{path[:100]}".'
    )
    raise Refusal("file_not_accepted", message)
