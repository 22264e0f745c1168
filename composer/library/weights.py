"""What the weights of modules do: how strong each layer is, and how far two modules lie apart."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from composer.core.spec.errors import InvalidJobError
from composer.library.inputs import ModuleReference, find_module
from modules_registry.core.adapter_config import ANY_BASE, read_config
from modules_registry.core.delta import (
    Delta,
    DeltaDistance,
    Strength,
    delta_distance,
    open_delta,
    strength_of,
)
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE, GateRefusal


def strengths(module: ModuleReference) -> list[Strength]:
    """Measure ΔW = scaling · B @ A of each layer, in the order of the layers' paths.

    Args:
        module: a Hub's name, a folder, or a PeftModel in memory with one active adapter.

    Raises:
        ComposeError: there is no such module, or it is a DoRA, whose ΔW depends on the base's own weights.
    """
    with opened(module) as layers:
        return [strength_of(layer) for layer in layers]


def distance(first: ModuleReference, second: ModuleReference) -> DeltaDistance:
    """Measure how far the deltas of two modules of one base lie apart, exactly: over all layers and in each.

    Raises:
        ComposeError: as for `strengths`.
    """
    with opened(first) as one, opened(second) as other:
        return delta_distance(one, other)


@contextmanager
def opened(module: ModuleReference) -> Iterator[Delta]:
    """Open the files of a module; one in memory is saved for so long.

    A file may be a link, as in the cache of a Hub's client, and the config may name any base.
    """
    with TemporaryDirectory(prefix="lora-hub-") as name:
        source = find_module(module, Path(name) / "module-1", lambda event: None)
        try:
            config = read_config((source.folder / CONFIG_FILE).resolve(), ANY_BASE)
            with open_delta((source.folder / WEIGHTS_FILE).resolve(), config) as layers:
                if layers.not_composable:
                    raise InvalidJobError(f"{source.name} cannot be measured. {layers.not_composable}")
                yield layers
        except GateRefusal as refusal:
            raise InvalidJobError(f"{source.name} cannot be measured. {refusal}") from refusal
