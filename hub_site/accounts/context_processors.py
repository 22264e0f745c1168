from django.conf import settings
from django.http import HttpRequest


def mail(request: HttpRequest) -> dict[str, bool]:
    """Whether this site can send mail, so that no page promises a mail that is not sent."""
    return {"has_mail_server": bool(settings.MAIL_SERVER)}
