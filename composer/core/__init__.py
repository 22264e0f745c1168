"""The numeric core: it composes LoRA modules into one adapter and needs no server and no database."""
