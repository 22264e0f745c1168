from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.common.errors import Refusal
from hub_site.operations.restore import site_restore


class Command(BaseCommand):
    help = "Make the site of a backup, in an empty database."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("file", type=Path, help="what `backup` wrote")

    def handle(self, *, file: Path, **_: Any) -> None:
        try:
            manifest = site_restore(file, self.stdout.write)
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        self.stdout.write(f"The site of {manifest.made_at[:16].replace('T', ' ')} UTC is here. Start it.")
        if manifest.lacking:
            self.stdout.write(f"Files that the backup lacks: {len(manifest.lacking)}. Run verify_storage.")
