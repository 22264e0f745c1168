"""The account's password, asked for again before what cannot be undone."""

from allauth.core import ratelimit
from django.http import HttpRequest

from hub_site.accounts.models import User
from hub_site.common.errors import Refusal, field_refusal

PASSWORD_LENGTH_MAX = 1000  # characters; hashing takes time
MINUTE_S = 60


def require_password(request: HttpRequest, user: User, password: str) -> None:
    """Refuse what only the account's own person may do without its password; few may be tried.

    Raises:
        Refusal: it is wrong, 400; or too many were tried within a minute, 429.
    """
    if not ratelimit.consume(request, action="reauthenticate", user=user):
        message = "Too many passwords were tried. Try again in a minute. Nothing was deleted."
        raise Refusal("too_many_passwords", message, status=429, retry_after_s=MINUTE_S)
    if not user.check_password(password):
        raise field_refusal("not_confirmed", "password", "This is not your password. Nothing was deleted.")
