from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.accounts.selectors import staff_user
from hub_site.common.errors import Refusal
from modules_registry.base_models import base_model_add
from modules_registry.importing.base_runner import base_run
from modules_registry.importing.base_services import base_import_request
from modules_registry.models import BaseModel


class Command(BaseCommand):
    help = (
        "Put a base model into the library: from a Hub (owner/name, perhaps @revision), or with --name from "
        "a plain transformers folder with safetensors weights."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("source", help="owner/name[@revision] on the Hub; with --name, a folder")
        parser.add_argument(
            "--name", default="", help="of a folder, as modules name it: google/flan-t5-large"
        )
        parser.add_argument(
            "--revision", default="", help="of a folder, the commit it was taken from; without it, a digest"
        )
        parser.add_argument("--sentence", default="", help="what it is, in one sentence")
        parser.add_argument("--licence", default="", help="such as apache-2.0")
        parser.add_argument("--user", default="", help="the member of staff who asks, from a Hub")

    def handle(self, *, source: str, name: str, **options: Any) -> None:
        try:
            if name:
                base, is_new = from_folder(Path(source), name, options)
            else:
                base, is_new = from_hub(source, options)
        except Refusal as refusal:
            raise CommandError(refusal.message) from refusal
        fitting = base.versions.filter(current_of__isnull=False).count()
        state = "is in the library" if is_new else "was in the library already"
        self.stdout.write(
            f"{base.name} {state}, at {base.revision[:12]}. Modules that can be composed on it: {fitting}."
        )


def from_folder(folder: Path, name: str, options: dict[str, Any]) -> tuple[BaseModel, bool]:
    said = {key: options[key] for key in ("revision", "sentence", "licence")}
    return base_model_add(folder=folder, name=name, **said)


def from_hub(source: str, options: dict[str, Any]) -> tuple[BaseModel, bool]:
    """Ask as staff do on the admin's page, and do the work in this process."""
    if Path(source).is_dir() and "@" not in source:
        message = f"{source} is a folder. Say what the model is called: --name owner/name."
        raise Refusal("name_missing", message)
    repo_id, _, revision = source.partition("@")
    was_there = BaseModel.objects.filter(name=repo_id).exists()
    job = base_import_request(
        owner=staff_user(options["user"]),
        repo_id=repo_id,
        revision=revision,
        sentence=options["sentence"],
        licence=options["licence"],
        enqueue=False,
    )
    base_run(job.pk)
    job.refresh_from_db()
    if job.base is None:
        why = job.error_message or job.put_off_reason
        raise Refusal(job.error_code, why or f"It is {job.get_status_display().lower()}.")
    return job.base, not was_there
