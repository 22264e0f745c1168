"""The module an address names, for whoever asks; what is not for them does not exist."""

from django.http import Http404

from modules_registry.models import Module
from modules_registry.selectors import module_find, namespace_is_writable_by


def module_or_404(namespace: str, name: str) -> Module:
    module = module_find(namespace, name)
    if module is None:
        raise Http404
    return module


def writable_module_or_404(user: object, namespace: str, name: str) -> Module:
    """The module, for someone who may change it."""
    module = module_or_404(namespace, name)
    if not namespace_is_writable_by(module.namespace, user):
        raise Http404
    return module
