"""Examples in the prompt: what is said of a base that cannot use them."""

import pytest

from composer.core.evaluation.baselines import in_context_note, loss_with_others_shown
from composer.core.evaluation.in_context_prompts import prompt_forms
from composer.core.model.base_model import FrozenBaseModel
from composer.core.spec.examples import read_examples
from demo import BUNDLE


@pytest.fixture(scope="module")
def base():
    return FrozenBaseModel.load(BUNDLE / "base")


@pytest.mark.parametrize("task", ["animal-spanish", "animal-partner", "letters-star", "german"])
def test_the_demo_world_s_base_is_said_never_to_have_learnt_to_use_examples(base, task):
    for draw in range(3):
        shots = read_examples(BUNDLE / "tasks" / task / f"shots-{draw}.jsonl", 5)
        (form,) = prompt_forms(base, shots)
        _, said = loss_with_others_shown(base, shots, form)
        assert said.startswith("this base never learnt to use examples"), draw


def test_a_base_that_uses_examples_is_not_blamed():
    assert in_context_note(shown=0.8, alone=2.1) == ""
    assert "raise its loss on yours by 0.3 to 0.80" in in_context_note(shown=0.8, alone=0.5)
