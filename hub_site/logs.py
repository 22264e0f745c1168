"""How a line of the log looks: time, level, who says it, what happened; a traceback stays on its line."""

import logging
import re
import time

# What opens something to whoever has it: private links, signed uploads, links in mails, access tokens.
SECRETS = re.compile(
    r"(/shared/|/lfs/|/settings/invitations/|/accounts/password/reset/key/|/accounts/confirm-email/|\blh_[0-9A-Za-z]{5})[^/\s\"'?]{8,}"
)
WHOLE_LINE_CHARACTERS = 8000  # a traceback of any use fits; an endless message does not


class LineFormatter(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"
    default_time_format = "%Y-%m-%dT%H:%M:%S"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s  %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        lines = SECRETS.sub(r"\1…", super().format(record)).splitlines() or [""]
        return " ⏎ ".join(lines)[:WHOLE_LINE_CHARACTERS]
