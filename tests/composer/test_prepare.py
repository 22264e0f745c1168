"""What happens before the site starts."""

import json
import stat
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from hub_site.accounts.models import User
from modules_registry.models import BaseModel, Module
from modules_registry.services import module_delete
from tests.factories import BASE_NAME, adapter_config, adapter_files, base_folder, card_file


@pytest.fixture
def bundle(settings, tmp_path):
    """A demo bundle of two small modules."""
    folder = tmp_path / "bundle"
    base_folder(folder / "base")
    modules = []
    for seed, name in enumerate(("french", "upper")):
        files = adapter_files(seed=seed) | {"card_file": card_file()}
        (folder / "modules" / name).mkdir(parents=True)
        for file in files.values():
            (folder / "modules" / name / file.name).write_bytes(file.read())
        modules.append({"name": name, "title": name, "sentence": "One.", "tags": ["demo"], "skills": [name]})
    (folder / "bundle.json").write_text(
        json.dumps({"schema": 1, "base": BASE_NAME, "modules": modules, "tasks": []})
    )
    assert adapter_config()["base_model_name_or_path"] == BASE_NAME
    settings.HUB_DEMO_BUNDLE = folder
    return folder


def prepare(**options: str) -> str:
    said = StringIO()
    call_command("prepare", stdout=said, **options)
    return said.getvalue()


def test_the_demo_world_is_loaded_once_and_its_account_named(db, bundle, client, data_folder):
    said = prepare()
    assert BaseModel.objects.count() == 1
    assert Module.objects.count() == 2
    user, _, password = said.removeprefix("demo account: ").strip().partition(" / ")
    assert client.login(username=user, password=password)
    assert prepare() == said
    assert Module.objects.count() == 2


def test_the_password_is_kept_where_only_the_operator_can_read_it(db, bundle, data_folder):
    password = prepare().strip().rpartition(" / ")[2]
    note = data_folder / "demo-account.txt"
    assert note.read_text() == f"HUB_DEMO_PASSWORD={password}\n"
    assert stat.S_IMODE(note.stat().st_mode) == 0o600


def test_a_password_that_was_changed_is_neither_shown_nor_set_back(db, bundle):
    prepare()
    user = User.objects.get(username="demo")
    user.set_password("their own")
    user.save()
    assert prepare() == ""
    assert User.objects.get(username="demo").check_password("their own")


def test_a_demo_module_that_was_deleted_does_not_come_back(db, bundle):
    prepare()
    module = Module.objects.get(name="french")
    module_delete(editor=module.namespace.user, module=module)
    prepare()
    assert Module.objects.existing().count() == 1


def test_a_load_that_was_interrupted_is_completed(db, bundle):
    prepare()
    Module.objects.filter(name="upper").update(current=None)
    Module.objects.filter(name="upper").delete()
    prepare()
    assert Module.objects.count() == 2


def test_a_site_without_a_demo_bundle_is_prepared_all_the_same(db, settings, tmp_path):
    settings.HUB_DEMO_BUNDLE = tmp_path / "nothing"
    assert prepare() == ""


@pytest.fixture
def english(bundle, settings, tmp_path):
    """A second bundle, of one module on a base of its own under HUB_DATA."""
    folder = settings.HUB_ENGLISH_BUNDLE = tmp_path / "english"
    name = "demo/chat"
    base_folder(settings.HUB_DATA / name)
    (folder / "modules" / "en-past").mkdir(parents=True)
    for file in (adapter_files(seed=7, base_model_name_or_path=name) | {"card_file": card_file()}).values():
        (folder / "modules" / "en-past" / file.name).write_bytes(file.read())
    module = {"name": "en-past", "title": "Past", "sentence": "One.", "tags": ["demo"], "skills": ["past"]}
    (folder / "bundle.json").write_text(
        json.dumps({"schema": 1, "base": name, "modules": [module], "tasks": []})
    )
    return folder


def test_the_first_start_loads_the_small_world_alone(db, english):
    prepare()
    assert set(Module.objects.values_list("name", flat=True)) == {"french", "upper"}


def test_the_english_library_is_loaded_beside_the_small_world_and_says_so(db, english):
    said = prepare(world="english")
    assert set(Module.objects.values_list("name", flat=True)) == {"french", "upper", "en-past"}
    assert "loaded demo/chat, 1 module and 0 tasks" in said
    prepare(world="english")
    assert Module.objects.count() == 3


def test_an_english_module_that_was_deleted_does_not_come_back(db, english):
    prepare(world="english")
    module = Module.objects.get(name="en-past")
    module_delete(editor=module.namespace.user, module=module)
    prepare(world="english")
    assert Module.objects.existing().count() == 2


def test_asking_for_a_library_that_is_not_there_says_how_to_make_it(db, english):
    (english / "bundle.json").unlink()
    with pytest.raises(CommandError, match=r"demo\.english\.build"):
        prepare(world="english")
