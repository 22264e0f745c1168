"""Which base an adapter is for is said alike by the site, on every way in, and by the gate's command."""

import json

import pytest

from modules_registry.base_models import recheck_modules
from modules_registry.core.cards import read_any_card
from modules_registry.core.gate.__main__ import main
from modules_registry.files.validation import check_beginning
from modules_registry.models import BaseAlias
from modules_registry.selectors import module_find
from modules_registry.services import module_edit
from tests.factories import BASE_NAME, adapter_files, card_file, config_file, make_module, weights_file

pytestmark = pytest.mark.django_db

ALIAS = "unsloth/tiny-bnb-4bit"
CASES = {  # the config's base, the card's, the base that it is taken for, the codes of what is said
    "as the library calls it": (BASE_NAME, BASE_NAME, BASE_NAME, []),
    "letter case": ("Tests/TINY", "tests/Tiny", BASE_NAME, ["base"]),
    "an alias": (ALIAS, ALIAS, BASE_NAME, ["base"]),
    "an alias in the card alone": (BASE_NAME, ALIAS, BASE_NAME, []),
    "a folder, and a card": ("/home/me/t5", BASE_NAME, BASE_NAME, ["base"]),
    "a folder, and an alias in the card": ("./t5", ALIAS, BASE_NAME, ["base", "base"]),
    "nothing, and a card": ("", BASE_NAME, BASE_NAME, ["base"]),
    "another base in the card": (BASE_NAME, "tests/other", BASE_NAME, ["card_base"]),
    "another base in the config": ("tests/other", ALIAS, "tests/other", ["card_base"]),
}


def card_naming(base):
    return card_file(f"---\nbase_model: {base}\n---\n# Mine\n")


@pytest.fixture
def command(tmp_path, capsys):
    """Run the gate's command on these files; what it prints."""

    def run(*arguments, **files):
        folder = tmp_path / "adapter"
        folder.mkdir()
        for file in files.values():
            (folder / file.name).write_bytes(file.read())
            file.seek(0)
        main([str(folder), *arguments])
        return json.loads(capsys.readouterr().out)

    return run


@pytest.mark.parametrize("title", CASES)
def test_the_command_says_of_the_base_s_name_what_the_site_says(base, alice, command, title):
    config_base, card_base, taken_for, codes = CASES[title]
    BaseAlias.objects.create(name=ALIAS, base=base)
    config = config_file(base_model_name_or_path=config_base)
    files = {"config_file": config, "weights_file": weights_file(), "card_file": card_naming(card_base)}
    said = command("--base-names", BASE_NAME, ALIAS, **files)
    version = make_module(alice, **files).current
    assert (said["base"], said["repairs"]) == (version.base_name, version.repairs)
    assert (version.base_name, [repair["code"] for repair in version.repairs]) == (taken_for, codes)


def test_the_command_says_how_to_name_a_base_where_there_is_no_form(command):
    said = command(**adapter_files(base_model_name_or_path="/home/me/t5"))
    assert said["codes"] == ["base_not_a_name"]
    assert "as base_model in the front matter of README.md" in said["findings"][0]["message"]


def test_the_api_reads_the_card_s_base_too(base, alice, api_of):
    files = adapter_files(base_model_name_or_path="/home/me/t5") | {"card_file": card_naming(BASE_NAME)}
    said = {"namespace": "alice", "name": "french", "licence": "mit", "sentence": "Words into French."}
    answer = api_of(alice).post("/api/v1/modules", said | files, format="multipart")
    assert (answer.status_code, answer.json()["current"]["base"]) == (201, BASE_NAME), answer.content


def test_what_would_be_said_of_the_base_is_said_before_the_weights_are_sent(base):
    card = read_any_card(card_naming(BASE_NAME).read())
    config = config_file(base_model_name_or_path="/home/me/t5")
    weights = weights_file()
    size_bytes = len(weights.getvalue())
    said = check_beginning(config, weights, size_bytes=size_bytes, read=card)
    assert said == check_beginning(config, None, size_bytes=0, read=card)
    assert said == (f'Set the base model to {BASE_NAME}, as README.md says; it was "/home/me/t5".',)


def test_a_card_that_is_corrected_or_a_declared_alias_ends_what_was_said_of_it(base, alice):
    wrong = make_module(alice, card_file=card_naming("tests/other"))
    module_edit(editor=alice, module=wrong, card=card_naming(BASE_NAME).read().decode())
    assert module_find("alice", "french").current.repairs == []
    config = config_file(base_model_name_or_path=ALIAS)
    make_module(alice, "late", config_file=config, card_file=card_naming(BASE_NAME))
    assert module_find("alice", "late").current.repairs[0]["code"] == "card_base"
    BaseAlias.objects.create(name=ALIAS, base=base)
    recheck_modules(base)
    assert [repair["code"] for repair in module_find("alice", "late").current.repairs] == ["base"]


def test_a_base_s_page_names_its_other_names(base, client):
    BaseAlias.objects.create(name=ALIAS, base=base)
    assert ALIAS in client.get(f"/{BASE_NAME}").content.decode()
