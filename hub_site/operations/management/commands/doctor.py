from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from hub_site.operations.doctor import findings

MARKS = {"ok": "ok   ", "look": "look ", "wrong": "WRONG"}


class Command(BaseCommand):
    help = "Say what this machine and the site can and cannot; the exit code is 1 where something is wrong."
    requires_system_checks: list[str] = []

    def handle(self, **_: Any) -> None:
        states: Counter[str] = Counter()
        for finding in findings():
            states[finding.state] += 1
            self.stdout.write(f"{MARKS[finding.state]}  {finding.sentence}")
        if states["wrong"]:
            raise CommandError(f"Wrong: {states['wrong']}.")
