"""The result of `composer.compose`: an adapter with its report."""

import json
import os
import shutil
import weakref
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from composer.core.modules.sources import Source, hub_address
from composer.library.picture import report_html
from composer.library.quiet import quiet_libraries

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

FILES = ("adapter_config.json", "adapter_model.safetensors", "README.md", "report.json")


@dataclass(frozen=True)
class Verdict:
    """Whether to use a composition.

    Attributes:
        decision: use, prompt, single, train, none or unmeasured; docs/core/report.md says what each means.
        text: the decision in words, with the figures that it rests on.
    """

    decision: str
    text: str

    def __str__(self) -> str:
        """Return the text."""
        return self.text


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
        return Verdict(**self.report["verdict"])

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """Return input, expected, base, composed and correct of up to 200 held-out examples.

        The list is empty without held-out examples or without baselines.
        """
        predictions: list[dict[str, Any]] = self.report["predictions"]
        return predictions

    def model(self, base: "PreTrainedModel | None" = None) -> "PeftModel":
        """Return the base model with the adapter on it, by peft, in evaluation mode.

        Args:
            base: the model to put the adapter on, which peft changes in place; None loads one in fp32, on
                the CPU.
        """
        from peft import PeftModel

        with quiet_libraries():
            wrapped: PeftModel = PeftModel.from_pretrained(
                base or load_model(self._base.folder), str(self.folder)
            )
        return wrapped.eval()

    def tokenizer(self) -> "PreTrainedTokenizerBase":
        """Return the tokenizer of the base model."""
        from transformers import AutoTokenizer

        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self._base.folder)
        return tokenizer

    def save(self, path: "str | os.PathLike[str]") -> Path:
        """Copy the adapter, its README.md and its report.json into a folder; peft loads it from there."""
        folder = Path(path).expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            shutil.copyfile(self.folder / name, folder / name)
        return folder

    def push_to_hub(self, name: str, *, private: bool | None = None, token: str | None = None) -> str:
        """Upload the adapter, its README.md and its report.json to a repository of a Hub.

        Args:
            name: such as owner/name; the repository is made if it does not exist. The Hub is the one in
                HF_ENDPOINT, or huggingface.co.
            private: whether a new repository is private; None takes the owner's own setting.
            token: an access token; None takes the one in HF_TOKEN or of `hf auth login`.

        Returns:
            The address of the repository.
        """
        from huggingface_hub import HfApi

        api = HfApi(endpoint=hub_address(), token=token)
        repository = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repository.repo_id,
            folder_path=self.folder,
            allow_patterns=list(FILES),
            commit_message="Compose an adapter",
        )
        return str(repository)

    def __repr__(self) -> str:
        """Return one line: how many modules, and the verdict."""
        return f"<Composition of {len(self.weights)} modules: {self.verdict.text}>"

    def _repr_html_(self) -> str:
        """Return what a notebook shows: the verdict, the comparison and the weights."""
        return report_html(self.report)


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
