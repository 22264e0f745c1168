"""Reading examples: what is accepted, and what each refusal says."""

import pytest

from composer.core.errors import ExamplesError, ExampleTooLongError, MissingOutputError, NoExamplesError
from composer.core.examples import MAX_CHARACTERS, Example, read_examples


def written(tmp_path, text: bytes):
    (tmp_path / "examples.jsonl").write_bytes(text)
    return tmp_path / "examples.jsonl"


def test_lines_become_examples_and_blank_lines_do_not(tmp_path):
    path = written(
        tmp_path, '\ufeff{"input": "cat", "output": "chat", "id": 3}\n\n{"input": "", "output": "é"}'.encode()
    )
    assert read_examples(path, limit=5) == (Example("cat", "chat"), Example("", "é"))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (b"", NoExamplesError),
        (b"\n \n", NoExamplesError),
        (b"[1, 2]", ExamplesError),
        (b"{", ExamplesError),
        (b'{"output": "a"}', ExamplesError),
        (b'{"input": 3, "output": "a"}', ExamplesError),
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
    with pytest.raises(MissingOutputError, match="Example 2"):
        read_examples(written(tmp_path, b'{"input": "a", "output": "b"}\n{"input": "a"}'), limit=5)
