import os
import secrets
import time
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from composer.core.spec.counting import count_noun
from hub_site.accounts.models import User
from hub_site.common.secret_key_mark import leave_mark
from modules_registry.blobs import has_shared_store, shared_store
from modules_registry.demo_worlds import SMALL, WORLDS, demo_world
from modules_registry.models import Module

DEMO_USER = "demo"
PASSWORD_LINE = "HUB_DEMO_PASSWORD="


class Command(BaseCommand):
    help = "Make the site ready to start: migrate, load the demo world once, name the demo account."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--world", choices=WORLDS, default=SMALL, help="english: load that one too")

    def handle(self, **options: Any) -> None:
        migrate_if_needed()
        leave_mark()
        if has_shared_store() and shared_store().objects.make_bucket():
            self.stdout.write(f"made the bucket {shared_store().objects.bucket} in the object storage")
        load_demo_world_once(SMALL)
        if options["world"] != SMALL:
            self.load_asked(options["world"])
        if password := demo_password():
            self.stdout.write(f"demo account: {DEMO_USER} / {password}")

    def load_asked(self, world: str) -> None:
        """Load a world that somebody asked for, and say what became of it."""
        began_s = time.monotonic()
        contents = demo_world(world).listing
        if contents is None:
            raise CommandError(f"There is no bundle of the {world} library: {demo_world(world).made_by}")
        load_demo_world_once(world)
        modules = count_noun(len(contents["modules"]), "module")
        parts = f"{contents['base']}, {modules} and {count_noun(len(contents['tasks']), 'task')}"
        self.stdout.write(f"  {time.monotonic() - began_s:6.1f} s  loaded {parts} into the site")
        self.stdout.write("Its tasks are on the page that composes, under “Take a ready-made task”.")
        if settings.HUB_EXAMPLE_REPORT != "no":
            self.stdout.write(
                "The site now composes its example report on it, some minutes of one worker. "
                "HUB_EXAMPLE_REPORT=no leaves that out."
            )


def migrate_if_needed() -> None:
    """As `migrate`, without its second of work when there is nothing to do."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", interactive=False, verbosity=0)


def load_demo_world_once(world: str) -> None:
    """Modules that were deleted since keep their names, so that they do not come back."""
    contents = demo_world(world).listing
    if contents is None:
        return
    wanted = {module["name"] for module in contents["modules"]}
    there = Module.objects.filter(namespace__name=DEMO_USER, name__in=wanted).count()
    if there < len(wanted):
        with Path(os.devnull).open("w") as nowhere:
            call_command("load_demo", world=world, stdout=nowhere)


def demo_password() -> str:
    """The demo account's random password, made the first time; empty once its owner has changed it."""
    user = User.objects.filter(username=DEMO_USER).first()
    if user is None:
        return ""
    note = Path(settings.HUB_DATA) / "demo-account.txt"
    if not user.has_usable_password():
        return give_password(user, note)
    password = note.read_text().strip().removeprefix(PASSWORD_LINE) if note.is_file() else ""
    return password if password and user.check_password(password) else ""


def give_password(user: User, note: Path) -> str:
    password = secrets.token_urlsafe(12)
    note.unlink(missing_ok=True)
    with os.fdopen(os.open(note, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(f"{PASSWORD_LINE}{password}\n")
    user.set_password(password)
    user.save(update_fields=["password"])
    return password
