"""What only a script does on the compose form: a grid as in a spreadsheet, and a draft that keeps itself."""

import json
import re

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.accessibility import require_accessible
from tests.browser.test_journey import sign_up

pytestmark = [pytest.mark.browser, pytest.mark.slow]

REFUSED = re.compile("422|ERR_INTERNET_DISCONNECTED|^htmx:(afterRequest|sendError|sendAbort)")
NEW = "/compositions/new/"
PASTE = """(cell, text) => {
    const clipboardData = new DataTransfer();
    clipboardData.setData("text/plain", text);
    cell.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true }));
}"""
SET = """(field, text) => {
    field.value = text;
    field.dispatchEvent(new Event("change", { bubbles: true }));
}"""
DROP = """(grid, [name, text]) => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File([text], name));
    for (const kind of ["dragenter", "dragover", "drop"])
        grid.dispatchEvent(new DragEvent(kind, { dataTransfer, bubbles: true, cancelable: true }));
}"""


@pytest.fixture(scope="module")
def members(browser, hub):
    """One visitor for all of this module's tests: signed up once."""
    context = browser.new_context(base_url=hub.address, viewport={"width": 1440, "height": 900})
    sign_up(context.new_page(), "petra")
    yield context
    context.close()


@pytest.fixture
def form(members: BrowserContext):
    """An empty form of its own draft."""
    page = members.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # The browser tells in its console of a refusal and of a lost connection, which the page tells too.
    page.on(
        "console",
        lambda it: complaints.append(it.text) if it.type == "error" and not REFUSED.search(it.text) else None,
    )
    page.goto(f"{NEW}?new")
    yield page
    page.close()
    assert complaints == []


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("Question\tAnswer\nred\trouge\ngreen\tvert\n", None),
        ("id\tAnswer\tQuestion\n1\trouge\tred\n2\tvert\tgreen\n", "Not used: the column “id”."),
        ("red,rouge\r\ngreen,vert\r\n", None),
        (
            '[{"prompt": "red", "completion": "rouge", "id": 1},\n{"prompt": "green", "completion": "vert"}]',
            "“id”",
        ),
        ('[{"instruction": "red", "output": "rouge"}, {"instruction": "green", "output": "vert"}]', None),
        ('{"input": ["red", "green"], "output": ["rouge", "vert"]}\n', None),
    ],
    ids=["a header", "more columns", "commas", "JSON", "JSON on one line", "JSON by column"],
)
def test_what_is_pasted_into_the_grid_is_read_as_a_file_is(form: Page, text, note):
    inputs(form).first.evaluate(PASTE, text)
    expect(form.locator(".toast").last).to_contain_text("2 examples from the pasted text are in the grid.")
    assert cells(form, "shots_input")[:3] == ["red", "green", ""]
    assert cells(form, "shots_output")[:3] == ["rouge", "vert", ""]
    if note:
        expect(form.get_by_text(note)).to_be_visible()


def test_one_cell_is_left_to_the_browser_and_one_column_fills_the_cells_below(form: Page):
    with form.expect_response(lambda answer: "examples" in answer.url):
        outputs(form).first.evaluate(PASTE, "rouge\nvert clair\n")
    expect(outputs(form).nth(1)).to_have_value("vert clair")
    asked = []
    form.on("request", lambda request: asked.append(request.url) if "examples" in request.url else None)
    handled = inputs(form).first.evaluate(
        PASTE.replace("cell.dispatchEvent", "return !cell.dispatchEvent"), "red\n"
    )
    assert (handled, asked) == (False, [])
    assert [text for text in cells(form, "shots_input") if text] == []


def test_pasted_json_that_is_no_examples_is_the_text_of_its_cell(form: Page):
    outputs(form).first.fill("It is .")
    outputs(form).first.evaluate("cell => cell.setSelectionRange(6, 6)")
    outputs(form).first.evaluate(PASTE, '{"name": "Bo", "age": 3}')
    expect(form.locator(".toast").last).to_contain_text("Pasted as the text of one cell")
    expect(outputs(form).first).to_have_value('It is {"name": "Bo", "age": 3}.')
    expect(form.locator("[name=shots_text]")).to_have_value("")


def test_a_chosen_file_says_below_it_what_is_read(form: Page):
    form.locator("[name=shots_file]").set_input_files(
        {"name": "a.csv", "mimeType": "text/csv", "buffer": b"a,b,c\n1,red,rouge\n"}
    )
    reading = form.locator("#shots_file-reading")
    expect(reading).to_contain_text("do not tell which is the input")
    form.locator("[name=shots_input_column]").evaluate(SET, "b")
    form.locator("[name=shots_output_column]").evaluate(SET, "c")
    expect(reading).to_contain_text("1 example found")
    expect(reading).to_contain_text("Not used: the column “a”.")


def test_a_pasted_header_of_other_names_is_left_out_and_told(form: Page):
    inputs(form).first.evaluate(PASTE, "review\tlabel\nvery good\tyes\nvery bad\tno\n")
    expect(form.get_by_text("The first row, “review”, “label”, names the columns")).to_be_visible()
    assert cells(form, "shots_input")[:3] == ["very good", "very bad", ""]


def test_examples_are_kept_aside_by_one_button(form: Page):
    inputs(form).first.evaluate(PASTE, "".join(f"word {n}\tWORD {n}\n" for n in range(12)))
    form.get_by_role("button", name="Keep 6 aside to measure").click()
    expect(summary(form)).to_contain_text(re.compile(r"Examples\s*6.*Held out\s*6", re.DOTALL))
    expect(form.locator("[name=held_out_text]")).to_be_in_viewport()


def test_a_paste_is_taken_back_by_one_key_and_what_was_there_comes_back(form: Page):
    inputs(form).first.fill("blue")
    outputs(form).first.fill("bleu")
    inputs(form).first.evaluate(PASTE, "\n".join(f"n {n}\t{n}" for n in range(70)))
    expect(form.locator(".toast").last).to_contain_text("6 more are held out")
    inputs(form).first.press("Control+z")
    assert [text for text in cells(form, "shots_input") if text] == ["blue"]
    assert [text for text in cells(form, "shots_output") if text] == ["bleu"]
    expect(form.locator("[name=held_out_text]")).to_have_value("")


def test_a_pasted_text_that_cannot_be_read_is_kept_to_mend_it(form: Page):
    broken = "input,output\nred,rouge\nHello, world,Bonjour\n"
    inputs(form).first.evaluate(PASTE, broken)
    expect(form.locator(".toast")).to_contain_text(
        "The pasted text was not added. Line 3 has 3 columns, not 2"
    )
    expect(form.locator("[name=shots_text]")).to_have_value(broken)
    assert [text for text in cells(form, "shots_input") if text] == []


def test_a_pasted_text_is_kept_when_the_server_does_not_answer(form: Page):
    form.context.set_offline(True)
    inputs(form).first.evaluate(PASTE, "red\trouge\ngreen\tvert")
    expect(form.locator("[name=shots_text]")).to_have_value("red\trouge\ngreen\tvert")
    form.context.set_offline(False)


def test_columns_of_unknown_names_are_chosen_below_with_what_the_model_will_read(form: Page):
    inputs(form).first.evaluate(PASTE, "id\tEnglish\tFrench\n1\tred\trouge\n2\tgreen\tvert\n")
    reading = form.locator("#shots-reading")
    expect(reading).to_contain_text("The columns “id”, “english”, “french” do not tell")
    form.get_by_label("Column of the input").first.fill("english")
    form.get_by_label("Column of the output").first.fill("french")
    expect(reading).to_contain_text("2 examples found")
    expect(reading.get_by_role("row", name="red rouge")).to_be_visible()
    expect(reading).to_contain_text("Not used: the column “id”.")
    require_accessible(form)


def test_the_keyboard_moves_through_the_grid_as_through_a_spreadsheet(form: Page):
    inputs(form).first.focus()
    for text, key in (("red", "Tab"), ("rouge", "Enter"), ("vert", "ArrowLeft")):
        form.keyboard.type(text)
        form.keyboard.press(key)
    # ArrowLeft within a word stays in it; at its start it leaves
    form.keyboard.press("Home")
    form.keyboard.press("ArrowLeft")
    form.keyboard.type("green")
    form.keyboard.press("ArrowUp")
    form.keyboard.press("End")
    form.keyboard.press("Shift+Enter")
    form.keyboard.type("wine")
    assert cells(form, "shots_input")[:3] == ["red\nwine", "green", ""]
    assert cells(form, "shots_output")[:2] == ["rouge", "vert"]
    form.keyboard.press("Control+Delete")
    assert cells(form, "shots_input")[:2] == ["green", ""]


def test_typing_in_the_last_row_brings_another(form: Page):
    rows = inputs(form).count()
    inputs(form).last.fill("red")
    expect(inputs(form)).to_have_count(rows + 1)


def test_a_dropped_file_fills_the_grid_and_what_is_too_much_measures(form: Page):
    lines = [json.dumps({"input": f"n {n}", "output": str(n)}) for n in range(70)]
    form.locator("[data-drop]").evaluate(DROP, ["many.jsonl", "\n".join(lines)])
    expect(form.locator(".toast")).to_contain_text("64 examples from “many.jsonl” are in the grid")
    assert [text for text in cells(form, "shots_input") if text] == [f"n {n}" for n in range(64)]
    assert form.locator("[name=held_out_text]").input_value().count("\n") == 6
    expect(summary(form)).to_contain_text(re.compile(r"Examples\s*64.*Held out\s*6", re.DOTALL))


def test_a_dropped_file_of_one_row_is_told_as_one(form: Page):
    form.locator("[data-drop]").evaluate(DROP, ["one.csv", "input,output\nred,rouge\n"])
    expect(form.locator(".toast")).to_contain_text("1 example from “one.csv” is in the grid.")


def test_a_long_text_scrolls_in_its_cell_and_leaves_the_rows_below_in_reach(form: Page):
    inputs(form).first.fill("red " * 1000)
    cell = inputs(form).first.bounding_box()
    assert cell is not None
    assert cell["height"] < 300  # px, of a window 900 high
    assert inputs(form).first.evaluate("cell => cell.scrollHeight > cell.clientHeight")


def test_a_dropped_file_that_is_none_is_refused_and_changes_nothing(form: Page):
    inputs(form).first.fill("red")
    with form.expect_response(lambda answer: "examples" in answer.url):
        form.locator("[data-drop]").evaluate(DROP, ["many.csv", 'input,output\n"red,rouge\n'])
    expect(form.locator(".toast")).to_contain_text("a quotation mark does not close")
    assert cells(form, "shots_input")[:2] == ["red", ""]


def test_rows_are_checked_while_they_are_typed(form: Page):
    for row, (given, wanted) in enumerate([("red", "rouge"), ("red", "vert"), ("blue", "")]):
        inputs(form).nth(row).fill(given)
        outputs(form).nth(row).fill(wanted)
    notes = form.locator(".grid__note:visible")
    expect(notes).to_have_text(
        ["Row 1 has this input with another output. Which one is right?", re.compile("Row 3 has no output")]
    )
    expect(form.get_by_role("status").filter(has_text="row")).to_have_text("1 row to fix, 1 row to check")
    outputs(form).nth(2).fill("bleu")
    expect(notes).to_have_count(1)
    require_accessible(form)


def test_what_is_typed_is_there_after_a_reload_in_the_list_and_until_it_is_discarded(form: Page):
    form.get_by_label("Name of the task").fill("Colours in French")
    inputs(form).first.fill("red")
    form.get_by_role("radio", name=re.compile("Thorough")).check()
    expect(form.get_by_text("Draft saved")).to_be_visible()
    expect(form).to_have_url(re.compile(r"\?draft="))
    form.wait_for_load_state("networkidle")
    form.reload()
    assert cells(form, "shots_input")[0] == "red"
    expect(form.get_by_role("radio", name=re.compile("Thorough"))).to_be_checked()
    form.goto("/compositions/")
    require_accessible(form)
    form.get_by_role("link", name="Colours in French").click()
    form.get_by_role("button", name="Discard this draft").click()
    expect(form.get_by_text("Draft discarded.")).to_be_visible()
    form.goto("/compositions/")
    expect(form.get_by_role("link", name="Colours in French")).to_have_count(0)


def test_without_a_connection_it_says_so_and_keeps_the_draft_when_it_is_back(form: Page):
    form.context.set_offline(True)
    form.get_by_label("Name of the task").fill("Written in a tunnel")
    expect(form.get_by_text("Not saved: the server does not answer")).to_be_visible()
    form.context.set_offline(False)
    expect(form.get_by_text("Draft saved")).to_be_visible()
    form.reload()
    expect(form.get_by_label("Name of the task")).to_have_value("Written in a tunnel")


def test_two_tabs_are_two_drafts(form: Page, members: BrowserContext):
    other = members.new_page()
    other.goto(f"{NEW}?new")
    for tab, name in ((form, "The first tab"), (other, "The second tab")):
        tab.get_by_label("Name of the task").fill(name)
        expect(tab.get_by_text("Draft saved")).to_be_visible()
    other.close()
    form.reload()
    expect(form.get_by_label("Name of the task")).to_have_value("The first tab")


def test_the_whole_form_by_keyboard_and_the_way_back_is_a_copy(form: Page):
    form.get_by_label("Name of the task").focus()
    form.keyboard.type("By keys alone")
    while form.evaluate("document.activeElement.name") != "shots_input":
        form.keyboard.press("Tab")
    for text in (": cow hat", "vaca", ": dog axe", "perro"):
        form.keyboard.type(text)
        form.keyboard.press("Tab")
    while "Compose" not in form.evaluate("document.activeElement.textContent"):
        form.keyboard.press("Tab")
    form.keyboard.press("Enter")
    expect(form.get_by_role("heading", level=1)).to_contain_text("By keys alone")
    form.go_back()
    expect(form.get_by_text("A copy of")).to_be_visible()
    expect(form.get_by_label("Name of the task")).to_have_value("By keys alone")
    assert cells(form, "shots_output")[:2] == ["vaca", "perro"]


def test_a_refused_form_begins_with_what_is_wrong_also_for_who_hears_it(form: Page):
    inputs(form).first.fill("an input without its output")
    form.get_by_role("main").get_by_role("button", name="Compose", exact=True).click()
    expect(form.get_by_role("alert")).to_have_text("Not started. Fix the fields marked below.")
    expect(form.get_by_role("alert")).to_be_focused()


def test_candidates_and_time_follow_what_is_typed(form: Page):
    expect(form.locator("#candidates")).to_contain_text("appear once you say what the adapter should do")
    form.get_by_label("What should the adapter do?").fill("Say the word in Spanish")
    expect(form.locator("#candidates li").first).to_contain_text("shares your words")
    expect(form.locator("#candidates")).to_contain_text("demo/spanish")
    quick, thorough = (form.locator(f"#time-{level}").inner_text() for level in ("quick", "thorough"))
    assert quick != thorough
    form.get_by_role("radio", name=re.compile("Quick")).check()
    # Both follow what is measured here meanwhile, so they are compared as they stand at one moment.
    form.wait_for_function(
        "summary => summary.textContent.includes(document.querySelector('#time-quick').textContent.trim())",
        arg=summary(form).element_handle(),
    )


def test_modules_are_found_and_picked_by_hand_and_stay_picked(form: Page):
    form.get_by_role("radio", name=re.compile("By hand")).check()
    find = form.get_by_label("Search modules to choose")
    find.fill("spanish")
    form.get_by_role("checkbox", name="demo/spanish").check()
    find.fill("animal")
    expect(form.locator("#chooser-list li")).to_have_count(1)
    picked = form.locator("#chooser-picked").get_by_role("checkbox")
    expect(picked).to_be_checked()
    picked.uncheck()
    expect(form.locator("#chooser-list").get_by_role("checkbox", name="demo/spanish")).to_be_focused()
    form.locator("#chooser-list").get_by_role("checkbox", name="demo/spanish").check()
    expect(summary(form)).to_contain_text(re.compile(r"Modules\s*1\b"))


def test_the_form_is_accessible_in_all_its_states(form: Page):
    form.goto(f"{NEW}?task=animal-spanish")
    for details in form.locator("main details").all():
        details.evaluate("details => details.open = true")
    form.get_by_role("radio", name=re.compile("By hand")).check()
    require_accessible(form)
    form.set_viewport_size({"width": 390, "height": 844})
    require_accessible(form)
    for width in (320, 390, 768):  # px; with everything unfolded nothing reaches over the edge
        form.set_viewport_size({"width": width, "height": 844})
        assert form.evaluate("document.documentElement.scrollWidth") <= width


def test_on_a_phone_the_summary_and_the_button_stay_in_view(form: Page):
    form.set_viewport_size({"width": 390, "height": 844})
    form.evaluate("scrollTo(0, 0)")
    button = form.get_by_role("main").get_by_role("button", name="Compose", exact=True)
    expect(button).to_be_in_viewport(ratio=1)
    assert form.evaluate("document.documentElement.scrollWidth") <= 390


def inputs(page: Page):
    return page.locator("tbody [name=shots_input]")


def outputs(page: Page):
    return page.locator("tbody [name=shots_output]")


def summary(page: Page):
    return page.get_by_role("complementary", name="What will be composed")


def cells(page: Page, name: str) -> list[str]:
    return page.locator(f"tbody [name={name}]").evaluate_all("cells => cells.map((cell) => cell.value)")


def test_what_is_typed_survives_a_sign_up_that_overtakes_the_request(browser, hub):
    """The request that keeps it hangs, and leaving the page aborts it."""
    context = browser.new_context(base_url=hub.address)
    page = context.new_page()
    page.goto(NEW)
    page.route(
        "**/compositions/drafts/",
        lambda route: route.continue_() if route.request.resource_type in ("ping", "beacon") else None,
    )
    page.get_by_label("Name of the task").fill("Typed in haste")
    inputs(page).first.fill("red")
    with page.expect_request(lambda request: request.method == "POST"):
        page.get_by_text("By hand").click()
    page.get_by_role("banner").get_by_role("link", name="Sign up").click()
    page.get_by_label("Username").fill("hasty")
    for field in ("password1", "password2"):
        page.locator(f"input[name={field}]").fill("seven odd words in a row")
    page.get_by_role("main").get_by_role("button", name=re.compile("sign up", re.IGNORECASE)).click()
    expect(page.get_by_label("Name of the task")).to_have_value("Typed in haste")
    assert cells(page, "shots_input")[0] == "red"
    context.close()
