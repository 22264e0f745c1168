"""The benchmark of speed runs whole on a tiny base, and what it compares is the same thing."""

import json
from types import SimpleNamespace

import pytest

from benchmarks import compose_speed, decoder_speed
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


@pytest.mark.slow
def test_a_decoder_s_evaluation_is_the_loss_of_transformers_and_of_peft(tmp_path, capsys):
    compose_speed.main(["--size", "tiny-smol", "--repetitions", "2", "--out", str(tmp_path)])
    result = json.loads((tmp_path / "compose_speed_tiny-smol.json").read_text())
    for found in result["precisions"]["fp32"].values():
        losses = found["loss_nats_per_token"]
        assert set(losses) == set(found["seconds"]) == {"merged", "peft", "one", "sixteen"}
        assert list(losses.values()) == pytest.approx([losses["merged"]] * 4, rel=1e-5)
        faster = [
            min(pair) for pair in zip(found["seconds"]["merged"], found["seconds"]["peft"], strict=True)
        ]
        pairs = [a / b for a, b in zip(faster, found["seconds"]["one"], strict=True)]
        assert found["ratios"]["one"]["pairs"] == pytest.approx(pairs, rel=0.05, abs=0.01)
    assert result["machine"] in capsys.readouterr().out


def test_the_work_of_a_decoder_is_what_one_adds_up_by_hand():
    """One layer, one head, every size 2: nine tokens that predict one, and seven products of 2 x 2."""
    config = SimpleNamespace(
        hidden_size=2,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=2,
        intermediate_size=2,
        num_hidden_layers=1,
        vocab_size=3,
    )
    low_rank = 7 * 80 * (2 + 2)  # A and B of ten modules of rank 8
    scores = 2 * 5 * 5 * 2 + 2 * 6 * 6 * 2
    head = 2 * 2 * ANSWER_TOKENS * 2 * 3
    assert decoder_speed.work(config, [5, 6]) == 2 * 9 * (7 * 4 + low_rank) + scores + head


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
