"""Addresses in templates: the site's own, for what other programs read, and how they break into lines."""

import re

from django import template
from django.conf import settings
from django.http import HttpRequest
from django.utils.html import format_html_join
from django.utils.http import urlencode
from django.utils.safestring import SafeString, mark_safe

register = template.Library()


@register.simple_tag
def site_address() -> str:
    """https://hub.example.org, without a slash at its end."""
    return str(settings.PUBLIC_ADDRESS)


@register.filter
def with_breaks(address: str) -> SafeString:
    """An address that may go on in the next line after each slash and each low line, and nowhere else."""
    pieces = re.split(r"(?<=[/_])(?=.)", address)
    return format_html_join(mark_safe("<wbr>"), "{}", ((piece,) for piece in pieces))


@register.simple_tag(takes_context=True)
def next_here(context: template.Context) -> str:
    """“?next=” and this page, for a link to sign in or up; nothing where coming back is of no use.

    That is the home page, the pages of signing in themselves, and what is not there.
    """
    request: HttpRequest | None = context.get("request")
    if request is None or request.resolver_match is None:
        return ""
    if request.path == "/" or request.path.startswith("/accounts/"):
        return ""
    return "?" + urlencode({"next": request.get_full_path() if request.method == "GET" else request.path})
