"""Who may send more than a form's worth, told from the head of a request before its body comes in."""

from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from urllib.parse import unquote

from asgiref.sync import sync_to_async
from django.conf import settings
from django.contrib.auth import SESSION_KEY

from hub_site.accounts.selectors import token_find
from hub_site.body_gate import Scope
from modules_registry.hub_api.errors import HubError
from modules_registry.hub_api.lfs import signed_upload

LFS = "/lfs/"


async def may_upload(scope: Scope) -> bool:
    """True with a token that may write, a signed-in session, or an address that we have signed."""
    return await sync_to_async(is_known, thread_sensitive=False)(scope)


def is_known(scope: Scope) -> bool:
    headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
    if scope["path"].startswith(LFS):
        return is_signed(unquote(scope["path"].removeprefix(LFS)))
    scheme, _, text = headers.get(b"authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        token = token_find(text.strip())
        return token is not None and token.may_write
    return has_session(headers.get(b"cookie", ""))


def is_signed(address: str) -> bool:
    try:
        signed_upload(address)
    except HubError:
        return False
    return True


def has_session(cookie: str) -> bool:
    try:
        morsel = SimpleCookie(cookie).get(settings.SESSION_COOKIE_NAME)
    except CookieError:
        return False
    if morsel is None:
        return False
    return SESSION_KEY in import_module(settings.SESSION_ENGINE).SessionStore(morsel.value)
