"""What the web server runs: Django behind the body gate."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hub_site.settings.prod")
django_application = get_asgi_application()

from django.conf import settings  # noqa: E402  the line above has set Django up

from hub_site.body_gate import BodyGate  # noqa: E402
from hub_site.uploaders import may_upload  # noqa: E402

FORM_AROUND_FILE_BYTES = 1_000_000  # the other fields of an upload form, and its boundaries

application = BodyGate(
    django_application,
    upload_max_bytes=settings.HUB_UPLOAD_MAX_MB * 1_000_000 + FORM_AROUND_FILE_BYTES,
    may_upload=may_upload,
)
