from typing import Any

from django.core.management.base import BaseCommand, CommandError

from modules_registry import blobs, maintenance
from modules_registry.storage import StorageError


class Command(BaseCommand):
    help = "Fetch every file that is not on this disk from the Hub or the object storage, to do without it."

    def handle(self, **options: Any) -> None:
        if not (blobs.has_remote_store() or blobs.has_shared_store()):
            raise CommandError("This site keeps its files on its own disk: HUB_STORE is “disk”.")
        try:
            fetched = sum(1 for _ in maintenance.fetch_all())
        except StorageError as error:
            raise CommandError(f"{error} What came so far stays here.") from error
        self.stdout.write(f"Files fetched: {fetched}. Everything is on this disk now.")
