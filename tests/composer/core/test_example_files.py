"""The one reader of examples: dialects, columns chosen by hand, and what it says of the rest."""

import json
import time

import pytest
from django.conf import settings

from composer.core.spec.errors import ExamplesError
from composer.core.spec.example_dialects import KNOWN
from composer.core.spec.example_files import ExampleLinesError, read_file, read_objects, read_text
from composer.core.spec.example_rows import Columns
from composer.core.spec.examples import Example
from composer.core.spec.metrics import is_exact_match, is_reference_match

PAIRS = (Example("red", "rouge"), Example("green", "vert"))


def chat(*turns, role="role", content="content"):
    return [{role: who, content: text} for who, text in turns]


CALL = {"role": "assistant", "content": "Let me look.", "tool_calls": [{"id": "1"}]}
DIALECTS = {
    "Alpaca": ({"instruction": "Say it", "input": "red", "output": "rouge"}, "Say it\nred", "rouge"),
    "Alpaca without input": ({"instruction": "Say red", "input": "", "output": "rouge"}, "Say red", "rouge"),
    "Dolly": ({"instruction": "Who?", "context": "It was Bo.", "response": "Bo"}, "Who?\nIt was Bo.", "Bo"),
    "OpenAI": ({"messages": chat(("user", "red"), ("assistant", "rouge"))}, "red", "rouge"),
    "OpenAI's parts": (
        {"messages": chat(("user", [{"type": "text", "text": "red"}]), ("assistant", "rouge"))},
        "red",
        "rouge",
    ),
    "ShareGPT": (
        {"conversations": chat(("human", "red"), ("gpt", "rouge"), role="from", content="value")},
        "red",
        "rouge",
    ),
    "TRL": ({"prompt": chat(("user", "red")), "completion": chat(("assistant", "rouge"))}, "red", "rouge"),
    "completion": ({"prompt": "red", "completion": "rouge"}, "red", "rouge"),
    "SQuAD": (
        {"context": "Bo came.", "question": "Who?", "answers": {"text": ["Bo"], "answer_start": [0]}},
        "Bo came.\nWho?",
        "Bo",
    ),
    "BoolQ": ({"question": "Who?", "answer": True, "passage": "Bo came."}, "Bo came.\nWho?", "true"),
    "question": ({"question": "Who?", "answer": "Bo"}, "Who?", "Bo"),
    "BIG-bench": ({"input": "red", "targets": ["rouge"]}, "red", "rouge"),
    "one target in a list": ({"input": "red", "target": ["rouge"]}, "red", "rouge"),
    "TriviaQA": ({"question": "Who?", "answer": {"value": "Bo", "aliases": ["Bo", "B."]}}, "Who?", "Bo"),
    "a prompt in messages alone": ({"prompt": chat(("user", "red")), "completion": "rouge"}, "red", "rouge"),
    "Flan": ({"inputs": "red", "targets": "rouge"}, "red", "rouge"),
    "target": ({"Input": "red", " Target": "rouge"}, "red", "rouge"),
    "a number for a label": ({"text": "good", "label": 1}, "good", "1"),
    "a boolean for a label": ({"text": "good", "label": True}, "good", "true"),
    "a fraction": ({"input": 2, "output": 0.5}, "2", "0.5"),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_a_known_dialect_is_read_from_a_list_a_text_and_a_file(tmp_path, name):
    row, given, expected = DIALECTS[name]
    (tmp_path / "a.json").write_text(json.dumps([row], indent=1), encoding="utf-8")
    for reading in (
        read_objects([row]),
        read_text(json.dumps(row)),
        read_text(json.dumps({"canary": "…", "examples": [row]}, indent=2)),
        read_file(tmp_path / "a.json"),
    ):
        assert reading.examples == (Example(given, expected),)
        assert reading.notes == ()


@pytest.mark.parametrize(
    ("row", "note"),
    [
        ({"input": "a", "output": "b", "context": "c"}, "Not used: the column “context”."),
        ({"instruction": "a", "output": "b", "system": "c", "history": [["d", "e"]]}, "“system”, “history”"),
        ({"question": "a", "choices": ["b", "c"], "answer": "b"}, "“choices”"),
        ({"prompt": "a", "chosen": "b", "rejected": "c"}, "“rejected”"),
        ({"messages": chat(("system", "s"), ("user", "a"), ("assistant", "b"))}, "system messages, of 1 "),
        (
            {"messages": chat(("user", "x"), ("assistant", "y"), ("user", "a"), ("assistant", "b"))},
            "turns besides the last question",
        ),
        (
            {"messages": [*chat(("user", "a")), {"role": "assistant", "thinking": "…", "content": "b"}]},
            "Not used: “thinking” of messages, of 1 example.",
        ),
        (
            {
                "conversations": [
                    {"from": "human", "value": "a", "images": ["x"]},
                    {"from": "gpt", "value": "b"},
                ]
            },
            "“images” of messages",
        ),
        ({"input": "a", "targets": ["b", "c"]}, "all “targets” but the first"),
        ({"input": "a", "target": ["b", "c"]}, "all “target” but the first, of 1 example."),
        ({"input": "a", "output": ["b", "c"]}, "all “output” but the first"),
        ({"question": "a", "answer": ["b", "c"]}, "all “answer” but the first"),
        ({"question": "a", "answers": {"text": ["b", "c"], "answer_start": [0, 2]}}, "all “answers” but"),
        ({"question": "a", "answers": [{"text": "b"}, {"text": "c"}]}, "all “answers” but the first"),
        (
            {"messages": chat(("user", "a"), ("tool", "3"), ("assistant", "b"))},
            "tool calls and their results, of 1 ",
        ),
        (
            {"messages": [*chat(("user", "a")), CALL, *chat(("assistant", "b"))]},
            "tool calls and their results",
        ),
        (
            {"messages": chat(("user", "a"), ("assistant", "b"), ("user", "c"))},
            "turns behind the last answer",
        ),
        (
            {"messages": chat(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", ""))},
            "turns behind",
        ),
    ],
)
def test_what_a_dialect_does_not_use_is_said(row, note):
    for reading in (read_objects([row]), read_text(json.dumps(row))):
        assert reading.examples == (Example("a", "b"),)
        assert note in reading.notes[0]
        assert len(reading.notes) == 1


@pytest.mark.parametrize(
    "turns",
    [
        [*chat(("user", "a")), CALL, *chat(("tool", "3"))],
        chat(("system", "s"), ("user", "a")),
        chat(("assistant", "Hello"), ("user", "a")),
        chat(("user", "a"), ("assistant", None)),
    ],
)
def test_a_conversation_without_an_answer_is_refused_as_one(turns):
    for read, given in ((read_objects, [{"messages": turns}]), (read_text, json.dumps({"messages": turns}))):
        with pytest.raises(ExampleLinesError, match=r" 1 is a conversation without an answer") as caught:
            read(given)
        assert (caught.value.code, caught.value.lines[0].part) == ("missing_output", "output")


IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (
            {"messages": chat(("user", [{"type": "text", "text": "a"}, IMAGE]), ("assistant", "b"))},
            "image_url",
        ),
        ({"messages": chat(("user", [{"image": "a.png"}]), ("assistant", "b"))}, "image"),
        ({"prompt": chat(("user", [{"type": "input_audio"}])), "completion": "b"}, "input_audio"),
        ({"messages": chat(("user", "a"), ("assistant", [{"type": "refusal", "refusal": "b"}]))}, "refusal"),
    ],
)
def test_a_message_with_more_than_text_is_refused_with_what_it_has(row, kind):
    for read, given in ((read_objects, [row]), (read_text, json.dumps(row))):
        with pytest.raises(ExampleLinesError, match=rf" 1 has “{kind}” in a message. Only text is read"):
            read(given)


def test_an_image_in_a_turn_that_is_not_read_does_not_matter():
    turns = chat(("user", [IMAGE]), ("assistant", "x"), ("user", "a"), ("assistant", "b"))
    assert read_objects([{"messages": turns}]).examples == (Example("a", "b"),)


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(
    "columns",
    [
        {"input": ["red", "green"], "output": ["rouge", "vert"]},
        {"Instruction": ["red", "green"], "input": ["", ""], "output": ["rouge", "vert"]},
        {"text": ["red", "green"], "label": ["rouge", "vert"], "id": [None, None]},
        {"messages": [chat(("user", one.input), ("assistant", one.output)) for one in PAIRS]},
    ],
)
def test_json_with_a_list_for_each_column_is_read(columns, indent):
    reading = read_text(json.dumps(columns, indent=indent))
    assert (reading.examples, reading.notes) == (PAIRS, ())


ROWS = [{"input": "cat", "output": "chat"}, {"input": "dog", "output": "chien | chienne"}]
BY_COLUMN = {name: {str(n): row[name] for n, row in enumerate(ROWS)} for name in ("input", "output")}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(BY_COLUMN),
        json.dumps(BY_COLUMN, indent=1),
        json.dumps({str(n): row for n, row in enumerate(ROWS)}),
        json.dumps(
            {"rows": [{"row_idx": n, "row": row, "truncated_cells": []} for n, row in enumerate(ROWS)]}
        ),
        "| input | output |\n|---|:--|\n| cat | chat |\n| dog | chien \\| chienne |\n",
        "\ninput | output\n--- | ---\ncat | chat\n\ndog | chien \\| chienne",
        "| Output | Input |\n| :-: | --: |\n| chat | cat |\n| chien \\| chienne | dog |",
    ],
)
def test_what_pandas_the_data_set_viewer_and_markdown_write_is_read(text):
    assert read_text(text).examples == (Example("cat", "chat"), Example("dog", "chien | chienne"))


def test_a_bar_in_a_table_that_is_not_markdown_is_text():
    assert read_text("a | b,c\nd | e,f").examples == (Example("a | b", "c"), Example("d | e", "f"))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK\x03\x04\x14\x00\x06\x00", "a spreadsheet's own file"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1", "a spreadsheet's own file"),
        (b"PAR1\x15\x04", "a Parquet or Arrow file"),
        (b"\x1f\x8b\x08\x00", "compressed. Unpack it first"),
        (b"%PDF-1.7", "a PDF"),
        (b"SQLite format 3\x00", "a database"),
        (b"\x80\x04\x95", "a pickle"),
    ],
)
def test_the_file_of_a_program_is_refused_as_what_it_is(tmp_path, data, words):
    """Whatever it is called: people rename an .xlsx to .csv."""
    (tmp_path / "examples.csv").write_bytes(data + b"\x00" * 50)
    with pytest.raises(ExampleLinesError, match="The file is no text") as refusal:
        read_file(tmp_path / "examples.csv")
    assert words in str(refusal.value)


def test_json_by_column_says_what_is_not_used_and_asks_for_unknown_columns():
    table = {"en": ["red"], "fr": ["rouge"], "n": [1]}
    with pytest.raises(ExampleLinesError, match="do not tell which is the input"):
        read_text(json.dumps(table))
    reading = read_text(json.dumps(table), Columns("en", "fr"))
    assert (reading.examples, reading.notes) == (PAIRS[:1], ("Not used: the column “n”.",))


def test_lists_of_different_length_are_refused_with_their_lengths():
    with pytest.raises(ExampleLinesError, match=r"“input” has 2, “output” has 1\. Give each the same number"):
        read_text('{"input": ["a", "b"], "output": ["c"]}')


TWICE = '{"input": "a", "output": "b", "output": "c"}'


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"input": "a", "output": "b"}\n' + TWICE, "Line 2 has the key “output” twice."),
        (f"[{TWICE}]", 'The object that begins with "input": "a" has the key “output” twice.'),
        (TWICE, "has the key “output” twice."),
        ('{"Input": "a", "input": "b", "output": "c"}', "Line 1 has the key “input” twice."),
        (
            '{"messages": [{"role": "user", "content": "a", "content": "b"}]}\n{}',
            "Line 1 has the key “content” twice.",
        ),
    ],
)
def test_a_key_that_stands_twice_in_one_object_is_refused(text, sentence):
    with pytest.raises(ExampleLinesError, match=sentence):
        read_text(text)


def test_a_second_column_of_one_name_is_said_and_can_be_chosen_by_its_number():
    table = "input,output,Output\nred,rouge,rot\n"
    reading = read_text(table)
    assert reading.examples == PAIRS[:1]
    assert reading.notes == ("Not used: the column “output (column 3)”.",)
    assert read_text(table, Columns("1", "3")).examples == (Example("red", "rot"),)


def test_an_empty_key_is_not_worth_a_word():
    assert read_objects([{"input": "a", "output": "b", "context": " ", "history": []}]).notes == ()


def test_columns_of_a_table_that_are_not_used_are_said():
    reading = read_text("id,question,answer,note\n1,red,rouge,\n2,green,vert,\n")
    assert (reading.examples, reading.notes) == (PAIRS, ("Not used: the column “id”.",))


@pytest.mark.parametrize(
    ("text", "columns", "examples"),
    [
        ("french,english\nrouge,red\nvert,green\n", Columns("english", "French"), PAIRS),
        ("rouge\tx\tred\nvert\ty\tgreen\n", Columns("3", "1"), PAIRS),
        ('{"en": "red", "fr": "rouge"}\n{"en": "green", "fr": "vert"}', Columns("en", "fr"), PAIRS),
        ("a;b;c\nx;y;1\n", Columns("a+b", "c"), (Example("x\ny", "1"),)),
        ("english,french\nred,rouge\ngreen,vert\n", Columns(header=True), PAIRS),
        ("id,text,label\n1,red,rouge\n2,green,vert\n", Columns("2", "3"), PAIRS),
    ],
)
def test_columns_are_chosen_by_name_or_number_and_several_make_one_input(text, columns, examples):
    assert read_text(text, columns).examples == examples


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        (Columns("english", "german"), "There is no column “german”. There are “english”, “french”."),
        (Columns("english", ""), "Choose both columns"),
        (Columns("1", "3"), "“3”"),
    ],
)
def test_a_chosen_column_that_is_not_there_is_named_with_those_there_are(columns, sentence):
    with pytest.raises(ExamplesError, match=sentence):
        read_text("english,french\nred,rouge\n", columns)
    with pytest.raises(ExamplesError, match=sentence):
        read_objects([{"english": "red", "french": "rouge"}], columns)


def test_names_that_tell_nothing_ask_for_the_columns():
    with pytest.raises(
        ExampleLinesError, match="The columns “premise”, “hypothesis” do not tell which"
    ) as caught:
        read_objects([{"premise": "a", "hypothesis": "b"}])
    assert caught.value.columns == ("premise", "hypothesis")


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("id\tEnglish\tFrench\n1\tred\trouge\n", ("id", "english", "french")),
        ("1,red,rouge\n2,green,vert\n", ("1", "2", "3")),
        ('{"a": 1, "b": 2}\n{"a": 1, "b": 2}', ("a", "b")),
    ],
)
def test_a_table_of_unknown_columns_asks_once_and_names_them(text, columns):
    with pytest.raises(ExampleLinesError, match="do not tell which is the input") as caught:
        read_text(text)
    assert (len(caught.value.problems), caught.value.columns) == (1, columns)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Hello, world,Bonjour\nred,rouge\n", "Line 1 has 3 columns, not two"),
        ("input,output\nred,rouge\nHello, world,Bonjour\n", "Line 3 has 3 columns, not 2"),
        ("id,text,label\n1,red,rouge\n2,Hello, world,Bonjour\n", "Line 3 has 4 columns, not 3"),
        ("red;rouge\nHello; world;Bonjour\n", "Line 2 has 3 columns, not two"),
    ],
)
def test_an_unquoted_comma_is_refused_with_its_line_and_no_answer_is_lost(text, line):
    with pytest.raises(ExampleLinesError) as caught:
        read_text(text)
    assert caught.value.problems[0].startswith(line)
    assert "quotation marks" in caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("1,5;one and a half\n2,5;two and a half\n", Example("1,5", "one and a half")),
        ("Hello, world;Bonjour\n" * 3, Example("Hello, world", "Bonjour")),
        ("1,5;2,5\n3,25;4\n", Example("1,5", "2,5")),
        ("red; green,rouge\nblue; red,bleu\n", Example("red; green", "rouge")),
        ("a;b,x\na;b;c,y\n", Example("a;b", "x")),
        ("input;output\n1,2;3\n", Example("1,2", "3")),
        ('"1,5";2\n"2,5";3\n', Example("1,5", "2")),
    ],
)
def test_commas_and_semicolons_in_every_line_are_told_apart(text, example):
    assert read_text(text).examples[0] == example


@pytest.mark.parametrize("around", ["{}", " {}", "{} ", "  {}  ", "\u00a0{}"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("head", ["", "input{}output\n", "input{} output\n", '"Input"{} "Output"\n'])
def test_blanks_around_the_separator_are_no_part_of_a_cell(around, separator, head):
    rows = [
        ('"Hello, world"', '"Bonjour"'),
        ('"a;b"', '" c, ""d""\nand\te "'),
        ("red", "rouge"),
        ("in", '"x"'),
    ]
    text = "".join(around.format(separator).join(row) + " \n" for row in rows)
    assert read_text(head.format(separator) + text).examples == (
        Example("Hello, world", "Bonjour"),
        Example("a;b", ' c, "d"\nand\te '),
        Example("red", "rouge"),
        Example("in", "x"),
    )


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ('"Hello", "Bonjour, monde"', Example("Hello", "Bonjour, monde")),
        ('"Hi;you", "Salut;toi"', Example("Hi;you", "Salut;toi")),
        ('"a;b";"c,d"', Example("a;b", "c,d")),
        ('"a\tb",c\n"d",e', Example("a\tb", "c")),
        ('"one\nline"\tx\r\ny\tz', Example("one\nline", "x")),
        ('"one\n\nline, two",x\r\ny,z', Example("one\n\nline, two", "x")),
        ('"one;\nline";"x, y"\r\ny;z', Example("one;\nline", "x, y")),
        ('he, "no" said', Example("he", '"no" said')),
        ('5,3"\n6,2"', Example("5", '3"')),
        ('5, "3\n6, 2', Example("5", '"3')),
    ],
)
def test_quotation_marks_tell_the_separator_and_hold_line_breaks(text, example):
    assert read_text(text).examples[0] == example


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
@pytest.mark.parametrize("said", ["sep={}\n", "SEP={}\r\n", '"sep={}"\n', "\ufeffsep={}\n"])
def test_excel_s_first_line_names_the_separator(said, mark):
    text = said.format(mark) + f"input{mark}output\nred{mark}rouge\ngreen{mark}vert\n"
    assert (read_text(text).examples, read_text(text).notes) == (PAIRS, ())
    assert read_text(said.format(";") + "a,b;c\n").examples == (Example("a,b", "c"),)
    with pytest.raises(ExampleLinesError, match="Line 3 has no output"):
        read_text(said.format(mark) + f"a{mark}b\nc{mark}\n")


@pytest.mark.parametrize(
    "text",
    [
        "| red | rouge |\n| green | vert |\n",
        "|red|rouge|\n\n|green|vert|",
        "| input | output |\n| red | rouge |\n| green | vert |\n",
        "input | output\nred | rouge\ngreen | vert\n",
    ],
)
def test_a_table_with_bars_needs_no_line_of_dashes(text):
    assert read_text(text).examples == PAIRS


def test_a_row_of_a_markdown_table_is_told_by_its_own_line():
    with pytest.raises(ExampleLinesError, match="Line 5 has no output"):
        read_text("| input | output |\n|---|---|\n\n| a | b |\n| c | |\n")


HOSTILE = {
    "cells": "a," * 3_000_000,
    "quotation marks": '"' * 3_000_001,
    "quotation marks behind blanks": ', """x' * 500_000,
    "objects on one line": "{}" * 1_500_000,
    "objects that do not close": '{"a":\n' * 500_000,
    "one object that does not close": '{"a": [\n' + "{\n" * 500_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_read_or_refused_in_little_time(name):
    begin = time.process_time()
    with pytest.raises(ExampleLinesError):
        read_text(HOSTILE[name])
    assert time.process_time() - begin < 5  # seconds; it would take minutes if it grew with the square


@pytest.mark.parametrize(
    "text",
    [
        f"[{','.join(['[]'] * 3_000_000)}]",
        f"[{','.join(['{}'] * 3_000_000)}]",
        f'{{"examples": [{",".join(["1"] * 5_000_000)}]}}',
        f'{{"input": "a", "output": "b"}}\n[{",".join(["[]"] * 3_000_000)}]',
        f"[{','.join(['[]'] * 3_000_000)}]\n[]",
    ],
)
def test_json_with_millions_of_values_is_refused_before_they_are_read(text):
    begin = time.process_time()
    with pytest.raises(ExamplesError, match="more than 500,000 commas and brackets"):
        read_text(text)
    assert time.process_time() - begin < 1


def test_a_large_text_of_json_lines_and_a_large_table_that_begins_with_a_bracket_are_read_by_rows():
    row = '{"input": "a", "output": "b, c, d"}\n'
    table = "[INST] a,b\n" * 200_000
    for text in (row * 200_000, table):
        begin = time.process_time()
        assert len(read_text(text, limit=64).examples) == 64
        assert time.process_time() - begin < 2


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("a,b;c\nd,e;f\n", "“a”, “b;c”, or it is “a,b”, “c”"),
        ("Hi, you; Salut\n", "“Hi”, “ you; Salut”, or it is “Hi, you”, “ Salut”"),
        ("1,a;b,x\n2,c;d,y\n", "“1”, “a;b”, “x”, or it is “1,a”, “b,x”"),
        ("1,2;x\na,b;y\n", "“1”, “2;x”, or it is “1,2”, “x”"),
    ],
)
def test_columns_that_two_marks_may_separate_are_refused_with_both_readings(text, readings):
    with pytest.raises(ExampleLinesError) as caught:
        read_text(text)
    assert readings in caught.value.problems[0]
    assert read_text(f"input;output\n{text}").examples


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("[3, 1]\t[1, 3]\n[2]\t[2]\n", Example("[3, 1]", "[1, 3]")),
        ("{}\tnothing\n{a}\tone\n", Example("{}", "nothing")),
        ("[ { [\t] } ]\n[\t]\n", Example("[ { [", "] } ]")),
        ("[red],rouge\n[green],vert\n", Example("[red]", "rouge")),
        ('{"a": 1},x\n{"b": 2},y\n', Example('{"a": 1}', "x")),
        ('["a"];x\n["b"];y\n', Example('["a"]', "x")),
    ],
)
def test_a_first_cell_that_begins_like_json_is_text(text, example):
    assert read_text(text).examples[0] == example


RED, GREEN = ({"input": it.input, "output": it.output} for it in PAIRS)
ONE, TWO = json.dumps(RED), json.dumps(GREEN)
SQUAD = {
    "version": "2.0",
    "data": [
        {
            "title": "T",
            "paragraphs": [
                {
                    "context": "C",
                    "qas": [
                        {"id": "1", "question": "red", "answers": [{"text": "rouge", "answer_start": 0}]},
                        {"id": "2", "question": "green", "answers": [{"text": "vert", "answer_start": 0}]},
                    ],
                }
            ],
        }
    ],
}
CHATS = [chat(("user", it.input), ("assistant", it.output)) for it in PAIRS]


@pytest.mark.parametrize("indent", [None, 0, 2])
@pytest.mark.parametrize(
    "value",
    [
        {"train": [RED, GREEN]},
        {"version": 1, "info": {"by": "me"}, "train": [RED, GREEN]},
        {"data": {"train": [RED, GREEN]}},
        {"train": [{"messages": turns} for turns in CHATS]},
        CHATS,
    ],
)
def test_the_only_list_of_rows_is_read_at_any_level(value, indent):
    assert read_text(json.dumps(value, indent=indent)).examples == PAIRS


def test_a_list_of_rows_under_other_names_goes_by_the_chosen_columns():
    text = json.dumps({"train": [{"en": it.input, "fr": it.output} for it in PAIRS]})
    assert read_text(text, Columns("en", "fr")).examples == PAIRS
    with pytest.raises(ExampleLinesError, match="The columns “en”, “fr” do not tell") as caught:
        read_text(text)
    assert caught.value.columns == ("en", "fr")


def test_a_row_with_a_list_of_objects_is_a_row():
    row = {"en": "red", "fr": "rouge", "spans": [RED, GREEN]}
    assert read_text(json.dumps(row), Columns("en", "fr")).examples == PAIRS[:1]


def test_several_lists_of_rows_are_refused_by_their_names():
    with pytest.raises(ExampleLinesError, match=r"several lists of rows: “train”, “test”\. Give"):
        read_text(json.dumps({"train": [RED], "test": [GREEN]}))


def test_the_file_of_squad_gives_an_example_for_each_question():
    reading = read_text(json.dumps(SQUAD))
    assert reading.examples == (Example("C\nred", "rouge"), Example("C\ngreen", "vert"))
    assert reading.notes == ("Not used: the columns “title”, “id”.",)


def test_conversations_without_a_name_are_read_in_every_way():
    assert read_objects(CHATS).examples == PAIRS
    assert read_objects(CHATS[0]).examples == PAIRS[:1]
    assert read_text("\n".join(map(json.dumps, CHATS))).examples == PAIRS


@pytest.mark.parametrize(
    "text",
    [
        ONE + TWO,
        f"{ONE} {TWO}",
        *(f"{json.dumps(RED, indent=n)}\n{json.dumps(GREEN, indent=n)}\n" for n in (0, 2, "\t")),
        f"{json.dumps(RED, indent=1)}{json.dumps(GREEN, indent=1)}",
        f"{ONE}\n\n{json.dumps(GREEN, indent=4)}",
    ],
)
def test_json_objects_that_follow_each_other_are_read(text):
    assert read_text(text).examples == PAIRS


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        (f"[{ONE},]", ["none: line 1 has a comma before the end. Remove it."]),
        (f"[\n{ONE},\n{TWO},\n]", ["none: line 4 has a comma before the end. Remove it."]),
        (f"[\n{ONE}\n{TWO}\n]", ["none: line 3 lacks a comma between two objects."]),
        (f"[\n{ONE},\n{TWO}", ["none: it ends before the last bracket"]),
        (
            f"{ONE},\n{TWO},\n{ONE}",
            [f"Line {n} is not a JSON object: it has a comma behind the object. Remove it" for n in (1, 2)],
        ),
        (
            f"{json.dumps(RED, indent=1)},\n{TWO}",
            ["Line 1 is not a JSON object: line 4 has a comma behind the object."],
        ),
        (f"{ONE}\n{TWO[:-1]}\n{ONE}", ["Line 2 is not a JSON object: it ends before the last bracket"]),
        (
            f"{ONE}\nfoo\n{TWO[:-3]}",
            ["Line 2 is not a JSON object: it cannot be read from “foo” on", "Line 3 is not a JSON object: "],
        ),
        ("{'input': 'a', 'output': 'b'}", ["it has the quotation mark ', where JSON has \"."]),
        ('{"examples": [\n' + ONE + ",\n]}", ["line 3 has a comma before the end. Remove it."]),
        (f'{ONE}\n"x"', ["Line 2 is not a JSON object. Write {"]),
    ],
)
def test_json_that_is_nearly_right_is_refused_with_its_line_and_what_is_wrong(text, sentences):
    with pytest.raises(ExampleLinesError) as caught:
        read_text(text)
    assert len(caught.value.problems) == len(sentences)
    assert all(words in said for words, said in zip(sentences, caught.value.problems, strict=True))


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
@pytest.mark.parametrize(
    "row",
    [
        '{"input": "a", "output": #}',
        '["a", #]',
        '{"text": "a", "label": [#]}',
        '{"question": "a", "answer": {"text": #}}',
    ],
)
def test_a_number_that_is_none_is_a_missing_output_in_every_way(tmp_path, row, number):
    row = row.replace("#", number)
    (tmp_path / "a.jsonl").write_text(f"{ONE}\n{row}\n")
    for read, given in (
        (read_text, f"{ONE}\n{row}"),
        (read_text, f"[{ONE}, {row}]"),
        (read_file, tmp_path / "a.jsonl"),
        (read_objects, [RED, json.loads(row)]),
    ):
        with pytest.raises(ExampleLinesError, match=r"(Line|Example) 2 has no output") as caught:
            read(given)
        assert caught.value.code == "missing_output"


def test_a_number_that_is_none_is_a_missing_input_and_not_worth_a_word_elsewhere():
    with pytest.raises(ExampleLinesError, match="Example 1 has no input"):
        read_objects([{"input": float("nan"), "output": "b"}])
    assert read_objects([{"input": "a", "output": "b", "note": float("nan")}]).notes == ()


@pytest.mark.parametrize(
    "text",
    [
        '{"input": "a", "output": "b"},\n{"input": "c", "output": "d"}',
        '{"input": "a", "output": "b"}, {"input": "c", "output": "d"',
        "{'input': 'a', 'output': 'b'}",
        '{"input": "a", "output": "b"',
        '[{"input": "a"',
    ],
)
def test_broken_json_is_not_taken_for_a_table(text):
    with pytest.raises(ExampleLinesError, match="JSON"):
        read_text(text)


@pytest.mark.parametrize(
    "text", ["review\tlabel\nvery good\tyes\nbad\tno\n", "Tweet,is_spam\nbuy this now,yes\nhow are you,no\n"]
)
def test_a_header_is_recognised_and_offered_to_be_dropped(text):
    reading = read_text(text)
    assert len(reading.examples) == 3
    assert "looks like the names of the columns" in reading.notes[0]
    input_name, output_name = reading.header
    for columns in (Columns(header=True), Columns(input_name, output_name)):
        again = read_text(text, columns)
        assert (len(again.examples), again.notes) == (2, ())


SHORT = "red\trouge\ngreen\tvert\n"
LONG = "How are you today?\tI am fine, thank you.\nWhere is the station?\tIt is on the left side.\n"


@pytest.mark.parametrize("below", [SHORT, LONG])
@pytest.mark.parametrize(
    "header",
    [
        "en\tfr",
        "en-US\tde_DE",
        "English\tTranslation",
        "Frage\tAntwort",
        "Eingabe\tAusgabe",
        "Antwort\tFrage",
        "Entrée\tSortie",
        "Pregunta\tRespuesta",
        "Q\tA",
        "Input text\tExpected output",
        "User message\tBot reply",
        "user_query\tbot_response",
        "userQuery\tgoldAnswer",
    ],
)
def test_names_of_columns_in_other_words_and_languages_are_offered_to_be_dropped(header, below):
    for separator in ("\t", ";"):
        reading = read_text(f"{header}\n{below}".replace("\t", separator))
        assert (len(reading.examples), reading.header) == (3, tuple(header.split("\t")))
        assert "looks like the names of the columns" in reading.notes[0]
        again = read_text(f"{header}\n{below}".replace("\t", separator), Columns(*reading.header))
        assert (len(again.examples), again.notes) == (2, ())


@pytest.mark.parametrize(
    "text",
    [
        "review_text\tstars\nvery good\t5\nbad\t1\n",
        "email\tspam\nbuy this now\tyes\nhow are you\tno\n",
        "Name\tAge\nBob\t33\nAnn\t41\n",
        "id,colour\n1,red\n2,green\n",
        "utterance\tdomain\n"
        "play some good jazz\tmusic\nset an alarm for nine\tclock\nplay a new song\tmusic\n",
        "claim\trebuttal\n"
        "the earth is flat\tships vanish from below\n"
        "cats can not swim\tsome cats like water\n",
    ],
)
def test_a_first_row_that_differs_from_the_others_as_names_do_is_offered_to_be_dropped(text):
    reading = read_text(text)
    assert reading.header == (reading.examples[0].input, reading.examples[0].output)


def test_a_first_object_that_looks_like_names_is_said():
    pairs = [("review", "label"), ("very good", "yes"), ("bad", "no")]
    objects = [{"input": given, "output": expected} for given, expected in pairs]
    for reading in (read_objects(pairs), read_objects(objects), read_text(json.dumps(objects))):
        assert len(reading.examples) == 3
        assert reading.header is None
        (note,) = reading.notes
        assert note.startswith("The first example, “review”, “label”, looks like the names of columns.")


@pytest.mark.parametrize(
    "text",
    [
        "one\ttwo\nthree\tfour\n",
        "message\tNachricht\nclass\tKlasse\n",
        "message\tNachricht\nhouse\tHaus\n",
        "text\tlabel 1\n",
        "no\tnein\nyes\tja\n",
        "good\tpositive\nawful\tnegative\n",
        "x\t1\ny\t2\nz\t3\n",
        "Hello\tgreeting\nhow are you today\tquestion\nclose the door\tcommand\n",
        "seven\t7\neight\t8\n",
    ],
)
def test_an_ordinary_first_row_is_not_taken_for_a_header(text):
    assert read_text(text).notes == ()


def test_a_long_table_is_read_only_as_far_as_it_is_used():
    text = "input,output\n" + "".join(f"question {n},answer {n}\n" for n in range(500_000))
    begin = time.process_time()
    reading = read_text(text, limit=64)
    assert time.process_time() - begin < 0.5  # whole, it takes some seconds
    assert len(reading.examples) == 64
    assert reading.notes == ("Only the first 64 examples are used: Line 66 and all behind it are left out.",)


# --- one normal form ----------------------------------------------------------

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_every_example_is_in_one_normal_form():
    for reading in (
        read_objects([{"input": DECOMPOSED, "output": DECOMPOSED}]),
        read_text(f"{DECOMPOSED}\t{DECOMPOSED}\n"),
    ):
        assert reading.examples == (Example(COMPOSED, COMPOSED),)
        assert reading.examples[0].input == COMPOSED


@pytest.mark.parametrize("answer", [DECOMPOSED, f" {COMPOSED}\n"])
def test_an_answer_in_another_normal_form_is_right(answer):
    assert is_exact_match(answer, COMPOSED)
    assert is_exact_match(COMPOSED, answer)
    assert is_reference_match(answer.upper(), f"{COMPOSED}.")
    assert not is_exact_match("cafe", COMPOSED)


def test_every_dialect_is_documented():
    page = (settings.BASE_DIR / "docs/core/examples.md").read_text(encoding="utf-8")
    assert [name for dialect in KNOWN for name in dialect.names if f"`{name}`" not in page] == []
