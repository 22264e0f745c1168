"""What the site refuses to do, said to the person who can act."""

from collections.abc import Mapping, Sequence


class Refusal(Exception):
    """A request that cannot be met. The message is written for the person who made it.

    Args:
        code: stable, snake_case; API clients may branch on it.
        message: what is wrong and what to do, in one or two short sentences.
        status: the HTTP status an API answers with.
        fields: messages by form field, where the fault lies in one.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int = 400,
        fields: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.status = code, message, status
        self.fields = {name: list(messages) for name, messages in (fields or {}).items()}
