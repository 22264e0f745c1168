"""All quotas of an account and of its organisations, with what is used."""

from dataclasses import dataclass
from datetime import timedelta
from math import ceil

from django.conf import settings

from composer import selectors as composer
from hub_site.accounts.models import Namespace, User
from hub_site.accounts.organizations import memberships_of
from hub_site.common.clock import database_now
from hub_site.common.quotas import Quota
from modules_registry.importing import selectors as importing
from modules_registry.quotas import quotas_of

DAY = timedelta(days=1)
DAY_S = 24 * 3600


@dataclass(frozen=True)
class OwnerQuotas:
    """What one owner may have, and has."""

    owner: str
    quotas: list[Quota]


def all_quotas(user: User) -> list[OwnerQuotas]:
    """The account's own first, then those of each organisation it belongs to."""
    own = OwnerQuotas(user.username, [*quotas_of(user.namespace), *work_quotas(user)])
    organizations: list[Namespace] = [membership.namespace for membership in memberships_of(user)]
    return [own, *(OwnerQuotas(namespace.name, quotas_of(namespace)) for namespace in organizations)]


def work_quotas(user: User) -> list[Quota]:
    uses = composer.cpu_uses(user, since=database_now() - DAY)
    most_s = 0 if user.is_staff else settings.HUB_CPU_MINUTES_A_DAY * 60
    return [
        Quota(
            "imports",
            "Imports waiting or running",
            importing.unfinished_count(user),
            settings.HUB_IMPORTS_UNFINISHED_MAX,
        ),
        Quota(
            "compositions",
            "Compositions waiting or running",
            composer.unfinished_count(user),
            settings.HUB_COMPOSITIONS_UNFINISHED_MAX,
        ),
        Quota(
            "processor_time",
            "Processor time within a day",
            ceil(sum(cpu_s for _, cpu_s in uses)),
            most_s,
            unit="seconds",
            window_s=DAY_S,
        ),
    ]
