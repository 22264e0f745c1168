"""The modules of the LoraHub paper: what their names tell, and all of them brought in by one command."""

import io
import json

import pytest
import torch
from django.core.management import CommandError, call_command

from benchmarks import import_lorahub
from composer.lorahub import LORA_MODULE_NAMES
from composer.run import runner as composer_runner
from hub_site.accounts.models import Membership, Namespace
from modules_registry.base_models import base_model_add
from modules_registry.blobs import store
from modules_registry.core.cards import check_card
from modules_registry.files.conversion import stop_launcher
from modules_registry.importing.lorahub import card_from_name, named_task
from modules_registry.importing.models import ModuleImport
from modules_registry.models import Module
from tests.modules_registry.importing.checkpoints import attacks
from tests.modules_registry.importing.paper_modules import (
    CARD,
    CONFIG_FILE,
    make_base_folder,
    paper_repository,
)
from tests.modules_registry.importing.source_server import small_hub

BASE = "google/flan-t5-large"
GOOD = ("quarel_do_not_use", "squad_v2.0", "super_glue_rte", "wiki_qa_Is_This_True_", "drop")


@pytest.mark.parametrize(
    ("name", "dataset", "prompt", "tag"),
    [
        ("quarel_do_not_use", "community-datasets/quarel", "do not use", "quarel"),
        ("squad_v2.0", "rajpurkar/squad_v2", "", "squad-v2.0"),
        (
            "wiki_hop_original_choose_best_object_affirmative_1",
            "MoE-UNC/wikihop",
            "choose best object affirmative 1",
            "wiki-hop-original",
        ),
        ("super_glue_rte", "aps/super_glue", "", "super-glue-rte"),
        (
            "amazon_polarity_User_recommend_this_product",
            "fancyzhx/amazon_polarity",
            "User recommend this product",
            "amazon-polarity",
        ),
        ("glue_mrpc", "nyu-mll/glue", "", "glue-mrpc"),
        (
            "cos_e_v1.11_question_option_description_text",
            "Salesforce/cos_e",
            "question option description text",
            "cos-e-v1.11",
        ),
        ("wiki_qa_Is_This_True_", "microsoft/wiki_qa", "Is This True", "wiki-qa"),
        ("math_dataset_algebra__linear_1d", "deepmind/math_dataset", "algebra linear 1d", "math-dataset"),
        ("wmt16_translate_tr-en", "wmt/wmt16", "", "wmt16-translate-tr-en"),
    ],
)
def test_a_name_tells_the_data_set_and_the_prompt(name, dataset, prompt, tag):
    task = named_task(f"lorahub/flan_t5_large-{name}")
    assert task.datasets == (dataset, "lorahub/flanv2")
    assert task.sentence.endswith(f"; prompt “{prompt}”." if prompt else ".")
    assert ("prompt" in task.sentence) == bool(prompt)
    assert task.tags == ("lorahub", tag)


def test_the_longest_beginning_counts_and_only_whole_words():
    assert "adversarial, round 1" in named_task("lorahub/flan_t5_large-anli_r1").sentence
    unknown = named_task("lorahub/flan_t5_large-dropped_words")  # not DROP
    assert (unknown.sentence, unknown.datasets) == (
        "One of the tasks of FLAN; prompt “dropped words”.",
        ("lorahub/flanv2",),
    )


def test_a_card_that_says_something_stays_as_it_is():
    said = check_card(b"# Ours\n\nWhat it does.\n")
    assert card_from_name("lorahub/flan_t5_large-drop", said) == said
    silent = check_card(CARD)
    assert card_from_name("far/another", silent) == silent


def test_the_repositories_of_these_tests_have_the_form_of_the_real_ones():
    assert (len(CONFIG_FILE), len(CARD)) == (411, 27)
    state = torch.load(io.BytesIO(paper_repository(0)["adapter_model.bin"]), weights_only=True)
    first, *_ = state
    assert first == "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight"
    assert state[first].shape[0] == 16
    assert len(state) == 6 * 2 * 2  # six attentions, q and v, A and B


@pytest.fixture
def hub(settings):
    """Five good modules, three that cannot come in, and a model of another kind."""
    repositories = {
        f"lorahub/flan_t5_large-{name}": paper_repository(seed) for seed, name in enumerate(GOOD)
    } | {
        "lorahub/flan_t5_large-harmful": paper_repository(0)
        | {"adapter_model.bin": attacks()["code in a zip"][0]},
        "lorahub/flan_t5_large-no_weights": {"README.md": CARD, "adapter_config.json": CONFIG_FILE},
        "lorahub/flan_t5_large-cut_short": paper_repository(0)
        | {"adapter_model.bin": paper_repository(0)["adapter_model.bin"][:5000]},
        "lorahub/something-else": {"README.md": CARD},
    }
    with small_hub(repositories) as address:
        yield address
    stop_launcher()


@pytest.fixture
def flan(db, tmp_path, demo_bundle):
    return base_model_add(folder=make_base_folder(tmp_path / "flan", demo_bundle / "base"), name=BASE)[0]


@pytest.fixture
def demo_bundle(settings):
    return settings.HUB_DEMO_BUNDLE


@pytest.mark.slow
def test_all_that_are_whole_come_in_with_task_and_data_set(hub, staff, flan, capsys):
    call_command("import_lorahub", endpoint=hub)
    said = capsys.readouterr().out
    assert "Importing modules of lorahub: 8 of 8." in said
    assert "5 of 8 imported, into lorahub." in said
    for refused in ("harmful", "no_weights", "cut_short"):
        assert f"lorahub/flan_t5_large-{refused}: " in said
    modules = Module.objects.filter(namespace__name="lorahub")
    assert {module.name for module in modules} == {f"flan_t5_large-{name}" for name in GOOD}
    for module in modules:
        assert module.current.base == flan
        assert (module.current.rank, module.current.alpha, module.current.targets) == (16, 32, ["q", "v"])
        assert module.current.origin.was_converted
        assert module.current.origin.endpoint == hub
    squad = modules.get(name="flan_t5_large-squad_v2.0")
    assert squad.sentence == "Questions on a passage of Wikipedia, some without an answer."
    assert {tag.name for tag in squad.tags.all()} == {"lorahub", "squad-v2.0"}
    with store().open(squad.current.files.get(path="README.md").sha256) as file:
        card = check_card(file.read())
    assert card.front_matter["base_model"] == BASE
    assert card.front_matter["datasets"] == ["rajpurkar/squad_v2", "lorahub/flanv2"]
    assert "](https://huggingface.co/datasets/rajpurkar/squad_v2)" in card.body
    assert card.body.startswith("Questions on a passage of Wikipedia")
    lorahub = Namespace.objects.get(name="lorahub")
    assert Membership.objects.get(namespace=lorahub).user == staff
    call_command("import_lorahub", endpoint=hub, limit=2)
    assert "1 of 2 imported (1 of them before), into lorahub." in capsys.readouterr().out


@pytest.fixture
def composer_launcher(settings):
    settings.HUB_THREADS = 1
    composer_runner.launcher.cache_clear()
    yield
    composer_runner.launcher().stop()
    composer_runner.launcher.cache_clear()


@pytest.mark.slow
def test_what_came_in_is_composed_and_peft_loads_the_result(hub, staff, flan, composer_launcher, tmp_path):
    call_command("import_lorahub", endpoint=hub)
    came = import_lorahub.imported(1.0)
    assert (came["repositories"], came["imported"], came["composable"]) == (8, 5, 5)
    assert (came["with_data_set_link"], len(came["refused"])) == (5, 3)
    made = import_lorahub.compose(tmp_path, tmp_path / "flan", 5)
    assert (made["modules"], made["status"]) == (5, "done")
    assert made["adapter_differs_from_base_by"] > 0
    page = import_lorahub.page({"machine": "this one", "import": came, "composition": made})
    assert "| Imported | 5 of 8 |" in page


def test_the_committed_result_is_that_all_of_them_come_in():
    result = json.loads((import_lorahub.RESULTS / "import_lorahub.json").read_text())
    names = LORA_MODULE_NAMES
    assert len(set(names)) == result["import"]["imported"] == result["import"]["composable"] == 196
    assert (result["composition"]["modules"], result["composition"]["status"]) == (20, "done")
    assert all(named_task(name).tags[1:] for name in names)  # each begins as one of the rules does
    assert import_lorahub.page(result) == (import_lorahub.RESULTS / "import_lorahub.md").read_text()


def test_only_staff_bring_them_in(alice, bob):
    with pytest.raises(CommandError, match="--user NAME"):
        call_command("import_lorahub", user="alice")
    assert not ModuleImport.objects.exists()


def test_an_author_without_such_modules_is_told(staff):
    with small_hub({"far/one": {}}) as address, pytest.raises(CommandError, match="none of the modules"):
        call_command("import_lorahub", endpoint=address, author="far")
    assert not Namespace.objects.filter(name="lorahub").exists()
