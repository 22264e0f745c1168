"""How a size in bytes is written, for every page, card, report and terminal."""


def size_in_words(size_bytes: int) -> str:
    """100_213 as "100 kB", 4_215_000 as "4.2 MB": a decimal only where it says something."""
    size, unit = float(size_bytes), "bytes"
    for larger in ("kB", "MB", "GB"):
        if size < 999.5:
            break
        size, unit = size / 1000, larger
    number = f"{size:.0f}" if size >= 9.95 else f"{size:.1f}".removesuffix(".0")
    return f"{number} {unit}"
