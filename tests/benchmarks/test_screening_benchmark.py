"""The measurement of screening, whole, on a tiny base."""

import json

import pytest

from benchmarks import screening


@pytest.mark.slow  # eighty modules, one after another
def test_it_screens_many_modules_and_times_the_published_loop(tmp_path):
    screening.main(["--small", "--modules", "80", "--evaluations", "1", "--out", str(tmp_path)])
    row = json.loads((tmp_path / "screening.json").read_text())
    assert row["candidates_scored"] == row["modules"] == 80
    assert row["ratio"] > 0
    assert len(row["reference_evaluation_s"]) == 1
