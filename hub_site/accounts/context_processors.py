from django.conf import settings
from django.http import HttpRequest


def mail(request: HttpRequest) -> dict[str, bool]:
    """Whether a letter leaves this site, so that no page promises one that does not."""
    return {"has_mail_server": bool(settings.MAIL_SERVER)}
