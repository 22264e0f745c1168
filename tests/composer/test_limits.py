"""How much work fits into the time that a composition has."""

import pytest

from composer.core.spec.job_spec import FittedWork
from composer.timing.limits import search_limit_s, work_that_fits

pytestmark = pytest.mark.usefixtures("wakes")


@pytest.mark.parametrize(
    ("parameters", "budget", "seconds"),
    [
        (1_000_000, 400, 180),
        (135_000_000, 400, 180),  # balanced
        (135_000_000, 200, 90),  # quick
        (135_000_000, 1000, 450),  # thorough
        (500_000_000, 400, 480),
        (783_000_000, 400, 600),
        (7_000_000_000, 400, 600),
        (7_000_000_000, 1000, 0.6 * 1800),  # 2.5 times as long is beyond the deadline's share
        (135_000_000, 399, 0.6 * 1800),  # no level's: only the deadline bounds it
    ],
)
def test_the_time_of_choice_and_search_goes_by_the_level_and_the_base(base, parameters, budget, seconds):
    base.parameters = parameters
    assert search_limit_s(base, "auto", budget) == pytest.approx(seconds)


def test_the_operator_s_limits_hold(base, settings):
    base.parameters = 7_000_000_000
    settings.HUB_COMPOSE_SEARCH_S = 200
    assert search_limit_s(base, "auto", 400) == 200
    settings.HUB_COMPOSE_DEADLINE_S = 100
    assert search_limit_s(base, "auto", 400) == 60


def test_as_many_candidates_as_fit_are_searched_and_no_more_than_asked_for(base):
    base.parameters = 783_000_000
    fits = work_that_fits(base, "auto", 400, candidate_s=4.0, taken_s=100.0)
    assert fits.budget == 125  # (600 - 100) / 4
    assert fits.training == 250  # 600 s / 4 s, of which trainings may take 0.35 + 0.25
    assert work_that_fits(base, "auto", 400, candidate_s=0.01).budget == 400
    assert work_that_fits(base, "auto", 400, candidate_s=0.01).training == 3000
    assert work_that_fits(base, "auto", 400, candidate_s=0.0).budget == 400


def test_a_search_has_forty_candidates_where_no_time_is_left(base):
    base.parameters = 7_000_000_000
    assert work_that_fits(base, "auto", 400, candidate_s=60.0, taken_s=700.0).budget == 40
    assert work_that_fits(base, "auto", 10, candidate_s=60.0).budget == 10


def test_on_a_base_of_135_million_parameters_nothing_is_cut_for_lack_of_time_on_a_busy_machine(base):
    base.parameters = 135_000_000
    fits = work_that_fits(base, "auto", 400, candidate_s=0.3)
    assert (fits.budget, fits.training) == (400, 3000)


@pytest.mark.parametrize(
    ("asked", "advised"),
    [
        (200, "choose the search effort thorough, which has 5 times as long as quick, or"),
        (400, "choose the search effort thorough, which has 2.5 times as long as balanced, or"),
        (1000, "(here 5), or have the site's operator raise HUB_COMPOSE_SEARCH_S or HUB_COMPOSE_DEADLINE_S."),
        (399, "(here 5), or have the site's operator raise HUB_COMPOSE_DEADLINE_S."),  # no effort's
    ],
)
def test_a_search_with_too_little_time_says_what_gives_it_more_candidates(asked, advised):
    text = FittedWork(60, 60).warning_of_little_time(asked, method="auto", modules=12, examples=5)
    assert text.startswith(f"60 of {asked} candidates fit into the time")
    assert "compose fewer modules (here 12) or give fewer examples (here 5)" in text
    assert advised in text
