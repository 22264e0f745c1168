"""Every reason for which files are refused: its code, what causes it, what to do. The help shows this table.

A refusal's own sentence says where the fault is; this says what it is in general. A code that is not here
cannot be raised.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SAVE_AGAIN = "Save the adapter again with save_pretrained of the PeftModel."
UPLOAD_AGAIN = "Upload the file again."
PLAIN_LORA = "Train a plain LoRA."
DAMAGED = f"{UPLOAD_AGAIN} If it is refused again, save the adapter again."
SAVE_SAFETENSORS = f"{SAVE_AGAIN} It writes safetensors by default."
FOR_LANGUAGE_MODELS = "This site shares adapters of language models."  # nothing can be done
HEADER = "The header of adapter_model.safetensors"
CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class RefusalRow:
    """One row of the table."""

    cause: str
    remedy: str


def _json_rows(prefix: str, what: str) -> dict[str, RefusalRow]:
    return {
        f"{prefix}_duplicate_key": RefusalRow(f"{what} has one key twice.", "Keep one of the two."),
        f"{prefix}_not_finite": RefusalRow(f"{what} holds NaN or Infinity.", "Write a number."),
        f"{prefix}_not_json": RefusalRow(
            f"{what} is not JSON.", "Check that it is the right file; save it again."
        ),
        f"{prefix}_not_utf8": RefusalRow(f"{what} is not UTF-8 text.", "Save it as UTF-8."),
        f"{prefix}_number_too_long": RefusalRow(
            f"{what} has a number of more than 19 digits.", "Write a smaller one."
        ),
        f"{prefix}_too_deep": RefusalRow(f"{what} is nested too deeply.", SAVE_AGAIN),
        f"{prefix}_too_large": RefusalRow(f"{what} is too large.", "Check that it is the right file."),
        f"{prefix}_unstorable_text": RefusalRow(
            f"{what} holds a NUL or half a character.", "Remove the character."
        ),
    }


CONFIG_ROWS = {
    **_json_rows("config", CONFIG),
    "config_not_an_object": RefusalRow("It is JSON, but not an object.", SAVE_AGAIN),
    "config_key_missing": RefusalRow("A key that every adapter has is missing.", SAVE_AGAIN),
    "config_key_unknown": RefusalRow(
        "A setting is in use that this site does not know.", "Remove it or set it to null."
    ),
    "config_value_not_allowed": RefusalRow(
        "A setting has a value that peft does not write.", "Write the value named."
    ),
    "config_of_a_model": RefusalRow("It is the config.json of a whole model.", "Upload adapter_config.json."),
    "peft_type_not_supported": RefusalRow("The adapter is not a LoRA.", PLAIN_LORA),
    "variant_not_supported": RefusalRow(
        "A variant of LoRA is switched on that changes the arithmetic.", PLAIN_LORA
    ),
    "init_not_supported": RefusalRow(
        "The training began by rewriting the base model (PiSSA, OLoRA, CorDA, LoftQ, …), so the "
        "adapter does not fit "
        "the plain one.",
        "Convert it: save_pretrained with path_initial_model_for_weight_conversion.",
    ),
    "bias_not_supported": RefusalRow(
        "Biases were trained; loading them changes the base.", 'Train with bias="none".'
    ),
    "modules_to_save_not_supported": RefusalRow(
        "Whole layers were trained beside the LoRA; loading them changes the base.",
        "Train without modules_to_save, or put a LoRA on those layers.",
    ),
    "target_parameters_not_supported": RefusalRow(
        'LoRA on parameters that are no linear layers: peft makes it of "all-linear" on fused experts.',
        "Name the attention layers in target_modules.",
    ),
    "trained_tokens": RefusalRow(
        "Embeddings of tokens were trained; loading them changes the base.", "Train without new tokens."
    ),
    "base_missing": RefusalRow(
        "base_model_name_or_path is empty.", "Name the base model, in the config or the card."
    ),
    "base_not_a_name": RefusalRow(
        "base_model_name_or_path is a folder or an address.",
        "Name the base model as on the Hub, in the config or the card.",
    ),
    "revision_not_a_name": RefusalRow(
        "revision is not a branch, tag or commit.", "Write one of them, or null."
    ),
    "task_type_not_supported": RefusalRow(
        "task_type is none of a text-generating model.", "Use SEQ_2_SEQ_LM, CAUSAL_LM or null."
    ),
    "rank_out_of_range": RefusalRow("r is not a whole number from 1 to 1024.", "Correct r."),
    "alpha_out_of_range": RefusalRow(
        "lora_alpha is no number above 0 and up to 65,536.", "Correct lora_alpha."
    ),
    "not_true_or_false": RefusalRow("A switch is neither true nor false.", "Write true or false."),
    "targets_not_a_list": RefusalRow("target_modules is neither a text nor a list of names.", SAVE_AGAIN),
    "target_not_a_name": RefusalRow(
        "target_modules holds something that is no layer's name.", "Write layers' names."
    ),
    "pattern_not_a_mapping": RefusalRow("rank_pattern or alpha_pattern is not a mapping.", SAVE_AGAIN),
    "pattern_not_literal": RefusalRow(
        "alpha_pattern has a regular expression for a key, which is not run here.",
        "Write the layers' names in its place.",
    ),
    "prompt_template_not_a_template": RefusalRow(
        "prompt_template has no {input} in it.", "Write one with {input}, or chat."
    ),
}

WEIGHTS_ROWS = {
    **_json_rows("header", HEADER),
    "header_entry": RefusalRow(f"{HEADER} has a malformed entry.", SAVE_SAFETENSORS),
    "header_metadata": RefusalRow(f"{HEADER} has metadata that is not text.", SAVE_SAFETENSORS),
    "header_offsets": RefusalRow(f"{HEADER} has offsets that are not two numbers.", SAVE_SAFETENSORS),
    "header_shape": RefusalRow(f"{HEADER} has a shape that is not a list of sizes.", SAVE_SAFETENSORS),
    "weights_truncated": RefusalRow("The file ends too early.", DAMAGED),
    "trailing_bytes": RefusalRow("Bytes follow the last tensor.", DAMAGED),
    "tensors_gap": RefusalRow("Some bytes belong to no tensor.", DAMAGED),
    "tensors_overlap": RefusalRow("Two tensors share bytes.", DAMAGED),
    "shape_against_bytes": RefusalRow("A tensor's shape does not fit its bytes.", DAMAGED),
    "weights_pickle": RefusalRow("It is a PyTorch pickle under another name.", SAVE_SAFETENSORS),
    "weights_zip": RefusalRow("It is a ZIP archive.", "Unpack it and upload the files in it."),
    "weights_gguf": RefusalRow("It is a GGUF file, for llama.cpp.", "Upload the adapter as peft saved it."),
    "weights_web_page": RefusalRow(
        "It is a web page, such as a login page saved in place of the file.", "Download the file itself."
    ),
    "weights_lfs_pointer": RefusalRow("It is a Git LFS pointer, not the weights.", "Run git lfs pull."),
    "not_a_file": RefusalRow("It is a link, a folder or missing.", "Upload the file itself."),
    "dtype_not_allowed": RefusalRow("A tensor is neither float32, float16 nor bfloat16.", "Convert it."),
    "too_many_tensors": RefusalRow("It holds more than 10,000 tensors.", "Check that it is an adapter."),
    "no_tensors": RefusalRow("It holds no LoRA tensors.", "Save the adapter after training."),
    "tensor_not_lora": RefusalRow("A tensor is not a LoRA weight.", "Save the LoRA alone."),
    "several_adapters": RefusalRow(
        "One file holds several adapters.",
        'Save each by itself: save_pretrained(folder, selected_adapters=["name"]).',
    ),
    "tensor_twice": RefusalRow("Two tensors get one name once wrappers are left out.", SAVE_AGAIN),
    "prefix_missing": RefusalRow("The names lack peft's prefix base_model.model.", SAVE_AGAIN),
    "not_gathered": RefusalRow(
        "DeepSpeed ZeRO-3 saved empty tensors: their parts were not gathered.",
        "Set stage3_gather_16bit_weights_on_model_save to true, or run zero_to_fp32.py of the checkpoint.",
    ),
    "kohya_format": RefusalRow("It is in kohya's format, for image models.", FOR_LANGUAGE_MODELS),
    "diffusers_format": RefusalRow(
        "It is in the format of diffusers, for image models.", FOR_LANGUAGE_MODELS
    ),
    "mlx_format": RefusalRow(
        "It is in MLX's format.",
        "Transpose lora_a and lora_b, name them as peft does, and write adapter_config.json.",
    ),
    "megatron_format": RefusalRow(
        "Its layers are named as Megatron names them.", "Export it to peft's format with the trainer."
    ),
    "full_model": RefusalRow("It holds a whole model.", "Upload the LoRA alone."),
    "whole_state": RefusalRow(
        "It holds the state of the whole model, the base's weights beside the LoRA.", SAVE_AGAIN
    ),
    "classifier_head": RefusalRow(
        "It has a head for classes or rewards.", "Train with task_type CAUSAL_LM or SEQ_2_SEQ_LM."
    ),
    "moe_experts": RefusalRow(
        "It adapts the experts of a mixture-of-experts model or their router, which are no linear layers.",
        'Name the attention layers in target_modules: "all-linear" takes the experts, too.',
    ),
    "embedding_lora": RefusalRow(
        "It has a LoRA on an embedding.", "Train without the embedding in target_modules."
    ),
    "embeddings_saved": RefusalRow(
        "Whole embeddings were saved, since the vocabulary changed.",
        "Save with save_embedding_layers=False, or train without new tokens.",
    ),
    "trained_biases": RefusalRow(
        "Biases were trained; loading them changes the base.", 'Train with bias="none".'
    ),
    "modules_saved": RefusalRow(
        "Whole layers were saved; loading them changes the base.", "Train without modules_to_save."
    ),
    "base_weights_inside": RefusalRow(
        "It holds weights of a base model that is not at hand, or that differ from its own.",
        "Save with save_embedding_layers=False.",
    ),
    "other_variant": RefusalRow("It belongs to another method than LoRA.", PLAIN_LORA),
    "factor_missing": RefusalRow("A layer has only one of its two factors.", SAVE_AGAIN),
    "not_a_matrix": RefusalRow(
        "A factor is not a matrix: its layer is not linear.", "Train on linear layers."
    ),
    "rank_mismatch": RefusalRow(
        "The weights have another rank than the config.", "Correct r or rank_pattern."
    ),
    "magnitude_missing": RefusalRow("A layer of a DoRA lacks its magnitudes.", SAVE_AGAIN),
    "magnitude_shape": RefusalRow("Magnitudes of a DoRA do not fit their layer.", SAVE_AGAIN),
    "not_finite": RefusalRow("A weight is NaN or infinite: the training diverged.", "Train again."),
    "value_too_large": RefusalRow("A weight is above 65,504: the training diverged.", "Train again."),
    "layer_not_in_base": RefusalRow(
        "The base model has no such layer.", "Check which base it was trained on."
    ),
    "base_shape_mismatch": RefusalRow(
        "A layer has other sizes in the base model.", "Check which base it was trained on."
    ),
    "layer_missing": RefusalRow(
        "Some layers that target_modules names have no weights: the file is incomplete.", SAVE_AGAIN
    ),
}

CHECKPOINT_ROWS = {
    "checkpoint_ambiguous": RefusalRow("The archive has an entry twice.", SAVE_SAFETENSORS),
    "checkpoint_byte_order": RefusalRow("It was saved big-endian.", SAVE_SAFETENSORS),
    "checkpoint_code": RefusalRow("It would run code when it is loaded.", SAVE_SAFETENSORS),
    "checkpoint_compressed": RefusalRow(
        "The archive is compressed, which torch.save never does.", SAVE_SAFETENSORS
    ),
    "checkpoint_dtype": RefusalRow("It holds numbers that are not floats.", SAVE_SAFETENSORS),
    "checkpoint_encrypted": RefusalRow("The archive is encrypted.", SAVE_SAFETENSORS),
    "checkpoint_entry": RefusalRow("The archive lacks an entry or has a foreign one.", SAVE_SAFETENSORS),
    "checkpoint_not_flat": RefusalRow("It is more than a flat dictionary of tensors.", SAVE_SAFETENSORS),
    "checkpoint_not_plain": RefusalRow("It does more than torch.save does for tensors.", SAVE_SAFETENSORS),
    "checkpoint_not_torch": RefusalRow("It was not written by torch.save.", SAVE_SAFETENSORS),
    "checkpoint_shared": RefusalRow("Two tensors share memory.", SAVE_SAFETENSORS),
    "checkpoint_storage": RefusalRow("A tensor lies outside its memory.", SAVE_SAFETENSORS),
    "checkpoint_strides": RefusalRow("A tensor is not contiguous.", SAVE_SAFETENSORS),
    "checkpoint_too_large": RefusalRow("Its description is too large for an adapter.", SAVE_SAFETENSORS),
    "checkpoint_torchscript": RefusalRow("It is TorchScript, a program.", SAVE_SAFETENSORS),
    "checkpoint_truncated": RefusalRow("The file is cut short.", UPLOAD_AGAIN),
}

CARD_ROWS = {
    "card_not_utf8": RefusalRow("A card edited here is not UTF-8 text.", "Save it as UTF-8."),
    "card_too_large": RefusalRow("A card edited here is larger than 512 KB.", "Shorten it."),
    "card_unstorable_text": RefusalRow("A card edited here holds a NUL character.", "Remove it."),
    "front_matter_alias": RefusalRow(
        "The head of a card edited here uses & or * references.", "Write the values out."
    ),
    "front_matter_not_a_mapping": RefusalRow(
        "The head of a card edited here is no list of key: value.", "Correct it."
    ),
    "front_matter_not_yaml": RefusalRow("The head of a card edited here is not YAML.", "Correct it."),
    "front_matter_too_deep": RefusalRow(
        "The head of a card edited here is nested too deeply.", "Flatten it."
    ),
    "front_matter_too_large": RefusalRow("The head of a card edited here is too long.", "Shorten it."),
}

# What a Hub client is told before it sends anything: of the names of the files alone.
FOLDER_ROWS = {
    "weights_elsewhere": RefusalRow(
        "The adapter's weights lie in a folder below, and none at the top.", "Upload that folder."
    ),
    "pickle": RefusalRow(
        "The weights are a pickle, which can run code when it is loaded.", "Convert it, or import it."
    ),
    "other_format": RefusalRow(
        "The folder holds weights of another kind, such as MLX's, a whole model's or llama.cpp's, "
        "and no adapter of "
        "peft's.",
        "Upload the adapter as peft saved it.",
    ),
    "split_weights": RefusalRow(
        "The adapter was saved in several parts.", "Join them in one file; the refusal says how."
    ),
    "folder_missing": RefusalRow(
        "The command that checks a folder was given one that is not there.",
        "Name the folder that peft wrote.",
    ),
    "file_missing": RefusalRow(
        f"The folder has no {CONFIG} or no adapter_model.safetensors.", "Name the folder that peft wrote."
    ),
    "base_incomplete": RefusalRow(
        "A base model's folder has no config.json or no model.safetensors.",
        "Name the folder that transformers' save_pretrained wrote.",
    ),
    "model_type_missing": RefusalRow("A base model's config.json has no model_type.", "Check the file."),
    "base_quantized": RefusalRow(
        "A base model's weights are quantized, so they no longer have the shapes of its layers.",
        "Name the base model that they were made from.",
    ),
}

TABLES: Mapping[str, Mapping[str, RefusalRow]] = {
    "The files' names": FOLDER_ROWS,
    "adapter_config.json": CONFIG_ROWS,
    "adapter_model.safetensors": WEIGHTS_ROWS,
    "adapter_model.bin": CHECKPOINT_ROWS,
    "README.md": CARD_ROWS,
}
REFUSALS: Mapping[str, RefusalRow] = {code: row for rows in TABLES.values() for code, row in rows.items()}


def can_be_mended(code: str) -> bool:
    """Whether its author can do something about a refusal of this code."""
    return REFUSALS[code].remedy != FOR_LANGUAGE_MODELS


def require_known(code: str) -> None:
    if code not in REFUSALS:
        raise LookupError(f"The refusal {code} is missing in the table that the help shows.")
