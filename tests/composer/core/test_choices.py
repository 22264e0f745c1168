"""The tables that pages, estimates and the core read: they say the same everywhere."""

from composer.core.spec import choices
from composer.core.spec.stages import STAGES


def test_stages_have_the_names_that_rows_and_reports_hold_and_labels_of_their_own():
    assert [stage.name for stage in STAGES] == ["load", "screen", "search", "prune", "export", "evaluate"]
    assert len({stage.label for stage in STAGES}) == len(STAGES)


def test_what_is_compared_is_said_with_the_baselines_that_are_measured():
    lines = {choice.name: choice.line for choice in choices.BASELINES}
    assert lines["always"] == (
        "The base alone, the best single module, the uniform average, the examples in the prompt, "
        "the composition with the examples in its own prompt, a LoRA trained on the examples, and the "
        "composition tuned on the examples."
    )
    assert lines["thorough"] == (
        "These, and random LoRAs of the same size through the same search, and LoraHub as published."
    )
    assert set(choices.BASELINES_OF_CHOICE) == set(lines)
