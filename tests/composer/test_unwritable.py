"""Beside the form: outputs that the base model cannot write, without loading it."""

import json

from tokenizers import Tokenizer, models, pre_tokenizers

from composer.core.spec.examples import Example
from composer.matching.unwritable import find_tokenizer, unwritable_text
from modules_registry.base_models import base_model_add
from tests.factories import base_folder


def word_tokenizer() -> str:
    tokenizer = Tokenizer(models.WordLevel({"<unk>": 0, "cat": 1}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.add_special_tokens(["<unk>"])
    return tokenizer.to_str()


def test_the_stored_tokenizer_tells(db, tmp_path):
    base = base_with(tmp_path, word_tokenizer())
    assert unwritable_text(base, [Example("a", "cat")]) == ""
    assert "cannot write 1 of the 2 outputs" in unwritable_text(
        base, [Example("a", "cat"), Example("b", "{}")]
    )
    assert unwritable_text(base, []) == ""


def test_a_tokenizer_of_another_kind_is_left_to_the_run(db, tmp_path):
    base = base_with(tmp_path, json.dumps({"model": "strange"}))
    assert unwritable_text(base, [Example("a", "{}")]) == ""
    find_tokenizer.cache_clear()


def base_with(folder, tokenizer: str):
    made = base_folder(folder / "base")
    (made / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    return base_model_add(folder=made, name="tests/words")[0]
