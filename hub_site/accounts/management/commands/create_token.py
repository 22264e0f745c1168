from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.accounts.models import ApiToken, User
from hub_site.accounts.services import token_create
from hub_site.common.errors import Refusal


class Command(BaseCommand):
    help = "Make a bearer token for a user and print it, once."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name")
        parser.add_argument("--scope", choices=ApiToken.Scope.values, required=True)
        parser.add_argument("--expires", type=int, metavar="DAYS", help="without it, until revoked")
        parser.add_argument(
            "--limited-to",
            default="",
            metavar="OWNER[/NAME]",
            help="for everything else it counts as no token; without it, for all that is the user's",
        )
        parser.add_argument("--label", default="command line")

    def handle(
        self, *, name: str, scope: str, expires: int | None, limited_to: str, label: str, **options: Any
    ) -> None:
        user = User.objects.filter(username__iexact=name).first()
        if user is None:
            raise CommandError(f"There is no user “{name}”. Make one with: create_user {name}")
        try:
            _, token = token_create(user=user, label=label, scope=scope, days=expires, limited_to=limited_to)
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        self.stdout.write(token)
