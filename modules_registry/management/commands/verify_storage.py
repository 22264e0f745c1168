from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from modules_registry import maintenance


class Command(BaseCommand):
    help = (
        "Read every stored file and say which are missing, altered, or belong to nothing; with a Hub behind "
        "the site, what it has as well. Exit code 1 if something is left to do."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--repair",
            action="store_true",
            help="remove what belongs to nothing; fetch again what the Hub has; send again what it lost",
        )

    def handle(self, *, repair: bool, **options: Any) -> None:
        left = 0
        for finding in maintenance.findings():
            is_right = repair and maintenance.repair(finding)
            left += not is_right
            self.stdout.write(f"{finding.kind}: {finding.sentence}{' Put right.' if is_right else ''}")
        if left:
            hint = "" if repair else " Run it again with --repair to put right what can be."
            raise CommandError(f"Findings left: {left}.{hint}")
        self.stdout.write("Every stored file is as it should be.")
