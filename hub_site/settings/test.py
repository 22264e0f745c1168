"""For the tests: nothing leaves the process, passwords hash fast, data lives in a folder of their own."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("HUB_DATA", str(Path(tempfile.gettempdir()) / "lora-hub-tests"))
os.environ.setdefault("DATABASE_URL", "postgresql://hub@localhost/hub")
os.environ.setdefault("CELERY_BROKER_URL", "memory://")

from hub_site.settings.base import *

DEBUG = False
SECRET_KEY = "only-for-tests-and-the-same-in-every-run-of-them"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
ALLOWED_HOSTS = ["testserver", "localhost", "127.0.0.1"]
WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = True
ACCOUNT_RATE_LIMITS = False
HUB_PAGES_KEPT_S = 0  # tests write rows without the audit
