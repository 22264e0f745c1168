"""The library of base models, and loading the demo world."""

import json

import pytest
from django.core.management import CommandError, call_command

from hub_site.accounts.models import User
from hub_site.accounts.services import user_create
from hub_site.common.errors import Refusal
from modules_registry.base_models import base_model_add
from modules_registry.blobs import store
from modules_registry.management.commands.load_demo import load_module
from modules_registry.models import BaseModel, Module, Version
from modules_registry.selectors import module_find, not_composable_because
from modules_registry.services import module_delete, version_add
from tests.factories import (
    BASE_NAME,
    LAYERS,
    WIDTH,
    adapter_config,
    adapter_files,
    base_folder,
    make_base,
    make_module,
    weights_file,
)

pytestmark = pytest.mark.django_db


def test_a_base_is_described_by_its_files_alone(tmp_path):
    base = make_base(tmp_path)
    base.refresh_from_db()
    assert base.layers == {"lm_head": [16, 8]} | {layer: [WIDTH, WIDTH] for layer in LAYERS}
    assert (base.kind, base.architecture) == ("seq2seq", "T5ForConditionalGeneration")
    assert base.parameters == 2 * WIDTH * WIDTH + 16 * WIDTH
    assert [file.path for file in base.files.all()] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert all(store().exists(file.sha256) for file in base.files.all())
    assert len(base.revision) == 40


def test_only_the_files_a_model_needs_come_in(tmp_path):
    folder = base_folder(tmp_path)
    (folder / "modeling_evil.py").write_text("raise SystemExit")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x02")
    base, _ = base_model_add(folder=folder, name=BASE_NAME)
    assert not base.files.filter(path__in=["modeling_evil.py", "pytorch_model.bin"]).exists()


def test_adding_the_same_base_again_changes_nothing(tmp_path):
    base = make_base(tmp_path)
    again, is_new = base_model_add(folder=tmp_path, name=BASE_NAME)
    assert (again, is_new) == (base, False)


def test_other_files_under_a_known_name_are_refused(tmp_path, stored):
    make_base(tmp_path / "one")
    before = stored()
    with pytest.raises(Refusal) as refusal:
        base_model_add(folder=base_folder(tmp_path / "two", d_model=99), name=BASE_NAME)
    assert refusal.value.code == "base_exists"
    assert stored() == before


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"model_type": None}, "model_type_missing"),
        ({"is_encoder_decoder": False, "architectures": ["BertModel"]}, "base_kind_not_supported"),
    ],
)
def test_what_is_no_language_model_is_refused(tmp_path, changes, code, stored):
    with pytest.raises(Refusal) as refusal:
        base_model_add(folder=base_folder(tmp_path, **changes), name=BASE_NAME)
    assert refusal.value.code == code
    assert not stored()


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(Refusal, match=r"config\.json"):
        base_model_add(folder=tmp_path, name=BASE_NAME)


def test_modules_that_came_before_their_base_become_composable(alice, bob, tmp_path):
    fitting = make_module(alice).current
    too_wide = make_module(bob, weights_file=weights_file(width=16)).current
    assert "not in this site's library" in not_composable_because(fitting)
    base = make_base(tmp_path)
    assert Version.objects.get(pk=fitting.pk).base == base
    assert Version.objects.get(pk=too_wide.pk).base is None
    assert "layers are not those" in not_composable_because(too_wide)


def test_the_command_says_what_it_did(tmp_path, capsys):
    call_command("add_base_model", str(base_folder(tmp_path)), name="demo/tiny", licence="apache-2.0")
    assert "demo/tiny is in the library" in capsys.readouterr().out
    with pytest.raises(CommandError, match="needs config"):
        call_command("add_base_model", str(tmp_path / "nowhere"), name="demo/tiny")


@pytest.fixture
def bundle(tmp_path, settings):
    """A demo world of one base and two modules."""
    folder = settings.HUB_DEMO_BUNDLE = tmp_path / "bundle"
    base_folder(folder / "base")
    modules = [{"name": name, "sentence": f"Does {name}.", "tags": [name]} for name in ("french", "upper")]
    for seed, module in enumerate(modules):
        write_module(folder / "modules" / module["name"], seed)
    (folder / "bundle.json").write_text(json.dumps({"schema": 1, "base": BASE_NAME, "modules": modules}))
    return folder


def write_module(folder, seed):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(adapter_config()))
    (folder / "adapter_model.safetensors").write_bytes(weights_file(seed=seed).read())
    (folder / "README.md").write_text("# A demo module\n")


def test_the_demo_world_is_published_by_the_user_demo(bundle):
    call_command("load_demo")
    assert {module.full_name for module in Module.objects.all()} == {"demo/french", "demo/upper"}
    assert all(module.current.base.name == BASE_NAME for module in Module.objects.all())


def test_loading_the_demo_twice_changes_nothing(bundle, stored):
    call_command("load_demo")
    before = stored(), Version.objects.count()
    call_command("load_demo")
    assert (stored(), Version.objects.count()) == before


def test_a_newer_bundle_brings_new_versions(bundle):
    call_command("load_demo")
    write_module(bundle / "modules" / "french", seed=9)
    call_command("load_demo")
    versions = {module.name: module.current.number for module in Module.objects.all()}
    assert versions == {"french": 2, "upper": 1}


def test_what_became_of_a_demo_module_since_is_not_undone(bundle):
    call_command("load_demo")
    demo = User.objects.get(username="demo")
    module_delete(editor=demo, module=module_find("demo", "upper"))
    version_add(author=demo, module=module_find("demo", "french"), **adapter_files(seed=9))
    call_command("load_demo")
    assert module_find("demo", "upper") is None
    assert module_find("demo", "french").current.number == 2


def test_without_a_bundle_the_command_says_how_to_make_one(tmp_path, settings):
    settings.HUB_DEMO_BUNDLE = tmp_path
    with pytest.raises(CommandError, match=r"demo\.build"):
        call_command("load_demo")
    assert not BaseModel.objects.exists()


def test_a_base_has_a_name_as_on_the_hub(tmp_path):
    with pytest.raises(Refusal, match="not a model's name"):
        base_model_add(folder=base_folder(tmp_path), name="../../etc")


@pytest.fixture
def english(bundle, tmp_path, settings):
    """A bundle whose base model lies under HUB_DATA, as the English library's does."""
    folder = settings.HUB_ENGLISH_BUNDLE = tmp_path / "english"
    bundle.rename(folder)
    listing = json.loads((folder / "bundle.json").read_text())
    listing |= {"base_revision": "a" * 40, "base_sentence": "A small one."}
    (folder / "bundle.json").write_text(json.dumps(listing))
    (folder / "base").rename(make_parent(settings.HUB_DATA / BASE_NAME))
    return folder


def make_parent(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_the_english_library_takes_its_base_from_the_data_folder(english):
    call_command("load_demo", world="english")
    base = BaseModel.objects.get()
    assert (base.name, base.revision, base.sentence) == (BASE_NAME, "a" * 40, "A small one.")
    assert {module.current.base for module in Module.objects.all()} == {base}


def test_loading_the_english_library_twice_changes_nothing(english, stored):
    call_command("load_demo", world="english")
    before = stored(), Version.objects.count(), BaseModel.objects.count()
    call_command("load_demo", world="english")
    assert (stored(), Version.objects.count(), BaseModel.objects.count()) == before


def test_a_base_that_another_transformers_wrote_is_the_same_base(english, settings):
    call_command("load_demo", world="english")
    (settings.HUB_DATA / BASE_NAME / "tokenizer.json").write_text('{"version": "2.0"}')
    call_command("load_demo", world="english")
    assert BaseModel.objects.count() == 1


def test_without_its_base_the_command_says_how_to_make_it_and_loads_nothing(english, settings):
    (settings.HUB_DATA / BASE_NAME).rename(settings.HUB_DATA / "elsewhere")
    with pytest.raises(CommandError, match="hub demo english"):
        call_command("load_demo", world="english")
    assert not Module.objects.exists()


def test_the_english_modules_say_that_they_were_trained_on_the_chat_format(settings):
    folder = settings.BASE_DIR / "demo/english/bundle/modules/en-past"
    described = {"name": "en-past", "sentence": "Gives the past tense.", "tags": ["english"]}
    load_module(user_create(username="demo"), folder, described)
    version = Version.objects.get()
    assert (version.prompt_template, version.base_name) == ("chat", "demo/smollm2-135m")
