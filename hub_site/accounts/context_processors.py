from django.conf import settings
from django.http import HttpRequest

from hub_site.common.disk import is_disk_low


def mail(request: HttpRequest) -> dict[str, bool]:
    """Whether this site can send mail, so that no page promises a mail that is not sent."""
    return {"has_mail_server": bool(settings.MAIL_SERVER)}


LOW_DISK = (
    "The site's disk is nearly full, so uploads, compositions and imports are refused. Free some space, "
    "or lower HUB_DISK_SPARE_MB."
)


def disk(request: HttpRequest) -> dict[str, str]:
    """What staff are told on every page while the disk is nearly full; nothing to all others."""
    user = getattr(request, "user", None)
    return {"low_disk_text": LOW_DISK} if user is not None and user.is_staff and is_disk_low() else {}
