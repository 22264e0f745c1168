import logging

from hub_site.logs import WHOLE_LINE_CHARACTERS, LineFormatter


def record_of(message: str, exc_info=None) -> logging.LogRecord:
    return logging.LogRecord("composer.run.runner", logging.ERROR, __file__, 1, message, (), exc_info)


def test_an_event_is_one_line_with_its_traceback():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        line = LineFormatter().format(record_of("it broke", (ValueError, error, error.__traceback__)))
    assert len(line.splitlines()) == 1
    assert "ERROR   composer.run.runner  it broke" in line
    assert "ValueError: two" in line


def test_nobody_forges_a_second_event_by_a_line_break():
    line = LineFormatter().format(record_of("name is x\n2026-01-01T00:00:00.000Z INFO forged"))
    assert len(line.splitlines()) == 1


def test_an_endless_message_is_cut():
    assert len(LineFormatter().format(record_of("x" * 100_000))) == WHOLE_LINE_CHARACTERS
