"""LoRA modules: finding their files and reading them into one stack of tensors."""
