"""One value that is not a number would poison a mix even at weight 0: the module that holds it is refused."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from composer.core.modules.module_stack import read_module
from composer.core.spec.errors import ModuleUnreadableError
from tests.composer.core.tiny import make_base, make_module


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", [0, -1])
def test_a_value_that_is_not_finite_is_found_wherever_it_stands(tmp_path, value, place):
    folder = make_module(tmp_path / "m", make_base(tmp_path / "base"), seed=1)
    file = folder / "adapter_model.safetensors"
    factors = load_file(file)
    read_module(folder, "m")  # as it is, it is fine
    factors[max(factors)].view(-1)[place] = value
    save_file(factors, file, metadata={"format": "pt"})
    with pytest.raises(ModuleUnreadableError, match="not finite"):
        read_module(folder, "m")


def test_the_largest_number_there_is_is_a_number(tmp_path):
    folder = make_module(tmp_path / "m", make_base(tmp_path / "base"), seed=1)
    file = folder / "adapter_model.safetensors"
    factors = load_file(file)
    factors[max(factors)].fill_(torch.finfo(torch.float32).max)  # their sum would be infinite
    save_file(factors, file, metadata={"format": "pt"})
    read_module(folder, "m")
