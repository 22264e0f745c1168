"""The pictures that other programs show beside a link to the site (Open Graph), drawn in its own type."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from io import BytesIO
from itertools import groupby

from django.conf import settings
from django.http import HttpResponse
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT = 1200, 630  # px: what every reader of Open Graph shows whole
MARGIN, GRID = 72, 42
FONTS = settings.BASE_DIR / "static/vendor/atkinson-hyperlegible/files"
TEXT, MONO = "next", "mono"
BOLD, NORMAL = 650, 400
TITLE_SIZES = (84, 72, 60, 48, 38, 30)  # the first in which the title fits
# As in static/css/tokens.css, light
PAPER, LINES, INK, QUIET, ACCENT, SUNK = "#f3f7ee", "#dfe8d7", "#17211b", "#4c5950", "#b23a06", "#e6eddf"
PUNCTUATION = frozenset("–—‘’‚“”„•…€™−")  # beyond Latin-1, in the face
LATIN_END, LATIN_EXTENDED_END = 0x100, 0x250
KEPT = 256  # pictures
MAX_AGE_S = 3600
BAR = ((0, 0, 6, 28), (8, 22, 20, 6))  # of the mark: left, top, width, height in its own units
PRODUCT = tuple((8 + 7 * column, 7 * row, 6, 6) for row in range(3) for column in range(3))

Font = ImageFont.FreeTypeFont


@dataclass(frozen=True)
class SharePicture:
    """What a picture says. What does not fit is cut, and characters that the face has not are left out."""

    title: str
    above: str = ""  # the title, quietly: whose it is
    sentence: str = ""
    sample: tuple[str, str] = ("", "")  # an input and its output
    facts: str = ""  # the last line


def picture_answer(picture: SharePicture, *, is_public: bool = True) -> HttpResponse:
    """Args: is_public: caches may keep it for MAX_AGE_S."""
    answer = HttpResponse(png_of(picture), content_type="image/png")
    answer["Cache-Control"] = f"public, max-age={MAX_AGE_S}" if is_public else "private, no-store"
    return answer


@lru_cache(maxsize=KEPT)
def png_of(picture: SharePicture) -> bytes:
    """Draw a picture of WIDTH by HEIGHT."""
    image = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    draw = ImageDraw.Draw(image)
    for position in range(GRID, WIDTH, GRID):
        draw.line([(position, 0), (position, HEIGHT)], fill=LINES)
        draw.line([(0, position), (WIDTH, position)], fill=LINES)
    draw_mark(draw, MARGIN, 48, 2)
    write(draw, (MARGIN + 76, 54), "LoRA Hub", TEXT, 40, BOLD, INK)
    top = 136
    if picture.above:
        write(draw, (MARGIN, top), one_line(picture.above, TEXT, 36, NORMAL), TEXT, 36, NORMAL, QUIET)
        top += 48
    title = "".join(filter(subset_of, picture.title))
    size = title_size(title)
    write(draw, (MARGIN, top), one_line(title, TEXT, size, BOLD), TEXT, size, BOLD, INK)
    top += round(size * 1.25)
    for line in wrapped(picture.sentence, TEXT, 36, NORMAL, lines_max=2):
        write(draw, (MARGIN, top), line, TEXT, 36, NORMAL, INK)
        top += 48
    if all(picture.sample):
        draw_sample(draw, top + 16, picture.sample)
    write(draw, (MARGIN, HEIGHT - 74), one_line(picture.facts, TEXT, 30, NORMAL), TEXT, 30, NORMAL, QUIET)
    data = BytesIO()
    image.quantize(64).save(data, "PNG", optimize=True)
    return data.getvalue()


def draw_mark(draw: ImageDraw.ImageDraw, left: int, top: int, scale: int) -> None:
    """The site's mark: B and A, and their product."""
    for parts, color in ((BAR, INK), (PRODUCT, ACCENT)):
        for x, y, width, height in parts:
            corner = (left + scale * x, top + scale * y)
            draw.rectangle(
                [corner, (corner[0] + scale * width - 1, corner[1] + scale * height - 1)], fill=color
            )


def draw_sample(draw: ImageDraw.ImageDraw, top: int, sample: tuple[str, str]) -> None:
    """An input above its output, on a ground of their own."""
    draw.rectangle([(MARGIN, top), (WIDTH - MARGIN, top + 108)], fill=SUNK)
    draw.rectangle([(MARGIN, top), (MARGIN + 5, top + 108)], fill=ACCENT)
    for row, (label, text) in enumerate(zip(("Input", "Output"), sample, strict=True)):
        height = top + 12 + 44 * row
        write(draw, (MARGIN + 28, height), label, TEXT, 28, NORMAL, QUIET)
        shown = one_line(text, MONO, 28, NORMAL, width=WIDTH - 2 * MARGIN - 170)
        write(draw, (MARGIN + 150, height), shown, MONO, 28, NORMAL, INK)


def title_size(title: str) -> int:
    room = WIDTH - 2 * MARGIN
    return next((size for size in TITLE_SIZES if length(title, TEXT, size, BOLD) <= room), TITLE_SIZES[-1])


def write(
    draw: ImageDraw.ImageDraw, at: tuple[float, int], text: str, face: str, size: int, weight: int, color: str
) -> None:
    left, top = at
    for font, run in runs(text, face, size, weight):
        draw.text((left, top), run, font=font, fill=color)
        left += font.getlength(run)


def length(text: str, face: str, size: int, weight: int) -> float:
    """How wide a text is, px."""
    return sum(font.getlength(run) for font, run in runs(text, face, size, weight))


def runs(text: str, face: str, size: int, weight: int) -> Iterator[tuple[Font, str]]:
    """The text in pieces, each with the file of the face that has its characters.

    Args:
        text: of characters that some file has.
    """
    for subset, characters in groupby(text, subset_of):
        yield font_of(face, subset, size, weight), "".join(characters)


def subset_of(character: str) -> str:
    """The file that has a character; empty: none has."""
    if not character.isprintable():
        return ""
    if ord(character) < LATIN_END or character in PUNCTUATION:
        return "latin"
    return "latin-ext" if ord(character) < LATIN_EXTENDED_END else ""


@cache
def font_of(face: str, subset: str, size: int, weight: int) -> Font:
    font = ImageFont.truetype(
        FONTS / f"atkinson-hyperlegible-{face}-{subset}-wght-normal.woff2",
        size,
        layout_engine=ImageFont.Layout.BASIC,
    )
    font.set_variation_by_axes([weight])
    return font


def one_line(text: str, face: str, size: int, weight: int, width: float = WIDTH - 2 * MARGIN) -> str:
    """As much of a text as fits into the width, px."""
    return next(wrapped(text, face, size, weight, lines_max=1, width=width), "")


def wrapped(
    text: str,
    face: str,
    size: int,
    weight: int,
    *,
    lines_max: int,
    width: float = WIDTH - 2 * MARGIN,
) -> Iterator[str]:
    """The text in lines of at most this width, px; the last one ends in … where something is left out."""
    words = "".join(filter(subset_of, text)).split()
    for number in range(1, lines_max + 1):
        if not words:
            return
        count = 1
        while count < len(words) and length(" ".join(words[: count + 1]), face, size, weight) <= width:
            count += 1
        line, words = " ".join(words[:count]), words[count:]
        is_cut = bool(words) and number == lines_max
        yield shortened(line, face, size, weight, width, is_cut=is_cut)


def shortened(text: str, face: str, size: int, weight: int, width: float, *, is_cut: bool) -> str:
    """A line whose end is cut until it fits; with … if anything of it, or after it, is left out."""
    if not is_cut and length(text, face, size, weight) <= width:
        return text
    while text and length(f"{text}…", face, size, weight) > width:
        text = text[:-1]
    return f"{text.rstrip()}…"
