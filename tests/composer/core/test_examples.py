"""Reading examples: what is accepted, and what each refusal says."""

import pytest

from composer.core.spec.errors import ExamplesError, ExampleTooLongError, MissingOutputError, NoExamplesError
from composer.core.spec.example_files import read_examples
from composer.core.spec.examples import (
    MAX_CHARACTERS,
    Example,
    exclude_examples,
    notes_on,
    problems_with,
    require_disjoint,
    without_repeats,
)


def written(tmp_path, text: bytes):
    (tmp_path / "examples.jsonl").write_bytes(text)
    return tmp_path / "examples.jsonl"


def test_lines_become_examples_and_blank_lines_do_not(tmp_path):
    path = written(
        tmp_path,
        '\ufeff{"input": "cat", "output": "chat", "id": 3}\n\n{"input": " e ", "output": "é"}'.encode(),
    )
    assert read_examples(path, limit=5) == (Example("cat", "chat"), Example(" e ", "é"))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", NoExamplesError),
        (b"\n \n", NoExamplesError),
        (b"[1, 2]", ExamplesError),
        (b"{", ExamplesError),
        (b'{"output": "a"}', ExamplesError),
        (b'{"input": {}, "output": "a"}', ExamplesError),
        (b'{"input": "", "output": "a"}', ExamplesError),
        (b'{"input": " \\n", "output": "a"}', ExamplesError),
        (b'{"input": "a", "output": [{"a": 3}]}', ExamplesError),
        (b'{"input": "a"}', MissingOutputError),
        (b'{"input": "a", "output": null}', MissingOutputError),
        (b'{"input": "a", "output": " \\n"}', MissingOutputError),
        (b'{"input": "a", "output": "\\ud800"}', ExamplesError),
        (b'{"input": "a\\u0000", "output": "b"}', ExamplesError),
        (b'{"input": "' + b"a" * (MAX_CHARACTERS + 1) + b'", "output": "b"}', ExampleTooLongError),
        (b"\xff\xfe{", ExamplesError),
        (b'{"input": "a", "output": "b"}\n' * 6, ExamplesError),
        (b"[" * 100_000, ExamplesError),
    ],
)
def test_what_is_no_example_is_refused_by_its_own_error(tmp_path, text, error):
    with pytest.raises(error) as refusal:
        read_examples(written(tmp_path, text), limit=5)
    assert type(refusal.value) is error


def test_the_refusal_names_the_example(tmp_path):
    with pytest.raises(MissingOutputError, match="Line 2"):
        read_examples(written(tmp_path, b'{"input": "a", "output": "b"}\n{"input": "a"}'), limit=5)


def test_what_is_wrong_with_input_and_output_is_told_of_both_and_once_of_each():
    problems = problems_with(" ", "x" * 5 + "\0", label="Line 3", characters_max=4)
    assert [(problem.part, str(problem)) for problem in problems] == [
        ("input", "Line 3 has no input. Fill it in or remove the line."),
        ("output", "The output of line 3 has 6 characters; at most 4 fit."),
    ]
    assert problems_with("x" * 4, "y", label="Line 3", characters_max=4) == []


SHOTS = [Example("apple", "pomme"), Example(" pear\n", "poire")]


@pytest.mark.parametrize(
    "seen",
    [
        Example("apple", "pomme"),
        Example("apple", "la pomme"),
        Example("\tapple ", "pomme"),
        Example("pear", "Birne"),
        Example("\u00a0pear\u2003", "poire"),
    ],
)
def test_a_held_out_example_with_a_shot_s_input_is_left_out_by_the_site_and_refused_by_the_core(seen):
    new = Example("plum", "pomme")
    assert exclude_examples([seen, new], SHOTS) == [new]
    with pytest.raises(ExamplesError, match=r"^1 of the held-out examples has the input"):
        require_disjoint([seen, new], SHOTS)


@pytest.mark.parametrize(
    "other", [Example("Apple", "pomme"), Example("ap ple", "pomme"), Example("pomme", "apple")]
)
def test_a_held_out_example_with_another_input_is_measured_on(other):
    assert exclude_examples([other], SHOTS) == [other]
    require_disjoint([other], SHOTS)


def test_how_many_held_out_examples_were_seen_is_told():
    with pytest.raises(ExamplesError, match=r"^2 of the held-out examples have the input"):
        require_disjoint([*SHOTS, Example("plum", "prune")], SHOTS)


def test_an_input_in_another_normal_form_is_the_same_input():
    shots = [Example("\u00c5ngstr\u00f6m", "unit")]
    assert exclude_examples([Example("A\u030angstro\u0308m", "length")], shots) == []


@pytest.mark.parametrize(
    ("pairs", "left", "notes"),
    [
        (["a1", "b2", "c1"], ["a1", "b2", "c1"], []),
        (["a1", "b2", "a1"], ["a1", "b2"], ["1 of the 3 examples repeat others, so 2 examples count."]),
        (["a1"] * 5, ["a1"], ["4 of the 5 examples repeat others, so 1 example counts."]),
        (["a1", "b2", "a1", "b2"], ["a1", "b2"], ["2 of the 4 examples repeat others, so 2 examples count."]),
        (["a1", "a2"], ["a1", "a2"], ["The input “a” has different outputs: at most one can be right."]),
        (
            ["a1", "a2", "b1", "b2", "b2"],
            ["a1", "a2", "b1", "b2"],
            [
                "1 of the 5 examples repeat others, so 4 examples count.",
                "The input “a” and 1 more have different outputs: at most one can be right.",
            ],
        ),
    ],
)
def test_an_example_that_is_there_twice_counts_once_and_contradictions_are_told(pairs, left, notes):
    examples = [Example(*pair) for pair in pairs]
    assert without_repeats(examples) == [Example(*pair) for pair in left]
    assert notes_on(examples) == notes


def test_white_space_around_it_makes_no_other_example_and_held_out_ones_count_once_too():
    examples = [Example("a", "1"), Example(" a", "1 ")]
    assert without_repeats(examples) == examples[:1]
    assert notes_on(examples[:1], examples) == [
        "1 of the 2 held-out examples repeat others, so 1 held-out example counts."
    ]
