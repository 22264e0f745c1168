"""How soon the default is as far as the published loop: run whole, on one task."""

import json

import pytest

from benchmarks import reach


@pytest.mark.slow
def test_the_default_gets_below_the_published_loop_s_loss(tmp_path):
    reach.main(["--tasks", "body-answer", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "reach.json").read_text())
    (row,) = result["rows"]
    assert result["reached"] == 1
    assert row["auto_loss_nats"] <= row["reference_loss_nats"]
    assert 0 < row["auto_s"] < row["reference_s"]
