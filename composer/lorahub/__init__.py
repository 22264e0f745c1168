"""LoraHub's Python interface, with the names and the arguments of the released code.

Source: Huang et al., LoraHub, arXiv:2307.13269, and the code released with it.
"""

from composer.lorahub.algorithm import (
    default_get_loss,
    default_l1_regularization,
    lorahub_inference,
    lorahub_learning,
)
from composer.lorahub.constant import LORA_MODULE_NAMES

__all__ = [
    "LORA_MODULE_NAMES",
    "default_get_loss",
    "default_l1_regularization",
    "lorahub_inference",
    "lorahub_learning",
]
