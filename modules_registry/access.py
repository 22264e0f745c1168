"""The module an address names, for whoever asks; what is not for them does not exist."""

from django.http import Http404

from modules_registry.models import Module
from modules_registry.selectors import module_find, namespace_is_writable_by


def module_or_404(namespace: str, name: str, viewer: object) -> Module:
    """The published module, for someone who may see it."""
    module = module_find(namespace, name, viewer)
    if module is None or module.current is None:
        raise Http404
    return module


def writable_module_or_404(user: object, namespace: str, name: str) -> Module:
    """The module, be it a draft, for someone who may change it."""
    module = module_find(namespace, name, user)
    if module is None or not namespace_is_writable_by(module.namespace, user):
        raise Http404
    return module
