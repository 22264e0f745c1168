"""Choosing modules out of more than can be composed, or tried."""

import pytest

from composer.core.spec.examples import example_sha256
from composer.matching import ranking
from composer.matching.compatibility import find_fitting, modules_to_choose_from
from composer.matching.selection import count_modules
from composer.models import ScreenedLoss
from composer.run.job_folder import job_description
from hub_site.common.errors import Refusal
from modules_registry.models import NearCopy, Sketch, Version
from tests.composer.conftest import SHOTS
from tests.factories import make_module

pytestmark = pytest.mark.usefixtures("wakes")


@pytest.fixture
def library(modules, bob):
    """Six modules that fit; at most two are composed, and four tried."""
    more = [make_module(bob, name, seed=10 + seed) for seed, name in enumerate(("x1", "x2", "x3"))]
    return [*modules, *more]


@pytest.fixture
def limits(monkeypatch):
    def limit(**values):
        for name, value in values.items():
            monkeypatch.setattr(ranking, name, value)

    limit(MODULES_MAX=2, TRIED_MAX=4, QUICK_MAX=1, TRIED_QUICK_MAX=3)
    return limit


def names(composition):
    return [module.name for module in composition.modules.all()]


@pytest.mark.parametrize(
    ("selection", "stored"),
    [
        ("all", "screen:2"),
        ("auto", "screen:2"),
        ("screen:1", "screen:1"),
        ("screen:2", "screen:2"),
        ("screen:20", "screen:20+screen:2"),
        ("near:3+screen:1", "near:3+screen:1"),
        ("near:3", "near:3+screen:2"),
    ],
)
def test_out_of_too_many_the_most_promising_are_tried_and_the_best_composed(
    ask, library, limits, selection, stored
):
    composition = ask(selection=selection, name="fruit")
    assert composition.selection == stored
    assert len(names(composition)) == 4
    assert "bob/fruit" in names(composition)
    assert names(composition) == sorted(names(composition))
    described = job_description(composition, list(composition.modules.select_related("version__module")))
    assert described["select"] == stored


def test_a_quick_one_tries_fewer(ask, library, limits):
    composition = ask(selection="auto", level="quick", name="fruit")
    assert (composition.selection, len(names(composition))) == ("screen:1", 3)


def test_a_draw_takes_of_all_that_fit_and_is_cut_down_by_trying(ask, library, limits):
    composition = ask(selection="random:3")
    assert (composition.selection, len(names(composition))) == ("random:3+screen:2", 3)
    assert names(ask(selection="random:3")) == names(composition)
    assert names(ask(selection="random:3", seed=8)) != names(ask(selection="random:3", seed=9))
    for too_many in ("random:5", "random:7"):  # than are tried, than fit
        with pytest.raises(Refusal, match="cannot be drawn"):
            ask(selection=too_many)


def test_named_modules_are_cut_down_only_where_that_is_asked(ask, library, limits):
    three = ["bob/x1", "bob/x2", "bob/fruit"]
    with pytest.raises(Refusal, match="at most 2 are composed at once"):
        ask(selection="chosen", modules=three)
    assert sorted(names(ask(selection="chosen+screen:2", modules=three))) == sorted(three)


def test_what_was_tried_before_goes_before_words(ask, library, limits, alice):
    limits(TRIED_MAX=2)
    worst = library[-1]
    ScreenedLoss.objects.bulk_create(
        ScreenedLoss(owner=alice, context="c", module_sha256=worst.current.weights_sha256,
                     example_sha256=example_sha256(shot), nats=0.1)
        for shot in SHOTS
    )  # fmt: skip
    assert names(ask(selection="all", name="fruit")) == ["bob/fruit", "bob/x3"]


def test_copies_are_tried_after_everything_else(library, base):
    def tried():
        ranked = ranking.rank_fitting(find_fitting(base, "exact", None), "fruit", SHOTS, None, limit=4)
        return [each.fit for each in ranked]

    before = tried()
    sketches = [Sketch.objects.create(base_name=base.name, delta_sha256=str(n), norm=1.0) for n in range(2)]
    for fit, sketch in zip(before[1:3], sketches, strict=True):
        Version.objects.filter(pk=fit.version_id).update(sketch=sketch)
    NearCopy.objects.create(first=sketches[0], second=sketches[1], cosine=0.9995)
    near = tried()
    assert near[:3] == [before[0], before[1], before[3]]
    assert len({fit.name for fit in near} - {fit.name for fit in before}) == 1
    Version.objects.filter(pk=before[2].version_id).update(sketch=sketches[0])  # now the same weights
    NearCopy.objects.all().delete()
    assert tried() == near


def test_files_that_are_too_large_together_are_not_all_tried(ask, library, limits):
    limits(TRIED_BYTES=0)
    assert len(names(ask(selection="all"))) == 2


def test_a_larger_base_tries_fewer(base):
    base.parameters = 1_000_000
    assert ranking.most_tried(base) == ranking.TRIED_MAX
    base.parameters = 750_000_000
    assert ranking.most_tried(base) == ranking.MODULES_MAX
    assert ranking.most_found(base) == ranking.FOUND_MIN


@pytest.mark.parametrize(
    ("selection", "level", "counted"),
    [
        ("all", "balanced", (4, 2)),
        ("auto", "quick", (3, 1)),
        ("screen:1", "balanced", (4, 1)),
        ("random:3", "balanced", (3, 2)),
        ("chosen", "balanced", (2, 2)),
        ("no selection", "balanced", (4, 2)),
    ],
)
def test_the_form_counts_as_the_request_will(library, limits, base, selection, level, counted):
    found = count_modules(find_fitting(base, "exact", None), selection, level, 2)
    assert (found.n_tried, found.n_modules) == counted


def test_the_list_to_choose_from_says_how_many_it_leaves_out_and_finds_them(
    library, base, alice, monkeypatch
):
    monkeypatch.setattr("composer.matching.compatibility.CHOICES_SHOWN_MAX", 2)
    found = modules_to_choose_from(base, alice, chosen=["bob/x3"])
    assert [module.name for module in found.picked] == ["bob/x3"]
    assert [module.name for module in found.modules] == ["bob/first", "bob/fruit"]
    assert found.left_out_text == "3 more are not shown. Find them by a name or a word."
    searched = modules_to_choose_from(base, alice, "upper")
    assert [module.name for module in searched.modules] == ["bob/upper"]
    assert searched.left_out_text == ""
