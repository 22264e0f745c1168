"""What a Hub or its client says against an upload, as a sentence that says what to do."""

from collections.abc import Iterator
from contextlib import contextmanager

from composer.core.modules.sources import hub_address
from composer.core.spec.errors import PushError

MESSAGE_LENGTH_MAX = 300  # characters of what a Hub says
GIVE_TOKEN = "Give an access token that may write: token=…, the variable HF_TOKEN, or `hf auth login`."
SERVER_FAULTS = range(500, 600)  # HTTP status codes


@contextmanager
def told_hub_refusals(name: str) -> Iterator[None]:
    """Raise what the client of a Hub raises as a PushError, with the client's own error as its cause.

    Args:
        name: of the repository that is written to.
    """
    from huggingface_hub.errors import (
        HfHubHTTPError,
        HfUriError,
        HFValidationError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
    )

    where = hub_address()
    try:
        yield
    except (HFValidationError, HfUriError) as error:
        raise PushError(unusable_name_text(name)) from error
    except LocalTokenNotFoundError as error:
        raise PushError(f"{where} asks who you are. {GIVE_TOKEN}") from error
    except HfHubHTTPError as error:
        said = error.server_message or str(error)
        raise PushError(refusal_text(error.response.status_code, name, where, said)) from error
    except OfflineModeIsEnabled as error:
        raise PushError("HF_HUB_OFFLINE is set, so nothing is sent. Unset it and push again.") from error
    except Exception as error:  # these libraries raise many kinds of error where no Hub answers
        line = one_line(str(error)) or type(error).__name__
        raise PushError(
            f"{name} could not be pushed to {where}: {line}. Check the network and the address in "
            "HF_ENDPOINT, and push again."
        ) from error


def unusable_name_text(name: object) -> str:
    """Return what is said of a name that no repository can have."""
    return (
        f"{name!r} cannot be the name of a repository. Write owner/name: letters, digits, “-”, “_” and “.”, "
        "with neither “--” nor “..” in it, and none of “-” and “.” at an end."
    )


def refusal_text(status: int, name: str, where: str, said: str) -> str:
    """Return what is said of an answer of a Hub.

    Args:
        status: of the answer, by HTTP.
        name: of the repository.
        where: the address of the Hub.
        said: the message in the answer.
    """
    line = one_line(said)
    if status == 401:
        return f"{where} does not know who you are, or no longer takes the access token. {GIVE_TOKEN}"
    if status == 403:
        return (
            f"{where} does not let this access token write to {name}: {line}. Use a token with the "
            "permission to write, of an account that may write there, or another owner's name."
        )
    if status == 404:
        return f"{where} shows this access token no repository {name}. Check the name and whose the token is."
    if status == 429:
        return f"{where} takes no more for now: {line}. Wait a while and push again."
    if status in SERVER_FAULTS:
        return f"{where} has a fault of its own ({status}): {line}. Push again later."
    return f"{where} refused the upload to {name}: {line}. Change what it names and push again."


def one_line(said: str) -> str:
    """Return the beginning of what was said, in one line without its full stop."""
    return " ".join(said.split())[:MESSAGE_LENGTH_MAX].rstrip(".")
