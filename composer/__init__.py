"""Compose LoRA modules into one adapter for a task that a few examples define.

    import composer

    made = composer.compose(base="owner/base", modules=["owner/a", "owner/b"], examples=[("in", "out")])
    made.save("my-adapter")
    composer.strengths("owner/a")  # and composer.distance("owner/a", "owner/b"): what their weights do

docs/core/python.md describes these names. They are imported when they are first used, so importing this
package loads neither torch nor transformers, and the site, whose app it is, stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from composer.core.spec.errors import ComposeError, StopSearch
    from composer.library.calls import compose, evaluate, screen
    from composer.library.composition import Composition, Verdict
    from composer.library.weights import distance, strengths

__all__ = [
    "ComposeError",
    "Composition",
    "StopSearch",
    "Verdict",
    "compose",
    "distance",
    "evaluate",
    "screen",
    "strengths",
]

MODULE_OF_NAME = {
    "ComposeError": "composer.core.spec.errors",
    "StopSearch": "composer.core.spec.errors",
    "compose": "composer.library.calls",
    "evaluate": "composer.library.calls",
    "screen": "composer.library.calls",
    "distance": "composer.library.weights",
    "strengths": "composer.library.weights",
    "Composition": "composer.library.composition",
    "Verdict": "composer.library.composition",
}


def __getattr__(name: str) -> Any:
    """Import one of the names above when it is first asked for."""
    if name not in MODULE_OF_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(MODULE_OF_NAME[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names alone, imported or not."""
    return sorted(__all__)
