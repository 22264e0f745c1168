"""How a Hub client is told no: a status, X-Error-Code where it has an exception for it, and a sentence.

The clients print X-Error-Message and the body's "error"; they show them once when both are equal. A header
holds Latin characters only, so both are written in plain ASCII.
"""

import json
import unicodedata
from collections.abc import Mapping

from django.http import JsonResponse

from hub_site.common.errors import Refusal
from hub_site.common.metrics import count_refusal
from hub_site.common.site_faults import RETRY_AFTER_S, http_status, visitor_text

PLAIN = str.maketrans(
    {"“": '"', "”": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "…": "...", "×": "x", "·": "-"}
)
MESSAGE_LENGTH_MAX = 2000


class HubProtocolError(Exception):
    """A no in the protocol's own terms.

    Args:
        status: of the answer.
        message: for the person at the terminal.
        code: what makes the client raise its own exception, such as RepoNotFound; may be empty.
        headers: what else the answer carries.
    """

    def __init__(
        self, status: int, message: str, *, code: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})


def repo_not_found(full_name: str) -> HubProtocolError:
    message = f"There is no {full_name} here, or it is not yours to see."
    return HubProtocolError(404, message, code="RepoNotFound")


def revision_not_found(full_name: str, revision: str) -> HubProtocolError:
    return HubProtocolError(404, f"{full_name} has no revision {quote(revision)}.", code="RevisionNotFound")


def entry_not_found(full_name: str, path: str, commit_id: str) -> HubProtocolError:
    return HubProtocolError(
        404,
        f"{full_name} has no file {quote(path)} at this revision.",
        code="EntryNotFound",
        headers={"X-Repo-Commit": commit_id},
    )


def not_supported(what: str) -> HubProtocolError:
    """Not 501: clients try again on any 5xx."""
    return HubProtocolError(400, f"This site has no {what}. Nothing was changed.")


def from_refusal(refusal: Refusal) -> HubProtocolError:
    return HubProtocolError(refusal.status, refusal.message, headers=refusal.headers)


def from_site_fault(code: str) -> HubProtocolError:
    """The answer to a fault of the site: 503 or 507, and when to come back."""
    count_refusal(code)
    return HubProtocolError(
        http_status(code), visitor_text(code), headers={"Retry-After": str(RETRY_AFTER_S)}
    )


def error_response(error: HubProtocolError, **more: object) -> JsonResponse:
    message = to_ascii(error.message)
    response = JsonResponse({"error": message, **more}, status=error.status, headers=error.headers)
    response["X-Error-Message"] = message
    if error.code:
        response["X-Error-Code"] = error.code
    return response


def to_ascii(sentence: str, *, length_max: int = MESSAGE_LENGTH_MAX) -> str:
    """The sentence in printable ASCII on one line; no header may have white space at its ends."""
    folded = unicodedata.normalize("NFKD", sentence.translate(PLAIN)).encode("ascii", "ignore").decode()
    line = "".join(character if character.isprintable() else " " for character in folded)
    return line.strip()[:length_max].strip()


def quote(text: str) -> str:
    """A stranger's text as it may stand in a sentence."""
    return json.dumps(text[:100])
