"""The adapters of the baselines: stored with the result, downloaded by every door, apart from its own."""

import io
import json
import zipfile

import pytest

from composer.core.evaluation.export import ParentModule, write_card, write_trained_card
from composer.core.evaluation.licence import AdapterLicense
from composer.core.spec.choices import KEPT_ADAPTERS
from composer.models import Composition
from composer.playground.models import TryOut
from composer.playground.selectors import adapter_files
from composer.run.job_folder import job_description
from composer.run.results import ADAPTER_FILES, RESULT_FILES, keep_result
from composer.selectors import baseline_files, result_files
from composer.share.services import share_renew
from hub_site.jobs import leases
from modules_registry.core.cards import check_card
from tests.composer.fake_jobs import write_result

pytestmark = pytest.mark.usefixtures("wakes")
PATH = "baselines/{}/{}"


def with_adapters(folder, keys=KEPT_ADAPTERS, advised="lora_on_shots"):
    """Put the adapters of these baselines beside the result, as the core does."""
    report = json.loads((folder / "report.json").read_text())
    for key in keys:
        own = folder / "baselines" / key
        own.mkdir(parents=True)
        for name in ADAPTER_FILES:
            (own / name).write_text(f"{name} of {key}")
        row = {**report["baselines"][0], "key": key, "label": f"Row {key}", "adapter": f"baselines/{key}"}
        report["baselines"].append(row)
    report["verdict"] |= {"advised": advised, "decision": "train"}
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture
def made(ask, tmp_path):
    """A finished composition of Alice's with the adapters of both baselines."""

    def make(**more):
        composition = leases.claim(Composition, ask().pk, worker="tests")
        folder = tmp_path / "result"
        folder.mkdir()
        write_result(folder / "out", job_description(composition, list(composition.modules.all())))
        with_adapters(folder / "out", **more)
        keep_result(composition, folder / "out")
        composition.refresh_from_db()
        return composition

    return make


def unzipped(answer):
    content = b"".join(answer.streaming_content) if answer.streaming else answer.content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name).decode() for name in archive.namelist()}


@pytest.mark.parametrize("key", KEPT_ADAPTERS)
def test_a_baseline_s_adapter_is_one_folder_by_page_and_api(made, browser_of, api_of, alice, key):
    composition = made()
    expected = {f"{composition.slug}-{key}/{name}": f"{name} of {key}" for name in ADAPTER_FILES}
    page = browser_of(alice).get(f"{composition.get_absolute_url()}adapters/{key}.zip")
    assert unzipped(page) == expected
    assert unzipped(api_of(alice).get(f"/api/v1/compositions/{composition.pk}/adapters/{key}")) == expected


def test_the_composition_s_own_adapter_stays_what_it_was(made, api_of, alice):
    composition = made()
    assert set(result_files(composition).values_list("path", flat=True)) == set(RESULT_FILES)
    assert baseline_files(composition, "tuned").count() == len(ADAPTER_FILES)
    names = unzipped(api_of(alice).get(f"/api/v1/compositions/{composition.pk}/adapter"))
    assert {name.partition("/")[2] for name in names} == set(RESULT_FILES)
    assert set(adapter_files(TryOut(composition=composition))) == set(RESULT_FILES)


def test_nobody_else_gets_them_and_what_was_not_made_is_not_there(made, browser_of, api_of, alice, charlie):
    composition = made(keys=["lora_on_shots"])
    address = f"{composition.get_absolute_url()}adapters/"
    assert browser_of(charlie).get(f"{address}lora_on_shots.zip").status_code == 404
    api = f"/api/v1/compositions/{composition.pk}/adapters/"
    assert api_of(charlie).get(f"{api}lora_on_shots").status_code == 404
    for key in ("tuned", "composed", "..", "lora"):
        assert browser_of(alice).get(f"{address}{key}.zip").status_code == 404
        assert api_of(alice).get(f"{api}{key}").status_code == 404


def test_the_page_offers_the_advised_one_first_and_each_in_its_row(made, browser_of, alice):
    composition = made()
    page = browser_of(alice).get(composition.get_absolute_url()).content.decode()
    button = page.index("Download the trained LoRA")
    assert "button--primary" in page[button - 700 : button]
    for key in KEPT_ADAPTERS:
        assert page.count(f"adapters/{key}.zip") >= 1


def test_where_the_composition_is_advised_its_own_adapter_comes_first(made, browser_of, alice):
    page = browser_of(alice).get(made(advised="composed").get_absolute_url()).content.decode()
    assert "Download: Row" not in page
    assert "adapters/tuned.zip" in page  # in its row


def test_a_reader_of_a_link_has_them_with_cards_of_their_own(made, browser_of, alice, client):
    composition = made()
    link = share_renew(owner=alice, composition_id=composition.pk, shows_answers=True)
    for key in KEPT_ADAPTERS:
        files = unzipped(client.get(f"{link.get_absolute_url()}adapters/{key}.zip"))
        owners = unzipped(browser_of(alice).get(f"{composition.get_absolute_url()}adapters/{key}.zip"))
        assert files == owners
        assert unzipped(client.get(f"/api/v1/shared/{link.token}/adapters/{key}")) == files
    assert client.get(f"{link.get_absolute_url()}adapters/composed.zip").status_code == 404


def write_cards(out, report):
    """Write the cards as the core does."""
    parents = [ParentModule(row["name"], row["revision"], row["weight"], ()) for row in report["modules"]]
    names = ", ".join(parent.name for parent in parents)
    facts = {"base_name": "a/base", "template": "Q: {input}\nA:"}
    for folder, title in (
        (out, "A composed adapter"),
        (out / "baselines/tuned", "A composed and tuned adapter"),
    ):
        write_card(
            folder,
            title=title,
            method="lorahub",
            parents=parents,
            text="Weights fitted on 3 examples.",
            licence=AdapterLicense("mit", f"The terms of {names} are not known here."),
            **facts,
        )
    trained = out / "baselines/lora_on_shots"
    write_trained_card(trained, title="A trained adapter", text="Trained on 3 examples: 40 steps.", **facts)


def test_a_reader_s_cards_are_the_owner_s_but_for_modules_that_are_not_public(
    ask, tmp_path, modules, browser_of, alice, client
):
    composition = leases.claim(Composition, ask().pk, worker="tests")
    write_result(tmp_path / "out", job_description(composition, list(composition.modules.all())))
    out = with_adapters(tmp_path / "out")
    write_cards(out, json.loads((out / "report.json").read_text()))
    keep_result(composition, out)
    link = share_renew(owner=alice, composition_id=composition.pk, shows_answers=False)

    own = (out / "baselines/lora_on_shots/README.md").read_text()
    assert "\n## License\n\nIt holds nothing of the modules, so their licenses do not apply" in own
    assert check_card(own.encode()).front_matter.get("license") is None

    def cards(page):
        paths = ("adapter.zip", *(f"adapters/{key}.zip" for key in KEPT_ADAPTERS))
        found = {path: unzipped(client.get(f"{page}{path}")) for path in paths}
        return {
            path: next(v for k, v in files.items() if k.endswith("README.md"))
            for path, files in found.items()
        }

    before = cards(link.get_absolute_url())
    assert before["adapters/lora_on_shots.zip"] == (out / "baselines/lora_on_shots/README.md").read_text()
    assert before["adapters/tuned.zip"] == (out / "baselines/tuned/README.md").read_text()
    assert before["adapter.zip"] == (out / "README.md").read_text()
    secret, told = modules[1], modules[0]
    secret.private = True
    secret.save(update_fields=["private"])
    for path, text in cards(link.get_absolute_url()).items():
        head = check_card(text.encode()).front_matter
        assert (head["prompt_template"], head["base_model"]) == ("Q: {input}\nA:", "a/base")
        assert secret.full_name not in text
        assert secret.current.commit_id not in text
        if path != "adapters/lora_on_shots.zip":
            assert head["license"] == "mit"
            assert "| private module 1 | - |" in text
            assert f"| {told.full_name} | {told.current.commit_id} |" in text


@pytest.mark.parametrize(
    "inside", ["README.md", "report.json", "baselines", "baselines/tuned", "baselines/tuned/README.md"]
)
def test_a_link_in_the_place_of_a_result_is_not_followed(ask, tmp_path, inside):
    composition = leases.claim(Composition, ask().pk, worker="tests")
    out = tmp_path / "out"
    write_result(out, job_description(composition, list(composition.modules.all())))
    with_adapters(out)
    (tmp_path / "elsewhere").mkdir()
    place = out / inside
    place.rename(tmp_path / "elsewhere" / place.name)
    place.symlink_to(tmp_path / "elsewhere" / place.name)
    with pytest.raises(OSError):  # noqa: PT011  whichever of the two the system raises
        keep_result(composition, out)
    assert not composition.files.exists()
