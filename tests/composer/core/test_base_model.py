import pytest
import torch

from composer.core.model import base_model
from composer.core.model.base_model import FrozenBaseModel
from tests.composer.core.tiny import make_base


@pytest.mark.parametrize(("limit", "threads"), [(10_000_000, 1), (1, 3)])
def test_a_small_base_computes_on_one_thread_and_gives_the_others_back(tmp_path, monkeypatch, limit, threads):
    monkeypatch.setattr(base_model, "SMALL_BASE_PARAMETERS", limit)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with FrozenBaseModel.load(make_base(tmp_path)).single_thread_if_small():
            assert torch.get_num_threads() == threads
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
