"""The site's address in templates, for what other programs read; a request may name another one."""

from django import template
from django.conf import settings

register = template.Library()


@register.simple_tag
def site_address() -> str:
    """https://hub.example.org, without a slash at its end."""
    return str(settings.PUBLIC_ADDRESS)
