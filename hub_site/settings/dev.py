"""For working on the site: DEBUG pages and `manage.py runserver`, over the running system's servers."""

from hub_site.settings.base import *
from hub_site.settings.env import env_secret

DEBUG = True
SECRET_KEY = env_secret("HUB_SECRET_KEY", "only-for-development-never-for-a-site-people-use")
WHITENOISE_AUTOREFRESH = WHITENOISE_USE_FINDERS = True
