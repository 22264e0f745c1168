import pytest

from hub_site.accounts.models import Membership, Namespace, User
from hub_site.accounts.names import name_key
from modules_registry.blobs import store
from modules_registry.models import BaseModel, Module
from tests.factories import make_base, make_module


@pytest.fixture
def base(db, tmp_path) -> BaseModel:
    return make_base(tmp_path / "base")


@pytest.fixture
def french(alice: User, base: BaseModel) -> Module:
    """Alice's module."""
    return make_module(alice, "french")


@pytest.fixture
def lab(alice: User, bob: User) -> Namespace:
    """An organisation in which Alice and Bob write."""
    namespace = Namespace.objects.create(name="lab", key=name_key("lab"), kind=Namespace.Kind.ORGANISATION)
    for user in (alice, bob):
        Membership.objects.create(namespace=namespace, user=user, role=Membership.Role.WRITE)
    return namespace


@pytest.fixture
def stored():
    """The hashes of all files in the store."""
    return lambda: {blob.sha256 for blob in store().iter()}
