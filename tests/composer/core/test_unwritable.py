"""Outputs that the base model's tokenizer cannot write are told before anything is searched."""

import json

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from composer.core.job import run
from composer.core.spec.examples import Example
from composer.core.spec.metrics import warning_of_unwritable
from tests.composer.core.tiny import make_job, write_examples

VOCABULARY = {token: number for number, token in enumerate(["<unk>", "cat", "dog", "é", "a", "."])}


def word_by_word(text: str) -> str:
    tokenizer = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<unk>"])
    return str(tokenizer.decode(tokenizer.encode(text).ids))


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (["cat", " dog\n", "e\u0301"], ""),
        (["{}", "cat", "{}"], "cannot write 2 of the 3 outputs: its tokenizer lacks “{”, “}”."),
        (["cat\ndog"], "cannot write 1 of the 1 output: its tokenizer lacks line breaks."),
        (["cat {}"], "cannot write 1 of the 1 output: its tokenizer lacks “{”, “}”."),
        (["cat."], "cannot write 1 of the 1 output: its tokenizer changes the spaces in them."),
    ],
)
def test_outputs_that_do_not_survive_the_tokenizer_are_told(outputs, told):
    text = warning_of_unwritable([Example("a", output) for output in outputs], word_by_word)
    assert told in text
    assert bool(text) == bool(told)


def test_a_job_tells_them_before_its_search_and_in_its_report(tmp_path):
    job = make_job(tmp_path, budget=3, held_out=False, baselines="none", method="exact", search="adam")
    write_examples(job / "examples.jsonl", [("cat", "{}"), ("dog", "chien")])
    events = []
    run(job, events.append)
    kinds = [event.get("stage", event["event"]) for event in events]
    told = next(event["text"] for event in events if event["event"] == "warning")
    assert told.startswith("The base model cannot write 1 of the 2 outputs: its tokenizer lacks “{”, “}”.")
    assert kinds.index("warning") < kinds.index("screen") < kinds.index("search")
    assert told in json.loads((job / "out/report.json").read_text())["warnings"]


def test_what_was_not_used_of_the_examples_is_told_by_the_job_as_well(tmp_path):
    job = make_job(tmp_path, budget=3, held_out=False, baselines="none", method="exact", search="adam")
    spec = json.loads((job / "job.json").read_text())
    (job / "job.json").write_text(json.dumps({**spec, "notes": ["Not used: the column “id”."]}))
    events = []
    run(job, events.append)
    assert events[0] == {"event": "warning", "text": "Not used: the column “id”."}
    assert json.loads((job / "out/report.json").read_text())["warnings"][0] == events[0]["text"]
