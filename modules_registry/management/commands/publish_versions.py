from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.jobs.models import Status
from modules_registry import maintenance
from modules_registry.blobs import has_remote_store
from modules_registry.mirror import runner, selectors
from modules_registry.mirror.services import repository_queue, repository_renew
from modules_registry.models import HubRepository, Module
from modules_registry.tasks import sync_repository


class Command(BaseCommand):
    help = (
        "Ask again for every module that the Hub behind this site does not have as it should, those that "
        "failed or wait for their next try among them."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("modules", nargs="*", help="owner/name; without any, all that need it")

    def handle(self, *, modules: list[str], **options: Any) -> None:
        if not has_remote_store():
            raise CommandError("This site keeps its files on its own disk: HUB_STORE is not “hub”.")
        wanted = [find(name) for name in modules] if modules else list(unsettled_modules())
        for module in wanted:
            make_anew_if_gone(module)
            repository = repository_queue(module, now=True)
            sync_repository.delay(str(repository.pk))
            self.stdout.write(f"{module.full_name} goes to {repository.repo_id}.")
        self.stdout.write(f"{len(wanted)} asked for.")


def find(full_name: str) -> Module:
    owner, _, name = full_name.partition("/")
    found = Module.objects.filter(namespace__name__iexact=owner, name__iexact=name).first()
    if found is None:
        raise CommandError(f"There is no module {full_name}.")
    return found


def make_anew_if_gone(module: Module) -> None:
    repository = HubRepository.objects.filter(module=module, is_there=True).first()
    if repository is not None and maintenance.is_gone(repository):
        repository_renew(repository)


def unsettled_modules() -> set[Module]:
    """What failed, waits, was never stored, or is not on the Hub any more."""
    runner.look_for_repositories()  # queues what the Hub does not list
    waiting = HubRepository.objects.filter(status__in=[Status.FAILED, Status.QUEUED])
    return {repository.module for repository in waiting} | set(selectors.modules_to_store())
