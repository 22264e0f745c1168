"""Who may send more than a form's worth, told from the head of a request before its body comes in."""

from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from urllib.parse import unquote

from asgiref.sync import ThreadSensitiveContext, sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.db import connection

from hub_site.accounts.selectors import token_find
from hub_site.body_gate import BodyRefused, Scope
from hub_site.common.errors import Refusal
from modules_registry.hub_api.errors import HubProtocolError
from modules_registry.hub_api.lfs import signed_upload
from modules_registry.hub_api.protocol import BAD_TOKEN, READS_ONLY

LFS = "/lfs/"
SIGN_IN = "Sign in before you upload: send a token that may write, or use the form."


async def why_not(scope: Scope) -> BodyRefused | None:
    """None with a token that may write, a signed-in session, or an address that we have signed."""
    async with (
        ThreadSensitiveContext()
    ):  # a thread of its own, as Django's for a view: none waits for another
        return await sync_to_async(refusal_for)(scope)


def refusal_for(scope: Scope) -> BodyRefused | None:
    try:
        return refusal_of(scope)
    finally:
        connection.close()  # this thread serves no request, at whose end Django would do so


def refusal_of(scope: Scope) -> BodyRefused | None:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if scope["path"].startswith(LFS):
        return refusal_of_address(unquote(scope["path"].removeprefix(LFS)))
    scheme, _, text = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return refusal_of_token(text.strip())
    return None if has_session(headers.get(b"cookie", "")) else BodyRefused(401, "sign_in", SIGN_IN)


def refusal_of_token(text: str) -> BodyRefused | None:
    try:
        token = token_find(text)
    except Refusal as refusal:
        return BodyRefused(refusal.status, refusal.code, refusal.message)
    if token is None:
        return BodyRefused(401, "sign_in", BAD_TOKEN)
    return None if token.may_write else BodyRefused(403, "reads_only", READS_ONLY)


def refusal_of_address(address: str) -> BodyRefused | None:
    try:
        signed_upload(address)
    except HubProtocolError as error:
        return BodyRefused(error.status, "not_signed", error.message)
    return None


def has_session(cookie: str) -> bool:
    try:
        morsel = SimpleCookie(cookie).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return False
    if morsel is None:
        return False
    return SESSION_KEY in import_module(settings.SESSION_ENGINE).SessionStore(morsel.value)
