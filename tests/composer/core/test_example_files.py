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


@pytest.mark.parametrize(
    "text", ["one\ttwo\nthree\tfour\n", "message\tNachricht\nclass\tKlasse\n", "text\tlabel 1\n"]
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
