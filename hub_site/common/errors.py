"""What the site refuses to do, said to the person who can act."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from hub_site.common.metrics import count_refusal

TOO_MANY_REQUESTS = 429

logger = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that cannot be met. The message is written for the person who made it. Each is counted.

    Args:
        code: stable, snake_case; API clients may branch on it.
        message: what is wrong and what to do, in one or two short sentences.
        status: the HTTP status an API answers with.
        fields: messages by form field, where the fault lies in one.
        retry_after_s: in how many seconds the same request may succeed, where that is known.
        headers: what else the answer carries, such as a quota's.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        fields: Mapping[str, Sequence[str]] | None = None,
        retry_after_s: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        count_refusal(code)
        self.code, self.message, self.status = code, message, status
        self.more_headers = dict(headers or {})
        self.retry_after_s = retry_after_s
        self.fields = {name: list(messages) for name, messages in (fields or {}).items()}

    @property
    def headers(self) -> dict[str, str]:
        """What an answer that tells of it carries; a 429 always says what is left, which is nothing."""
        if self.retry_after_s is None:
            return self.more_headers
        told = {"Retry-After": str(self.retry_after_s)}
        if self.status == TOO_MANY_REQUESTS:
            told["RateLimit"] = f'"{self.code}";r=0;t={self.retry_after_s}'
        return told | self.more_headers


@contextmanager
def log_refusals(account: object) -> Iterator[None]:
    """Note in the log whom a limit of the site refuses inside the context, and why.

    Args:
        account: its id; None: a visitor without one.
    """
    try:
        yield
    except Refusal as refusal:
        logger.warning("account %s refused: %s: %s", account or "-", refusal.code, refusal.message)
        raise


class Refusals:
    """Several refusals said as one: a browser forgets chosen files, so nobody should choose them twice."""

    def __init__(self) -> None:
        self.found: list[Refusal] = []

    @contextmanager
    def collect_refusal(self) -> Iterator[None]:
        """Keep a refusal and go on after the block."""
        try:
            yield
        except Refusal as refusal:
            self.found.append(refusal)

    def raise_all(self) -> None:
        """Raise what was collected, with the code and the status of the first."""
        if not self.found:
            return
        first = self.found[0]
        fields: dict[str, list[str]] = {}
        for refusal in self.found:
            for name, messages in refusal.fields.items():
                fields.setdefault(name, []).extend(messages)
        message = " ".join(refusal.message for refusal in self.found)
        raise Refusal(first.code, message, status=first.status, fields=fields) from first


def field_refusal(code: str, field: str, problem: str, offered: Iterable[str] = ()) -> Refusal:
    message = f"{problem} Choose one of: {', '.join(offered)}." if offered else problem
    return Refusal(code, message, fields={field: [message]})
