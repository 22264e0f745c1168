from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from hub_site.accounts.models import User
from hub_site.accounts.names import name_key
from hub_site.accounts.services import user_create
from hub_site.common.errors import Refusal
from modules_registry.base_models import base_model_add
from modules_registry.core.adapter_file import sha256_of
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.demo_worlds import SMALL, WORLDS, DemoWorld, demo_world
from modules_registry.models import Module
from modules_registry.services import module_publish, version_add

OWNER = "demo"
LICENCE = "apache-2.0"


class Command(BaseCommand):
    help = "Load a demo world: its base model and its modules, published by the user “demo”. Safe to repeat."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--world", choices=WORLDS, default=SMALL)

    def handle(self, **options: Any) -> None:
        world = demo_world(options["world"])
        contents = world.listing
        if contents is None:
            raise CommandError(f"No demo bundle in {world.bundle}. Make it with {world.made_by}.")
        if not world.base_folder(contents["base"]).is_dir():
            raise CommandError(f"The base model {contents['base']} is missing. Make it with {world.made_by}.")
        try:
            loaded = load(world, contents)
        except Refusal as refusal:
            raise CommandError(f"The demo bundle was refused: {refusal.message}") from refusal
        self.stdout.write(f"The demo world is there: {contents['base']}, and modules for it: {loaded}.")


def load(world: DemoWorld, contents: dict[str, Any]) -> int:
    owner = User.objects.filter(username=OWNER).first() or user_create(username=OWNER)
    base_model_add(
        folder=world.base_folder(contents["base"]),
        name=contents["base"],
        revision=contents.get("base_revision", ""),
        sentence=contents.get("base_sentence", ""),
        licence=LICENCE,
        added_by=owner,
    )
    for module in contents["modules"]:
        load_module(owner, world.bundle / "modules" / module["name"], module)
    return len(contents["modules"])


def load_module(owner: User, folder: Path, described: dict[str, Any]) -> None:
    """Publish a module of the bundle, or its newer weights; what its owner did since then stays."""
    module = Module.objects.filter(namespace=owner.namespace, key=name_key(described["name"])).first()
    if module is not None and is_settled(module, folder):
        return
    with (
        (folder / CONFIG_FILE).open("rb") as config,
        (folder / WEIGHTS_FILE).open("rb") as weights,
        (folder / CARD_FILE).open("rb") as card,
    ):
        files: dict[str, Any] = {"config_file": config, "weights_file": weights, "card_file": card}
        if module is not None:
            version_add(author=owner, module=module, **files)
            return
        module_publish(
            author=owner,
            namespace=owner.namespace,
            name=described["name"],
            sentence=described["sentence"],
            licence=LICENCE,
            tags=described["tags"],
            **files,
        )


def is_settled(module: Module, folder: Path) -> bool:
    """Deleted, or published with these weights at some time."""
    weights = sha256_of(folder / WEIGHTS_FILE)
    return module.deleted_at is not None or module.versions.filter(weights_sha256=weights).exists()
