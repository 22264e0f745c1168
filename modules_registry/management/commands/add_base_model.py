from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.common.errors import Refusal
from modules_registry.library import base_model_add


class Command(BaseCommand):
    help = "Put a base model into the library, from a plain transformers folder with safetensors weights."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("folder", type=Path)
        parser.add_argument("--name", required=True, help="as modules name it: google/flan-t5-large")
        parser.add_argument(
            "--revision", default="", help="the commit it was taken from; without it, a digest"
        )
        parser.add_argument("--sentence", default="", help="what it is, in one sentence")
        parser.add_argument("--licence", default="", help="such as apache-2.0")

    def handle(
        self, *, folder: Path, name: str, revision: str, sentence: str, licence: str, **options: Any
    ) -> None:
        try:
            base, is_new = base_model_add(
                folder=folder, name=name, revision=revision, sentence=sentence, licence=licence
            )
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        fitting = base.versions.filter(current_of__isnull=False).count()
        state = "is in the library" if is_new else "was in the library already"
        self.stdout.write(
            f"{base.name} {state}, at {base.revision[:12]}. Modules that can be composed on it: {fitting}."
        )
