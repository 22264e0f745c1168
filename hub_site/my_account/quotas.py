"""All quotas of an account and of its organizations, with what is used."""

from dataclasses import dataclass

from composer import selectors as composer
from hub_site.accounts.models import Namespace, User
from hub_site.accounts.organizations import memberships_of
from hub_site.common.quotas import Quota
from modules_registry.importing import selectors as importing
from modules_registry.quotas import quotas_of


@dataclass(frozen=True)
class OwnerQuotas:
    """What one owner may have, and has."""

    owner: str
    quotas: list[Quota]


def all_quotas(user: User) -> list[OwnerQuotas]:
    """The account's own first, then those of each organization it belongs to."""
    own = OwnerQuotas(user.username, [*quotas_of(user.namespace), *work_quotas(user)])
    organizations: list[Namespace] = [membership.namespace for membership in memberships_of(user)]
    return [own, *(OwnerQuotas(namespace.name, quotas_of(namespace)) for namespace in organizations)]


def work_quotas(user: User) -> list[Quota]:
    return [importing.import_quota(user), *composer.work_quotas(user)]
