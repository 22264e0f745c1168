"""Every method, from its weights to the file: written, loaded by peft, and compared by logits."""

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from composer.core.evaluation.export import write_adapter
from composer.core.methods.base import Method, as_adapters
from composer.core.methods.registry import make_method
from composer.core.model.base_model import IGNORED, FrozenBaseModel
from composer.core.modules.module_stack import ModuleStack, read_module, stack_modules
from composer.core.spec import choices
from composer.core.spec.errors import MismatchedModulesError
from composer.core.spec.examples import Example
from tests.composer.core.tiny import TARGETS, make_base, make_module

pytestmark = pytest.mark.slow  # whole jobs

METHODS = choices.choice_names(choices.METHODS)
SUMS = sorted(choices.TAKES_ANY_SHAPE)
FACTORWISE = sorted(set(METHODS) - choices.TAKES_ANY_SHAPE)
EXAMPLES = [Example("cat dog", "chat"), Example("fig", "figue figue scie")]


class MethodFixture:
    """One base model, as ours and as anybody's."""

    def __init__(self, root: Path, kind: str) -> None:
        self.root, self.kind = root, kind
        self.folder = make_base(root / "base", kind)
        self.base = FrozenBaseModel.load(self.folder)
        self.base.hook(path for path in self.base.linear_layers() if path != "lm_head")
        self.batch = self.base.encode(EXAMPLES)
        self.real = (
            self.batch.labels != IGNORED
            if self.base.is_encoder_decoder
            else self.batch.inputs["attention_mask"].bool()
        )

    def modules(self, folder: Path, *differences: dict[str, object]) -> list[Path]:
        """One module for each dict of what is special about it."""
        return [
            make_module(folder / str(i), self.folder, seed=i, **{"targets": TARGETS[self.kind], **difference})
            for i, difference in enumerate(differences)
        ]

    def bare(self) -> torch.nn.Module:
        kind = AutoModelForSeq2SeqLM if self.base.is_encoder_decoder else AutoModelForCausalLM
        return kind.from_pretrained(self.folder).eval()

    @torch.no_grad()
    def by_peft(self, adapter: Path | None) -> Tensor:
        """Logits where something real stands, of a fresh base with this adapter on it."""
        model = self.bare()
        if adapter is not None:
            model = PeftModel.from_pretrained(model, adapter).eval()
        return model(**self.batch.inputs).logits[self.real]

    @torch.no_grad()
    def by_hooks(self, method: Method, weights: Sequence[float]) -> Tensor:
        return self.base.logits(self.batch, method.adapters(torch.tensor([list(weights)])))[self.real]

    @torch.no_grad()
    def by_dense_updates(self, modules: Sequence[Path], coefficients: dict[str, Sequence[float]]) -> Tensor:
        """Logits of the base with Σ cᵢ ΔWᵢ in its own weights, each ΔWᵢ as peft has it."""
        model = self.bare()
        for i, folder in enumerate(modules):
            theirs = PeftModel.from_pretrained(self.bare(), folder)
            for path, c in coefficients.items():
                layer = theirs.base_model.model.get_submodule(path)
                if hasattr(layer, "get_delta_weight"):
                    model.get_submodule(path).weight += c[i] * layer.get_delta_weight("default")
        return model(**self.batch.inputs).logits[self.real]

    def written(self, method: Method, weights: Sequence[float], out: Path) -> Tensor:
        """Logits by peft of the adapter that these weights make."""
        shutil.rmtree(out, ignore_errors=True)
        write_adapter(method.lora(weights), self.base, "tiny", out)
        return self.by_peft(out)


@pytest.fixture(scope="module", params=["t5", "gpt2"])
def world(request, tmp_path_factory):
    return MethodFixture(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def alike(world):
    """Three modules of one rank, one alpha and the same targets."""
    return world.modules(world.root / "alike", {}, {}, {})


def stacked(folders: Sequence[Path]) -> ModuleStack:
    return stack_modules([read_module(folder, folder.name) for folder in folders])


def some_weights(method: Method, seed: int = 0) -> list[float]:
    """Numbers within the method's bounds, one of them zero."""
    generator = torch.Generator().manual_seed(seed)
    weights = ((2 * torch.rand(method.n_weights, generator=generator) - 1) * 1.2).tolist()
    return [*weights[:-1], 0.0]


def only(method: Method, module: int, weight: float) -> list[float]:
    """One module at `weight`, in every layer if the method weighs layer by layer."""
    n = len(method.stack)
    one = [weight if i == module else 0.0 for i in range(n)]
    return one * (method.n_weights // n)


def assert_same(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=2e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", METHODS)
def test_the_written_adapter_is_what_was_searched(world, alike, tmp_path, name):
    method = make_method(name, stacked(alike), seed=3)
    weights = some_weights(method)
    lora, written = method.lora(weights), world.written(method, weights, tmp_path / "out")
    if lora.energy_kept < 1:  # searched whole, written cut: then the cut is what is scored
        assert lora.rank == 2
        with torch.no_grad():
            searched = world.base.logits(world.batch, as_adapters(lora))[world.real]
    else:
        searched = world.by_hooks(method, weights)
    assert_same(written, searched)
    assert (written - world.by_peft(None)).abs().max() > 0.01


def scaled(folder: Path, weight: float, out: Path) -> Path:
    """The module with its update times `weight`: in B, so by hand."""
    shutil.copytree(folder, out)
    tensors = load_file(folder / "adapter_model.safetensors")
    save_file(
        {key: weight * factor if "lora_B" in key else factor for key, factor in tensors.items()},
        out / "adapter_model.safetensors",
    )
    return out


@pytest.mark.parametrize("weight", [1.0, -1.0, 0.5])
@pytest.mark.parametrize("name", ["auto", "exact", "cat-layers", "svd", "linear"])
def test_a_module_alone_is_itself_times_its_weight(world, alike, tmp_path, name, weight):
    method = make_method(name, stacked(alike), seed=0)
    expected = world.by_peft(scaled(alike[1], weight, tmp_path / "scaled"))
    assert_same(world.written(method, only(method, 1, weight), tmp_path / "out"), expected)


def test_one_module_has_the_whole_share_of_cat(world, alike, tmp_path):
    method = make_method("cat", stacked(alike[:1]), seed=0)
    found = world.written(method, [-3.0] * method.n_weights, tmp_path / "out")
    assert_same(found, world.by_peft(alike[0]))


def test_in_a_product_of_sums_the_sign_is_lost_and_a_half_is_a_quarter(world, alike, tmp_path):
    method = make_method("lorahub", stacked(alike), seed=0)
    for weight, really in ((1.0, 1.0), (-1.0, 1.0), (0.5, 0.25)):
        expected = world.by_peft(scaled(alike[1], really, tmp_path / str(weight)))
        assert_same(world.written(method, only(method, 1, weight), tmp_path / "out"), expected)


# --- modules that differ ------------------------------------------------------

PART = {"t5": ("q",), "gpt2": ("c_attn",)}
MORE = {"t5": ("v", "k", "wo"), "gpt2": ("c_attn", "c_fc")}


@pytest.fixture(scope="module")
def unlike(world):
    """Another rank, another alpha, rank-stabilised, and partly other targets."""
    return world.modules(
        world.root / "unlike",
        {"rank": 2, "alpha": 4, "targets": PART[world.kind]},
        {"rank": 3, "alpha": 1.5},
        {"rank": 4, "alpha": 4, "rslora": True, "targets": MORE[world.kind]},
    )


def coefficients_by_layer(method: Method, weights: Sequence[float]) -> dict[str, Sequence[float]]:
    by_layer = method.by_layer(weights)
    rows = [list(weights)] * len(method.stack.layers) if by_layer is None else by_layer.tolist()
    return {layer.path: row for layer, row in zip(method.stack.layers, rows, strict=True)}


@pytest.mark.parametrize("name", ["auto", "exact", "cat", "cat-layers"])
def test_unlike_modules_are_summed_as_peft_has_each_of_them(world, unlike, tmp_path, name):
    method = make_method(name, stacked(unlike), seed=0)
    weights = some_weights(method)
    expected = world.by_dense_updates(unlike, coefficients_by_layer(method, weights))
    assert_same(world.written(method, weights, tmp_path / "out"), expected)
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["use_rslora"] is False
    assert "rank_pattern" not in config


@pytest.mark.parametrize("name", ["svd", "ties_svd"])
def test_unlike_modules_are_cut_to_the_largest_of_their_ranks(world, unlike, tmp_path, name):
    method = make_method(name, stacked(unlike), seed=0)
    lora = method.lora([0.9, -0.6, 0.7])
    assert lora.rank == 4
    assert 0 < lora.energy_kept < 1
    with torch.no_grad():
        expected = world.base.logits(world.batch, as_adapters(lora))[world.real]
    assert_same(world.written(method, [0.9, -0.6, 0.7], tmp_path / "out"), expected)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_svd_of_one_of_unlike_modules_is_that_module(world, unlike, tmp_path, index):
    method = make_method("svd", stacked(unlike), seed=0)
    assert_same(
        world.written(method, only(method, index, 1.0), tmp_path / "out"), world.by_peft(unlike[index])
    )


@pytest.mark.parametrize("name", FACTORWISE)
def test_methods_that_sum_factors_say_what_does_not_agree(world, tmp_path, name):
    first, wider, elsewhere, louder, stable = world.modules(
        tmp_path,
        {},
        {"rank": 3, "alpha": 6},
        {"targets": MORE[world.kind]},
        {"alpha": 5},
        {"rslora": True},
    )
    for other, reason in ((wider, "has rank 3"), (elsewhere, "changes other layers")):
        with pytest.raises(MismatchedModulesError, match=reason) as refusal:
            make_method(name, stacked([first, other]), seed=0)
        assert str(refusal.value).startswith(f"{name} sums factors")
    for other, scaling in ((louder, "2.5"), (stable, f"{4 / math.sqrt(2):g}")):
        if name == "lorahub":
            with pytest.raises(MismatchedModulesError, match=rf"alpha / r = {scaling}"):
                make_method(name, stacked([first, other]), seed=0)
        else:
            assert make_method(name, stacked([first, other]), seed=0).n_weights == 2


def test_linear_keeps_the_scale_of_modules_of_another_alpha_or_rank_stabilised(world, tmp_path):
    folders = world.modules(tmp_path / "modules", {}, {"alpha": 5}, {"rslora": True})
    method = make_method("linear", stacked(folders), seed=0)
    for i, folder in enumerate(folders):
        assert_same(world.written(method, only(method, i, 1.0), tmp_path / "out"), world.by_peft(folder))
