"""A real report in a real browser: to read, to filter, to share, to print, and to make again."""

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.conf import settings
from huggingface_hub import HfApi
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from composer.report.page import PREDICTIONS_PER_PAGE
from tests.browser.accessibility import require_accessible
from tests.browser.layout_shift import SHIFT_MAX, count_layout_shifts, layout_shift
from tests.browser.test_journey import REPORT_TIMEOUT_MS, TASK, compose, sign_up, watch
from tests.running_hub import Hub

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.timeout(600)]

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1440, "height": 900}
NARROWEST = {"width": 320, "height": 844}  # px: WCAG 1.4.10, reflow
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def owner(browser: Browser, hub: Hub) -> Iterator[BrowserContext]:
    """Signed in, with one finished composition."""
    context = browser.new_context(base_url=hub.address, viewport=DESK)
    page = context.new_page()
    sign_up(page, "rita")
    compose(page, TASK)
    watch(page)
    yield context
    context.close()


@pytest.fixture
def report(owner: BrowserContext) -> Iterator[Page]:
    """The finished report, freshly opened."""
    page = owner.new_page()
    page.set_viewport_size(DESK)
    page.goto("/compositions/")
    page.get_by_role("main").get_by_role("link", name=TASK).first.click()
    expect(page.get_by_text("Verdict:")).to_be_visible()
    yield page
    page.close()


def snippet(page: Page, label: str) -> str:
    return page.locator(".snippet", has_text=label).locator("pre").first.inner_text()


def run(lines: str, folder: Path, **environment: str) -> str:
    """Run lines as they are printed, in a shell of somebody who has this project's packages."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "OMP_"))}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e", "-c", lines],
        cwd=folder,
        env=kept | {"PATH": path, "HF_HOME": str(folder / "hf"), **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_command_on_the_report_makes_the_very_same_adapter(report: Page, tmp_path):
    expect(report.get_by_text("HF_TOKEN to an access token")).to_have_count(0)  # no module is private
    require_same_adapter(report, tmp_path)


def test_with_a_token_the_command_makes_the_same_adapter_from_a_private_module(
    owner: BrowserContext, hub: Hub, tmp_path
):
    token = hub.call("manage", "create_token", "rita", "--scope", "write").stdout.split()[-1]
    api = HfApi(endpoint=hub.address, token=token)
    api.create_repo("rita/secret", private=True)
    api.upload_folder(repo_id="rita/secret", folder_path=settings.BASE_DIR / "demo/bundle/modules/spanish")
    page = owner.new_page()
    page.goto(f"/compositions/new/?task={TASK}")
    page.locator("[name=name]").fill("With a secret")
    page.get_by_role("radio", name="By hand").check()
    for name in ("demo/animal", "rita/secret"):
        page.locator(f"input[name=modules][value='{name}']").check()
    page.get_by_role("main").get_by_role("button", name="Compose", exact=True).click()
    page.get_by_role("link", name="Read the report").click(timeout=REPORT_TIMEOUT_MS)
    expect(page.locator("#reproduce")).to_contain_text("rita/secret is private, so first set HF_TOKEN")
    require_same_adapter(page, tmp_path, HF_TOKEN=token)
    page.close()


def require_same_adapter(report: Page, folder: Path, **environment: str) -> None:
    """Run the report's command where its examples lie, and hold the bytes against the downloaded ones."""
    for name in ("examples.jsonl", "held_out.jsonl"):
        (folder / name).write_bytes(report.request.get(f"{report.url}{name}").body())
    run(snippet(report, "Command line"), folder, PYTHONPATH=str(settings.BASE_DIR), **environment)
    (made,) = folder.glob(f"*/{WEIGHTS}")
    assert sha256(made) == sha256(downloaded(report, folder / "downloaded") / WEIGHTS)


def downloaded(report: Page, folder: Path) -> Path:
    folder.mkdir()
    (folder / "adapter.zip").write_bytes(report.request.get(f"{report.url}adapter.zip").body())
    with zipfile.ZipFile(folder / "adapter.zip") as archive:
        archive.extractall(folder)
    return next(folder.glob("*/"))


def test_a_private_link_serves_who_has_it_until_it_is_withdrawn(
    report: Page, browser: Browser, hub: Hub, tmp_path
):
    report.goto(f"{report.url}#share")
    report.get_by_role("button", name="Create private link").click()
    expect(report.locator("#share")).to_contain_text("/shared/")
    address = snippet(report, "Private link").strip()
    reader = browser.new_context(viewport=DESK).new_page()
    reader.goto(address)
    expect(reader.get_by_role("heading", level=1)).to_contain_text(TASK)
    for size in (DESK, PHONE):
        reader.set_viewport_size(size)
        require_accessible(reader)
    lines = snippet(reader, "Download with curl") + "\n" + python_lines(snippet(reader, "Python, with peft"))
    assert run(lines, tmp_path).strip().isupper()  # as the adapter does and the base alone does not
    report.goto(f"{report.url.partition('#')[0]}#share")
    report.get_by_role("button", name="Revoke the link").click()
    expect(report.get_by_role("button", name="Create private link")).to_be_visible()
    answer = reader.goto(address)
    assert answer is not None
    assert answer.status == 404
    reader.context.close()


def python_lines(code: str) -> str:
    return f"python - <<'END'\n{code}\nEND"


def test_the_report_is_accessible_folded_and_unfolded(report: Page):
    for size in (DESK, PHONE):
        report.set_viewport_size(size)
        require_accessible(report)
        report.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true })")
        require_accessible(report)
        assert report.evaluate("document.documentElement.scrollWidth <= innerWidth")
    report.set_viewport_size(NARROWEST)
    assert report.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_answers_are_filtered_and_turned_over_by_the_keyboard_alone(report: Page):
    report.get_by_role("link", name="All answers", exact=True).click()
    report.get_by_role("link", name=re.compile("^Differences")).focus()
    report.keyboard.press("Enter")
    expect(report).to_have_url(re.compile(r"\?show=different#predictions$"))
    expect(report.locator("#predictions [aria-current=page]").first).to_contain_text("Differences")
    first = report.locator("#predictions tbody tr").first.inner_text()
    report.get_by_role("link", name="Next page").focus()
    report.keyboard.press("Enter")
    expect(report).to_have_url(re.compile(r"show=different&page=2#predictions$"))
    expect(report.locator("#predictions tbody tr").first).not_to_have_text(first)


def test_without_scripts_the_report_is_whole_and_its_filters_work(
    owner: BrowserContext, report: Page, browser
):
    context = browser.new_context(
        java_script_enabled=False, storage_state=owner.storage_state(), viewport=PHONE
    )
    page = context.new_page()
    page.goto(report.url)
    expect(page.get_by_text("Verdict:")).to_be_visible()
    page.get_by_role("link", name="All answers", exact=True).click()
    page.get_by_role("link", name=re.compile("^Wrong answers")).click()
    expect(page.locator("#predictions [aria-current=page]").first).to_contain_text("Wrong answers")
    expect(page.get_by_role("button", name=re.compile("Print"))).to_be_hidden()
    page.get_by_role("navigation", name="Details").get_by_role("link", name="Reproduce").click()
    expect(page.get_by_role("heading", name="Recipe")).to_be_visible()
    expect(page.get_by_role("heading", name="Export")).to_be_hidden()
    context.close()


def test_each_tab_shows_its_panel_alone_and_says_so(report: Page):
    for size in (DESK, PHONE):
        report.set_viewport_size(size)
        tabs = report.get_by_role("navigation", name="Details")
        links = tabs.get_by_role("link")
        assert links.count() == 7
        for link in links.all():
            link.focus()
            report.keyboard.press("Enter")
            target = report.locator(str(link.get_attribute("href")))
            expect(target).to_be_in_viewport()
            expect(report.locator(".panel:visible")).to_have_count(1)
            expect(tabs).to_be_in_viewport(ratio=1)  # it stays, and covers nothing that was jumped to
            assert box(tabs)["y"] + box(tabs)["height"] <= box(target)["y"] + 1
            expect(tabs.locator("[aria-current=true]")).to_have_text(str(link.text_content()))
            expect(link).to_be_in_viewport(ratio=1)


def test_on_a_phone_the_report_reaches_its_details_within_three_screens_and_nothing_shifts(report: Page):
    count_layout_shifts(report)
    report.set_viewport_size(PHONE)
    report.reload()
    expect(report.locator("#details")).to_be_attached()
    assert box(report.locator("#details"))["y"] <= 3 * PHONE["height"]
    assert layout_shift(report) <= SHIFT_MAX


def test_the_verdict_leads_to_a_download_of_what_it_advises(report: Page):
    primary = report.locator(".verdict .button--primary")
    expect(primary).to_have_count(1)
    assert report.request.get(str(primary.get_attribute("href"))).ok
    also = report.locator(".verdict").get_by_role("link", name="LoRA trained on the examples")
    assert report.request.get(str(also.get_attribute("href"))).ok


def box(element: Locator) -> dict[str, float]:
    found = element.bounding_box()
    assert found is not None
    return dict(found)


def test_on_paper_the_tables_come_out_and_the_buttons_stay_away(report: Page):
    table = report.locator(".figure__table table").first
    expect(table).to_be_hidden()
    answers = report.locator("#predictions tbody tr:visible")
    report.get_by_role("link", name="All answers", exact=True).click()
    expect(answers).to_have_count(PREDICTIONS_PER_PAGE)
    report.emulate_media(media="print")
    expect(table).to_be_visible()
    held_out = report.request.get(f"{report.url.partition('#')[0]}held_out.jsonl").text().splitlines()
    expect(answers).to_have_count(len(held_out))
    expect(report.get_by_text("The cost of finding each")).to_be_visible()  # folded away on the screen
    expect(report.get_by_role("banner")).to_be_hidden()
    expect(report.locator("#share")).to_be_hidden()
    expect(report.get_by_role("link", name="report.md")).to_be_hidden()
    expect(report.get_by_role("heading", name="Recipe")).to_be_visible()
    tall = report.locator(".figure:has(.figure__table)").first
    expect(tall).to_have_css("break-inside", "auto")  # kept whole, it would leave an empty page before it
    assert report.pdf(format="A4").startswith(b"%PDF")
