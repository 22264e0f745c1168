"""The methods by name; `make_method` is the one place that makes them."""

from collections.abc import Callable, Mapping

from composer.core.methods.base import Method
from composer.core.methods.exact import ExactSum
from composer.core.methods.factorwise import Factorwise
from composer.core.methods.layerwise import Auto, LayerwiseSoftmax, LayerwiseWeights
from composer.core.methods.lorahub import FactorSum
from composer.core.methods.svd import TruncatedSum, TruncatedTies
from composer.core.modules.module_stack import ModuleStack

OF_A_STACK: Mapping[str, Callable[[ModuleStack], Method]] = {
    Auto.name: Auto,
    ExactSum.name: ExactSum,
    FactorSum.name: FactorSum,
    LayerwiseSoftmax.name: LayerwiseSoftmax,
    LayerwiseWeights.name: LayerwiseWeights,
    TruncatedSum.name: TruncatedSum,
    TruncatedTies.name: TruncatedTies,
}


def make_method(name: str, stack: ModuleStack, *, seed: int) -> Method:
    """Return the method `name` for a stack of modules.

    Args:
        name: a name in choices.METHODS.
        stack: N modules.
        seed: of the values that DARE drops; the other methods ignore it.

    Raises:
        MismatchedModulesError: the method cannot combine these modules.
        KeyError: there is no such method.
    """
    if name in OF_A_STACK:
        return OF_A_STACK[name](stack)
    return Factorwise(name, stack, seed=seed)
