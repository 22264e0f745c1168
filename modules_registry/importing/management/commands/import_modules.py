from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.accounts.models import User
from hub_site.accounts.selectors import namespace_by_name
from hub_site.common.errors import Refusal
from modules_registry.importing import runner
from modules_registry.importing.services import import_request


class Command(BaseCommand):
    help = "Import modules from a Hub: repositories (owner/name, perhaps @revision) or all of an owner's."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("sources", nargs="*")
        parser.add_argument("--list", type=Path, help="a file with one source a line")
        parser.add_argument("--user", required=True, help="who publishes them here")
        parser.add_argument("--namespace", default="", help="the owner here; without it, the user's own name")
        parser.add_argument("--base", default="", help="the base model, in place of what the configs name")

    def handle(self, *, sources: list[str], user: str, namespace: str, base: str, **options: Any) -> None:
        owner = User.objects.filter(username=user).first()
        target = namespace_by_name(namespace or user)
        if owner is None or target is None:
            raise CommandError("There is no such user or namespace here.")
        lines = options["list"].read_text().splitlines() if options["list"] else []
        try:
            job = import_request(
                owner=owner, namespace=target, sources=[*sources, *lines], base=base, ring=False
            )
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        try:
            runner.import_run(job.pk)
        finally:
            runner.launcher().stop()
        job.refresh_from_db()
        for item in job.items.all():
            self.stdout.write(f"{item.repo_id}: {item.get_state_display()} {item.message}".rstrip())
        if not job.is_done:
            raise CommandError(job.error_message or f"The import is {job.status}.")
