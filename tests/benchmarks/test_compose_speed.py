"""The benchmark of speed runs whole on a tiny base, and what it compares is the same thing."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import compose_speed
from benchmarks.synthetic import ANSWER_TOKENS, LENGTHS


@pytest.mark.slow
def test_both_sides_score_the_same_weights_alike(tmp_path, capsys):
    arguments = ["--size", "tiny", "--repetitions", "2", "--whole-runs", "1", "--out", str(tmp_path)]
    compose_speed.main(arguments)
    result = json.loads((tmp_path / "compose_speed_tiny.json").read_text())
    scores = result["objective"]
    assert len(scores["reference"]) == 2
    assert scores["fp32"] == pytest.approx(scores["reference"], rel=1e-5)
    rows = result["ratios"]["fp32"]
    assert set(rows) == {"one", "four", "loading", "run_reckoned", "run"}
    for what, seconds in (("one", 1), ("four", 0.25)):
        ours = [seconds * value for value in result["seconds"][f"fp32.{what}"]]
        pairs = [a / b for a, b in zip(result["seconds"]["reference.one"], ours, strict=True)]
        assert rows[what]["pairs"] == pytest.approx(pairs, rel=0.05)
        assert rows[what]["minimum"] == pytest.approx(
            min(result["seconds"]["reference.one"]) / min(ours), rel=0.05
        )
    assert result["memory"]["peak_gb"] >= result["memory"]["before_gb"] > 0
    printed = capsys.readouterr().out
    assert result["matrix_units"] in printed
    assert result["machine"] in printed


def test_the_work_of_one_evaluation_is_what_one_adds_up_by_hand():
    """One layer each way, one head, every size 2 but the five inputs' lengths."""
    config = SimpleNamespace(
        d_model=2,
        num_heads=1,
        d_kv=2,
        d_ff=2,
        is_gated_act=False,
        num_layers=1,
        num_decoder_layers=1,
        vocab_size=3,
    )
    source, target = sum(LENGTHS), 5 * ANSWER_TOKENS
    low_rank = 2 * 16 * (2 + 2) * 2  # A and B of rank 16, on q and on v
    encoder = source * (6 * 8 + low_rank) + sum(2 * n * n * 2 * 2 for n in LENGTHS)  # 6 products of 2 x 2 x 2
    decoder = target * (10 * 8 + 2 * low_rank) + 2 * ANSWER_TOKENS * source * 2 * 2
    assert compose_speed.work(config) == encoder + decoder + target * 2 * 2 * 3
