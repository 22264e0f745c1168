"""What is wrong with a base or with examples is said in one sentence, before anything is computed with it."""

import json

import pytest
from safetensors.torch import load_file, save_file

from composer.core.evaluation.scoring import evaluate_adapter
from composer.core.job import run
from composer.core.model.base_model import FrozenBaseModel
from composer.core.modules.sources import Source
from composer.core.spec.errors import BaseModelError, ExamplesError, ExampleTooLongError, InvalidJobError
from composer.core.spec.example_files import read_examples
from composer.core.spec.examples import Example
from composer.core.spec.job_spec import read_job_spec
from tests.composer.core.tiny import EXAMPLES, make_base, make_job, write_examples


def test_a_base_that_lacks_a_tensor_is_refused_by_its_name(tmp_path):
    base = make_base(tmp_path / "base", "t5")
    tensors = load_file(base / "model.safetensors")
    lost = next(name for name in tensors if "DenseReluDense" in name)
    del tensors[lost]
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=lost.replace(".", "[.]")):
        FrozenBaseModel.load(base)


def test_a_base_without_a_tokenizer_is_refused(tmp_path):
    base = make_base(tmp_path / "base", "t5")
    (base / "tokenizer.json").unlink()
    with pytest.raises(BaseModelError, match="tokenizer"):
        FrozenBaseModel.load(base)


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_a_damaged_base_is_refused(tmp_path, damage):
    base = make_base(tmp_path / "base", "t5")
    (base / "model.safetensors").write_bytes(damage)
    with pytest.raises(BaseModelError, match="cannot be loaded"):
        FrozenBaseModel.load(base)


def test_a_base_is_called_what_it_was_called_and_not_by_the_folder_it_lies_in(tmp_path):
    job = make_job(tmp_path)
    (job / "base" / "tokenizer.json").unlink()
    with pytest.raises(BaseModelError, match="The base model tiny/t5 has no"):
        run(job, lambda event: None)
    with pytest.raises(BaseModelError, match="The base model bob/tiny has no"):
        evaluate_adapter(
            base=Source("bob/tiny", job / "base"), adapter=None, examples=[Example("cat", "chat")]
        )


def test_a_text_longer_than_the_base_has_positions_is_refused(tmp_path):
    model = FrozenBaseModel.load(make_base(tmp_path / "base", "gpt2"))
    room = model.context_length()
    long = Example("cat " * (room + 1), "chat")
    with pytest.raises(ExampleTooLongError, match=str(room)):
        model.encode([long])
    with pytest.raises(ExampleTooLongError):
        model.answers([long.input], 4, {})
    fits = "cat " * (room // 4)
    assert len(model.answers([fits], 10 * room, {})[0]) == 1  # cut where its positions end


def test_held_out_examples_that_were_composed_from_are_refused(tmp_path):
    job = make_job(tmp_path, baselines="none")
    write_examples(job / "held_out.jsonl", (EXAMPLES[0], ("new", "neuf")))
    with pytest.raises(ExamplesError, match=r"^1 of the held-out examples"):
        run(job, lambda event: None)


def test_a_line_ends_at_its_line_feed_alone(tmp_path):
    path = tmp_path / "shots.jsonl"
    row = {"input": "one\u2028two\u0085three", "output": "four"}
    path.write_text(json.dumps(row, ensure_ascii=False) + "\r\n", encoding="utf-8")
    assert read_examples(path, 5) == (Example(row["input"], "four"),)


@pytest.mark.parametrize("tokens", [0, -4])
def test_a_number_of_new_tokens_that_is_none_is_refused(tmp_path, tokens):
    with pytest.raises(InvalidJobError, match="max_new_tokens"):
        evaluate_adapter(
            base=Source("base", tmp_path),
            adapter=None,
            examples=[Example("cat", "chat")],
            max_new_tokens=tokens,
        )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[]", "one JSON object"),
        ('"text"', "one JSON object"),
        ("null", "one JSON object"),
        ("[" * 100_000, "missing or not JSON"),
        ('{"modules": {"name": "a"}}', "modules must be a list"),
        ('{"modules": ["a"]}', "must be an object such as"),
        ('{"modules": [{"folder": "modules/0"}]}', "has no name"),
        ('{"modules": [{"name": "a"}]}', "has no folder"),
        ('{"modules": [{"name": "a", "folder": 3}]}', "has no folder"),
        ('{"base": "owner/name"}', "base must be an object"),
        ('{"rank": "small"}', "rank must be auto, full or a whole number"),
        ('{"rank": true}', "rank must be auto, full or a whole number"),
        ('{"rank": "%s"}' % ("9" * 5000), "rank must be auto, full or a whole number"),
    ],
)
def test_a_job_that_is_no_job_is_refused_with_what_to_write(tmp_path, content, sentence):
    (tmp_path / "job.json").write_text(content)
    with pytest.raises(InvalidJobError, match=sentence):
        read_job_spec(tmp_path)


@pytest.mark.parametrize(
    ("written", "rank"), [("null", "auto"), ('"auto"', "auto"), ('"full"', "full"), ("8", 8), ('"8"', 8)]
)
def test_a_rank_is_auto_full_or_a_number(tmp_path, written, rank):
    (tmp_path / "job.json").write_text(f'{{"rank": {written}}}')
    assert read_job_spec(tmp_path).rank == rank
