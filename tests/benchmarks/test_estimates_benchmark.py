"""How far the told times are from the taken ones: on two jobs of the demo world."""

import json

import pytest

from benchmarks import estimates


@pytest.mark.slow
def test_each_job_is_told_of_before_and_measured_after(tmp_path, monkeypatch):
    monkeypatch.setattr(
        estimates, "JOBS", [estimates.Job(estimates.SMALL, "animal-spanish", "quick", 3, 10)] * 2
    )
    estimates.main(["--large", "0", "--english", str(tmp_path), "--out", str(tmp_path)])
    result = json.loads((tmp_path / "estimates.json").read_text())
    assert result["of"] == 2
    for row in result["rows"]:
        assert row["n_modules"] == 3
        assert row["factor"] == pytest.approx(
            max(row["told_s"] / row["took_s"], row["took_s"] / row["told_s"]), rel=0.1
        )
        assert sum(row["seconds"].values()) <= row["took_s"]
    assert result["within"] == sum(row["factor"] <= 1.5 for row in result["rows"])
