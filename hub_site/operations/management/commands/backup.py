from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.common.errors import Refusal
from hub_site.operations.backup import site_backup


class Command(BaseCommand):
    help = "Write the database and every stored file into one file, while the site runs."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="a new file; it holds the key that signs sessions")

    def handle(self, *, file: Path, **_: Any) -> None:
        try:
            manifest = site_backup(file, self.stdout.write)
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        self.stdout.write(f"{file} holds the site of {manifest.made_at[:16].replace('T', ' ')} UTC.")
        if manifest.lacking:
            raise CommandError(
                f"Files that are missing or altered in the store, and left out: {len(manifest.lacking)}. "
                "Run ./hub manage verify_storage, which says whose they are."
            )
