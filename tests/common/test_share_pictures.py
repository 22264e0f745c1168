"""Pictures for links: whatever is to be said, it is drawn inside the picture."""

from io import BytesIO

import pytest
from PIL import Image

from hub_site.common.share_pictures import (
    HEIGHT,
    MARGIN,
    NORMAL,
    TEXT,
    WIDTH,
    SharePicture,
    length,
    one_line,
    png_of,
    wrapped,
)

LONG = "word " * 200
ROOM = WIDTH - 2 * MARGIN


def test_lines_fit_and_the_last_one_says_that_something_is_left_out():
    lines = list(wrapped(LONG, TEXT, 36, NORMAL, lines_max=2))
    assert all(length(line, TEXT, 36, NORMAL) <= ROOM for line in lines)
    assert [line.endswith("…") for line in lines] == [False, True]
    assert list(wrapped("two words", TEXT, 36, NORMAL, lines_max=2)) == ["two words"]


def test_a_word_that_is_too_long_is_cut():
    line = one_line("x" * 500, TEXT, 36, NORMAL)
    assert line.endswith("…")
    assert ROOM - 40 < length(line, TEXT, 36, NORMAL) <= ROOM


def test_what_the_face_has_not_is_left_out():
    assert one_line("日本語 Łódź\u202e\x00", TEXT, 36, NORMAL) == "Łódź"
    assert one_line("日本語", TEXT, 36, NORMAL) == ""


@pytest.mark.parametrize(
    "picture",
    [
        SharePicture(title="a"),
        SharePicture(title="x" * 96, above="y" * 96, sentence=LONG, sample=(LONG, LONG), facts=LONG),
        SharePicture(title="日本語", above="日", sentence="本", sample=("語", "日"), facts="本"),
    ],
    ids=["short", "long", "strange"],
)
def test_nothing_is_drawn_in_the_margin(picture):
    image = Image.open(BytesIO(png_of(picture))).convert("RGB")
    assert image.size == (WIDTH, HEIGHT)
    empty = Image.open(BytesIO(png_of(SharePicture(title="")))).convert("RGB")
    right = (WIDTH - MARGIN + 2, 0, WIDTH, HEIGHT)
    assert image.crop(right).getcolors() == empty.crop(right).getcolors()
