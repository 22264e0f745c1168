"""How the registry's pages write addresses and numbers."""

from django import template
from django.urls import reverse

from hub_site.common import visible_text
from hub_site.common.figures import figures
from modules_registry.catalog import ModuleFilters
from modules_registry.core.licenses.names import license_label
from modules_registry.core.sizes import size_in_words

register = template.Library()

DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@register.simple_tag
def address(filters: ModuleFilters) -> str:
    """The library, searched like this."""
    query = filters.as_query()
    return reverse("modules_registry:list") + (f"?{query}" if query else "")


@register.simple_tag
def change(filters: ModuleFilters, sort: str) -> str:
    return address(filters.with_value("sort", sort))


@register.filter
def number(value: float) -> str:
    """16.0 as “16”, 2.8284271 as “2.828”."""
    return f"{value:.4g}"


@register.filter
def visible(text: str) -> str:
    """Text in which white space counts, with marks for it."""
    return visible_text.visible(text)


@register.filter
def thousands(value: int) -> str:
    return f"{value:,}"


@register.filter
def size_words(size_bytes: int) -> str:
    return figures(size_in_words(size_bytes))


@register.filter
def dtype_words(value: str) -> str:
    return DTYPES.get(value, value)


@register.filter
def license_text(value: str) -> str:
    return license_label(value) if value else "not stated"
