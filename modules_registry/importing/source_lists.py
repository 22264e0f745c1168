"""A list of what to import, as a text: the page's field, its file, and the command's file read alike."""

from hub_site.common.errors import Refusal

LIST_BYTES_MAX = 400_000  # more than the most repositories have in their names
COMMENT = "#"


def sources_in(text: str) -> list[str]:
    """One a line; empty lines and comments are left out."""
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith(COMMENT)]


def list_text(data: bytes) -> str:
    """A list file's text, or why it is none."""
    if len(data) > LIST_BYTES_MAX:
        raise bad_list(f"The list is larger than {LIST_BYTES_MAX // 1000} KB. Split it.")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise bad_list("This is not plain text. Save the list as UTF-8.") from error


def bad_list(message: str) -> Refusal:
    return Refusal("bad_list", message, fields={"list_file": [message]})
