"""How the registry's pages write addresses and numbers."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from django import template
from django.urls import reverse

from hub_site.common import visible_text
from hub_site.common.figures import figures
from modules_registry.catalog import ModuleFilters
from modules_registry.core.licenses.names import license_label
from modules_registry.core.sizes import size_in_words
from modules_registry.evidence import Measured, measured_of
from modules_registry.likeness import CopyOf, originals_of
from modules_registry.models import Module, base_address

register = template.Library()

NEARLY_ONE = 0.995  # two digits would say 1.00
DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@cache
def library_address() -> str:
    return reverse("modules_registry:list")


@register.simple_tag
def address(filters: ModuleFilters) -> str:
    """The library, searched like this."""
    query = filters.as_query()
    return library_address() + (f"?{query}" if query else "")


@register.filter(name="base_address")
def address_of_base(name: str) -> str:
    return base_address(name)


@register.simple_tag
def change(filters: ModuleFilters, sort: str) -> str:
    return address(filters.with_value("sort", sort))


@register.simple_tag(takes_context=True)
def copies(context: template.Context, modules: Iterable[Module]) -> dict[int, CopyOf]:
    """Of which older module each of these is a copy, for the cards of a list."""
    request = context.get("request")
    return originals_of(list(modules), request.user if request is not None else None)


@register.simple_tag
def measured(modules: Iterable[Module]) -> dict[int, Measured]:
    """What was measured with each of these, for the cards of a list."""
    return measured_of(list(modules))


@register.filter
def facts_on_card(module: Module) -> str:
    """What a card shows of a module and may change, in one text: a kept card holds for it."""
    facts = (
        module.pk,
        module.full_name,
        module.updated_at,
        module.current_id,
        module.current and (module.current.base_id, module.current.base_name),
        (module.sample_input, module.sample_output),
        module.private,
        module.likes,
        module.downloads,
    )
    return repr(facts)


@register.filter
def of(told: object, module: Module) -> Any:
    """What `copies` or `measured` says of one module; nothing on a card that stands alone."""
    return told.get(module.pk) if isinstance(told, dict) else None


@register.filter
def cosine(value: float) -> str:
    """0.8312 as “0.83”, 0.99937 as “0.9994”: as many digits as tell it from 1."""
    return figures(f"{value:.4f}" if NEARLY_ONE <= abs(value) < 1 else f"{value:.2f}")


@register.filter
def bytes_to(begin: int, end: int) -> str:
    return f"{end - begin:,}"


@register.filter
def number(value: float) -> str:
    """16.0 as “16”, 2.8284271 as “2.828”."""
    return f"{value:.4g}"


@register.filter
def visible(text: str) -> str:
    """Text in which white space counts, with marks for it."""
    return visible_text.visible(text)


@register.filter
def escaped(text: str) -> str:
    """An answer, with its control characters as escapes."""
    return visible_text.escaped(text or "")


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
