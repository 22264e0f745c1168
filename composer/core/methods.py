"""The methods by name."""

from composer.core.combine import ExactSum, Method, ProductOfSums
from composer.core.factorwise import Factorwise
from composer.core.module_stack import ModuleStack


def make_method(name: str, stack: ModuleStack, *, seed: int) -> Method:
    """The method of choices.METHODS called `name`; the seed matters to those that draw.

    Raises:
        MismatchedModulesError: the modules cannot be combined that way.
    """
    if name == ExactSum.name:
        return ExactSum(stack)
    if name == ProductOfSums.name:
        return ProductOfSums(stack)
    return Factorwise(name, stack, seed=seed)
