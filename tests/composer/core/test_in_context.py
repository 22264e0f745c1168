"""Examples in the prompt: what is said of a base that cannot use them."""

import pytest

from composer.core.evaluation.baselines import in_context_note, show_others
from composer.core.evaluation.in_context_prompts import prompt_forms
from composer.core.model.base_model import FrozenBaseModel
from composer.core.spec.example_files import read_examples
from demo import BUNDLE


@pytest.fixture(scope="module")
def base():
    return FrozenBaseModel.load(BUNDLE / "base")


@pytest.mark.parametrize("task", ["animal-spanish", "animal-partner", "letters-star", "german"])
def test_the_demo_world_s_base_is_said_never_to_have_learnt_to_use_examples(base, task):
    for draw in range(3):
        shots = read_examples(BUNDLE / "tasks" / task / f"shots-{draw}.jsonl", 5)
        (form,) = prompt_forms(base, shots)
        said = show_others(base, shots, form, {}).note
        assert said.startswith("this base does not learn from examples in the prompt"), draw


def test_a_base_that_uses_examples_is_not_blamed():
    assert in_context_note(shown=0.8, alone=2.1, chance=0.05, chance_alone=0.01) == ""
    told = in_context_note(shown=0.8, alone=0.5, chance=0.3, chance_alone=0.5)
    assert "raise its loss on yours by 0.3 to 0.80" in told
    assert "does not learn" not in told  # it answers a third of them


@pytest.mark.parametrize(
    ("shown", "alone", "chance", "is_lost"),
    [
        (5.0, 4.0, 0.0, True),
        (5.0, 8.0, 0.0, True),
        (2.0, 1.5, 0.05, True),
        (2.0, 8.0, 0.05, False),  # they help, and a right token is likely
        (5.0, 4.0, 0.4, False),  # one long output spoils the mean; four of ten are likely
        (0.4, 0.3, 0.6, False),
    ],
)
def test_a_base_is_called_lost_only_where_no_output_is_likely(shown, alone, chance, is_lost):
    assert ("does not learn" in in_context_note(shown, alone, chance, 0.9 * chance)) == is_lost
