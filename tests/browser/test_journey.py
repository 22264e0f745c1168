"""The main job, as a new user does it: sign up, upload, find, compose, watch, download, load, and believe."""

import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings
from playwright.sync_api import Page, expect
from safetensors.numpy import load_file, save_file

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

BUNDLE = settings.BASE_DIR / "demo" / "bundle"
TASK = "fruit-upper"
REPORT_TIMEOUT_MS = 180_000  # about 5 s on a quiet machine
PASSWORD = "seven odd words in a row"


@pytest.fixture
def own_module(tmp_path) -> Path:
    """A module of our own making: one of the demo's, a little weaker."""
    original = BUNDLE / "modules" / "upper"
    weights = load_file(original / "adapter_model.safetensors")
    weaker = {name: value * np.float32(0.9 if "lora_B" in name else 1) for name, value in weights.items()}
    save_file(weaker, tmp_path / "adapter_model.safetensors")
    for name in ("adapter_config.json", "README.md"):
        (tmp_path / name).write_bytes((original / name).read_bytes())
    return tmp_path


def test_from_signing_up_to_an_adapter_that_keeps_its_reports_word(page: Page, own_module, tmp_path):
    sign_up(page, "wanda")
    upload(page, own_module, "my-capitals")
    find(page, "my-capitals", "wanda/my-capitals")
    compose(page, TASK)
    watch(page)
    percent = reported_percent(page)
    adapter = download(page, tmp_path)
    assert "wanda/my-capitals" in (adapter / "README.md").read_text(encoding="utf-8")
    assert json.loads((adapter / "report.json").read_text())["verdict"]["decision"] == "use"
    assert scored_outside(adapter, BUNDLE / "tasks" / TASK / "heldout.jsonl") == pytest.approx(
        percent, abs=0.06
    )


def sign_up(page: Page, name: str) -> None:
    page.goto("/")
    page.get_by_role("link", name="Sign up").first.click()
    page.get_by_label("Username").fill(name)
    page.locator("input[name=password1]").fill(PASSWORD)
    page.locator("input[name=password2]").fill(PASSWORD)
    page.get_by_role("main").get_by_role("button", name=re.compile("sign up", re.IGNORECASE)).click()
    expect(page.get_by_role("banner")).to_contain_text(name)


def upload(page: Page, folder: Path, name: str) -> None:
    page.get_by_role("link", name="Upload").first.click()
    for field, file in {
        "config_file": "adapter_config.json",
        "weights_file": "adapter_model.safetensors",
        "card_file": "README.md",
    }.items():
        page.locator(f"input[name={field}]").set_input_files(folder / file)
    page.locator("input[name=name]").fill(name)
    page.locator("[name=sentence]").fill("Writes the answer in capitals, a little shyly.")
    page.locator("input[name=tags]").fill("capitals, format")
    page.get_by_label("License").select_option("apache-2.0")
    page.get_by_role("button", name="Publish").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(name)
    expect(page.get_by_role("main")).to_contain_text("composable")


def find(page: Page, words: str, full_name: str) -> None:
    page.get_by_role("link", name="Library").first.click()
    page.get_by_role("main").get_by_role("searchbox").fill(words)
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"[?&]q="))
    page.get_by_role("main").get_by_role("link", name=full_name, exact=True).click()
    expect(page).to_have_url(re.compile(f"/{full_name}$"))


def compose(page: Page, task: str) -> None:
    page.get_by_role("link", name="Compose", exact=True).first.click()
    page.get_by_role("link", name=re.compile(f"^{task}")).click()
    page.get_by_role("main").get_by_role("button", name="Compose").click()
    expect(page).to_have_url(re.compile(r"/compositions/[0-9a-f-]{36}/$"))


def watch(page: Page) -> None:
    """The page tells what happens, survives a reload, and leads to the report when it is done."""
    expect(page.get_by_role("heading", level=1)).to_contain_text(TASK)
    page.reload()
    expect(page.get_by_text("Verdict: Use it")).to_be_visible(timeout=REPORT_TIMEOUT_MS)
    page.reload()  # the same address is the report now
    expect(page.get_by_role("heading", name="Comparison")).to_be_visible()


def reported_percent(page: Page) -> float:
    row = page.locator(".rows__row", has_text="This composition").first
    return float(row.locator(".rows__value").inner_text().split()[0])


def download(page: Page, folder: Path) -> Path:
    with page.expect_download() as downloaded:
        page.get_by_role("link", name="Download the adapter").click()
    with zipfile.ZipFile(downloaded.value.path()) as archive:
        archive.extractall(folder / "adapter")
    (config,) = (folder / "adapter").rglob("adapter_config.json")
    return config.parent


def scored_outside(adapter: Path, held_out: Path) -> float:
    """Exact match in percent of base + adapter, by peft and transformers alone."""
    from peft import PeftModel
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(BUNDLE / "base")
    base = AutoModelForSeq2SeqLM.from_pretrained(BUNDLE / "base")
    model = PeftModel.from_pretrained(base, adapter).eval()
    examples = [json.loads(line) for line in held_out.read_text(encoding="utf-8").splitlines()]
    right = 0
    for example in examples:
        tokens = model.generate(**tokenizer(example["input"], return_tensors="pt"), max_new_tokens=64)
        answer = tokenizer.decode(tokens[0], skip_special_tokens=True)
        right += answer.strip() == example["output"].strip()
    return 100 * right / len(examples)
