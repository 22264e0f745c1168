"""Exact match against scored candidates: how it counts, and that it goes on where it was."""

import json

import pytest

from benchmarks import compose_curve


def row(task, draw, budget, percent):
    return {
        "task": task, "draw": draw, "budget": budget, "n": 200, "exact_match_percent": percent,
        "candidates_scored": 100, "gradient_steps": 10, "screened": 28, "search_cpu_s": 0.5,
        "machine": "this one",
    }  # fmt: skip


def test_the_page_has_the_mean_over_tasks_and_what_was_really_scored():
    rows = [row("a", 0, 400, 80.0), row("a", 1, 400, 100.0), row("b", 0, 400, 50.0), row("b", 0, 40, 10.0)]
    page = compose_curve.page(rows)
    assert "| a |  | 90.0 (80-100) |" in page
    assert "| **mean** | **10.0** | **70.0** |" in page
    assert "| candidates really scored, mean | 130 | 130 |" in page
    assert "each of 27 modules" in page


@pytest.mark.slow  # two searches in the demo world
def test_a_later_run_measures_only_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(compose_curve, "HELD_OUT", 20)
    asked = ["--tasks", "plural-dots", "--draws", "1", "--workers", "1", "--out", str(tmp_path)]
    compose_curve.main([*asked, "--budgets", "40"])
    compose_curve.main([*asked, "--budgets", "40", "100"])
    rows = [json.loads(line) for line in (tmp_path / "compose_curve.jsonl").read_text().splitlines()]
    assert [row["budget"] for row in rows] == [40, 100]
    assert all(compose_curve.units(row) <= row["budget"] for row in rows)
    assert "plural-dots" in (tmp_path / "compose_curve.md").read_text()
