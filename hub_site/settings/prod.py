"""The site as people use it, `./hub up` included. Secrets have no default here."""

from hub_site.settings.base import *
from hub_site.settings.env import env_secret

DEBUG = False
SECRET_KEY = env_secret("HUB_SECRET_KEY")

STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "hub_site.common.static_files.StaticFiles"},
}
MEDIA_ROOT = HUB_DATA / "media"
