from collections import Counter
from itertools import islice

import pytest

from demo.catalog import MODULES, NEW_KNOWLEDGE_MODULE, TASKS, UNSEEN, pretraining_examples, task_examples
from demo.grammar import CHANGES, FORMS, SELECTORS, SKILLS, Combination

SKILL_OF_PHRASE = {phrase: name for name, skill in SKILLS.items() for phrase in skill.phrases}
SKILLS_WITH_MODULE = {skill for module in MODULES for skill in module.skills}


def combination_asked_by(prompt: str) -> Combination:
    instructions, _, _ = prompt.rpartition(":")
    skills = {SKILL_OF_PHRASE[phrase.strip()] for phrase in instructions.split(";") if phrase.strip()}
    return Combination.of("-".join(name for name in SKILLS if name in skills)) if skills else Combination()


def test_the_library_and_the_tasks_are_as_many_as_promised():
    assert len(MODULES) == len(set(MODULES)) >= 25
    kinds = Counter(task.kind for task in TASKS)
    assert len(TASKS) == len(UNSEEN) >= 18
    assert kinds["new_knowledge"] >= 2
    assert kinds["negative"] >= 2
    assert {len(task.combination.skills) for task in TASKS if task.kind == "composable"} == {2, 3}


def test_pretraining_meets_every_combination_but_the_unseen_ones():
    asked = {combination_asked_by(example.input) for example in islice(pretraining_examples("test"), 60_000)}
    assert not asked & UNSEEN
    possible = (1 + len(SELECTORS)) * (1 + len(CHANGES)) * (1 + len(FORMS))
    composable = sum(task.kind == "composable" for task in TASKS)
    assert len(asked) == possible - composable


def test_no_module_was_trained_on_an_unseen_combination():
    assert not set(MODULES) & UNSEEN


def test_a_task_is_composable_when_every_skill_has_a_module_of_its_own():
    single = {module.name for module in MODULES if len(module.skills) == 1}
    for task in TASKS:
        assert (task.kind == "negative") == (not set(task.combination.skills) <= single)


def test_new_knowledge_is_what_the_base_was_never_taught():
    assert NEW_KNOWLEDGE_MODULE.name not in SKILL_OF_PHRASE.values()
    for task in TASKS:
        needs_it = NEW_KNOWLEDGE_MODULE.name in task.combination.skills
        assert needs_it == (task.kind == "new_knowledge")


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.combination.name)
def test_what_is_asked_was_never_shown(task):
    examples = task_examples(task.combination)
    shown = [example.input for draw in examples.shots for example in draw]
    asked = [example.input for example in examples.held_out]
    assert [len(draw) for draw in examples.shots] == [5, 5, 5]
    assert len(asked) == (55 if task.combination.takes_one_word else 100)
    assert len(set(shown + asked)) == len(shown) + len(asked)
