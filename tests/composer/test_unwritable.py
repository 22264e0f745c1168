"""Before a worker begins: outputs that the base model cannot write, without loading it."""

import json

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from composer.core.spec.examples import Example
from composer.matching.unwritable import find_tokenizer, unwritable_text
from composer.models import Composition, CompositionEvent
from modules_registry.base_models import base_model_add
from tests.composer.test_api import ADDRESS, BODY
from tests.factories import BASE_NAME, base_folder, make_module


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


@pytest.fixture
def words(tmp_path, bob, wakes):
    """A base model that writes words alone, and a module that fits it."""
    base_with(tmp_path, word_tokenizer(), BASE_NAME)
    make_module(bob, "first")


TOLD = "The base model cannot write 1 of the 2 outputs: its tokenizer lacks “{”, “}”."
EXAMPLES = [{"input": "a", "output": "cat"}, {"input": "b", "output": "{}"}]


def test_the_api_tells_it_in_its_answers_and_once_when_the_run_tells_it_too(words, api_of, alice):
    api, body = api_of(alice), BODY | {"examples": EXAMPLES, "held_out": []}
    assert api.post(f"{ADDRESS}/estimate", body).json()["notes"][0].startswith(TOLD)
    made = api.post(ADDRESS, body).json()
    (warning,) = made["warnings"]
    assert warning.startswith(TOLD)
    for number, text in enumerate((warning, "A template of its own."), start=1):
        CompositionEvent.objects.create(
            job_id=made["id"], number=number, generation=1, kind="warning", detail={"text": text}
        )
    told = api.get(f"{ADDRESS}/{made['id']}").json()["warnings"]
    assert told == [warning, "A template of its own."]


def test_the_page_tells_it_beside_the_form_and_once_it_is_sent(words, browser_of, alice):
    form = {"form_key": "0f8b", "base": BASE_NAME, "selection": "all", "method": "exact", "seed": "7"}
    form |= {f"shots_{side}": [row[side] for row in EXAMPLES] for side in ("input", "output")}
    browser = browser_of(alice)
    assert TOLD in browser.post("/compositions/drafts/", form).content.decode()
    page = browser.post("/compositions/new/", form, follow=True).content.decode()
    assert Composition.objects.count() == 1
    assert TOLD in page


def test_a_tokenizer_of_another_kind_is_left_to_the_run(db, tmp_path):
    base = base_with(tmp_path, json.dumps({"model": "strange"}))
    assert unwritable_text(base, [Example("a", "{}")]) == ""
    find_tokenizer.cache_clear()


def base_with(folder, tokenizer: str, name: str = "tests/words"):
    made = base_folder(folder / "base")
    (made / "tokenizer.json").write_text(tokenizer, encoding="utf-8")
    return base_model_add(folder=made, name=name)[0]
