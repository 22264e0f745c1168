import json
import os
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from hub_site.accounts.models import User
from modules_registry.models import Module

DEMO_USER = "demo"
PASSWORD_LINE = "HUB_DEMO_PASSWORD="


class Command(BaseCommand):
    help = "Make the site ready to start: migrate, load the demo world once, name the demo account."

    def handle(self, **options: Any) -> None:
        migrate_if_needed()
        load_demo_world_once()
        if password := demo_password():
            self.stdout.write(f"demo account: {DEMO_USER} / {password}")


def migrate_if_needed() -> None:
    """As `migrate`, without its second of work when there is nothing to do."""
    executor = MigrationExecutor(connection)
    if executor.migration_plan(executor.loader.graph.leaf_nodes()):
        call_command("migrate", interactive=False, verbosity=0)


def load_demo_world_once() -> None:
    """Modules that were deleted since keep their names, so that they do not come back."""
    listing = Path(settings.HUB_DEMO_BUNDLE) / "bundle.json"
    if not listing.is_file():
        return
    wanted = {module["name"] for module in json.loads(listing.read_text())["modules"]}
    there = Module.objects.filter(namespace__name=DEMO_USER, name__in=wanted).count()
    if there < len(wanted):
        with Path(os.devnull).open("w") as nowhere:
            call_command("load_demo", stdout=nowhere)


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
