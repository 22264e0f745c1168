"""The report: its sentence, its pictures, its answers by the page, and its files."""

import csv
import io
import json
import re

import pytest

from composer.core.spec.adapter_size import size_text, vllm_rank
from composer.models import Composition
from composer.report.exports import FILES, cell
from composer.report.next_steps import next_steps
from composer.report.page import PREDICTIONS_PER_PAGE, layers_differ, modules_text, stage_rows
from composer.report.scales import axis_end, loss_scale
from composer.report.verdict import nats_text, verdict_view
from composer.run.job_folder import job_description
from composer.watch.progress import progress_view
from tests.composer.fake_jobs import small_report
from tests.pages.rendered import collapsed

pytestmark = pytest.mark.usefixtures("wakes")


def row(key, percent=None, interval=None, left_out=None, detail=""):
    return {
        "key": key, "label": key, "detail": detail, "few_shot_loss_nats": 1.0, "left_out_loss_nats": left_out,
        "held_out_exact_match_percent": percent, "interval_percent": interval,
        "cost": {"candidates": 1, "gradient_steps": 0, "seconds": 0.1},
    }  # fmt: skip


def report_of(decision, rows, **more):
    report = {
        "schema": 2, "n_held_out": 100, "n_shots": 5, "method": "auto",
        "verdict": {"decision": decision, "text": "In the core's words."}, "baselines": rows,
    }  # fmt: skip
    return report | more


MEASURED = [
    row("zero_shot", 0.0, [0.0, 4.0]),
    row("best_single", 34.0, [25.0, 44.0], detail="demo/french"),
    row("lora_on_shots", 41.0, [32.0, 51.0]),
    row("composed", 71.0, [62.0, 79.0]),
]
LEFT_OUT = [
    row("zero_shot", left_out=5.0),
    row("best_single", left_out=2.0, detail="a/b"),
    row("composed", left_out=0.5),
]


USE = (
    "Use the composition: it answers 71 % of 100 held-out examples correctly (95 % interval 62 to 79 %); "
    "the best baseline, a LoRA trained on the examples, 41 % (32 to 51 %)."
)
SINGLE = (
    "Use demo/french by itself: it answers 34 % of 100 held-out examples correctly "
    "(95 % interval 25 to 44 %); the composition 71 % (62 to 79 %)."
)
TRAIN = (
    "Train a LoRA on your examples instead: it answers 41 % of 100 held-out examples correctly "
    "(95 % interval 32 to 51 %); the composition 71 % (62 to 79 %)."
)
NONE = (
    "No sure gain from composing: the composition answers 71 % of 100 held-out examples correctly "
    "(95 % interval 62 to 79 %); a LoRA trained on the examples 41 % (32 to 51 %)."
)


@pytest.mark.parametrize(
    ("decision", "sentence"), [("use", USE), ("single", SINGLE), ("train", TRAIN), ("none", NONE)]
)
def test_the_verdict_is_one_sentence_with_its_two_figures_and_their_intervals(decision, sentence):
    verdict = verdict_view(report_of(decision, MEASURED))
    assert verdict["sentence"] == sentence
    assert "Decided on 100 held-out examples" in verdict["certainty"]
    assert "McNemar" in verdict["certainty"]


@pytest.mark.parametrize(("rows", "n_held_out"), [(MEASURED, 100), (LEFT_OUT, 0)])
def test_a_verdict_that_was_not_measured_claims_nothing(rows, n_held_out):
    verdict = verdict_view(report_of("unmeasured", rows, n_held_out=n_held_out))
    assert verdict["sentence"] == "In the core's words."
    assert verdict["certainty"] == "Nothing was measured that could decide it."


def test_without_held_out_examples_it_says_that_its_evidence_is_weaker():
    verdict = verdict_view(report_of("use", LEFT_OUT, n_held_out=0))
    assert (
        "it costs 0.50 nats per token; the best baseline, the best single module (a/b), 2.00."
        in verdict["sentence"]
    )
    assert "weaker evidence" in verdict["certainty"]
    assert "5 examples" in verdict["certainty"]
    assert "with 86 % certainty and has 10 % less loss, or has less than 0.4 of" in verdict["certainty"]


UNSURE = (
    "The composition leads, but that may be luck. It answers 71 % of 100 held-out "
    "examples correctly (95 % interval 62 to 79 %), a LoRA trained on the examples 41 % (32 to 51 %): add "
    "held-out examples to know."
)


def test_a_lead_that_may_be_luck_is_told_as_that():
    view = verdict_view(judged("unsure", MEASURED, None))
    assert (view["badge"], view["label"], view["sentence"]) == ("quiet", "Too few examples to tell", UNSURE)


CHANCES = [
    row("zero_shot", left_out=5.0) | {"left_out_chance_percent": 1.0},
    row("lora_on_shots", left_out=3.81) | {"left_out_chance_percent": 17.0},
    row("tuned", left_out=2.79) | {"left_out_chance_percent": 25.0},
    row("composed", left_out=3.06) | {"left_out_chance_percent": 12.0},
]


@pytest.mark.parametrize(
    ("decision", "advised", "says"),
    [
        ("train", "lora_on_shots", "it gives the right token a probability of 17 %; the composition 12 %."),
        ("tune", "tuned", "it gives the right token a probability of 25 %; the composition 12 %."),
        (
            "unsure",
            "tuned",
            "a probability of 25 %, a LoRA trained on the examples 17 %: held-out examples would",
        ),
        (
            "none",
            None,
            "a probability of 12 %; the best baseline, the composition tuned on the examples, 25 %.",
        ),
    ],
)
def test_without_held_out_examples_the_sentence_has_the_figure_that_decided(decision, advised, says):
    view = verdict_view(judged(decision, CHANCES, None, advised) | {"n_held_out": 0})
    assert says in view["sentence"]


def test_an_uncertain_lead_is_held_against_the_uniform_average_where_that_is_the_best():
    rows = [*CHANCES, row("uniform", left_out=3.3) | {"left_out_chance_percent": 21.0}]
    view = verdict_view(judged("unsure", rows, None, "tuned") | {"n_held_out": 0})
    assert "a probability of 25 %, the uniform average 21 %" in view["sentence"]


def test_small_losses_keep_the_figure_that_tells_them_apart():
    assert [nats_text(loss) for loss in (0.0046, 0.0061, 0.5, 7.834)] == ["0.005", "0.006", "0.50", "7.83"]


def test_without_any_comparison_the_core_s_own_words_stand():
    alone = [row("composed", 71.0, [62.0, 79.0])]
    assert verdict_view(report_of("none", alone))["sentence"] == "In the core's words."


WEAK = {
    "level": "weak", "key": "composed", "share_percent": 33.0, "interval_percent": [19.0, 51.0],
    "measured_on": "held_out", "text": "By itself it is weak: the composition answers 33 %.",
}  # fmt: skip


def judged(decision, rows, quality, advised="composed"):
    told = {"decision": decision, "text": "In the core's words.", "quality": quality, "advised": advised}
    return report_of(decision, rows, verdict=told)


def test_the_best_of_all_that_is_weak_is_not_just_advised():
    view = verdict_view(judged("use", [*MEASURED[:-1], row("composed", 33.0, [19.0, 51.0])], WEAK))
    assert (view["badge"], view["label"]) == ("warning", "Best of four, but right one time in three")
    assert view["sentence"].startswith("The composition is the best of all, but weak: it answers 33 %")
    assert view["quality"] == {
        "level": "weak", "badge": "warning", "icon": "triangle-alert", "label": "Weak by itself",
        "meaning": "expect 49 to 81 % of its answers to be wrong",
        "text": WEAK["text"],
    }  # fmt: skip
    good = verdict_view(judged("use", MEASURED, WEAK | {"level": "good"}))
    assert (good["label"], good["sentence"], good["quality"]["badge"]) == ("Use it", USE, "success")
    assert verdict_view(report_of("use", MEASURED))["quality"] is None  # an earlier report


def test_the_page_says_in_words_and_colour_that_the_advice_is_weak_and_what_a_question_costs(done, page_of):
    composition = done()
    rows = [*composition.report["baselines"], row("in_context", 10.0, [2.0, 30.0]) | {"prompt_tokens": 60.0}]
    rows[1] = rows[1] | {"prompt_tokens": 6.0}
    told = composition.report["verdict"] | {"quality": WEAK, "advised": "composed"}
    page = collapsed(page_of(changed(composition, verdict=told, baselines=rows)))
    assert "verdict--warning" in page
    assert "badge--warning" in page
    assert "Weak by itself" in page
    assert "The composition uses 6 tokens of prompt per question against 60 with" in page


def test_every_file_and_the_api_tell_the_quality_and_the_tokens(browser_of, api_of, alice, done):
    composition = done()
    rows = [*composition.report["baselines"], row("in_context", 10.0, [2.0, 30.0]) | {"prompt_tokens": 60.0}]
    rows[1] = rows[1] | {"prompt_tokens": 6.0}
    told = composition.report["verdict"] | {"quality": WEAK, "advised": "in_context"}
    composition = changed(composition, verdict=told, baselines=rows)
    costs = "With the examples in the prompt each question costs 60 tokens of prompt instead of 6"
    markdown = fetched(browser_of, alice, composition, "report.md")
    assert WEAK["text"] in markdown
    assert costs in markdown
    race = fetched(browser_of, alice, composition, "comparison.csv").removeprefix("\ufeff")
    assert [line["prompt_tokens"] for line in csv.DictReader(io.StringIO(race))] == ["", "6.0", "60.0"]
    verdict = api_of(alice).get(f"/api/v1/compositions/{composition.pk}/summary").json()["verdict"]
    assert (verdict["quality"]["level"], verdict["quality"]["label"]) == ("weak", "Weak by itself")
    assert verdict["tokens"].startswith(costs)


def test_the_list_of_compositions_does_not_call_a_weak_one_useful(browser_of, alice, done):
    composition = done()
    rows = composition.report["baselines"]
    rows[1] |= {"held_out_exact_match_percent": 33.0}
    changed(composition, verdict=composition.report["verdict"] | {"quality": WEAK}, baselines=rows)
    assert (
        "Best of two, but right one time in three" in browser_of(alice).get("/compositions/").content.decode()
    )


@pytest.mark.parametrize(
    ("percent", "said"),
    [(0, "almost never"), (8, "one time in ten"), (22, "one time in five"), (33, "one time in three"),
     (38, "two times in five"), (48, "less than half the time")],
)  # fmt: skip
def test_how_often_a_weak_one_is_right_is_said_in_words(percent, said):
    rows = [*MEASURED[:-1], row("composed", percent, [0.0, 60.0])]
    assert verdict_view(judged("use", rows, WEAK))["label"] == f"Best of four, but right {said}"


def test_a_weak_one_without_held_out_examples_claims_no_share_of_right_answers():
    view = verdict_view(judged("use", LEFT_OUT, WEAK) | {"n_held_out": 0})
    assert view["label"] == "Best of three, but weak"


TRAINED = {"adapter": "baselines/lora_on_shots", "detail": "rank 8, 40 steps"}


@pytest.mark.parametrize(
    ("decision", "advised", "first", "kind", "key"),
    [
        ("use", "composed", ("composed", "71", [62.0, 79.0]), "adapter", ""),
        ("single", "best_single", ("best_single", "34", [25.0, 44.0]), "module", "demo/french"),
        ("train", "lora_on_shots", ("lora_on_shots", "41", [32.0, 51.0]), "baseline", "lora_on_shots"),
        ("none", None, ("composed", "71", [62.0, 79.0]), "again", ""),
        ("unsure", "composed", ("composed", "71", [62.0, 79.0]), "again", ""),
    ],
)
def test_each_verdict_has_the_figure_it_is_about_first_and_the_action_it_implies(
    decision, advised, first, kind, key
):
    rows = [each | TRAINED if each["key"] == "lora_on_shots" else each for each in MEASURED]
    report = judged(decision, rows, None, advised)
    figures = verdict_view(report)["figures"]
    assert (figures[0]["key"], figures[0]["value"], figures[0]["interval_percent"]) == first
    assert len(figures) == 2
    action = next_steps(report)["action"]
    assert (action["kind"], action["key"]) == (kind, key)


def test_a_composition_to_use_is_held_against_what_one_could_take_instead_of_it():
    tuned = row("tuned", 73.0, [64.0, 81.0])
    report = judged("use", [*MEASURED[:-1], tuned, MEASURED[-1]], None)
    assert [one["key"] for one in verdict_view(report)["figures"]] == ["composed", "lora_on_shots"]


LEVEL = [
    row("zero_shot", 0.0, [0.0, 4.0]),
    row("best_single", 97.0, [92.0, 99.0], detail="demo/french"),
    row("lora_on_shots", 95.0, [89.0, 98.0]),
    row("composed", 99.0, [95.0, 100.0]),
]


def test_a_trained_lora_that_does_as_well_is_no_reason_to_train_instead():
    report = judged("train", LEVEL, WEAK | {"level": "good"}, "lora_on_shots")
    view = verdict_view(report)
    assert view["label"] == "A trained LoRA does as well"
    assert [(one["key"], one["value"]) for one in view["figures"]] == [
        ("composed", "99"), ("lora_on_shots", "95")]  # fmt: skip
    assert view["sentence"] == (
        "Either will do, as a LoRA trained on your examples does about as well: the composition answers 99 % "
        "of 100 held-out examples correctly (95 % interval 95 to 100 %); a LoRA trained on the examples 95 % "
        "(89 to 98 %)."
    )
    assert "5 points" in view["certainty"]
    assert next_steps(report)["tries"] == []


def test_a_single_module_that_does_as_well_is_advised_with_that_reason():
    view = verdict_view(judged("single", LEVEL, WEAK | {"level": "good"}, "best_single"))
    assert view["label"] == "Take the single module"
    assert view["sentence"].startswith("Use demo/french by itself, which does about as well: the composition")


@pytest.mark.parametrize(("trained", "label"), [(100.0, "Train a LoRA instead"), (76.0, None), (66.0, None)])
def test_more_than_five_points_are_a_difference(trained, label):
    rows = [*MEASURED[:2], row("lora_on_shots", trained, [60.0, 100.0]), MEASURED[-1]]
    expected = label or "A trained LoRA does as well"
    assert verdict_view(judged("train", rows, None, "lora_on_shots"))["label"] == expected


def test_without_the_trained_adapter_a_verdict_to_train_offers_no_download_of_it():
    assert next_steps(judged("train", MEASURED, None, "lora_on_shots"))["action"]["kind"] == "again"


def test_the_adapter_that_was_trained_as_a_baseline_is_offered_beside_every_verdict():
    rows = [each | TRAINED if each["key"] == "lora_on_shots" else each for each in MEASURED]
    kept = next_steps(judged("use", rows, None))["adapters"]
    assert [(one["key"], one["percent"]) for one in kept] == [("lora_on_shots", 41.0)]


def test_one_held_out_example_is_told_in_the_singular():
    (told, *_) = next_steps(judged("unsure", LEFT_OUT, None) | {"n_held_out": 1})["tries"]
    assert told == "Hold out more examples: 1 shows only a large gain."


def test_no_gain_says_what_to_try_and_a_good_one_nothing():
    tries = next_steps(judged("none", LEFT_OUT, None) | {"n_held_out": 0})["tries"]
    assert any("Hold out some examples" in text for text in tries)
    assert any("5 examples" in text for text in tries)
    hopeless = next_steps(judged("none", MEASURED, WEAK))["tries"]
    assert hopeless[0].startswith("Look for modules closer")
    assert not any("Hold out" in text for text in hopeless)
    assert next_steps(judged("use", MEASURED, WEAK | {"level": "good"}))["tries"] == []


def test_left_out_figures_have_their_interval_where_the_report_does():
    rows = [row | {"left_out_interval_percent": [5.0, 40.0]} for row in CHANCES]
    figures = verdict_view(judged("train", rows, None, "lora_on_shots") | {"n_held_out": 0})["figures"]
    assert [(one["value"], one["interval_percent"]) for one in figures] == [
        ("17", [5.0, 40.0]), ("12", [5.0, 40.0])]  # fmt: skip


@pytest.mark.parametrize(
    ("selection", "n_tried", "said"),
    [
        ("all", 27, "all 27 that fit"),
        ("screen:40", 12, "all 12 that fit"),
        ("screen:40", 212, "40 chosen for you by measured loss, of 212 tried"),
        ("chosen", 5, "5 chosen by hand"),
        ("chosen+screen:3", 5, "3 chosen for you by measured loss, of 5 chosen by hand"),
        ("random:20+screen:8", 20, "8 chosen for you by measured loss, of 20 drawn at random"),
        (
            "near:30+screen:8",
            60,
            "8 chosen for you by measured loss, of 30 chosen for you by text, of 60 tried",
        ),
    ],
)
def test_the_recipe_says_who_chose_the_modules(selection, n_tried, said):
    assert modules_text(selection, n_tried) == said


def test_layers_are_not_said_to_differ_where_their_weights_are_the_same():
    report = {"method": "exact", "weights_by_layer": {"q": [1.0, 0.5], "v": [1.001, 0.5]}}
    assert not layers_differ(report)
    assert layers_differ(report | {"weights_by_layer": {"q": [1.0, 0.5], "v": [0.9, 0.5]}})
    assert not layers_differ(report | {"weights_by_layer": None})


def test_losses_that_span_decades_lie_on_a_logarithmic_scale_and_others_begin_at_zero():
    wide = loss_scale([0.01, 10.0])
    assert wide.is_log
    assert wide.place(0.1) - wide.place(0.01) == pytest.approx(wide.place(10.0) - wide.place(1.0))
    assert [tick["text"] for tick in wide.ticks] == ["0.01", "0.1", "1", "10"]
    narrow = loss_scale([1.0, 4.0])
    assert (narrow.is_log, narrow.place(1.0), narrow.place(4.0)) == (False, 25.0, 100.0)
    assert not loss_scale([0.0, 4.0]).is_log  # a loss of zero has no logarithm


def test_an_axis_breaks_for_an_outlier_and_not_for_what_is_usual():
    assert axis_end(1.0, [9.0, 1.5, 1.4, 1.2]) == pytest.approx(1.65)
    assert axis_end(1.0, [3.0, 2.5, 1.2]) == 3.0
    assert axis_end(1.0, [0.5]) == 1.0


def changed(composition, **changes):
    composition.report |= changes
    Composition.objects.filter(pk=composition.pk).update(report=composition.report)
    return composition


@pytest.fixture
def page_of(browser_of, alice):
    return lambda composition, query="": (
        browser_of(alice).get(f"{composition.get_absolute_url()}{query}").content.decode()
    )


def test_each_module_has_a_bar_for_its_weight_and_a_mark_for_the_loss_without_it(done, page_of):
    composition = done()
    modules = [
        module | {"weight": weight, "without_loss_nats": without}
        for module, weight, without in zip(
            composition.report["modules"], (1.0, -0.5, 0.0), (4.0, 0.5, 1.0), strict=True
        )
    ]
    page = page_of(changed(composition, modules=modules))
    assert 'aria-label="loss without it 4.000"' in page
    assert 'cx="100.0%"' in page  # the largest loss
    assert 'cx="12.5%"' in page  # an eighth of it
    labels = re.findall(r'aria-label="loss without it ([\d.]+)"', page)
    assert labels == ["4.000", "0.500"]  # what is missed most first; without weight nothing is missed
    assert "bob/first is missed most: without it the loss is 4.000 instead of 1.000." in collapsed(page)
    assert "1 of these could be left out without raising it." in page
    assert 'data-label="Loss without it">0.500<' in page


def test_a_report_from_before_that_was_measured_still_shows_its_weights(done, page_of):
    page = page_of(done())
    assert "rows--pair" not in page
    assert "chart__bar--negative" in page


def test_many_answers_come_by_the_page_and_a_filter_keeps_its_pages(done, page_of):
    answers = [
        {
            "input": f"in{i}",
            "expected": "x",
            "base": "b",
            "composed": "x" if i % 2 else "b",
            "correct": bool(i % 2),
        }
        for i in range(2 * PREDICTIONS_PER_PAGE + 4)
    ]
    composition = changed(done(), predictions=answers, n_held_out=len(answers))
    first, paper = screen_and_paper(page_of(composition))
    inputs = re.findall(r">(in\d+)<", first)
    assert len(inputs) == PREDICTIONS_PER_PAGE
    assert all(int(text[2:]) % 2 for text in inputs)  # those that composing changed come first
    assert len(re.findall(r">(in\d+)<", paper)) == len(answers)
    second, paper_of_second = screen_and_paper(page_of(composition, "?show=wrong&page=2"))
    assert paper_of_second == paper  # whatever is looked at on the screen
    assert "show=wrong&amp;page=1#predictions" in second
    assert re.findall(r">(in\d+)<", second) == [
        f"in{i}" for i in range(2 * PREDICTIONS_PER_PAGE, len(answers), 2)
    ]
    beyond, _ = screen_and_paper(page_of(composition, "?show=nonsense&page=99"))
    assert len(re.findall(r">(in\d+)<", beyond)) == 4


def screen_and_paper(page):
    """The answers that are looked at, and those that are printed."""
    section = page.partition('id="predictions"')[2].partition("</section>")[0]
    screen, _, paper = section.partition('<div class="stack paper-only">')
    return screen, paper


def test_a_print_says_how_many_of_the_answers_it_has(done, page_of):
    composition = changed(done(), n_held_out=500)
    _, paper = screen_and_paper(page_of(composition))
    assert "All 2 answers in the report" in paper
    assert "The first 2 of 500 are kept." in paper


def test_the_tokens_of_a_question_are_held_against_those_of_the_examples_in_the_prompt(done, page_of):
    composition = done()
    rows = [
        *composition.report["baselines"],
        composition.report["baselines"][0] | {"key": "in_context", "prompt_tokens": 60.0},
    ]
    rows[1] = rows[1] | {"prompt_tokens": 6.0}
    page = collapsed(page_of(changed(composition, baselines=rows)))
    assert "Each question takes 6 prompt tokens." in page
    assert "With the examples in the prompt: 60 (54 more, 10.0 times as many)." in page


def test_a_warning_of_the_report_is_on_its_page_once(done, page_of):
    sentence = "The template '{input}' puts no white space between prompt and answer."
    page = page_of(changed(done(), warnings=[sentence]))
    assert page.count("puts no white space between prompt and answer") == 1


def test_stages_stand_in_the_order_they_ran_whatever_the_database_makes_of_it(done, page_of):
    seconds = {"load": 1.0, "screen": 2.0, "search": 3.0, "export": 4.0, "evaluate": 5.0}
    composition = changed(done(), seconds=seconds, gradient_steps=40)
    composition.refresh_from_db()
    page = page_of(composition)
    assert re.findall(r'aria-label="(\d)\.0 seconds"', page) == list("12345")
    assert "and 40 gradient steps, each about 3 candidates" in page


def test_the_stages_have_the_same_words_on_the_report_as_while_they_run(ask):
    running = [step["label"] for step in progress_view(ask())["steps"]]
    seconds = {"load": 1.0, "screen": 2.0, "search": 3.0, "prune": 3.5, "export": 4.0, "evaluate": 5.0}
    assert [row["label"] for row in stage_rows(seconds)] == running


# --- files ----------------------------------------------------------------------


def fetched(browser_of, alice, composition, name):
    answer = browser_of(alice).get(f"{composition.get_absolute_url()}{name}")
    assert answer.status_code == 200
    assert f'filename="{composition.slug}-{name}"' in answer["Content-Disposition"]
    return answer.content.decode()


def test_the_json_is_the_whole_report(browser_of, alice, done):
    composition = done()
    assert json.loads(fetched(browser_of, alice, composition, "report.json")) == composition.report


HOSTILE = [
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    " =1",
    "＝1",
    "a;=1",
    "a\n=1",
    '=HYPERLINK("http://x")',
]


@pytest.mark.parametrize("text", HOSTILE)
def test_no_cell_of_a_csv_is_a_formula(browser_of, alice, done, text):
    answer = {"input": text, "expected": text, "base": text, "composed": text, "correct": False}
    composition = changed(done(), predictions=[answer])
    written = fetched(browser_of, alice, composition, "predictions.csv").removeprefix("\ufeff")
    (line,) = csv.DictReader(io.StringIO(written, newline=""))
    for value in line.values():
        for part in re.split(r"[;\t\r\n]", value):
            assert part.lstrip()[:1] not in tuple("=+-@＝")
    assert line["input"].replace("'", "") == text


def test_a_csv_keeps_numbers_as_numbers_and_harmless_text_as_it_is(browser_of, alice, done):
    composition = done()
    lines = list(
        csv.DictReader(
            io.StringIO(fetched(browser_of, alice, composition, "modules.csv").removeprefix("\ufeff"))
        )
    )
    assert [float(line["weight"]) for line in lines] == [0.5, -0.5, -1.5]
    assert cell("a = b; c - d, e") == "a = b; c - d, e"
    race = list(
        csv.DictReader(
            io.StringIO(fetched(browser_of, alice, composition, "comparison.csv").removeprefix("\ufeff"))
        )
    )
    assert [line["exact_match_percent"] for line in race] == ["0.0", "50.0"]


def test_the_markdown_has_verdict_race_modules_and_answers_and_nothing_breaks_out_of_a_cell(
    browser_of, alice, done
):
    answer = {
        "input": "a|b",
        "expected": "<b>",
        "base": "x\ny",
        "composed": "[l](http://x)",
        "correct": False,
    }
    text = fetched(browser_of, alice, changed(done(), predictions=[answer]), "report.md")
    assert "Use the composition: it answers 50 %" in text
    assert r"| a\|b | \<b\> | x y | \[l\](http://x) | no |" in text
    assert "| bob/first | +0.5000 |" in text


# --- small adapters and copies ----------------------------------------------------


@pytest.fixture
def small(done):
    """A finished composition whose report names a copy and a pruned module."""
    composition = done()
    job = job_description(composition, list(composition.modules.select_related("version")))
    return changed(composition, **small_report(job))


def test_size_and_rank_stand_beside_the_verdict_with_what_vllm_takes(browser_of, alice, small, api_of):
    said = (
        "The adapter is made of 1 module, has rank 16 and 390 kB of weights; vLLM serves it with "
        "--max-lora-rank 16, peft takes any rank."
    )
    page = collapsed(browser_of(alice).get(small.get_absolute_url()).content.decode())
    assert page.index(said) < page.index('id="comparison"')
    assert said in fetched(browser_of, alice, small, "report.md").replace("\\", "")
    assert api_of(alice).get(f"/api/v1/compositions/{small.pk}/summary").json()["size"] == said


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        (
            {"rank": 9, "size_bytes": 1_240_000, "vllm_max_lora_rank": 16},
            "has rank 9 and 1.2 MB of weights; vLLM serves",
        ),
        (
            {"rank": 600, "size_bytes": 23_400_000, "vllm_max_lora_rank": None},
            "rank 600 and 23 MB of weights; peft takes",
        ),
        (
            {"rank": 4, "size_bytes": 9_960, "vllm_max_lora_rank": 8},
            "rank 4 and 10 kB of weights; vLLM",
        ),
        ({"rank": 8, "size_bytes": 0}, ""),
        ({"rank": 8}, ""),
    ],
)
def test_the_size_is_said_as_far_as_the_report_knows_it(facts, said):
    text = size_text({"modules": [{"weight": 1.0}], **facts})
    assert said in text
    assert bool(text) == bool(said)


SIZED = {"rank": 4, "size_bytes": 9_960, "vllm_max_lora_rank": 8}


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"modules": []}, "No module has a weight"),
        ({"modules": [{"weight": 0.0}, {"weight": 0.0}]}, "No module has a weight"),
        ({"modules": [{"weight": 0.0}], "weights_by_layer": {"q": [0.0]}}, "No module has a weight"),
        ({"modules": [{"weight": 0.5}], "is_zero": True}, "What the modules add is zero"),
    ],
)
def test_an_adapter_that_changes_nothing_is_said_to_answer_as_the_base(facts, said):
    whole = f"{said}: the adapter answers as the base model does."
    assert size_text(facts) == whole
    assert size_text({**facts, **SIZED}).startswith(f"{whole} It has rank 4 and 10 kB of weights;")


def test_weights_that_cancel_out_over_the_layers_carry_a_module():
    facts = {"modules": [{"weight": 0.0}], "weights_by_layer": {"q": [0.5], "v": [-0.5]}, "is_zero": False}
    assert size_text({**facts, **SIZED}).startswith("The adapter is made of 1 module,")


def test_ranks_are_served_by_vllm_with_the_next_limit_it_takes():
    found = [vllm_rank(rank, is_encoder_decoder=False) for rank in (1, 8, 9, 257, 512, 513)]
    assert found == [8, 8, 16, 320, 512, None]
    assert vllm_rank(8, is_encoder_decoder=True) is None


def test_copies_and_pruned_modules_are_told_on_the_page_and_in_the_files(browser_of, alice, small):
    page = collapsed(browser_of(alice).get(small.get_absolute_url()).content.decode())
    assert "Copies took part once" in page
    assert "similar weights, cosine 0.97" in page
    assert "1 module the search tried is not used" in page
    assert 'href="/bob/fruit"' in page
    text = fetched(browser_of, alice, small, "report.md")
    assert "| bob/fruit | bob/first | similar weights, cosine 0.97 |" in text
    assert "| bob/upper | -1.5000 | +0.0042 |" in text
    assert 'Credit for the modules in the adapter: <a href="/bob">bob</a> (2 modules).' in page
    assert (
        "Credit for the modules in the adapter: bob (2 modules)." in text
    )  # with the copy, not the pruned one
    for told in (page, text):
        assert "Each change is for this module alone, before refitting." in told
        assert "before refitting, nats per token" in told
    csv_text = fetched(browser_of, alice, small, "modules.csv").removeprefix("\ufeff")
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(csv_text))}
    assert {name: row["role"] for name, row in rows.items()} == {
        "bob/first": "composed",
        "bob/fruit": "copy",
        "bob/upper": "pruned",
    }
    assert (rows["bob/fruit"]["copy_of"], rows["bob/fruit"]["similarity"]) == ("bob/first", "0.97")
    assert rows["bob/upper"]["loss_change_nats"] == "0.0042"


@pytest.mark.parametrize("name", FILES)
def test_a_stranger_gets_no_file_and_an_unfinished_one_has_none(browser_of, alice, charlie, ask, done, name):
    assert browser_of(charlie).get(f"{done().get_absolute_url()}{name}").status_code == 404
    assert browser_of(alice).get(f"{ask(seed=2).get_absolute_url()}{name}").status_code == 404


# --- the same for programs --------------------------------------------------------


def test_the_api_tells_the_sentence_the_command_and_the_snippets_of_the_page(api_of, alice, done, browser_of):
    composition = done()
    told = api_of(alice).get(f"/api/v1/compositions/{composition.pk}/summary").json()
    page = browser_of(alice).get(composition.get_absolute_url())
    assert told["verdict"]["sentence"] == page.context["verdict"]["sentence"]
    assert told["command"] == page.context["command"]
    assert [snippet["key"] for snippet in told["snippets"]] == ["get", "peft", "merged", "vllm"]


def test_the_api_pages_and_filters_the_answers(api_of, alice, done):
    address = f"/api/v1/compositions/{done().pk}/predictions"
    everything = api_of(alice).get(f"{address}?page_size=1").json()
    assert (everything["count"], len(everything["results"])) == (2, 1)
    wrong = api_of(alice).get(f"{address}?show=wrong").json()
    assert [answer["expected"] for answer in wrong["results"]] == ["LIME"]
    assert api_of(alice).get(f"{address}?show=none").json()["error"]["code"] == "bad_show"


@pytest.mark.parametrize("path", ["summary", "predictions", "files/report.json"])
def test_the_api_s_report_is_the_owner_s_alone_and_there_when_it_is_done(
    api_of, alice, charlie, ask, done, path
):
    assert api_of(charlie).get(f"/api/v1/compositions/{done().pk}/{path}").status_code == 404
    early = api_of(alice).get(f"/api/v1/compositions/{ask(seed=2).pk}/{path}")
    assert (early.status_code, early.json()["error"]["code"]) == (409, "not_done")
    assert api_of(alice).get(f"/api/v1/compositions/{done(seed=3).pk}/files/etc.passwd").status_code == 404


def test_its_owner_downloads_the_examples_by_the_api_as_from_the_page(api_of, browser_of, alice, bob, done):
    composition = done()
    for name in ("examples.jsonl", "held_out.jsonl"):
        address = f"/api/v1/compositions/{composition.pk}/{name}"
        answer = api_of(alice).get(address)
        assert answer["Content-Type"] == "application/x-ndjson"
        rows = [json.loads(line) for line in answer.content.decode().splitlines()]
        assert all(set(row) == {"input", "output"} for row in rows)
        assert rows
        assert answer.content == browser_of(alice).get(f"/compositions/{composition.pk}/{name}").content
        assert api_of(bob).get(address).status_code == 404
    composition.examples.filter(role="held_out").delete()
    assert api_of(alice).get(address).status_code == 404
