"""What happens before the site starts."""

import json
import stat
from io import StringIO

import pytest
from django.core.management import call_command

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


def prepare() -> str:
    said = StringIO()
    call_command("prepare", stdout=said)
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
