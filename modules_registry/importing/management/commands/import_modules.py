from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.accounts.models import User
from hub_site.accounts.selectors import namespace_by_name
from hub_site.common.errors import Refusal
from modules_registry.files.conversion import stop_launcher
from modules_registry.importing import runner
from modules_registry.importing.models import ImportItem, ModuleImport
from modules_registry.importing.refusal_text import line_of
from modules_registry.importing.services import import_request
from modules_registry.importing.source_lists import list_text, sources_in


class Command(BaseCommand):
    help = "Import modules from a Hub: repositories (owner/name, perhaps @revision) or all of an owner's."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("sources", nargs="*")
        parser.add_argument(
            "--list",
            type=Path,
            help="a text file with one source a line; lines that begin with # are left out",
        )
        parser.add_argument("--user", required=True, help="who publishes them here")
        parser.add_argument("--namespace", default="", help="the owner here; without it, the user's own name")
        parser.add_argument("--base", default="", help="the base model, in place of what the configs name")

    def handle(self, *, sources: list[str], user: str, namespace: str, base: str, **options: Any) -> None:
        owner = User.objects.filter(username=user).first()
        target = namespace_by_name(namespace or user)
        if owner is None or target is None:
            raise CommandError("There is no such user or namespace here.")
        try:
            wanted = [*sources, *(read_list(options["list"]) if options["list"] else [])]
            job = import_request(owner=owner, namespace=target, sources=wanted, base=base, enqueue=False)
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        self.carry_out(job)

    def carry_out(self, job: ModuleImport) -> None:
        """Import here and now, a line for each repository as it comes in."""

        def tell(item: ImportItem) -> None:
            self.stdout.write(line_of(item, job.items.count()))

        try:
            runner.import_run(job.pk, tell)
        finally:
            stop_launcher()
        job.refresh_from_db()
        if not job.is_done:
            raise CommandError(job.error_message or f"The import is {job.get_status_display().lower()}.")


def read_list(path: Path) -> list[str]:
    try:
        return sources_in(list_text(path.read_bytes()))
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}. Check --list.") from error
