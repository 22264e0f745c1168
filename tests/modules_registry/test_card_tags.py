"""Tags of a card that are none here: whoever brings them is told, and no search takes them for others."""

import pytest

from modules_registry.card_facts import tags_in, tags_left_out
from modules_registry.catalog import ModuleFilters, module_search
from modules_registry.services import module_edit
from tests.factories import card_file, make_module
from tests.modules_registry.hub_api.test_refusals import Uploader, file_line, warnings_of

CARD = "---\nlicense: mit\ntags:\n- C++\n- R&D\n- a/b\n- Spanish verbs\n---\n# A card\n"


def notes_of(version):
    return [made["sentence"] for made in version.repairs if made["code"] == "card_tags_left_out"]


@pytest.mark.parametrize(
    ("tags", "taken", "left_out"),
    [
        (["C++", "R&D", "a/b"], [], ["C++", "R&D", "a/b"]),
        (["c-sharp", "C#"], ["c-sharp"], ["C#"]),
        (["Spanish verbs", "verbs_2"], ["spanish-verbs", "verbs-2"], []),
        ("one, two+, three", ["one", "three"], ["two+"]),
        (["x" * 41], [], ["x" * 41]),
        (["lora", "peft"], [], []),  # true of all
        ([f"t{n}" for n in range(14)], [f"t{n}" for n in range(12)], ["t12", "t13"]),
        ([], [], []),
        (None, [], []),
        ([7, {"a": 1}], [], []),
    ],
)
def test_a_card_s_tags_are_taken_or_named_as_left_out(tags, taken, left_out):
    assert tags_in({"tags": tags}) == taken
    assert tags_left_out({"tags": tags}) == left_out


@pytest.mark.django_db
def test_who_uploads_such_tags_is_told_on_the_page_and_by_the_api(client, alice, base):
    module = make_module(alice, "words", card_file=card_file(CARD))
    [note] = notes_of(module.current)
    assert "“C++”, “R&D” and “a/b” are left out" in note
    assert "“R&amp;D”" in client.get("/alice/words").content.decode()
    told = client.get("/api/v1/modules/alice/words").json()["current"]["repairs"]
    assert note in [each["sentence"] for each in told]
    module_edit(editor=alice, module=module, card="---\ntags:\n- verbs\n---\n# A card\n")
    module.refresh_from_db()
    assert not notes_of(module.current)


@pytest.mark.django_db
def test_a_hub_client_prints_it(alice, base):
    module = make_module(alice, "words")
    answer = Uploader(alice).commit(file_line("README.md", CARD.encode()), repo="alice/words")
    assert any("C++" in warning for warning in warnings_of(answer))
    module.refresh_from_db()
    assert [tag.name for tag in module.tags.all()] == ["spanish-verbs"]


@pytest.mark.django_db
@pytest.mark.parametrize("q", ["c++", "C#", "r&d", "+c"])
def test_a_letter_with_a_sign_is_not_the_letter(alice, base, q):
    make_module(alice, "initial-quotes", card_file=card_file("# C\n\nFor the letters c and r, and d.\n"))
    assert not module_search(ModuleFilters(q=q)).exists()
    assert module_search(ModuleFilters(q="c letters")).exists()
    assert module_search(ModuleFilters(q="quotes/letters")).exists()
