"""Addresses of the site's own files, with a hash of their content."""

from functools import lru_cache

from django.contrib.staticfiles.storage import ManifestStaticFilesStorage


class StaticFiles(ManifestStaticFilesStorage):
    """Remembers each address: they stay the same for as long as the process runs, and a page has sixty."""

    @lru_cache(maxsize=1000)  # noqa: B019  there is one storage, and it lives as long as its process
    def url(self, name: str, force: bool = False) -> str:
        return str(super().url(name, force))
