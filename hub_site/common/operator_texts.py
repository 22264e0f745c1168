"""A fault of the site as its operator is told it: with the reason, and which setting to look at.

Visitors get the sentences of `site_faults` alone. Passwords and keys are in neither.
"""

import logging
from urllib.parse import unquote, urlsplit

from django.conf import settings

from hub_site.common.os_faults import MACHINE_FAULT
from hub_site.common.site_faults import SENTENCES, site_fault_code

LOOK_AT = {
    "database_unreachable": "DATABASE_URL and DATABASE_PASSWORD",
    "broker_unreachable": "CELERY_BROKER_URL and CELERY_BROKER_PASSWORD",
    "store_unreachable": "HUB_STORE_ENDPOINT, HUB_STORE_BUCKET, HUB_STORE_KEY and HUB_STORE_SECRET",
}
REASON_CHARACTERS = 400
SECRET_CHARACTERS_MIN = 4  # what is shorter stands in any text


def operator_text(error: BaseException) -> str | None:
    """What happened, why, and what to look at; None where the error is no fault of the site."""
    code = site_fault_code(error)
    if code is None:
        return None
    what = SENTENCES[code].removesuffix(".") if code != MACHINE_FAULT else without_secrets(own_words(error))
    reason = reason_of(error)
    told = what if reason in what else f"{what}: {reason}"
    look_at = getattr(error, "look_at", "") or LOOK_AT.get(code)
    look = f" Look at {look_at}." if look_at else ""
    return f"{told.rstrip('.')}.{look}"


def log_failure(log: logging.Logger, what: str, error: BaseException) -> None:
    """Log that something failed: a fault of the site in a sentence, any other error with its traceback."""
    if text := operator_text(error):
        log.error("%s: %s", what, text)
    else:
        log.error(what, exc_info=error)


def own_words(error: BaseException) -> str:
    """What a fault of a machine says of itself; that of the store without its advice for visitors."""
    said = str(getattr(error, "what_happened", "")) or str(error)
    return said[:1].upper() + said[1:]


def reason_of(error: BaseException) -> str:
    """What the innermost error says, on one line: that of the driver or of the machine."""
    while error.__cause__ is not None:
        error = error.__cause__
    said = " ".join(without_secrets(str(error)).split())
    return said[:REASON_CHARACTERS] or type(error).__name__


def without_secrets(text: str) -> str:
    for secret in secrets():
        text = text.replace(secret, "…")
    return text


def secrets() -> list[str]:
    """The longest first, as one may be a part of another one."""
    objects, hub = settings.HUB_STORE_OBJECTS or {}, settings.HUB_STORE_REMOTE or {}
    given = [
        settings.SECRET_KEY,
        settings.HUB_METRICS_TOKEN,
        settings.HUB_IMPORT_TOKEN,
        settings.EMAIL_HOST_PASSWORD,
        settings.DATABASES["default"].get("PASSWORD"),
        urlsplit(settings.CELERY_BROKER_URL).password,
        objects.get("secret"),
        hub.get("token"),
    ]
    both = {form for secret in given if secret for form in (secret, unquote(secret))}
    return sorted((one for one in both if len(one) >= SECRET_CHARACTERS_MIN), key=len, reverse=True)
