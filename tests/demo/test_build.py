import json

import pytest

from demo import BUNDLE, build
from demo.quality import QualityError, require_quality
from demo.train import BASE_SCHEDULE


@pytest.fixture
def training(monkeypatch):
    """Training that only counts, and a base that reaches the given qualities one after another."""
    rounds = []
    monkeypatch.setattr(build, "fit", lambda *args: rounds.append(args[-1]))

    def reach(*percents):
        steps = iter(percents)
        monkeypatch.setattr(build, "measure_skills", lambda *args: {"fruit": 100.0, "upper": next(steps)})
        return rounds

    return reach


def test_a_base_that_has_every_skill_is_trained_once(training):
    rounds = training(95.0)
    assert build.train_base(None, None) == {"fruit": 100.0, "upper": 95.0}
    assert len(rounds) == 1


def test_a_base_with_a_weak_skill_is_trained_on(training):
    rounds = training(40.0, 94.5, 99.0)
    build.train_base(None, None)
    assert len(rounds) == 3


def test_a_base_that_never_learns_a_skill_fails_the_build_by_name(training):
    training(*[40.0] * 10)
    with pytest.raises(QualityError, match=r"base model is below 95.0 % on dev: \{'upper': 40.0\}"):
        build.train_base(None, None)


def test_one_weak_module_is_enough_to_fail():
    with pytest.raises(QualityError, match="french"):
        require_quality("A module", {"fruit": 100.0, "french": 94.9})


def test_a_failed_build_leaves_the_old_bundle_as_it_was(monkeypatch, tmp_path):
    out = tmp_path / "bundle"
    out.mkdir()
    (out / "bundle.json").write_text("old")
    monkeypatch.setattr(build, "make_bundle", lambda folder: require_quality("A module", {"fruit": 0.0}))
    with pytest.raises(QualityError):
        build.build(out)
    assert (out / "bundle.json").read_text() == "old"


def test_a_new_bundle_takes_the_place_of_the_old_one(monkeypatch, tmp_path):
    out = tmp_path / "world" / "bundle"
    out.mkdir(parents=True)
    (out / "left-over.txt").write_text("old")
    monkeypatch.setattr(build, "make_bundle", lambda folder: (folder / "bundle.json").write_text("new"))
    build.build(out)
    assert [path.name for path in out.parent.iterdir()] == ["bundle"]
    assert [path.name for path in out.iterdir()] == ["bundle.json"]


def test_the_learning_rate_warms_up_stays_and_falls_to_nothing():
    first, last = BASE_SCHEDULE.rate(0), BASE_SCHEDULE.rate(BASE_SCHEDULE.steps - 1)
    assert first == pytest.approx(1 / BASE_SCHEDULE.warm_up)
    assert BASE_SCHEDULE.rate(BASE_SCHEDULE.steps // 2) == 1.0
    assert 0 < last < 0.001


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_the_whole_bundle_can_be_made_again(tmp_path):
    """Another processor rounds differently, so the weights may differ; what is promised may not."""
    build.build(tmp_path / "bundle")
    made, committed = (
        json.loads((folder / "bundle.json").read_text()) for folder in (tmp_path / "bundle", BUNDLE)
    )
    assert made["modules"] == committed["modules"]
    assert made["tasks"] == committed["tasks"]
    assert sorted(
        path.relative_to(tmp_path / "bundle") for path in (tmp_path / "bundle").rglob("*")
    ) == sorted(path.relative_to(BUNDLE) for path in BUNDLE.rglob("*"))
