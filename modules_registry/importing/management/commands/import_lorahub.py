import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.accounts.selectors import namespace_by_name, staff_user
from hub_site.accounts.services import organization_create
from hub_site.common.errors import Refusal
from modules_registry.files.conversion import stop_launcher
from modules_registry.importing import runner
from modules_registry.importing.lorahub import AUTHOR, BASE, is_module
from modules_registry.importing.models import ImportItem, ModuleImport
from modules_registry.importing.refusal_text import line_of
from modules_registry.importing.services import import_request
from modules_registry.importing.source import ImportSource

State = ImportItem.State


class Command(BaseCommand):
    help = "Import the modules of the LoraHub paper, each with the task and data set that its name tells."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--endpoint", default="", help="another Hub than HUB_IMPORT_ENDPOINT")
        parser.add_argument("--author", default=AUTHOR, help="whose they are there")
        parser.add_argument("--namespace", default=AUTHOR, help="whose they are here; made when missing")
        parser.add_argument("--user", default="", help="the member of staff who publishes them")
        parser.add_argument("--base", default=BASE, help="their base model")
        parser.add_argument("--limit", type=int, default=0, help="only so many, by name")

    def handle(self, *, namespace: str, user: str, base: str, endpoint: str, **options: Any) -> None:
        try:
            owner = staff_user(user)
            sources = list_repositories(endpoint, options["author"])
            wanted = sources[: options["limit"] or None]
            job = import_request(
                owner=owner,
                namespace=namespace_by_name(namespace) or organization_create(founder=owner, name=namespace),
                sources=wanted,
                base=base,
                endpoint=endpoint,
                enqueue=False,
            )
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        self.stdout.write(
            f"Importing modules of {options['author']}: {len(wanted)} of {len(sources)}. "
            f"Progress: {settings.PUBLIC_ADDRESS}{job.get_absolute_url()}"
        )
        self.carry_out(job, len(wanted))

    def carry_out(self, job: ModuleImport, wanted: int) -> None:
        try:
            runner.import_run(job.pk, lambda item: self.stdout.write(line_of(item, wanted)))
        finally:
            stop_launcher()
        job.refresh_from_db()
        known = job.items.filter(state=State.UNCHANGED).count()
        come = job.items.filter(state=State.IMPORTED).count()
        before = f" ({known} of them before)" if known else ""
        self.stdout.write(f"{come + known} of {wanted} imported{before}, into {job.namespace}.")
        if not job.is_done:
            raise CommandError(job.error_message or f"The import is {job.get_status_display().lower()}.")


def list_repositories(endpoint: str, author: str) -> list[str]:
    """The author's modules on the Hub, by name."""
    token = "" if endpoint else settings.HUB_IMPORT_TOKEN
    reader = ImportSource(endpoint or settings.HUB_IMPORT_ENDPOINT, token, time.sleep)
    names = reader.repositories_of(author, most=settings.HUB_IMPORT_REPOSITORIES_MAX)
    found = sorted(filter(is_module, names))
    if not found:
        raise Refusal("nothing_there", f"{author} has none of the modules of LoraHub at {reader.endpoint}.")
    return found
