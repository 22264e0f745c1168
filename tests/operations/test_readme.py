"""Figures in the README come from a committed result, and its links lead somewhere."""

import json
import re
from statistics import median

import pytest
from django.conf import settings

README = (settings.BASE_DIR / "README.md").read_text(encoding="utf-8")
RESULT = (settings.BASE_DIR / "benchmarks" / "results" / "compose_quality.md").read_text(encoding="utf-8")
ROWS = {  # a column of the result -> how the README calls it
    "base alone": "base alone",
    "best single": "best single module",
    "uniform": "uniform average",
    "in context": "five examples in the prompt",
    "random modules": "random numbers in place of the modules",
    "LoRA on the 5": "a LoRA trained on the five",
    "LoraHub": "LoraHub as published",
    "exact sum, Adam 150": "exact sum, one gradient fit",
    "auto": "**`auto`, the default: 400 scored candidates**",
}


def cells(line: str) -> list[str]:
    return [cell.strip().strip("*") for cell in line.strip("|").split("|")]


def means(column: str) -> list[str]:
    """The mean of that column in each table of the result, in order."""
    found = []
    for line in RESULT.splitlines():
        if line.startswith("| task |"):
            names = cells(line)
        if line.startswith("| **mean**"):
            found.append(dict(zip(names, cells(line), strict=True))[column])
    return found


@pytest.mark.parametrize(("column", "row"), ROWS.items())
def test_the_table_says_what_the_committed_result_says(column, row):
    (line,) = [line for line in README.splitlines() if line.startswith(f"| {row}")]
    assert cells(line)[1:] == means(column)


def result(name: str) -> dict:
    return json.loads(
        (settings.BASE_DIR / "benchmarks" / "results" / f"{name}.json").read_text(encoding="utf-8")
    )


def test_what_it_says_of_speed_is_what_was_measured():
    large, screening = result("compose_speed_L"), result("screening")
    ours, theirs = (median(large["seconds"][name]) for name in ("bf16.one", "reference.one"))
    words = " ".join(README.split())
    assert f"one evaluation takes {ours:.1f} s where the published loop takes {theirs:.1f} s" in words
    assert f"({large['ratios']['bf16']['one']['median']:.1f} times faster)" in words
    assert f"takes {screening['screening_s']:.0f} s, {screening['ratio']:.2f} of one run" in words
    assert f"after {100 * result('reach')['share_median']:.0f} % of its time" in words


def test_what_it_says_of_a_decoder_s_speed_is_what_was_measured():
    short, long = result("compose_speed_smol")["precisions"]["fp32"].values()
    words = " ".join(README.split())
    assert round(short["ratios"]["one"]["median"], 1) == 1.0
    assert f"each of sixteen at once {short['ratios']['sixteen']['median']:.1f} times less" in words
    assert {round(ratio["median"], 1) for ratio in long["ratios"].values()} == {1.2}
    assert "of 107 tokens 1.2 times less" in words


def test_links_within_the_repository_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (settings.BASE_DIR / target).exists(), target


def test_what_it_says_of_how_soon_is_what_was_measured():
    first, *_, last = re.findall(r"^\| (\d+\.\d+) \| (\d+\.\d+) \|$", RESULT, re.MULTILINE)
    words = " ".join(README.split())
    assert f"already answers {float(first[1]):.0f} % of" in words
    assert f"search ends after {float(last[0]):.1f} s, at {float(last[1]):.0f} %" in words
