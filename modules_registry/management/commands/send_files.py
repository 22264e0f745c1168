from typing import Any

from django.core.management.base import BaseCommand, CommandError

from modules_registry import blobs, maintenance
from modules_registry.storage import StorageError


class Command(BaseCommand):
    help = "Send every file of this disk to the object storage that has none of it yet, to move a site there."

    def handle(self, **options: Any) -> None:
        if not blobs.has_shared_store():
            raise CommandError("This site has no object storage: HUB_STORE is not “s3”.")
        try:
            blobs.shared_store().objects.make_bucket()
            sent = sum(1 for _ in maintenance.send_all())
        except StorageError as error:
            raise CommandError(f"{error} What was sent so far stays there.") from error
        self.stdout.write(f"Files sent: {sent}. Everything of this disk is in the object storage now.")
