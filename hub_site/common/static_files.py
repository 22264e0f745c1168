"""The site's own files: compressed when they are collected, at addresses with a hash of their content."""

from functools import lru_cache

from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFiles(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # it has no types
    """Remembers each address: they stay the same for as long as the process runs, and a page has sixty."""

    @lru_cache(maxsize=1000)  # noqa: B019  there is one storage, and it lives as long as its process
    def url(self, name: str, force: bool = False) -> str:
        return str(super().url(name, force))
