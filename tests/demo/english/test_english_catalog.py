"""Which texts the English library trains on, and which it asks about."""

import json

import pytest

from demo.english.catalog import DRAWS, HELD_OUT, MODULES, SHOTS, TASKS, Combination, task_examples
from demo.english.skills import ing_form, number_in_words, third_person, with_article
from demo.english.words import SIXTEENTHS, WORDS, columns, kinds, pairs, part_of

TABLES = sorted(path.stem for path in WORDS.glob("*.tsv"))


def inputs_of(combination: Combination, part: str) -> set[str]:
    return {example.input.lower() for example in combination.examples(part)}


def test_there_are_enough_modules_and_tasks_of_every_kind():
    assert len({module.name for module in MODULES}) == len(MODULES) >= 16
    assert len({task.combination.name for task in TASKS}) == len(TASKS) >= 16
    assert {task.kind for task in TASKS} == {"composable", "near", "negative"}


def test_no_word_that_a_module_was_trained_or_measured_on_is_asked_by_a_task():
    known = set().union(*(inputs_of(module, part) for module in MODULES for part in ("train", "dev")))
    for task in TASKS:
        examples = task_examples(task.combination)
        asked = [example.input.lower() for part in (*examples.shots, examples.held_out) for example in part]
        assert not known & set(asked), task.combination.name
        assert len(set(asked)) == len(asked), task.combination.name


def test_no_word_of_a_list_that_a_task_asks_about_was_trained_on():
    known = set().union(*(inputs_of(module, "train") for module in MODULES))
    asked = task_examples(Combination(ask="last")).held_out
    assert not known & {word for example in asked for word in example.input.split(", ")}


def test_no_shot_of_one_task_is_a_held_out_example_of_another():
    examples = [task_examples(task.combination) for task in TASKS]
    shots = {e.input.lower() for own in examples for draw in own.shots for e in draw}
    assert not shots & {e.input.lower() for own in examples for e in own.held_out}


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.combination.name)
def test_a_task_has_its_draws_and_enough_to_judge_by(task):
    examples = task_examples(task.combination)
    assert [len(shots) for shots in examples.shots] == [SHOTS] * DRAWS
    assert 25 <= len(examples.held_out) <= HELD_OUT


def test_a_composable_task_needs_two_modules_that_are_there_and_is_none_itself():
    modules = {module.name for module in MODULES}
    for task in TASKS:
        needed = {f"en-{skill}" for skill in task.combination.skills}
        if task.kind == "composable":
            assert len(needed) == 2
            assert needed <= modules
        assert task.combination.name not in modules


def test_a_negative_task_asks_what_no_module_knows():
    modules = {skill for module in MODULES for skill in module.skills}
    for task in TASKS:
        if task.kind == "negative":
            assert not modules & set(task.combination.skills)


def test_a_text_has_one_part_in_any_case_and_every_part_has_its_share():
    texts = [example.input for example in pairs("ii_singular_plural", "fv_present_past", "ii_sentiment")]
    assert all(part_of(text) == part_of(text.upper()) for text in texts)
    for part, sixteenths in SIXTEENTHS.items():
        share = sum(part_of(text) == part for text in texts) / len(texts)
        assert share == pytest.approx(sixteenths / 16, abs=0.05), part


@pytest.mark.parametrize("name", TABLES)
def test_a_list_is_whole_and_asks_nothing_empty(name):
    rows = columns(name)
    assert len({len(row) for row in rows}) == 1
    assert all(cell and cell == cell.strip() for row in rows for cell in row)


def test_every_list_of_others_is_named_with_its_license():
    notice = (WORDS / "NOTICE.md").read_text(encoding="utf-8")
    others = [name for name in TABLES if name.startswith(("fv_", "ii_"))]
    assert others
    assert all(f"`{name}.tsv`" in notice for name in others)
    assert "MIT" in notice
    assert "Apache-2.0" in notice


def test_no_kind_names_a_thing_twice():
    for kind, words in kinds().items():
        assert len(set(words)) == len(words) >= 13, kind


@pytest.mark.parametrize(
    ("verb", "past", "ing"),
    [
        ("stop", "stopped", "stopping"),
        ("bake", "baked", "baking"),
        ("tie", "tied", "tying"),
        ("see", "saw", "seeing"),
        ("run", "ran", "running"),
        ("open", "opened", "opening"),
    ],
)
def test_the_ing_form_is_spelled_as_english_does(verb, past, ing):
    assert ing_form(verb, past) == ing


def test_other_rules_of_spelling():
    assert [third_person(verb) for verb in ("walk", "watch", "carry", "play", "go")] == [
        "walks", "watches", "carries", "plays", "goes",
    ]  # fmt: skip
    assert [number_in_words(n) for n in (0, 14, 18, 20, 45, 100, 307)] == [
        "zero", "fourteen", "eighteen", "twenty", "forty-five", "one hundred", "three hundred and seven",
    ]  # fmt: skip
    assert [with_article(noun) for noun in ("dog", "apple")] == ["a dog", "an apple"]


def test_json_answers_are_json():
    for example in Combination(ask="adverb", form="json").examples("held_out"):
        assert list(json.loads(example.output)) == ["answer"]
