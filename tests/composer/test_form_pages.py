"""The page to ask on: drafts that keep themselves, what it tells meanwhile; and the list."""

import json
import re

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test.utils import CaptureQueriesContext

from composer.core.spec.choices import LEVELS, level_budget
from composer.core.spec.examples import Example, example_sha256
from composer.matching.ranking import rank_modules
from composer.models import Composition, Draft, ScreenedLoss
from composer.request.drafts import DRAFTS_MAX, draft_keep
from composer.request.views import HEADER_LEFT_OUT
from composer.services import composition_cancel
from composer.task.demo_tasks import demo_tasks
from modules_registry.demo_worlds import ENGLISH, demo_world
from modules_registry.services import module_edit, version_add
from tests.composer.conftest import SHOTS
from tests.composer.test_pages import NEW, filled, page_of
from tests.factories import adapter_files, config_file, make_base, make_module, weights_file

pytestmark = pytest.mark.usefixtures("wakes")  # nothing here reaches a broker

KEEP = "/compositions/drafts/"
LIST = "/compositions/"


@pytest.fixture
def browser(browser_of, alice, modules):
    return browser_of(alice)


def test_a_form_is_kept_as_it_is_typed_and_opens_again_by_itself(browser):
    answer = browser.post(
        KEEP, filled(name="Colours", shots_input=["red"], shots_output=["rou"], level="quick")
    )
    assert answer.headers["HX-Replace-Url"] == f"{NEW}?draft=0f8b"
    for address in (NEW, f"{NEW}?draft=0f8b"):
        page = page_of(browser.get(address))
        assert 'value="Colours"' in page
        assert ">rou</textarea>" in page
        assert re.search(r'name="level" value="quick" checked', page)
        assert "Draft restored." in page
    assert "Colours" not in page_of(browser.get(f"{NEW}?new"))
    assert "Colours" in page_of(browser.get(LIST))


def test_a_draft_without_a_name_is_listed_by_its_first_example(browser):
    for key, inputs in (("0f8b", ["", "red"]), ("77aa", [""])):
        form = filled(form_key=key, name=" ", shots_input=inputs, shots_output=[""] * len(inputs))
        browser.post(KEEP, form)
    page = page_of(browser.get(LIST))
    assert f'<a href="{NEW}?draft=0f8b">red</a>' in page
    assert f'<a href="{NEW}?draft=77aa">Untitled</a>' in page


def test_examples_that_name_no_module_are_not_promised_to_do_so(browser):
    kept = browser.post(KEEP, filled(name="", shots_input=["red"], shots_output=["rou"]))
    assert "Say what the adapter should do: its words find the most promising." in page_of(kept)
    assert "The most promising appear once you say what the adapter should do." in page_of(
        browser.get(f"{NEW}?new")
    )


def test_a_form_that_was_refused_is_still_the_draft_it_was(browser):
    browser.post(KEEP, filled())
    assert "Draft saved" in page_of(browser.post(NEW, filled(seed="")), 422)


def test_the_same_form_is_one_draft_and_two_tabs_are_two(browser):
    for key, name in (("0f8b", "Red"), ("0f8b", "Rouge"), ("77aa", "Green")):
        browser.post(KEEP, filled(form_key=key, name=name))
    assert [draft.name for draft in Draft.objects.order_by("key")] == ["Rouge", "Green"]


def test_what_is_composed_is_no_draft_any_more_and_going_back_begins_with_a_copy(browser):
    browser.post(KEEP, filled())
    browser.post(NEW, filled())
    assert not Draft.objects.exists()
    page = page_of(browser.get(f"{NEW}?draft=0f8b"))
    assert 'value="Fruit"' in page
    assert "A copy of" in page


def test_a_draft_is_discarded_by_its_button(browser):
    browser.post(KEEP, filled(name="Colours"))
    browser.post(f"{KEEP}0f8b/discard/")
    assert "Colours" not in page_of(browser.get(NEW))


def test_a_key_that_is_none_discards_nothing_and_breaks_nothing(browser):
    browser.post(KEEP, filled())
    assert browser.post(f"{KEEP}%00/discard/").status_code == 404
    assert browser.get(f"{NEW}?draft=%00").status_code == 200
    assert Draft.objects.exists()


def test_nobody_but_its_writer_sees_or_discards_a_draft(browser, browser_of, charlie):
    browser.post(KEEP, filled(name="Colours"))
    stranger = browser_of(charlie)
    assert "Colours" not in page_of(stranger.get(f"{NEW}?draft=0f8b"))
    stranger.post(f"{KEEP}0f8b/discard/")
    assert Draft.objects.get().name == "Colours"


def test_without_a_script_a_button_keeps_the_form_and_gives_it_more_rows(browser):
    answer = browser.post(NEW, filled(keep="rows"))
    assert answer.headers["Location"] == f"{NEW}?draft=0f8b&goes-on"
    page = page_of(browser.get(answer.headers["Location"]))
    assert page.split('<template id="grid-row"')[0].count('name="shots_input"') == len(SHOTS) + 5 + 1
    assert not Composition.objects.exists()


def test_only_so_many_drafts_are_kept_the_latest(alice):
    for number in range(DRAFTS_MAX + 2):
        draft_keep(owner=alice, key=f"key-{number}", fields={"name": [str(number)]})
    assert Draft.objects.count() == DRAFTS_MAX
    assert not Draft.objects.filter(key__in=("key-0", "key-1")).exists()


@pytest.mark.parametrize(
    "changes", [{"form_key": "../x"}, {"sentence": "\0"}, {"shots_text": "x" * 2_000_001}]
)
def test_what_cannot_be_kept_is_told_and_what_it_leads_to_is_told_all_the_same(browser, changes):
    page = page_of(browser.post(KEEP, filled(**changes)))
    assert "Not saved:" in page
    assert 'id="summary"' in page
    assert not Draft.objects.exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"budget": "many", "method": "magic", "level": "far", "base": "none"},
        {"screen_count": "-", "selection": "screen", "held_out_text": '"unclosed,b', "held_out_from": "x:y"},
        {"shots_input": ["a", "b"], "shots_output": ["c"], "baselines": "some", "modules": ["nobody/none"]},
        {"form_key": "", "shots_input": [], "shots_output": []},
    ],
)
def test_a_half_written_form_breaks_nothing(browser, changes):
    assert 'id="summary"' in page_of(browser.post(KEEP, filled(**changes)))


def test_rows_are_told_what_is_wrong_with_them(browser):
    page = page_of(
        browser.post(KEEP, filled(shots_input=["a", "a", "a", ""], shots_output=["b", "c", "b", "d"]))
    )
    assert "1\twarning\tRow 1 has this input with another output." in page
    assert "2\twarning\tThe same as row 1" in page
    assert "3\terror\tRow 4 has no input." in page
    assert "1 row to fix, 2 rows to check" in page


def test_the_summary_counts_what_would_be_composed(browser):
    asked = filled(held_out_text="fig,FIG\nlime,LIME\napple,APPLE\npear ,une poire", selection="auto")
    page = page_of(browser.post(KEEP, asked))
    facts = dict(re.findall(r"<dt>([\w ]+)</dt><dd[^>]*>([^<]*)</dd>", page))
    assert (facts["Examples"], facts["Modules"], facts["Held out"]) == (
        "3",
        "3",
        "2",
    )  # two have the input of an example


def test_a_dropped_file_comes_back_as_rows(browser):
    file = SimpleUploadedFile("colours.csv", b"id,answer,question\n1,rouge,red\n")
    answer = browser.post(f"{NEW}examples/", {"file": file})
    assert answer.json() == {"rows": [["red", "rouge"]], "notes": ["Not used: the column “id”."]}


@pytest.mark.parametrize("group", ["shots", "held_out"])
@pytest.mark.parametrize(
    ("name", "data", "columns", "said"),
    [
        ("a.csv", b"id,answer,question\n1,rouge,red\n", {}, ["1 example found", "red", "the column “id”."]),
        (
            "a.csv",
            b"en;fr\nred;rouge\n",
            {"input_column": "en", "output_column": "fr"},
            ["1 example found"],
        ),
        ("a.csv", b"en,fr,de\nred,rouge,rot\n", {}, ["do not tell which is the input"]),
        ("a.json", b'{"input": ["red"], "output": ["rouge"]}', {}, ["1 example found", "rouge"]),
        ("a.pdf", b"%PDF", {}, ["not an examples file"]),
    ],
)
def test_a_chosen_file_is_read_before_it_is_sent(browser, group, name, data, columns, said):
    fields = {f"{group}_{column}": chosen for column, chosen in columns.items()}
    file = SimpleUploadedFile(name, data)
    page = page_of(browser.post(f"{NEW}{group}/file/", fields | {f"{group}_file": file}))
    assert f'id="{group}_file-reading"' in page
    assert all(words in page for words in said)
    assert "Skip the first row" not in page


def test_without_a_file_nothing_is_read_and_no_other_field_has_a_file(browser):
    assert "example found" not in page_of(browser.post(f"{NEW}shots/file/"))
    assert browser.post(f"{NEW}name/file/").status_code == 404


@pytest.mark.parametrize(("name", "data"), [("x.pdf", b"%PDF"), ("x.csv", b""), ("x.csv", b"\xff\xff")])
def test_a_dropped_file_that_is_none_says_why(browser, name, data):
    answer = browser.post(f"{NEW}examples/", {"file": SimpleUploadedFile(name, data)})
    assert answer.status_code == 422
    assert answer.json()["problems"]


def test_the_base_with_most_modules_is_chosen_and_another_one_says_so(browser, tmp_path):
    make_base(tmp_path / "other", name="tests/other")
    assert "3 modules fit it, the most of any base" in page_of(browser.get(NEW))
    page = page_of(browser.post(KEEP, filled(base="tests/other")))
    assert "Your choice: 0 modules fit it; tests/tiny has most, 3." in page
    assert "No module in the library fits tests/other yet" in page


def test_modules_are_found_by_their_words_and_the_picked_ones_stay(browser):
    page = page_of(
        browser.get(f"{NEW}modules/", {"base": "tests/tiny", "find": "upp", "modules": "bob/first"})
    )
    assert re.findall(r'value="(bob/\w+)"( checked)?', page) == [("bob/upper", ""), ("bob/first", " checked")]
    assert page.index("chooser-picked") < page.index("bob/first")
    assert browser.get(f"{NEW}modules/", {"base": "none"}).status_code == 404


def test_a_module_with_the_task_s_words_promises_more(base, modules, bob):
    module_edit(editor=bob, module=modules[1], sentence="Picks the fruit")
    best, *_ = rank_modules(base, "auto", "Pick the fruit", [])
    assert (best.fit.name, best.shared) == ("bob/fruit", ("fruit", "pick"))  # it says “Picks”


def test_what_was_measured_on_these_examples_goes_before_words(base, modules, alice, bob):
    hashes = [example_sha256(shot) for shot in SHOTS]
    for module, nats in ((modules[0], 3.0), (modules[2], 1.0)):
        ScreenedLoss.objects.bulk_create(
            ScreenedLoss(
                owner=alice,
                context="c",
                module_sha256=module.current.weights_sha256,
                example_sha256=each,
                nats=nats,
            )
            for each in hashes
        )
    ranked = rank_modules(base, "auto", "fruit", SHOTS, owner=alice)
    assert [candidate.fit.name for candidate in ranked] == ["bob/upper", "bob/first", "bob/fruit"]
    assert ranked[0].nats == 1.0
    assert [candidate.reason for candidate in ranked[:2]] == [
        "tried alone on your examples: 1st",
        "tried alone on your examples: 2nd",
    ]
    other = [Example("never", "measured")]
    assert rank_modules(base, "auto", "fruit", [*SHOTS, *other], owner=alice)[0].fit.name == "bob/fruit"
    for stranger in (bob, None):  # who guesses the examples is not told that somebody has them
        found = rank_modules(base, "auto", "fruit", SHOTS, owner=stranger)
        assert {candidate.nats for candidate in found} == {None}


def test_out_of_a_large_library_the_most_promising_are_chosen_for_me(ask, monkeypatch):
    asked = {"name": "fruit", "selection": "auto", "level": "quick"}
    everything = ask(**asked)
    assert (everything.selection, everything.modules.count()) == ("all", 3)
    monkeypatch.setattr("composer.matching.ranking.QUICK_MAX", 1)
    best = ask(**asked)
    assert best.selection == "screen:1"
    assert [module.name for module in best.modules.all()] == ["bob/first", "bob/fruit", "bob/upper"]
    for name in ("MODULES_MAX", "TRIED_QUICK_MAX"):
        monkeypatch.setattr(f"composer.matching.ranking.{name}", 2)
    tried = [module.name for module in ask(**asked).modules.all()]
    assert len(tried) == 2
    assert "bob/fruit" in tried


@pytest.fixture
def versions_read(base, alice):
    """How many rows of versions a request of Alice's reads, at most."""

    def count(request) -> int:
        with CaptureQueriesContext(connection) as queries:
            request()
        return sum('"modules_registry_version"."weights_sha256"' in query["sql"] for query in queries)

    return count


@pytest.mark.parametrize("method", ["auto", "exact", "lorahub", "ties"])
def test_the_page_chooses_without_reading_the_versions_of_the_library(browser, method, versions_read):
    browser.post(KEEP, filled(method=method))
    assert versions_read(lambda: page_of(browser.get(f"{NEW}?draft=0f8b"))) == 0


def test_a_form_that_is_sent_twice_chooses_once(browser):
    with CaptureQueriesContext(connection) as first:
        browser.post(NEW, filled(selection="auto"))
    with CaptureQueriesContext(connection) as second:
        browser.post(NEW, filled(selection="auto"))
    counted = [
        sum("modules_registry_candidate" in q["sql"] and "GROUP BY" in q["sql"] for q in queries)
        for queries in (first, second)
    ]
    assert counted[1] < counted[0]
    assert Composition.objects.count() == 1


def test_what_each_method_cannot_take_is_told_in_the_list(browser, bob):
    files = {"config_file": config_file(r=4, lora_alpha=8), "weights_file": weights_file(rank=4)}
    make_module(bob, "wide", **files)
    page = page_of(browser.get(f"{NEW}modules/", {"base": "tests/tiny"}))
    refused = set(re.findall(r"Not with (\w+): Its rank is 4; the others have 2\.", page))
    assert refused == {"lorahub", "linear", "magnitude", "ties", "dare_linear", "dare_ties"}


def test_a_double_click_is_one_composition_though_the_library_grew_in_between(browser, bob, monkeypatch):
    monkeypatch.setattr("composer.matching.ranking.MODULES_MAX", 3)
    sent = filled(selection="auto")
    first = browser.post(NEW, sent)
    make_module(bob, "fourth", seed=4)
    assert browser.post(NEW, sent).headers["Location"] == first.headers["Location"]
    assert Composition.objects.get().modules.count() == 3


def test_a_double_click_is_one_composition_though_a_module_has_a_new_version(browser, bob, modules):
    sent = filled(selection="chosen", modules=["bob/upper"])
    browser.post(NEW, sent)
    version_add(author=bob, module=modules[2], **adapter_files(seed=99))
    browser.post(NEW, sent)
    assert Composition.objects.count() == 1


@pytest.mark.parametrize("level", [level.name for level in LEVELS])
def test_how_far_decides_the_budget_and_again_begins_with_it(browser, level):
    browser.post(NEW, filled(method="auto", selection="auto", seed="42", level=level))
    composition = Composition.objects.get()
    assert composition.budget == level_budget(level, "auto")
    assert composition.baselines == ("thorough" if level == "thorough" else "always")
    page = page_of(browser.get(f"{NEW}?again={composition.pk}"))
    assert re.search(rf'name="level" value="{level}" checked', page)
    assert '<details class="more" open>' not in page.partition("step-far")[2].partition("Advanced")[0]


def test_a_budget_of_one_s_own_goes_before_how_far(browser):
    browser.post(NEW, filled(level="quick", budget="77", baselines="none"))
    composition = Composition.objects.get()
    assert (composition.budget, composition.baselines) == (77, "none")
    assert 'value="77"' in page_of(browser.get(f"{NEW}?again={composition.pk}"))


def test_the_list_is_narrowed_by_state_and_by_words(browser, ask, done, alice):
    done(name="Found good")
    ask(name="Waits")
    composition_cancel(owner=alice, composition_id=ask(name="Given up").pk)
    names = ("Found good", "Waits", "Given up")

    def shown(query: str) -> list[str]:
        page = page_of(browser.get(f"{LIST}?{query}"))
        return [name for name in names if f">{name}</a>" in page]

    assert shown("") == list(names)
    assert shown("state=going") == ["Waits"]
    assert shown("state=useful") == ["Found good"]
    assert shown("state=ended") == ["Given up"]
    assert shown("q=GIVEN") == ["Given up"]
    assert shown("state=going&q=given") == []
    assert shown("state=nonsense") == list(names)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("red\nlight green\n", {"column": ["red", "light green"]}),
        ('"red\nwine"\n', {"column": ["red\nwine"]}),
        ("red,rouge\ngreen\n", {"column": None}),
        ('{"input": "red"}\n{"input": "green"}\n', {"column": None}),
        (
            "review\tlabel\nvery good\tyes\nvery bad\tno\n",
            {
                "rows": [["very good", "yes"], ["very bad", "no"]],
                "notes": [HEADER_LEFT_OUT.format(names="“review”, “label”")],
            },
        ),
        ("id\ttext\tlabel\n1\tred\trouge\n", {"notes": ["Not used: the column “id”."]}),
    ],
)
def test_a_pasted_text_is_read_as_a_file_and_one_column_as_its_cells(browser, text, answer):
    got = browser.post(f"{NEW}examples/", {"file": SimpleUploadedFile("pasted.txt", text.encode())}).json()
    assert {name: got.get(name) for name in answer} == answer


def many(n: int) -> dict[str, list[str]]:
    return {
        "shots_input": [f"word {number}" for number in range(n)],
        "shots_output": [f"WORD {number}" for number in range(n)],
    }


@pytest.mark.parametrize(("n", "aside"), [(8, 0), (9, 4), (20, 10), (60, 44)])
def test_with_many_examples_some_can_be_kept_aside_to_measure(browser, n, aside):
    page = page_of(browser.post(KEEP, filled(**many(n))))
    assert (f"Keep {aside} aside to measure" in page) == bool(aside)
    shown = browser.post(NEW, filled(keep="aside", **many(n)), follow=True)
    preview = shown.context["preview"]
    assert (preview.n_shots, preview.n_held_out) == (n - aside, aside)
    assert "aside to measure" not in shown.content.decode()


def test_examples_are_kept_aside_from_all_over_the_list_and_nothing_is_lost(browser):
    form = filled(**many(9), shots_text="word 9\tWORD 9\nword 10\tWORD 10\n")
    form["shots_input"].append("no output")
    form["shots_output"].append("")
    browser.post(NEW, form | {"keep": "aside"})
    kept = Draft.objects.get().fields
    assert kept["shots_input"] == ["word 0", "word 2", "word 4", "word 6", "word 8", "no output"]
    assert kept["shots_text"] == [""]
    (held_out,) = kept["held_out_text"]
    assert [json.loads(line)["input"] for line in held_out.splitlines()] == [
        f"word {number}" for number in (1, 3, 5, 7, 9, 10)
    ]


def test_nothing_is_offered_aside_where_others_measure_or_a_text_is_broken(browser):
    for changes in ({"held_out_text": "fig\tFIG\n"}, {"shots_text": 'input,output\n"red,rouge\n'}):
        assert "aside to measure" not in page_of(browser.post(KEEP, filled(**many(12), **changes)))


def test_how_inputs_were_seen_follows_the_base_that_is_chosen(browser, tmp_path):
    task = demo_tasks()[0]
    make_base(tmp_path / "demo", name=task.base)
    assert task.shots[0].input not in page_of(browser.post(KEEP, filled()))
    assert f"<code>{task.shots[0].input}</code>" in page_of(browser.post(KEEP, filled(base=task.base)))


def test_tasks_of_the_chosen_base_stand_first(browser, tmp_path):
    other = make_base(tmp_path / "english", name=demo_world(ENGLISH).listing["base"])
    first = next(task for task in demo_tasks() if task.base == other.name)
    page = page_of(browser.get(f"{NEW}?task={first.name}"))
    assert page.index(f"?task={first.name}") < page.index(f"?task={demo_tasks()[0].name}")


def test_held_out_examples_are_in_sight_and_little_folds_away(browser):
    page = page_of(browser.get(f"{NEW}?new"))
    assert page.partition("<main")[2].count("<details") <= 5
    assert not is_folded(page, "held_out_text")
    assert is_folded(page, "shots_text")


def is_folded(page: str, field: str) -> bool:
    before = page[: page.index(f'name="{field}"')]
    return before.count("<details") > before.count("</details>")
