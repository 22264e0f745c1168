"""What the gate says no to. The code is for programs and stays; the sentence is for the uploader."""

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
LEGACY_FILE = "adapter_model.bin"  # how peft saved weights before safetensors


class GateRefusal(ValueError):
    """A file that may not be published. Nothing of it has been stored."""

    def __init__(self, code: str, message: str, file: str) -> None:
        self.code, self.message, self.file = code, message, file
        super().__init__(f"{file}: {message}")


class ConfigRefusal(GateRefusal):
    """Something in adapter_config.json."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, CONFIG_FILE)


class WeightsRefusal(GateRefusal):
    """Something in adapter_model.safetensors."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, WEIGHTS_FILE)


class CardRefusal(GateRefusal):
    """Something in README.md."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, CARD_FILE)


class CheckpointRefusal(GateRefusal):
    """Something in adapter_model.bin, which is converted and never kept."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(code, message, LEGACY_FILE)


class BaseModelRefusal(GateRefusal):
    """Something in the files of a base model that staff wanted in the library."""
