"""What the weights of modules do: how strong each layer is, and how far two modules lie apart."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

from composer.core.spec.errors import InvalidJobError
from composer.library.inputs import ModuleReference, find_module
from modules_registry.core.adapter_config import ANY_BASE, BASE_KEY, parse_config, read_config
from modules_registry.core.delta import (
    Delta,
    DeltaDistance,
    Strength,
    delta_distance,
    open_delta,
    strength_of,
)
from modules_registry.core.errors import CONFIG_FILE, WEIGHTS_FILE, GateRefusal

Shapes: TypeAlias = Mapping[str, tuple[int, int]]


def strengths(module: ModuleReference) -> list[Strength]:
    """Measure ΔW = scaling · B @ A of each layer, in the order of the layers' paths.

    Args:
        module: a Hub's name, a folder, or a PeftModel in memory with one active adapter.

    Raises:
        ComposeError: there is no such module, or it is a DoRA, whose ΔW depends on the base's own weights.
    """
    with opened(module) as (layers, _):
        return [strength_of(layer) for layer in layers]


def distance(first: ModuleReference, second: ModuleReference) -> DeltaDistance:
    """Measure how far the deltas of two modules of one base lie apart, exactly: over all layers and in each.

    Raises:
        ComposeError: as for `strengths`, or they are modules of two bases.
    """
    with opened(first) as (one, base), opened(second) as (other, other_base):
        require_one_base((one.shapes, base), (other.shapes, other_base))
        return delta_distance(one, other)


def require_one_base(first: tuple[Shapes, str], second: tuple[Shapes, str]) -> None:
    """Refuse two modules of two bases: nothing of them can be compared, so they would look unlike.

    Two modules of one base may change different layers; a layer that one of them leaves alone has ΔW = 0.

    Args:
        first: (d_out, d_in) of each layer by its path, and the name of the base.
        second: the same of the other module.

    Raises:
        InvalidJobError: a layer has two sizes, or no layer is in both, and the bases have two names.
    """
    (shapes, base), (others, other_base) = first, second
    common = sorted(shapes.keys() & others.keys())
    differ = [path for path in common if shapes[path] != others[path]]
    if not differ and (common or base == other_base):
        return
    why = "they change no layer of the same name"
    if differ:
        sizes = ["{} × {}".format(*each[differ[0]]) for each in (shapes, others)]
        why = f"{differ[0]} is {sizes[0]} in the first and {sizes[1]} in the second"
    raise InvalidJobError(
        f"The modules are for two bases, {base} and {other_base}, so their distance says nothing: {why}. "
        "Give two modules of one base."
    )


@contextmanager
def opened(module: ModuleReference) -> Iterator[tuple[Delta, str]]:
    """Open the files of a module, and say which base its config names; one in memory is saved for so long.

    A file may be a link, as in the cache of a Hub's client, and the config may name any base.
    """
    with TemporaryDirectory(prefix="lora-hub-") as name:
        source = find_module(module, Path(name) / "module-1", lambda event: None)
        try:
            config_file = (source.folder / CONFIG_FILE).resolve()
            config = read_config(config_file, ANY_BASE)
            with open_delta((source.folder / WEIGHTS_FILE).resolve(), config) as layers:
                if layers.not_composable:
                    raise InvalidJobError(f"{source.name} cannot be measured. {layers.not_composable}")
                yield layers, str(parse_config(config_file).get(BASE_KEY))
        except GateRefusal as refusal:
            raise InvalidJobError(f"{source.name} cannot be measured. {refusal}") from refusal
