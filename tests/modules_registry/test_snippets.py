"""The code on a module's page."""

from types import SimpleNamespace

import pytest

from modules_registry.models import BaseModel
from modules_registry.snippets import peft_snippet

CAUSAL, SEQ2SEQ = "AutoModelForCausalLM", "AutoModelForSeq2SeqLM"


@pytest.mark.parametrize(
    ("kind", "task_type", "auto_class"),
    [
        (BaseModel.Kind.CAUSAL, "", CAUSAL),
        (BaseModel.Kind.CAUSAL, "SEQ_2_SEQ_LM", CAUSAL),
        (BaseModel.Kind.SEQ2SEQ, "CAUSAL_LM", SEQ2SEQ),
        (None, "CAUSAL_LM", CAUSAL),
        (None, "", SEQ2SEQ),
    ],
)
def test_the_architecture_of_a_known_base_decides_whatever_the_adapter_says(kind, task_type, auto_class):
    base = BaseModel(kind=kind) if kind else None
    version = SimpleNamespace(base=base, task_type=task_type, base_name="owner/base")
    assert f"{auto_class}.from_pretrained" in peft_snippet(version, '"owner/name"')["code"]
