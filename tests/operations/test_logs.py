import logging

import pytest

from hub_site.embedded import processes
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


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("GET /shared/0f8b3c2a9d1e4f6b.Sig-na_ture/report.json", "GET /shared/…/report.json"),
        ("Not Found: /api/v1/shared/0f8b3c2a9d1e4f6b.Signature", "Not Found: /api/v1/shared/…"),
        ("PUT /lfs/WzEsMiwiYWJjIl0:1abc:sig?x=1", "PUT /lfs/…?x=1"),
        ("Not Found: /settings/invitations/WzEsMiwiYWJjIl0:1abc:sig/", "/settings/invitations/…/"),
        ("/accounts/password/reset/key/3-abcdef-0123456789/", "/accounts/password/reset/key/…/"),
        ("Bearer lh_0123456789abcdefghijklmnop is wrong", "Bearer lh_01234… is wrong"),
    ],
)
def test_what_opens_something_is_never_in_a_log(text, kept):
    assert LineFormatter().format(record_of(text)).endswith(kept)


def test_a_log_that_grows_is_set_aside_while_its_process_writes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "LOG_BYTES_MAX", 10)
    log_file = tmp_path / "web.log"
    with log_file.open("ab", buffering=0) as log:
        for number in range(6):
            log.write(b"%d" % number * 20)
            processes.rotate_log(log_file)
        log.write(b"last")
    texts = {path.name: path.read_text() for path in tmp_path.glob("web.log*")}
    assert texts == {
        "web.log": "last",
        "web.log.1": "5" * 20,
        "web.log.2": "4" * 20,
        "web.log.3": "3" * 20,
    }
