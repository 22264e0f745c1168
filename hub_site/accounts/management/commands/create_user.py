import getpass
import secrets
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.accounts.services import user_create
from hub_site.common.errors import Refusal


class Command(BaseCommand):
    help = "Create a user and the namespace of the same name. Prints a random password unless you give one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--email", default="")
        parser.add_argument("--staff", action="store_true", help="may use /admin/")
        parser.add_argument("--ask-password", action="store_true", help="ask for the password instead")

    def handle(self, *, name: str, email: str, staff: bool, ask_password: bool, **options: Any) -> None:
        password = getpass.getpass() if ask_password else secrets.token_urlsafe(12)
        try:
            user = user_create(username=name, email=email, password=password, staff=staff)
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        self.stdout.write(
            f"Created {user.username}." if ask_password else f"Created {name}. Password: {password}"
        )
