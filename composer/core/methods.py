"""The methods by name."""

from collections.abc import Callable, Mapping

from composer.core.auto import Auto
from composer.core.combine import ExactSum, Method, ProductOfSums
from composer.core.factorwise import Factorwise
from composer.core.layerwise import FreeLayers, SoftmaxLayers
from composer.core.module_stack import ModuleStack
from composer.core.svd import TruncatedSum, TruncatedTies

OF_A_STACK: Mapping[str, Callable[[ModuleStack], Method]] = {
    Auto.name: Auto,
    ExactSum.name: ExactSum,
    ProductOfSums.name: ProductOfSums,
    SoftmaxLayers.name: SoftmaxLayers,
    FreeLayers.name: FreeLayers,
    TruncatedSum.name: TruncatedSum,
    TruncatedTies.name: TruncatedTies,
}


def make_method(name: str, stack: ModuleStack, *, seed: int) -> Method:
    """The method of choices.METHODS called `name`; the seed matters to those that draw.

    Raises:
        MismatchedModulesError: the modules cannot be combined that way.
    """
    if name in OF_A_STACK:
        return OF_A_STACK[name](stack)
    return Factorwise(name, stack, seed=seed)
