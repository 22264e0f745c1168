"""A whole owner from a Hub over HTTP: converted, repaired, refused with the reason, continued."""

import pytest
from django.core.management import CommandError, call_command

from hub_site.common.errors import Refusal
from hub_site.jobs.models import Status
from hub_site.jobs.worker import stopping
from modules_registry.core.errors import WEIGHTS_FILE
from modules_registry.core.repair import CONVERTED
from modules_registry.importing import runner
from modules_registry.importing.models import ModuleImport
from modules_registry.importing.services import import_request
from modules_registry.models import Module, Origin
from modules_registry.services import module_edit
from tests.attacks.adapters import tensor, weights
from tests.factories import OTHER_FORMATS, adapter_tensors, weights_file
from tests.modules_registry.importing.repositories import repository
from tests.modules_registry.importing.source_server import COMMIT


def run(owner, *sources, **options):
    job = import_request(owner=owner, namespace=owner.namespace, sources=sources, enqueue=False, **options)
    runner.import_run(job.pk)
    job.refresh_from_db()
    return job


def states(job):
    return {item.repo_id: (item.state, item.code) for item in job.items.all()}


def test_an_owner_s_repositories_come_in_and_each_refusal_says_why(hub, alice, base):
    job = run(alice, "far")
    assert job.status == Status.DONE
    assert states(job) == {
        "far/good": ("imported", ""),
        "far/wrong-rank": ("imported", ""),
        "far/harmful": ("refused", "checkpoint_code"),
        "far/empty": ("refused", "not_an_adapter"),
    }
    origin = Module.objects.get(name="wrong-rank").current.origin
    assert (origin.repo_id, origin.commit_id, origin.was_converted) == ("far/wrong-rank", COMMIT, True)
    assert [repair["code"] for repair in origin.repairs] == ["rank", "converted", "peft_type"]
    assert Module.objects.get(name="good").current.base == base
    assert states(run(alice, "far/good", "far/none")) == {
        "far/good": ("unchanged", ""),
        "far/none": ("refused", "source_missing"),
    }
    assert Module.objects.get(name="good").versions.count() == 1


MENDED_CARDS = {
    "latin": ("---\ntags: [été]\n---\nSépare".encode("latin-1"), ["card_not_utf8"]),
    "bad-head": (b"---\ntags: [\n---\nText", ["front_matter_not_yaml"]),
    "both": ("---\ntags: [\n---\nSépare".encode("latin-1"), ["card_not_utf8", "front_matter_not_yaml"]),
    "large": (b"# Mine\n" * 100_000, ["card_too_large"]),
}


def test_what_was_mended_in_a_card_is_kept_with_the_version(hub, alice, base):
    hub.clear()
    hub.update({f"far/{name}": repository(card=card) for name, (card, _) in MENDED_CARDS.items()})
    run(alice, "far")
    for name, (_, codes) in MENDED_CARDS.items():
        version = Module.objects.get(name=name).current
        assert [repair["code"] for repair in version.repairs] == [*codes, "converted"]
        assert version.origin.repairs == version.repairs


@pytest.mark.parametrize(
    ("files", "code", "words"),
    [
        (["checkpoint-100/adapter_model.safetensors"], "weights_elsewhere", "in the folder checkpoint-100"),
        (["a-1/adapter_model.bin", "a-2/adapter_model.bin"], "weights_elsewhere", "in the folder a-2"),
        (["adapter_config.json", "adapters.safetensors"], "other_format", "is an MLX adapter"),
        (["model-00001-of-00002.safetensors", "config.json"], "other_format", "is a whole model"),
        (["adapter.zip"], "other_format", "is an archive"),
        (["adapter_config.json", "adapter_model.pt"], "pickle", "is not accepted. It is a pickle"),
        (["adapter_model.safetensors"], "not_an_adapter", "it needs adapter_config.json"),
    ],
)
def test_a_repository_without_an_adapter_at_its_top_says_the_cause(hub, alice, files, code, words):
    hub["far/other"] = dict.fromkeys(files, b"x")
    item = run(alice, "far/other").items.get()
    assert (item.code, words in item.message) == (code, True), item.message


@pytest.mark.parametrize("title", OTHER_FORMATS)
def test_a_repository_s_format_is_told_by_its_tensors(hub, alice, title):
    rename, words = OTHER_FORMATS[title]
    weights = weights_file({rename(name): value for name, value in adapter_tensors().items()}).read()
    hub["far/other"] = {"my_lora.safetensors": weights, "empty.safetensors": b""}
    item = run(alice, "far/other").items.get()
    assert words in item.message
    assert "hf upload" not in item.message


def test_an_import_says_that_the_card_names_another_licence_and_how_it_was_read(hub, alice, base):
    card = b"---\nlicense: [mit, GPLv3]\n---\nText"
    hub.clear()
    hub["far/two"] = repository(card=card) | {"adapter_model.safetensors": weights_file().read()}
    run(alice, "far/two")
    version = Module.objects.get(name="two").current
    assert (version.module.licence, [made["code"] for made in version.repairs]) == (
        "gpl-3.0",
        ["card_license"],
    )
    module_edit(editor=alice, module=version.module, licence="mit")
    hub["far/two"]["adapter_model.safetensors"] = weights_file(seed=5).read()
    Origin.objects.update(commit_id="3" * 40)  # so that the Hub's commit is another one
    run(alice, "far/two")
    version = Module.objects.get(name="two").current
    assert "card_license_differs" in [made["code"] for made in version.origin.repairs]


def test_an_import_goes_on_where_a_worker_left_it(hub, alice, base):
    job = import_request(owner=alice, namespace=alice.namespace, sources=["far"], enqueue=False)
    stopping.set()
    try:
        runner.import_run(job.pk)
    finally:
        stopping.clear()
    assert ModuleImport.objects.get().status == Status.QUEUED
    runner.import_run(job.pk)
    assert ModuleImport.objects.get().status == Status.DONE


def test_nobody_imports_into_another_s_name(alice, bob):
    with pytest.raises(Refusal) as refused:
        import_request(owner=alice, namespace=bob.namespace, sources=["far"], enqueue=False)
    assert refused.value.code == "not_your_namespace"


@pytest.mark.parametrize("source", ["../x", "http://127.0.0.1/x", "a/b@../c", "a@main", ""])
def test_what_names_no_repository_is_refused(alice, source):
    with pytest.raises(Refusal, match=r"one a line|is not a repository"):
        import_request(owner=alice, namespace=alice.namespace, sources=[source], enqueue=False)


def test_the_command_says_how_far_it_is_what_came_of_each_and_what_was_repaired(hub, alice, base, capsys):
    call_command("import_modules", "far", user="alice")
    good, wrong, harmful, empty = capsys.readouterr().out.splitlines()
    assert good == f"[1/4] far/good: Imported {CONVERTED.sentence}"
    assert wrong.startswith("[2/4] far/wrong-rank: Imported Set r to 2, as the weights have it; it was 8.")
    assert CONVERTED.sentence in wrong
    assert "Set peft_type to LORA; it was" in wrong
    assert harmful.startswith("[3/4] far/harmful: Not imported ")
    assert empty.startswith("[4/4] far/empty: Not imported far/empty holds no adapter")


def test_each_line_is_there_as_soon_as_its_repository_is(hub, alice, base):
    states_when_told = []
    job = import_request(owner=alice, namespace=alice.namespace, sources=["far"], enqueue=False)
    runner.import_run(job.pk, lambda item: states_when_told.append(list(states(job).values())))
    assert [sum(state == "waiting" for state, _ in each) for each in states_when_told] == [3, 2, 1, 0]


def test_the_command_s_list_is_read_as_the_page_s(hub, alice, base, tmp_path, capsys):
    listing = tmp_path / "list.txt"
    listing.write_bytes("\ufeff# mine\r\nfar/good\r\n\r\n  # not this one: far/empty\r\n".encode())
    call_command("import_modules", list=listing, user="alice")
    assert capsys.readouterr().out == f"[1/1] far/good: Imported {CONVERTED.sentence}\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff\xfef\x00a\x00r\x00", "not plain text"),
        (b"# none\n", "Name 1"),
    ],
)
def test_a_list_that_is_none_is_told_in_a_sentence(hub, alice, base, tmp_path, content, words):
    listing = tmp_path / "list.txt"
    if content is not None:
        listing.write_bytes(content)
    with pytest.raises(CommandError, match=words):
        call_command("import_modules", list=listing, user="alice")


def test_a_refusal_says_what_an_importing_person_can_do(hub, alice, base, french):
    hub["far/nameless"] = repository(base_model_name_or_path="/home/me/t5")
    hub["far/french"] = repository()
    hub["far/dora"] = repository(use_dora=True)
    messages = {item.repo_id: item.message for item in run(alice, *list(hub)[-3:]).items.all()}
    assert "--base on the command line" in messages["far/nameless"]
    assert messages["far/french"].endswith(
        "exists already. Import it for another owner, or rename or delete the one that is here."
    )
    assert "for its author to do" in messages["far/dora"]
    assert states(run(alice, "far/nameless", base="tests/tiny"))["far/nameless"] == ("imported", "")


def test_an_import_asks_nobody_for_what_cannot_be_done(hub, alice, base):
    image = weights({"lora_unet_a.lora_down.weight": tensor(2, 6)})
    hub["far/image"] = {"adapter_config.json": repository()["adapter_config.json"], WEIGHTS_FILE: image}
    hub["far/whole"] = {"model.safetensors": weights({"model.a.weight": tensor(2, 6)})}
    messages = {item.repo_id: item.message for item in run(alice, "far/image", "far/whole").items.all()}
    assert "kohya" in messages["far/image"]
    assert "author" not in messages["far/image"]
    assert messages["far/whole"].endswith(
        "Ask its author for the adapter, as save_pretrained of peft's PeftModel writes it."
    )


def test_a_chat_is_not_taken_from_files_beside_an_adapter_of_an_encoder_decoder(hub, alice, base):
    beside = {"chat_template.jinja": b"{{ messages }}"}
    hub["far/of-t5"] = repository(task_type=None) | beside
    hub["far/of-far-t5"] = repository(base_model_name_or_path="far/t5", task_type="SEQ_2_SEQ_LM") | beside
    run(alice, "far/of-t5", "far/of-far-t5")
    assert [module.current.prompt_template for module in Module.objects.order_by("name")] == ["", ""]


def test_an_import_says_that_it_converted_a_checkpoint(hub, alice, base):
    hub["far/old"] = repository()
    assert states(run(alice, "far/old")) == {"far/old": ("imported", "")}
    version = Module.objects.get(name="old").current
    assert [made["code"] for made in version.repairs if made["code"] == "converted"] == ["converted"]
    assert "converted" in [made["code"] for made in version.origin.repairs]


DECODER = {"base_model_name_or_path": "far/decoder", "task_type": "CAUSAL_LM"}


@pytest.mark.parametrize(
    ("beside", "template"),
    [
        ({}, ""),
        ({"chat_template.jinja": b"{{ messages }}"}, "chat"),
        ({"tokenizer_config.json": b'{"chat_template": "{{ messages }}"}'}, "chat"),
        ({"tokenizer_config.json": b'{"eos_token": "</s>"}'}, ""),
        ({"training_args.yaml": b"stage: sft\ntemplate: default\n"}, "Human: {input}\nAssistant:"),
        ({"tokenizer_config.json": b" " * (4 * 1024**2 + 1)}, ""),  # too large to be read for that
    ],
)
def test_a_template_is_told_by_what_a_trainer_left_beside_the_adapter(hub, alice, base, beside, template):
    hub["far/trained"] = repository(**DECODER) | beside
    assert states(run(alice, "far/trained")) == {"far/trained": ("imported", "")}
    version = Module.objects.get(name="trained").current
    assert version.prompt_template == template
    assert not version.files.filter(path__in=beside).exists()


def test_an_imported_card_states_the_template_whatever_lies_beside(hub, alice, base):
    card = b"---\nlibrary_name: peft\nprompt_template: 'say {input}'\n---\n"
    hub["far/stated"] = repository(card=card) | {"chat_template.jinja": b"{{ messages }}"}
    run(alice, "far/stated")
    assert Module.objects.get(name="stated").current.prompt_template == "say {input}"
