"""A person drops the folder of their trainer on the upload form, with a real browser."""

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from safetensors.numpy import save

from tests.browser.accessibility import require_accessible
from tests.browser.test_accessibility import DESK, PHONE
from tests.browser.test_journey import sign_up
from tests.factories import BASE_NAME, OTHER_FORMATS, adapter_config, adapter_tensors

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(300)]

CARD = """---
license: mit
tags: [french]
model_name: words-to-french
---
# Words

Translates single English words into French, one word a line.
"""


@pytest.fixture
def folder(tmp_path) -> Path:
    """What a trainer leaves: the adapter with two values that the gate refuses, and files beside it."""
    folder = tmp_path / "my-run"
    (folder / "checkpoint-200").mkdir(parents=True)
    tensors = adapter_tensors()
    next(iter(tensors.values()))[0] = float("nan")
    (folder / "adapter_config.json").write_text(json.dumps(adapter_config()))
    (folder / "adapter_model.safetensors").write_bytes(save(tensors))
    (folder / "README.md").write_text(CARD)
    (folder / "training_args.bin").write_bytes(b"PK")
    (folder / "checkpoint-200" / "optimizer.pt").write_bytes(b"PK")
    return folder


def drop(page: Page, path: Path) -> None:
    """Drop a file or a folder of the machine, as a file manager does."""
    page.locator("[data-drop]").scroll_into_view_if_needed()
    box = page.locator("[data-drop]").bounding_box()
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        place = {"x": box["x"] + 20, "y": box["y"] + 20}
        session.send("Input.dispatchDragEvent", {"type": kind, "data": data, **place})


def test_a_dropped_folder_is_sorted_checked_prefilled_and_sent_on_a_page_that_stays(page: Page, folder: Path):
    sign_up(page, "dora")
    page.goto("/modules/new/")
    page.get_by_label("What it was trained for").fill("Says it in French.")
    drop(page, folder)
    told = page.locator("[data-told]")
    expect(told).to_contain_text(
        "Selected from “my-run”: adapter_config.json, adapter_model.safetensors, README.md."
    )
    expect(told).to_contain_text(
        "left out (2): checkpoint-200/optimizer.pt (pickled), training_args.bin (pickled)"
    )
    expect(page.get_by_label("Name", exact=True)).to_have_value("words-to-french")
    expect(page.get_by_label("License")).to_have_value("mit")
    expect(page.get_by_label("What it was trained for")).to_have_value("Says it in French.")

    page.get_by_label("Name", exact=True).fill("no--good")
    page.get_by_label("Tags").focus()
    expect(page.locator("#id_name_error")).to_contain_text("cannot be the name")
    page.get_by_label("Name", exact=True).fill("words")
    page.get_by_label("Tags").focus()
    expect(page.locator("#id_name_error")).to_have_count(0)

    page.get_by_role("button", name="Publish").click()
    expect(page.locator("#id_weights_file_error")).to_contain_text("NaN or infinity")
    expect(page.get_by_role("alert")).to_contain_text("Your input is still here.")
    expect(page.locator("#id_weights_file")).to_be_focused()
    assert page.evaluate("document.querySelector('#id_card_file').files[0].name") == "README.md"
    for size in (DESK, PHONE):
        page.set_viewport_size(size)
        require_accessible(page)

    (folder / "adapter_model.safetensors").write_bytes(save(adapter_tensors()))
    page.set_viewport_size(DESK)
    drop(page, folder)
    expect(page.locator("#id_weights_file_error")).to_have_count(0)
    page.get_by_role("button", name="Publish").click()
    expect(page).to_have_url(page.url.replace("/modules/new/", "/dora/words"))
    expect(page.get_by_role("main")).to_contain_text(BASE_NAME)


def test_a_chosen_folder_whose_weights_lie_below_says_which_one_to_take(page: Page, folder: Path):
    (folder / "adapter_model.safetensors").rename(folder / "checkpoint-200" / "adapter_model.safetensors")
    sign_up(page, "carla")
    page.goto("/modules/new/")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").press("Enter")
    chooser.value.set_files(folder)
    expect(page.locator("#id_weights_file_error")).to_contain_text("in the folder checkpoint-200")
    expect(page.locator("#id_weights_file")).to_have_attribute("aria-invalid", "true")


def test_weights_of_another_format_in_a_dropped_folder_are_told_by_their_tensors(page: Page, tmp_path: Path):
    """Their name says nothing; the page sends how they begin."""
    sign_up(page, "mila")
    page.goto("/modules/new/")
    for title, (rename, words) in OTHER_FORMATS.items():
        folder = tmp_path / title.replace(" ", "-")
        folder.mkdir()
        tensors = {rename(name): value for name, value in adapter_tensors().items()}
        (folder / "style.safetensors").write_bytes(save(tensors))
        drop(page, folder)
        error = page.locator(".field", has=page.locator("[name=weights_file]")).locator(".field__error")
        expect(error).to_contain_text(f"style.safetensors {words}")
        expect(error).not_to_contain_text("hf upload")
