"""What an owner, a person or an organization, may store and upload here, and how much of it is used."""

from datetime import timedelta

from django.apps import apps
from django.conf import settings
from django.db.models import Min, Sum

from hub_site.accounts.models import Namespace
from hub_site.audit.models import AuditEntry
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from hub_site.common.quotas import Quota
from modules_registry.models import IncomingFile, Module, StoredFile

HOUR = timedelta(hours=1)
HOUR_S = 3600
MB = 1_000_000
# In the audit, which forgets none; an edit counts where it made a version.
UPLOADS = ("module.publish", "module.version", "module.commit", "module.edit")


def quotas_of(namespace: Namespace) -> list[Quota]:
    return [storage_quota(namespace), repositories_quota(namespace), uploads_quota(namespace)]


def storage_quota(namespace: Namespace) -> Quota:
    """Bytes of all versions of all modules, and of what compositions keep; the same bytes count once."""
    stored: set[tuple[str, int]] = set()
    for model in apps.get_models():
        if issubclass(model, StoredFile):
            files = model.counted_for(namespace).order_by().values_list("sha256", "size_bytes")
            stored.update(files.distinct())
    incoming = IncomingFile.objects.filter(module__namespace=namespace)
    used = sum(size for _, size in stored) + (incoming.aggregate(bytes=Sum("size_bytes"))["bytes"] or 0)
    return Quota("storage", "Storage", used, settings.HUB_STORAGE_OF_OWNER_MB * MB, unit="bytes")


def repositories_quota(namespace: Namespace) -> Quota:
    count = Module.objects.existing().filter(namespace=namespace).count()
    return Quota("repositories", "Modules and drafts", count, settings.HUB_REPOSITORIES_OF_OWNER)


def uploads_quota(namespace: Namespace) -> Quota:
    """Versions and commits within an hour; what an import brought does not count."""
    now = database_now()
    recent = AuditEntry.objects.filter(
        action__in=UPLOADS, at__gt=now - HOUR, detail__upload_of=namespace.pk
    ).order_by()
    used = recent.count()
    oldest = recent.aggregate(oldest=Min("at"))["oldest"]
    resets_s = max(1, round((oldest + HOUR - now).total_seconds())) if oldest else 0
    return Quota(
        "uploads",
        "Uploads within an hour",
        used,
        settings.HUB_UPLOADS_AN_HOUR,
        window_s=HOUR_S,
        resets_s=resets_s,
    )


def require_uploads_left(namespace: Namespace) -> None:
    quota = uploads_quota(namespace)
    if quota.is_used_up:
        message = (
            f"{namespace.name} has had {quota.used:,} uploads within an hour, the most here. "
            f"The next one is possible in {-(-quota.resets_s // 60)} minutes."
        )
        raise Refusal(
            "too_many_uploads", message, status=429, retry_after_s=quota.resets_s, headers=quota.headers
        )


def require_repository_left(namespace: Namespace) -> None:
    quota = repositories_quota(namespace)
    if quota.is_used_up:
        message = f"{namespace.name} has {quota.used:,} modules and drafts, the most here. Delete one first."
        raise Refusal("too_many_repositories", message, status=403, headers=quota.headers)


def require_storage_left(namespace: Namespace, new_bytes: int) -> None:
    """Refuse what would not fit. Who asks holds the namespace's row, so that two at once cannot both fit."""
    quota = storage_quota(namespace)
    if quota.most and quota.used + new_bytes > quota.most:
        message = (
            f"{namespace.name} stores {quota.used / MB:,.0f} of {quota.most / MB:,.0f} MB, so these "
            f"{new_bytes / MB:,.0f} MB do not fit. Delete a module, a draft or a composition first."
        )
        raise Refusal("storage_full", message, status=413, headers=quota.headers)


def require_room_for_a_result(namespace: Namespace) -> None:
    """Refuse work whose result could not be kept. How large it will be is not known before."""
    quota = storage_quota(namespace)
    if quota.is_used_up:
        message = (
            f"{namespace.name} stores {quota.used / MB:,.0f} of {quota.most / MB:,.0f} MB, so no result "
            "could be kept. Delete a composition, a module or a draft first."
        )
        raise Refusal("storage_full", message, status=403, headers=quota.headers)
