"""The module an address names, for whoever asks; what is not for them does not exist.

Of what staff hold, its owner's people are refused with the reason.
"""

from django.http import Http404

from hub_site.accounts.models import User
from modules_registry.models import Module
from modules_registry.selectors import (
    held_find,
    module_find,
    namespace_is_writable_by,
    require_not_held,
)


def module_or_404(namespace: str, name: str, viewer: object) -> Module:
    """The published module, for someone who may see it."""
    module = module_find(namespace, name, viewer)
    if module is None:
        require_not_held(namespace, name, viewer)
    if module is None or module.current is None:
        raise Http404
    return module


def owned_module_or_404(user: object, namespace: str, name: str) -> Module:
    """The module, also one that staff hold, for someone who may change what is its owner's, and for staff."""
    module = module_find(namespace, name, user) or held_find(namespace, name, user)
    is_staff = isinstance(user, User) and user.is_staff
    if module is None or not (is_staff or namespace_is_writable_by(module.namespace, user)):
        raise Http404
    return module


def writable_module_or_404(user: object, namespace: str, name: str) -> Module:
    """The module, be it a draft, for someone who may change it."""
    module = module_find(namespace, name, user)
    if module is None:
        require_not_held(namespace, name, user)
    if module is None or not namespace_is_writable_by(module.namespace, user):
        raise Http404
    return module
