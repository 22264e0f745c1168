"""One task's examples through every way in: pasted, as a file, by the API, the command line, in Python."""

import csv
import hashlib
import io
import json
import warnings

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

import composer
from composer import selectors
from composer.__main__ import main
from composer.core.spec.examples import Example, json_lines
from composer.models import Composition
from tests.composer.conftest import base, modules, wakes  # noqa: F401  fixtures
from tests.composer.core.tiny import make_job

pytestmark = pytest.mark.usefixtures("wakes")  # nothing here reaches a broker
NEW = "/compositions/new/"
TWO = [Example("cat", "chat"), Example("dog", "caf\u00e9")]


def rows(*names):
    """Two rows under these names; the second answer is in another normal form."""
    return [dict(zip(names, row, strict=False)) for row in (("cat", "chat", "x"), ("dog", "cafe\u0301", "y"))]


def table(names, separator=","):
    sheet = io.StringIO()
    writer = csv.DictWriter(sheet, names, delimiter=separator)
    writer.writeheader()
    writer.writerows(rows(*names))
    return sheet.getvalue()


def turns(row):
    return {"messages": [{"role": "user", "content": row["q"]}, {"role": "assistant", "content": row["a"]}]}


# What a file holds, the same as objects for the API, the columns to choose, and what is said.
KINDS = {
    "Alpaca": (json.dumps(rows("instruction", "output")), rows("instruction", "output"), {}, None),
    "messages": (
        "\n".join(json.dumps(turns(row)) for row in rows("q", "a")),
        [turns(row) for row in rows("q", "a")],
        {},
        None,
    ),
    "BBH": (
        json.dumps({"canary": "…", "examples": rows("input", "target")}, indent=2),
        rows("input", "target"),
        {},
        None,
    ),
    "a column too many": (
        table(["question", "answer", "note"]),
        rows("question", "answer", "note"),
        {},
        "Not used: the column “note”.",
    ),
    "blanks around the separator": (
        '"input", "output"\n"cat", "chat"\n"dog" , "cafe\u0301"\n',
        rows("input", "output"),
        {},
        None,
    ),
    "Excel's first line": ("sep=;\r\ncat;chat\r\ndog;cafe\u0301\r\n", rows("input", "output"), {}, None),
    "conversations without a name": (
        json.dumps([turns(row)["messages"] for row in rows("q", "a")]),
        [turns(row)["messages"] for row in rows("q", "a")],
        {},
        None,
    ),
    "columns by hand": (
        table(["english", "french", "id"], ";"),
        rows("english", "french", "id"),
        {"input_column": "english", "output_column": "French"},
        "Not used: the column “id”.",
    ),
}


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture
def browser(browser_of, alice, modules):  # noqa: F811
    return browser_of(alice)


def form(**changes):
    """A form without rows in its grid, as a browser sends it."""
    blank = {"form_key": "0f8b", "base": "tests/tiny", "selection": "all", "method": "exact", "seed": "7"}
    return blank | changes


def columns_of_form(columns):
    return {f"shots_{name}": value for name, value in columns.items()}


def require_composed(note):
    composition = Composition.objects.get()
    assert selectors.few_shot_examples(composition) == TWO
    assert len(composition.example_notes) == (1 if note else 0)
    assert "".join(composition.example_notes).endswith(note or "")


def test_pasted(browser, kind):
    text, _, columns, note = kind
    page = browser.post(NEW, form(shots_text=text, **columns_of_form(columns)), follow=True)
    require_composed(note)
    assert (note or "") in page.content.decode()


def test_as_a_file(browser, kind):
    text, _, columns, note = kind
    file = SimpleUploadedFile("mine.json" if text[0] in "[{" else "mine.csv", text.encode())
    browser.post(NEW, form(shots_file=file, **columns_of_form(columns)))
    require_composed(note)


def test_by_the_api(api_of, alice, modules, kind):  # noqa: F811
    _, objects, columns, note = kind
    asked = {"name": "a", "base": "tests/tiny", "method": "exact", "examples": objects, **columns}
    answer = api_of(alice).post("/api/v1/compositions", asked)
    assert answer.status_code == 202, answer.content
    require_composed(note)
    assert answer.json()["warnings"] == ([note] if note else [])


def options_of(columns):
    return [word for name, value in columns.items() for word in (f"--{name.replace('_', '-')}", value)]


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["columns by hand"], indirect=True)
def test_on_the_command_line_and_in_python(tmp_path, kind, capsys):
    text, objects, columns, note = kind
    job = make_job(tmp_path / "job", n_modules=1)
    (tmp_path / "mine.csv").write_text(text, encoding="utf-16")
    model, module = str(job / "base"), str(job / "modules/0")
    usual = {"method": "exact", "search": "adam", "budget": 3, "baselines": "none"}
    words = ["compose", "--base", model, "--modules", module, "--examples", str(tmp_path / "mine.csv")]
    words += [word for name, value in usual.items() for word in (f"--{name}", str(value))]
    assert main([*words, *options_of(columns), "--out", str(tmp_path / "out")]) == 0
    assert f"mine.csv: {note}" in capsys.readouterr().err
    reports = [json.loads((tmp_path / "out/report.json").read_text())]
    for given in (objects, tmp_path / "mine.csv"):
        with pytest.warns(UserWarning, match="Not used: the column “id”"):
            made = composer.compose(
                base=model, modules=[module], examples=given, **columns, **usual, progress=False
            )
        reports.append(json.loads((made.folder / "report.json").read_text()))
    for report in reports:
        sha256 = hashlib.sha256(json_lines(TWO).encode()).hexdigest()
        assert report["inputs_sha256"]["examples.jsonl"] == sha256
        assert any(note in text for text in report["warnings"])


# --- refused, with the way out --------------------------------------------------

BROKEN = "input,output\ncat,chat\nHello, world,Bonjour\n"


def test_an_unquoted_comma_is_refused_on_its_line_in_every_way_and_the_file_stays(browser, tmp_path, capsys):
    file = SimpleUploadedFile("mine.csv", BROKEN.encode())
    for sent in ({"shots_text": BROKEN}, {"shots_file": file}):
        page = browser.post(NEW, form(**sent))
        assert page.status_code == 422
        assert "Line 3 has 3 columns, not 2" in page.content.decode()
        assert page.context["form"]["shots_text"].value() == BROKEN
    dropped = browser.post(f"{NEW}examples/", {"file": SimpleUploadedFile("mine.csv", BROKEN.encode())})
    assert dropped.json()["text"] == BROKEN
    (tmp_path / "mine.csv").write_text(BROKEN)
    words = ["--base", "./x", "--modules", "./y", "--examples", str(tmp_path / "mine.csv"), "--out", "./z"]
    assert main(["compose", *words]) == 2
    assert "Line 3 has 3 columns" in capsys.readouterr().err
    with pytest.raises(composer.ComposeError, match="Line 3 has 3 columns"):
        composer.compose(base="./x", modules=["./y"], examples=tmp_path / "mine.csv")
    assert not Composition.objects.exists()


def test_columns_without_known_names_are_chosen_on_the_form_without_a_script(browser):
    sheet = table(["english", "french", "id"])
    page = browser.post(NEW, form(shots_file=SimpleUploadedFile("mine.csv", sheet.encode())))
    assert page.status_code == 422
    assert "The columns “english”, “french”, “id” do not tell" in page.content.decode()
    chosen = {"shots_text": page.context["form"]["shots_text"].value(), "shots_input_column": "english"}
    chosen["shots_output_column"] = "french"
    shown = browser.post(NEW, form(keep="shots", **chosen), follow=True)
    assert shown.redirect_chain[0][0].endswith("#shots-reading")
    reading = shown.context["preview"].texts["shots"]
    assert (list(reading.reading.examples), reading.problems) == (TWO, [])
    browser.post(NEW, form(**chosen))
    require_composed("Not used: the column “id”.")


def test_a_header_is_offered_to_be_dropped_and_a_button_drops_it(browser):
    sheet = "review\tlabel\n" + "".join(f"{pair.input}\t{pair.output}\n" for pair in TWO)
    shown = browser.post(NEW, form(keep="form", shots_text=sheet), follow=True)
    assert "Skip the first row" in shown.content.decode()
    shown = browser.post(NEW, form(keep="shots_header", shots_text=sheet), follow=True)
    assert list(shown.context["preview"].texts["shots"].reading.examples) == TWO
    assert "Skip the first row" not in shown.content.decode()


def test_more_rows_than_can_be_used_are_said(browser):
    sheet = "".join(f"question {n},answer {n}\n" for n in range(3000))
    browser.post(NEW, form(shots_text=sheet))
    composition = Composition.objects.get()
    assert len(selectors.few_shot_examples(composition)) == 64
    assert composition.example_notes[0].startswith("Only the first 64 examples are used: Line 65 and all")


def test_nothing_is_warned_of_where_all_is_used():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(composer.ComposeError):
            composer.compose(base="./x", modules=[], examples=rows("input", "output"))
