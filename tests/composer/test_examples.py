"""Examples as people bring them, well-meant and hostile."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from composer.core.spec.errors import ExamplesError as CoreExamplesError
from composer.core.spec.example_files import PROBLEMS_SHOWN_MAX, ExampleLinesError, read_examples
from composer.core.spec.examples import Example, is_storable
from composer.request.serializers import CompositionRequestSerializer
from composer.task.examples import (
    CHARACTERS_MAX,
    FILE_BYTES_MAX,
    HELD_OUT_MAX,
    pairs_from_rows,
    read_pasted,
    row_notes,
    text_of_file,
)

TWO = [Example("red", "rouge"), Example("green", "vert")]


def pairs_from_text(text: str) -> list[Example]:
    return list(read_pasted(text, limit=HELD_OUT_MAX).examples)


def pairs_from_file(name: str, data: bytes) -> list[Example]:
    return pairs_from_text(text_of_file(name, data))


def problems_of(parse, *arguments) -> list[str]:
    with pytest.raises(ExampleLinesError) as caught:
        parse(*arguments)
    return caught.value.problems


@pytest.mark.parametrize(
    "text",
    [
        '{"input": "red", "output": "rouge"}\n{"input": "green", "output": "vert"}',
        '{"input": "red", "output": "rouge"}\r\n\r\n{"input": "green", "output": "vert"}\r\n',
        '\ufeff{"input": "red", "output": "rouge", "note": 1}\n  {"output": "vert", "input": "green"}\n',
        '[{"input": "red", "output": "rouge"}, {"input": "green", "output": "vert"}]',
        "red\trouge\ngreen\tvert\n",
        "red,rouge\ngreen,vert",
        "red,rouge\r\ngreen,vert\r\n",
        "red,rouge\rgreen,vert\r",
        'input,output\n"red","rouge"\n"green","vert"\n',
        "Output\tid\tInput\nrouge\t1\tred\nvert\t2\tgreen\n",
        "\n\nred\trouge\n\ngreen\tvert\t\n",
        "Prompt\tCompletion\nred\trouge\ngreen\tvert\n",
        "id,question,answer\n1,red,rouge\n2,green,vert\n",
        "label;text\nrouge;red\nvert;green\n",
        "instruction,input,output\n,red,rouge\n,green,vert\n",
        '{"Source": "red", "Target": "rouge"}\n{"instruction": "green", "response": "vert"}',
    ],
)
def test_the_same_examples_are_read_from_every_usual_form(text):
    assert pairs_from_text(text) == TWO


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_file_is_read_with_or_without_its_mark(encoding):
    data = "cœur,heart\nété,summer\n".encode(encoding)
    assert pairs_from_file("words.CSV", data) == [Example("cœur", "heart"), Example("été", "summer")]


def test_a_quoted_cell_may_hold_commas_quotes_and_lines():
    text = 'input,output\n"one, two\nthree","say ""hi"""\n'
    assert pairs_from_text(text) == [Example("one, two\nthree", 'say "hi"')]


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("one, two;drei\nfour;fünf\n", Example("one, two", "drei")),
        ('"red, dark";"rouge"\n"a, b";"c"\n', Example("red, dark", "rouge")),
        ("hi; you,salut; toi\n", Example("hi; you", "salut; toi")),
        ("input;output\na, b;c\n", Example("a, b", "c")),
    ],
)
def test_commas_and_semicolons_are_told_apart(text, pair):
    assert pairs_from_text(text)[0] == pair


def test_an_unclosed_quotation_mark_is_told_with_the_line_it_begins_on():
    (problem,) = problems_of(pairs_from_text, 'a,b\nc,d\n"e,f\ng,h\n')
    assert "line 3" in problem
    assert "quotation mark" in problem


def test_quotation_marks_in_a_table_typed_by_hand_are_just_marks():
    text = 'the "red" one\trouge\n"green\tvert'
    assert pairs_from_text(text) == [Example('the "red" one', "rouge"), Example('"green', "vert")]


def test_every_broken_line_is_told_with_its_number():
    text = '{"input": "a", "output": "b"}\nnot json\n{"input": "c"}\n["list"]\n{"input": {}, "output": "x"}'
    told = problems_of(pairs_from_text, text)
    assert [f"ine {line}" in problem for line, problem in zip((2, 3, 4, 5), told, strict=True)] == [True] * 4
    assert "not a JSON object" in told[0]
    assert "no output" in told[1]
    assert "not text" in told[3]


def test_a_file_of_the_wrong_kind_does_not_fill_the_page_with_its_lines():
    told = problems_of(pairs_from_text, "\n".join(["{broken"] * 5000))
    assert len(told) == PROBLEMS_SHOWN_MAX + 1
    assert "4,980 more" in told[-1]


@pytest.mark.parametrize("name", ["words.xlsx", "words.exe", "words", "../../etc/passwd"])
def test_other_kinds_of_files_are_refused_by_name(name):
    assert "not an examples file" in problems_of(pairs_from_file, name, b"a,b")[0]


def test_a_file_in_another_encoding_is_told_at_its_line():
    told = problems_of(pairs_from_file, "words.csv", b"summer,hiver\nhiver,\xe9t\xe9\n")
    assert "Line 2 is not UTF-8" in told[0]


def test_a_file_that_changes_its_encoding_half_way_is_told_at_its_line():
    data = "été,summer\n".encode() + "hiver é,winter\n".encode("latin-1")
    assert "Line 2 is not UTF-8" in problems_of(pairs_from_file, "words.csv", data)[0]


def test_a_file_that_is_too_large_is_refused_before_it_is_read():
    assert "larger than" in problems_of(pairs_from_file, "words.csv", b"a,b\n" * (FILE_BYTES_MAX // 4 + 1))[0]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a\0b,c", "not text"),
        (json.dumps({"input": "\ud800", "output": "x"}), "not text"),
        (json.dumps({"input": "x", "output": " \n "}), "no output"),
        (json.dumps({"input": "", "output": "x"}), "no input"),
        (json.dumps({"input": "x" * (CHARACTERS_MAX + 1), "output": "x"}), "4,001 characters"),
        (json.dumps({"input": None, "output": "x"}), "no input"),
        ("one,two,three", "3 columns"),
        ("one;two;three\nred;rouge", "semicolons"),
        ("[[[[", "JSON list"),
        ("[" * 100_000, "JSON list"),
        ('{"input": ' * 50_000, "not a JSON object"),
    ],
)
def test_a_hostile_line_is_refused_with_a_sentence(text, word):
    assert word in problems_of(pairs_from_text, text)[0]


def test_blank_rows_of_a_grid_are_left_out_and_half_filled_ones_told():
    assert pairs_from_rows([("red", "rouge"), ("", " "), ("green", "vert")]) == TWO
    assert "Row 2 has no output" in problems_of(pairs_from_rows, [("red", "rouge"), ("green", "")])[0]


@pytest.mark.parametrize("header", [("input", "output"), (" Question", "ANSWER"), ("text", "label")])
def test_a_header_pasted_into_the_grid_is_no_example(header):
    assert pairs_from_rows([("", ""), header, ("red", "rouge"), ("green", "vert")]) == TWO


def test_a_header_s_words_further_down_are_an_example():
    assert len(pairs_from_rows([("red", "rouge"), ("text", "label")])) == 2


def test_nothing_at_all_is_no_example_and_no_error():
    assert pairs_from_text("") == pairs_from_text("\n \n") == pairs_from_rows([]) == []


def refusal_of_the_core(tmp_path, line: str) -> str:
    path = tmp_path / "examples.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(CoreExamplesError) as caught:
        read_examples(path, limit=1)
    return str(caught.value)


def refusal_of_the_api(example: dict[str, object]) -> str:
    asked = CompositionRequestSerializer(data={"name": "a task", "examples": [example]})
    assert not asked.is_valid()
    ((message,),) = asked.errors["examples"]["0"].values()
    return str(message)


@pytest.mark.parametrize(
    ("given", "wanted", "said"),
    [
        ("", "x", "{} has no input. Fill it in or remove the line."),
        (" \n\t", "x", "{} has no input. Fill it in or remove the line."),
        ("x", "\u2003", "{} has no output. Fill it in or remove the line."),
        ("x", None, "{} has no output. Fill it in or remove the line."),
        ({"a": 3}, "x", "The input of {} is a JSON object, not text. Put it in quotation marks."),
        ("x", {"y": "z"}, "The output of {} is a JSON object, not text. Put it in quotation marks."),
        ("x", [["y"]], "The output of {} is a list, not text. Put it in quotation marks."),
        ("a\0b", "x", "The input of {} holds characters that are not text. Remove them."),
        ("x", "\udfff", "The output of {} holds characters that are not text. Remove them."),
        ("x" * 20_001, "x", "The input of {} has 20,001 characters; at most {limit} fit."),
    ],
)
def test_every_way_to_bring_an_example_refuses_it_with_the_same_sentence(tmp_path, given, wanted, said):
    example = {"input": given, "output": wanted}
    line = json.dumps(example)
    told = {
        "Line 1": problems_of(pairs_from_text, line)[0],
        "Line 2": problems_of(pairs_from_file, "x.jsonl", f"\n{line}".encode())[0],
        "line 1": refusal_of_the_core(tmp_path, line),
        "This example": refusal_of_the_api(example),
    }
    if isinstance(given, str) and isinstance(wanted, str):  # as a form sends its cells
        told["Row 1"] = problems_of(pairs_from_rows, [(given, wanted)])[0]
    for label, sentence in told.items():
        place = label.capitalize() if said.startswith("{}") else label.lower()
        assert sentence == said.format(place, limit="20,000" if label == "line 1" else "4,000")


def test_a_text_between_the_limits_is_for_the_command_line_alone(tmp_path):
    line = json.dumps({"input": "x" * (CHARACTERS_MAX + 1), "output": "y"})
    assert "4,001 characters" in problems_of(pairs_from_text, line)[0]
    assert "4,001 characters" in refusal_of_the_api(json.loads(line))
    path = tmp_path / "examples.jsonl"
    path.write_text(line, encoding="utf-8")
    assert len(read_examples(path, limit=1)) == 1


def test_the_api_tells_of_input_and_output_at_once_and_takes_blanks_around_both():
    asked = CompositionRequestSerializer(data={"name": "a task", "examples": [{"output": " "}]})
    assert not asked.is_valid()
    assert {field: str(*messages) for field, messages in asked.errors["examples"]["0"].items()} == {
        "input": "This example has no input. Fill it in or remove the line.",
        "output": "This example has no output. Fill it in or remove the line.",
    }
    asked = CompositionRequestSerializer(
        data={"name": "a task", "examples": [{"input": " a ", "output": "b\n"}]}
    )
    assert asked.is_valid()
    assert asked.validated_data["examples"] == [Example(" a ", "b\n")]


@pytest.mark.parametrize("number", [float("nan"), float("inf"), json.loads("1e400")])
def test_a_number_that_is_none_is_missing_in_the_api_too(number):
    asked = CompositionRequestSerializer(
        data={"name": "a task", "examples": [{"input": "a", "output": "b"}, {"input": "c", "output": number}]}
    )
    assert not asked.is_valid()
    (message,) = asked.errors["examples"]["1"]["output"]
    assert message == "This example has no output. Fill it in or remove the line."


def test_a_header_in_another_language_is_told_in_the_grid():
    notes = row_notes([("Frage", "Antwort"), ("Wie alt ist er?", "Drei"), ("Wo ist sie?", "Hier")])
    assert [(note.row, note.level) for note in notes] == [(0, "warning")]
    assert notes[0].text.startswith("These look like column names")


@given(st.binary(max_size=300))
def test_no_file_ever_raises_anything_but_its_own_refusal(data):
    try:
        pairs = pairs_from_file("any.csv", data)
    except ExampleLinesError:
        return
    assert all(is_storable(pair.input + pair.output) and pair.output.strip() for pair in pairs)


printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40).filter(str.strip)


@given(st.lists(st.tuples(printable, printable), min_size=1, max_size=5))
def test_json_lines_come_back_as_they_were_sent(rows):
    text = "\n".join(json.dumps({"input": given, "output": wanted}) for given, wanted in rows)
    assert pairs_from_text(text) == [Example(*row) for row in rows]


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([("a", "b"), ("", ""), ("c", "d")], []),
        ([("input", "output"), ("a", "b")], []),
        ([("a", ""), ("", "b")], [(0, "error", "Row 1 has no output"), (1, "error", "Row 2 has no input")]),
        ([("a", "b"), (" a", "b ")], [(1, "warning", "The same as row 1")]),
        ([("a", "b"), ("a", "c")], [(1, "warning", "Row 1 has this input with another output")]),
        ([("a", "b" * (CHARACTERS_MAX + 1))], [(0, "error", "The output of row 1 has 4,001 characters")]),
        (
            [("review", "label"), ("very good", "yes"), ("bad", "no")],
            [(0, "warning", "These look like column names")],
        ),
        ([(str(n), "b") for n in range(65)], [(64, "error", "At most 64 examples can be composed from")]),
    ],
)
def test_each_row_is_told_what_stops_it_or_is_odd_about_it(rows, told):
    notes = row_notes(rows)
    assert [(note.row, note.level) for note in notes] == [(row, level) for row, level, _ in told]
    assert all(note.text.startswith(text) for note, (_, _, text) in zip(notes, told, strict=True))
