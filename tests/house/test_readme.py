"""Figures in the README come from a committed result, and its links lead somewhere."""

import re

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
    "auto": "**`auto`, the default**",
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


def test_links_within_the_repository_lead_somewhere():
    for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", README):
        assert (settings.BASE_DIR / target).exists(), target
