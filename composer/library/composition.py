"""The result of `composer.compose`: an adapter with its report."""

import json
import os
import shutil
import weakref
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from composer.core.modules.sources import UNNAMED_BASE, Source, hub_address
from composer.core.spec.counting import count_noun
from composer.core.spec.errors import InvalidJobError
from composer.core.spec.verdict_rule import COMPOSITIONS, Quality, QuestionTokens, verdict_texts
from composer.library.hub_refusals import told_hub_refusals
from composer.library.picture import report_html
from composer.library.quiet import quiet_libraries
from modules_registry.core.adapter_config import is_base_name

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md")
REPORT_FILE = "report.json"
COMPOSED = "composed"  # the key of the composition among the rows of its report


@dataclass(frozen=True)
class Verdict:
    """Whether to use a composition.

    Attributes:
        decision: use, prompt, tune, single, train, unsure, none or unmeasured; docs/core/report.md says
            what they mean.
        text: the decision in words, with the figures that it rests on.
        advised: the key of the row of the report that is advised; None if there is none.
        quality: how good that is by itself, or else the composition; None if it was not measured.
        tokens: what a question costs, with the adapter and with the examples in the prompt; None if unknown.
    """

    decision: str
    text: str
    advised: str | None
    quality: Quality | None
    tokens: QuestionTokens | None

    def __str__(self) -> str:
        """Return the text, and in lines of their own those of the quality and of the tokens."""
        return "\n".join(verdict_texts(asdict(self)))


class Composition:
    """An adapter that was composed from modules, and how well it does.

    Attributes:
        folder: the files of the adapter, its card and its report. A folder that `compose` made itself is
            removed together with this object; `save` keeps them.
    """

    def __init__(self, folder: Path, base: Source, workspace: Path | None = None) -> None:
        """Take the result of one job.

        Args:
            folder: as above.
            base: the base model that the adapter belongs to.
            workspace: a folder with files of this composition, which is removed together with this object.
        """
        self.folder = folder
        self._base = base
        if workspace is not None:
            weakref.finalize(self, shutil.rmtree, workspace, ignore_errors=True)

    @cached_property
    def report(self) -> dict[str, Any]:
        """Return the whole report; docs/core/report.md describes every field."""
        report: dict[str, Any] = json.loads((self.folder / "report.json").read_text(encoding="utf-8"))
        return report

    @property
    def weights(self) -> dict[str, float]:
        """Return the weight of each module, by its name; a mean where layers have weights of their own."""
        return {row["name"]: row["weight"] for row in self.report["modules"]}

    @property
    def losses(self) -> dict[str, float | None]:
        """Return the loss on the examples in nats per label token, of "composed" and of each baseline.

        It is None where the loss cannot be measured.
        """
        return {row["key"]: row["few_shot_loss_nats"] for row in self.report["baselines"]}

    @property
    def verdict(self) -> Verdict:
        """Return whether to use it: the decision and its reason."""
        row = self.report["verdict"]
        quality, tokens = row["quality"], row["tokens"]
        return Verdict(
            row["decision"],
            row["text"],
            row["advised"],
            quality and Quality(**quality | {"interval_percent": tuple(quality["interval_percent"])}),
            tokens and QuestionTokens(**tokens),
        )

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """Return input, expected, base, composed and correct of up to 200 held-out examples.

        The list is empty without held-out examples or without baselines.
        """
        predictions: list[dict[str, Any]] = self.report["predictions"]
        return predictions

    @property
    def adapters(self) -> dict[str, Path]:
        """Return the folder of each adapter that was made, by its key: composed, lora_on_shots, tuned."""
        rows = self.report["baselines"]
        return {COMPOSED: self.folder} | {
            row["key"]: self.folder / row["adapter"] for row in rows if row["adapter"]
        }

    def adapter_folder(self, key: str) -> Path:
        """Return the folder of one adapter.

        Raises:
            InvalidJobError: there is no adapter with this key; names those that there are.
        """
        try:
            return self.adapters[key]
        except KeyError:
            there = ", ".join(self.adapters)
            raise InvalidJobError(f"There is no adapter {key!r} here; there is {there}.") from None

    def model(self, base: "PreTrainedModel | None" = None, *, adapter: str = COMPOSED) -> "PeftModel":
        """Return the base model with the adapter on it, by peft, in evaluation mode.

        Args:
            base: the model to put the adapter on, which peft changes in place; None loads one in fp32, on
                the CPU.
            adapter: a key of `adapters`.

        Raises:
            InvalidJobError: there is no such adapter, or `base` is no model that it fits.
        """
        folder = self.adapter_folder(adapter)
        from peft import PeftModel
        from transformers import PreTrainedModel

        if base is None:
            base = load_model(self._base.folder)
        elif not isinstance(base, PreTrainedModel):
            raise InvalidJobError(f"The base must be a PreTrainedModel, not {type(base).__name__}.")
        else:
            require_layers_of(folder, base, self._base.name)
        with quiet_libraries():
            try:
                wrapped: PeftModel = PeftModel.from_pretrained(base, str(folder))
            except (ValueError, RuntimeError, KeyError) as error:  # whichever peft meets first
                raise InvalidJobError(f"{misfit_text(base, self._base.name)}.") from error
        return wrapped.eval()

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Return the tokenizer of the base model."""
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self._base.folder)
        return tokenizer

    def save(
        self, path: "str | os.PathLike[str]", *, adapter: str = COMPOSED, base_model: str | None = None
    ) -> Path:
        """Copy the adapter, its README.md and the report.json into a folder; peft loads it from there.

        Args:
            path: of the folder; made if it does not exist.
            adapter: a key of `adapters`.
            base_model: the name of the base model on a Hub, for these files to name; None keeps what
                `compose` was given, such as a folder.

        Raises:
            InvalidJobError: there is no such adapter, the base model's name is none of a Hub, or nothing can
                be written to the folder.
        """
        made = self.adapter_folder(adapter)
        if base_model is not None:
            require_hub_name(base_model)
        folder = Path(path).expanduser()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for name in ADAPTER_FILES:
                shutil.copyfile(made / name, folder / name)
            shutil.copyfile(self.folder / REPORT_FILE, folder / REPORT_FILE)
            if base_model is not None:
                name_base(folder, self._base.name, base_model)
        except OSError as error:
            raise InvalidJobError(f"Nothing can be written to {folder}: {error.strerror}.") from error
        return folder

    def push_to_hub(
        self,
        name: str,
        *,
        adapter: str = COMPOSED,
        base_model: str | None = None,
        private: bool | None = None,
        token: str | None = None,
    ) -> str:
        """Upload an adapter, its README.md and the report.json to a repository of a Hub.

        Args:
            name: such as owner/name; the repository is made if it does not exist. The Hub is the one in
                HF_ENDPOINT, or huggingface.co.
            adapter: a key of `adapters`.
            base_model: the name of the base model on a Hub; needed where `compose` was given a folder or a
                model in memory that has no such name.
            private: whether a new repository is private; None takes the owner's own setting.
            token: an access token; None takes the one in HF_TOKEN or of `hf auth login`.

        Returns:
            The address of the repository.

        Raises:
            InvalidJobError: there is no such adapter; the base model's name on a Hub is not known; or the
                licenses of the modules allow no publishing, and `private` is not True.
            PushError: the repository's name cannot be one, the Hub does not let this access token write
                there or refuses the files, or it cannot be reached; the client's own error is the cause.
        """
        self.adapter_folder(adapter)  # before a repository is made
        base_name = require_hub_name(base_model or self._base_on_a_hub())
        conflict = self.report["licence"]["conflict"]
        if conflict and adapter in {COMPOSED, *COMPOSITIONS} and not private:
            raise InvalidJobError(f"{conflict} For a repository of your own, give private=True.")
        from huggingface_hub import HfApi

        api = HfApi(endpoint=hub_address(), token=token or None)
        with TemporaryDirectory(prefix="composition-") as folder:
            saved = self.save(folder, adapter=adapter, base_model=base_name)
            with told_hub_refusals(name):
                repository = api.create_repo(name, private=private, exist_ok=True)
                api.upload_folder(
                    repo_id=repository.repo_id, folder_path=saved, commit_message="Compose an adapter"
                )
        return str(repository)

    def _base_on_a_hub(self) -> str:
        """Return the base model's name on a Hub.

        Raises:
            InvalidJobError: it is a folder, or a model in memory without such a name.
        """
        name = self._base.name
        is_known = bool(self._base.revision) or (is_base_name(name) and not is_local(name))
        if not is_known:
            raise InvalidJobError(
                f"The base model {name} has no name on a Hub, so nobody could load the adapter from there. "
                'Give the name it has: push_to_hub(…, base_model="owner/name").'
            )
        return name

    def __repr__(self) -> str:
        """Return one line: how many modules, and the verdict."""
        return f"<Composition of {count_noun(len(self.weights), 'module')}: {self.verdict.text}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the verdict, the comparison and the weights."""
        return report_html(self.report)


def require_layers_of(folder: Path, model: "PreTrainedModel", composed_for: str) -> None:
    """Refuse a model that lacks a layer of an adapter, or has it in another size: peft leaves those out.

    Args:
        folder: of the adapter.
        model: it may have LoRA layers of peft in it already.
        composed_for: the name of the base model that the adapter was composed for.

    Raises:
        InvalidJobError: names both models and the first such layer.
    """
    from composer.core.model.base_model import linear_layers
    from composer.core.modules.module_stack import describe_module

    there = {path.removesuffix(".base_layer"): layer for path, layer in linear_layers(model).items()}
    layers = describe_module(folder, str(folder)).layers
    unsized = {path for path, _ in model.named_modules()} - there.keys()  # such as layers of a quantization
    sizes = [(layer, there.get(layer.path)) for layer in layers if layer.path not in unsized]
    unfit = [
        (layer, own)
        for layer, own in sizes
        if own is None or (own.d_out, own.d_in) != (layer.d_out, layer.d_in)
    ]
    if unfit:
        layer, own = unfit[0]
        is_there = f"is {own.d_out} × {own.d_in}" if own else "is missing"
        are = "is" if len(unfit) == 1 else "are"
        raise InvalidJobError(
            f"{misfit_text(model, composed_for)}. Of the {count_noun(len(layers), 'layer')} that it changes, "
            f"{len(unfit)} {are} missing or of another size: {layer.path} ({layer.d_out} × {layer.d_in}) "
            f"{is_there} there. Give a model with the layers of {composed_for}."
        )


def misfit_text(model: "PreTrainedModel", composed_for: str) -> str:
    """Return the sentence, without its full stop, on a model that is not the base of an adapter."""
    named = f" ({model.name_or_path})" if model.name_or_path else ""
    return f"The adapter does not fit this {type(model).__name__}{named}: it was composed for {composed_for}"


def is_local(name: str) -> bool:
    """Return whether the name of a base model without a revision is that of a folder, or of no model."""
    return name == UNNAMED_BASE or Path(name).expanduser().exists()


def require_hub_name(name: str) -> str:
    """Return the name of a base model.

    Raises:
        InvalidJobError: no model of a Hub can have this name.
    """
    if not is_base_name(name):
        raise InvalidJobError(f"{name!r} is no name of a Hub, such as owner/name.")
    return name


def name_base(folder: Path, old: str, new: str) -> None:
    """Name the base model in the files of a saved adapter by its name on a Hub."""
    if old == new:
        return
    from composer.core.evaluation.export import name_base_of_adapter

    name_base_of_adapter(folder, old, new)
    path = folder / REPORT_FILE
    report = json.loads(path.read_text(encoding="utf-8")) | {"base": {"name": new, "revision": ""}}
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def load_model(folder: Path) -> "PreTrainedModel":
    """Return the transformers model of a folder, encoder-decoder or decoder-only, in fp32 on the CPU."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    kind: Any = (
        AutoModelForSeq2SeqLM
        if AutoConfig.from_pretrained(folder).is_encoder_decoder
        else AutoModelForCausalLM
    )
    with quiet_libraries():
        model: PreTrainedModel = kind.from_pretrained(folder, dtype=torch.float32, use_safetensors=True)
    return model
