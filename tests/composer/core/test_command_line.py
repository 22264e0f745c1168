"""`python -m composer`, as a person without a server would use it."""

import contextlib
import fcntl
import json
import os
import pty
import shutil
import signal
import struct
import sys
import termios

import pytest

from composer.__main__ import main
from tests.composer.core.tiny import EXAMPLES, make_job, write_examples

pytestmark = pytest.mark.slow  # whole jobs


@pytest.fixture
def asked(tmp_path):
    job = make_job(tmp_path / "job")
    return {
        "--base": [str(job / "base")],
        "--modules": [str(job / "modules/0"), str(job / "modules/1")],
        "--examples": [str(job / "examples.jsonl")],
        "--held-out": [str(job / "held_out.jsonl")],
        "--budget": ["30"],
        "--out": [str(tmp_path / "out")],
    }


def arguments(command, asked):
    return [command, *(word for option, values in asked.items() for word in (option, *values))]


def test_compose_writes_an_adapter_that_evaluate_scores_the_same(tmp_path, asked, capsys):
    assert main(arguments("compose", asked)) == 0
    out = tmp_path / "out"
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "baselines",
        "report.json",
    ]
    report = json.loads((out / "report.json").read_text())
    capsys.readouterr()
    scored = {"--base": asked["--base"], "--adapter": [str(out)], "--examples": asked["--held-out"]}
    assert main(arguments("evaluate", scored)) == 0
    figures = json.loads(capsys.readouterr().out)
    composed = report["baselines"][-1]
    assert figures["n"] == 3
    assert figures["exact_match_percent"] == pytest.approx(composed["held_out_exact_match_percent"], abs=0.01)
    scored["--examples"] = asked["--examples"]
    assert main(arguments("evaluate", scored)) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["loss_nats_per_token"] == pytest.approx(report["few_shot_loss_nats"], rel=1e-3)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--base", "./nowhere"),
        ("--modules", "./nowhere"),
        ("--modules", "no where"),
        ("--method", "magic"),
        ("--budget", "many"),
        ("--batch-size", "0"),
        ("--rank", "0"),
        ("--device", "tpu"),
        ("--objective", "exact_match"),
        ("--search", "adams"),
        ("--max-new-tokens", "0"),
        ("--examples", "nowhere.jsonl"),
        ("--select", "best:3"),
        ("--budget", "0"),
        ("--template", "no place"),
        ("--seed", "-1"),
        ("--seed", "4294967296"),
        ("--template", "{input"),
        ("--select", ""),
        ("--select", "screen:0"),
        ("--search", ""),
        ("--search", "nevergrad:"),
        ("--search", "nevergrad:NoSuchOptimiser"),
        ("--objective", ""),
        ("--precision", "fp8"),
        ("--baselines", "some"),
        ("--base", ""),
        ("--modules", ""),
        ("--examples", ""),
        ("--held-out", ""),
        ("--held-out", "nowhere.jsonl"),
        ("--out", ""),
        ("--out", "/proc/nowhere"),
        ("--batch-size", "2"),  # the default method has no batches
        ("--budget", "10001"),
        ("--max-new-tokens", "1025"),
        ("--rank", "many"),
    ],
)
def test_bad_input_gets_one_sentence_and_status_2(tmp_path, asked, option, value, capsys):
    asked[option] = [value]
    try:
        status = main(arguments("compose", asked))
    except SystemExit as refused_by_the_parser:
        status = refused_by_the_parser.code
    assert status == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert told[0].startswith("composer: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gpt2", "gpt-neox"])
def test_what_the_model_reads_is_told_and_the_default_parts_prompt_and_answer(tmp_path, asked, capsys, kind):
    job = make_job(tmp_path / kind, kind=kind)
    asked |= {"--base": [str(job / "base")], "--modules": [str(job / "modules/0")]}
    asked |= {"--budget": ["4"], "--method": ["lorahub"], "--baselines": ["none"]}
    assert main(arguments("compose", asked)) == 0
    assert "(template '{input}\\n': the default of a decoder-only base model" in capsys.readouterr().err
    (tmp_path / "out" / "README.md").read_text().index('prompt_template: "{input}\\n"')
    scored = {option: asked[option] for option in ("--base", "--examples")}
    scored |= {"--adapter": [str(tmp_path / "out")]}
    assert main(arguments("evaluate", scored)) == 0  # the card of a composition tells its template
    assert "(template '{input}\\n': the modules were trained with it" in capsys.readouterr().err
    assert main(arguments("compose", asked | {"--template": [""], "--out": [str(tmp_path / "again")]})) == 0
    reports = [json.loads((tmp_path / name / "report.json").read_text()) for name in ("out", "again")]
    assert {report["template"] for report in reports} == {"{input}\n"}


def test_in_a_log_each_stage_is_a_line(asked, capsys):
    assert main(arguments("compose", asked)) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) >= 4
    assert all(line.strip() and line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("kind", "template", "is_warned"),
    [
        ("llama", "{input}", True),
        ("llama", "{input}\n", False),
        ("t5", "{input}", False),
    ],
)
def test_a_template_that_glues_prompt_and_answer_is_warned_of_on_the_command_line(
    tmp_path, asked, capsys, kind, template, is_warned
):
    job = make_job(tmp_path / kind, kind=kind)
    asked |= {"--base": [str(job / "base")], "--modules": [str(job / "modules/0")], "--template": [template]}
    asked |= {"--budget": ["4"], "--method": ["lorahub"], "--baselines": ["none"]}
    assert main(arguments("compose", asked)) == 0
    assert (
        "composer: warning: The template '{input}' puts no white space" in capsys.readouterr().err
    ) == is_warned
    scored = {option: asked[option] for option in ("--base", "--examples", "--template")}
    assert main(arguments("evaluate", scored)) == 0
    told = capsys.readouterr()
    assert ("composer: warning: The template '{input}' puts no white space" in told.err) == is_warned
    assert json.loads(told.out)["n"] == len(EXAMPLES)


def on_a_terminal(arguments, columns, typed=None):
    """(the bytes it drew, exit status) of the command in a process with a terminal of its own.

    `typed`: (bytes to wait for, bytes to answer them with).
    """
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # ignored where the tests run in the background
        os.execv(sys.executable, [sys.executable, "-m", "composer", *arguments])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    drawn = b""
    with contextlib.suppress(OSError):  # how a terminal's other end says that nobody is left
        while read := os.read(terminal, 65536):
            drawn += read
            if typed and typed[0] in drawn:
                os.write(terminal, typed[1])
                typed = None
    os.close(terminal)
    return drawn, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


PROMPT_LINE = (
    "composer: prompt: 'cat </s>' answer: 'chat </s>' "
    "(template '{input}': the default of an encoder-decoder; 2 and 2 tokens)"
)


def seen(drawn):
    """The lines that are left on the terminal in the end."""
    return [line.split("\r\033[K")[-1].rstrip("\r") for line in drawn.decode().split("\n")]


def test_a_terminal_has_a_bar_that_fits_it_and_is_gone_in_the_end(asked):
    asked["--search"] = ["adam"]
    drawn, status = on_a_terminal(arguments("compose", asked), 60)
    assert status == 0
    lines = drawn.decode().split("\r\033[K")
    assert "Trying 2 modules one by one: 2 done" in lines
    assert any(line.startswith("[###") and "10/10" in line for line in lines)
    assert "Comparing on 3 held-out examples: 6 done" in lines
    bars = [line for line in lines[:-1] if not line.endswith("\n")]  # the others stay
    assert max(map(len, bars)) == 59  # of the folders' names there is more
    assert PROMPT_LINE in drawn.decode()
    assert "held-out examples the composition answers" in seen(drawn)[1]


def test_a_refusal_takes_the_place_of_the_bar(tmp_path, asked):
    (tmp_path / "job/base/model.safetensors").write_bytes(b"damaged")
    drawn, status = on_a_terminal(arguments("compose", asked), 200)
    assert status == 2
    assert b"Loading" in drawn
    assert seen(drawn)[0].startswith("composer: The base model")


def test_who_does_not_wait_for_the_comparison_has_the_adapter(tmp_path, asked):
    asked |= {"--method": ["exact"], "--search": ["cma"], "--budget": ["3000"]}
    asked["--baselines"] = ["thorough"]  # it searches again, for some seconds
    drawn, status = on_a_terminal(arguments("compose", asked), 200, typed=(b"Comparing", b"\x03"))
    assert status == 130
    out = tmp_path / "out"
    assert seen(drawn)[:2] == [
        PROMPT_LINE,
        f"composer: stopped; the adapter is in {out}, without a report.",
    ]
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == names


def test_nothing_it_is_made_from_is_written_over(asked, capsys):
    for name in ("--base", "--modules"):
        asked["--out"] = asked[name][:1]
        assert "written over" in refused(arguments("compose", asked), capsys)


def test_an_adapter_named_by_nothing_is_not_taken_for_none(asked, capsys):
    scored = {"--base": asked["--base"], "--adapter": [""], "--examples": asked["--examples"]}
    assert "neither a folder nor the name" in refused(arguments("evaluate", scored), capsys)


def test_methods_lists_everything_with_its_source(capsys):
    assert main(["methods"]) == 0
    listed = capsys.readouterr().out
    for name in ("exact", "lorahub", "ngopt", "nevergrad:NAME", "random:K", "arXiv:2307.13269"):
        assert name in listed


def refused(arguments, capsys):
    assert main(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("option", ["--examples", "--held-out"])
@pytest.mark.parametrize(
    "text", ["", "{}", '{"input": "cat"}', "no json", '["a"]\n["b"]\n', "Hello, world,Bonjour\n"]
)
def test_a_refused_file_is_named_as_it_was_given(tmp_path, asked, option, text, capsys):
    path = tmp_path / "mine.jsonl"
    path.write_text(text, encoding="utf-8")
    asked[option] = [str(path)]
    assert str(path) in refused(arguments("compose", asked), capsys)


def test_a_held_out_example_without_room_is_named_before_anything_is_searched(tmp_path, capsys):
    job = make_job(tmp_path / "job", kind="gpt2")
    write_examples(job / "held_out.jsonl", (("hat", "CAT"), ("cat " * 64, "DOG")))
    asked = {
        "--base": [str(job / "base")],
        "--modules": [str(job / "modules/0")],
        "--examples": [str(job / "examples.jsonl")],
        "--held-out": [str(job / "held_out.jsonl")],
        "--out": [str(tmp_path / "out")],
    }
    told = refused(arguments("compose", asked), capsys)
    assert "Held-out example 2 is 64 tokens long" in told
    assert "Searching" not in told


def test_an_example_without_input_is_named_in_its_file(tmp_path, asked, capsys):
    write_examples(tmp_path / "mine.jsonl", (("cat", "chat"), (" ", "chien")))
    asked["--examples"] = [str(tmp_path / "mine.jsonl")]
    assert "mine.jsonl: Line 2 has no input." in refused(arguments("compose", asked), capsys)


def test_held_out_examples_that_were_composed_from_are_refused_before_anything_is_loaded(
    tmp_path, asked, capsys
):
    given, _ = EXAMPLES[0]
    write_examples(tmp_path / "mine.jsonl", ((f" {given}", "another answer"), ("new", "neuf")))
    asked["--held-out"] = [str(tmp_path / "mine.jsonl")]
    told = refused(arguments("compose", asked), capsys)
    assert "1 of the held-out examples has the input of an example" in told
    assert "Loading" not in told


def test_modules_of_equal_folder_names_are_told_apart(tmp_path, asked):
    folders = [tmp_path / owner / "french" for owner in ("alice", "bob")]
    for source, folder in zip(asked["--modules"], folders, strict=True):
        shutil.copytree(source, folder)
    asked["--modules"] = [str(folder) for folder in folders]
    asked["--baselines"] = ["none"]
    asked |= {"--method": ["exact"], "--search": ["cma"], "--rank": ["full"]}  # both take part
    assert main(arguments("compose", asked)) == 0
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert [row["name"] for row in report["modules"]] == ["alice/french", "bob/french"]
    assert "bob/french" in (tmp_path / "out/README.md").read_text()


def test_a_module_given_twice_is_refused(asked, capsys):
    asked["--modules"] *= 2
    assert "given 2 times" in refused(arguments("compose", asked), capsys)


def test_who_asks_for_exact_match_is_told_the_searches_that_take_it(asked, capsys):
    asked["--objective"] = ["exact_match"]
    told = refused(arguments("compose", asked), capsys)
    assert all(name in told for name in ("greedy", "ngopt", "cma", "nevergrad:NAME"))
    asked["--search"] = ["greedy"]
    assert main(arguments("compose", asked)) == 0


def test_a_batch_size_is_for_lorahub_alone(asked, capsys):
    asked["--batch-size"] = ["2"]
    assert "lorahub alone" in refused(arguments("compose", asked), capsys)
    asked |= {"--method": ["lorahub"], "--baselines": ["none"]}
    assert main(arguments("compose", asked)) == 0


def test_the_baselines_adapters_lie_beside_the_result_and_the_advised_one_is_named(tmp_path, asked, capsys):
    stale = tmp_path / "out" / "baselines" / "tuned"
    stale.mkdir(parents=True)
    (stale / "adapter_config.json").write_text("of an earlier result")
    assert main(arguments("compose", asked)) == 0
    out = tmp_path / "out"
    report = json.loads((out / "report.json").read_text())
    rows = {row["key"]: row for row in report["baselines"]}
    assert rows["lora_on_shots"]["adapter"] == "baselines/lora_on_shots"
    for row in rows.values():
        if row["adapter"]:
            names = sorted(path.name for path in (out / row["adapter"]).iterdir())
            assert names == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert stale.exists() == bool(rows["tuned"]["adapter"])
    told = capsys.readouterr().out
    named = f"Its adapter is in {out / 'baselines' / str(report['verdict']['advised'])}."
    advised = rows.get(report["verdict"]["advised"])
    assert (named in told) == bool(advised and advised["adapter"])
