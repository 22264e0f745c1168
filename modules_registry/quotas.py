"""What an owner, a person or an organisation, may store and upload here, and how much of it is used."""

from datetime import timedelta

from django.conf import settings
from django.db.models import Min, Sum

from hub_site.accounts.models import Namespace
from hub_site.audit.models import AuditEntry
from hub_site.common.clock import database_now
from hub_site.common.errors import Refusal
from hub_site.common.quotas import Quota
from modules_registry.models import IncomingFile, Module, VersionFile

HOUR = timedelta(hours=1)
HOUR_S = 3600
MB = 1_000_000
UPLOADS = ("module.publish", "module.version", "module.commit")  # in the audit, which forgets none


def quotas_of(namespace: Namespace) -> list[Quota]:
    return [storage_quota(namespace), repositories_quota(namespace), uploads_quota(namespace)]


def storage_quota(namespace: Namespace) -> Quota:
    """Bytes of all versions of all modules; a file that several of them share counts once."""
    files = VersionFile.objects.filter(
        version__module__namespace=namespace, version__module__deleted_at=None
    ).order_by()
    stored = files.values("sha256", "size_bytes").distinct().aggregate(bytes=Sum("size_bytes"))["bytes"] or 0
    incoming = IncomingFile.objects.filter(module__namespace=namespace)
    stored += incoming.aggregate(bytes=Sum("size_bytes"))["bytes"] or 0
    return Quota("storage", "Storage", stored, settings.HUB_STORAGE_OF_OWNER_MB * MB, unit="bytes")


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
            f"{new_bytes / MB:,.0f} MB do not fit. Delete a module or a draft first."
        )
        raise Refusal("storage_full", message, status=413, headers=quota.headers)
