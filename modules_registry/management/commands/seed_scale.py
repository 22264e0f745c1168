"""Fill a separate database with a library of 100,000 modules, to measure the site with.

Rows are copied in bulk, and indexes are built afterwards. Sizes of modules are drawn: their files are small.
"""

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection, models, transaction
from psycopg import sql

from hub_site.accounts.models import Namespace, User
from hub_site.accounts.names import name_key
from modules_registry.core.errors import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from modules_registry.facets import FacetFacts, facet_values
from modules_registry.indexing import count_values, count_words, search_text_of, searched_card
from modules_registry.management.scale_world import (
    BASES,
    BEGUN_AT,
    LASTS,
    SEED,
    DrawnModule,
    config_of,
    drawn_modules,
    layers_of,
    tag_names,
    weights_of,
)
from modules_registry.models import (
    BaseModel,
    DownloadDay,
    FacetValue,
    Like,
    Lineage,
    Module,
    Tag,
    Version,
    VersionFile,
)
from modules_registry.popularity import recount
from modules_registry.words import words_add, words_in

DATABASE = "hub_scale"
FOLDER = "scale"  # of HUB_DATA: the store of that library
MODULES, OWNERS = 100_000, 10_000
TRIGGERS = """
SELECT relname, tgname FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE NOT tgisinternal AND tgname LIKE 'candidate%'
"""
CANDIDATES = """
SELECT candidates_refresh(array(SELECT id FROM modules_registry_module WHERE current_id IS NOT NULL))
"""
LIKES_EACH, DAYS_EACH = 2, 3  # on average
COMPOSED = 0.02  # of the modules were made from others
PARENTS_MAX = 45
AT_ONCE = 5_000
SHA1, SHA256 = 40, 64


class Command(BaseCommand):
    help = "Fill a separate database with a library of 100,000 modules, to measure with benchmarks.site_load."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--modules", type=int, default=MODULES)
        parser.add_argument("--owners", type=int, default=OWNERS)
        parser.add_argument("--database", default=DATABASE, help=f"its name on the site's server: {DATABASE}")
        parser.add_argument("--again", action="store_true", help="drop that database first, if it is there")
        parser.add_argument(
            "--here", action="store_true", help="fill the database of this process: an empty one"
        )

    def handle(self, **options: Any) -> None:
        begun = time.monotonic()
        if options["here"]:
            fill(options["modules"], options["owners"], self.say)
            return
        make_database(options["database"], again=options["again"])
        environment = scale_environment(options["database"])
        sizes = ["--modules", str(options["modules"]), "--owners", str(options["owners"])]
        manage(environment, "migrate", "--verbosity", "0")
        manage(environment, "seed_scale", "--here", *sizes)
        self.say(f"Done in {time.monotonic() - begun:.0f} s. Measure with: python -m benchmarks.site_load")

    def say(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def make_database(name: str, *, again: bool) -> None:
    if name == connection.settings_dict["NAME"]:
        raise CommandError(f"{name} is the site's own database. Choose another name.")
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as server:
        there = server.execute("SELECT FROM pg_database WHERE datname = %s", [name]).fetchall()
        if there and not again:
            raise CommandError(f"The database {name} is there already. Fill it anew with --again.")
        if there:
            server.execute(sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))


def scale_environment(database: str) -> dict[str, str]:
    """That of a process of the site on the large library."""
    address = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{quote(database)}")
    folder = Path(settings.HUB_DATA) / FOLDER
    folder.mkdir(mode=0o711, exist_ok=True)
    return {**os.environ, "DATABASE_URL": urlunsplit(address), "HUB_DATA": str(folder)}


def manage(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, str(Path(settings.BASE_DIR) / "manage.py"), *arguments]
    subprocess.run(command, env=environment, check=True)


def fill(count: int, owners: int, say: Any) -> None:
    if Module.objects.exists():
        raise CommandError("This database has modules already: it is not one to be filled.")
    begun = time.monotonic()

    def told(what: str) -> None:
        say(f"{time.monotonic() - begun:6.0f} s  {what}")

    modules = list(drawn_modules(count, owners))
    told("modules are drawn")
    with (
        transaction.atomic(),
        without_triggers(),
        without_indexes(Module),
        without_indexes(Version),
        without_indexes(VersionFile),
    ):
        copy_accounts(owners)
        copy_bases()
        keys = copy_facet_values(modules)
        told("owners, bases, tags and facet values are copied")
        copy_modules(modules, keys)
        told("modules are copied")
        copy_versions(modules)
        told("versions and files are copied")
        copy_tags(modules)
        copy_popularity(modules, owners)
        copy_lineage(modules)
        told("tags, likes, downloads and lineage are copied")
    told("indexes are built")
    with connection.cursor() as cursor:
        cursor.execute(CANDIDATES)
    told("modules to compose from are listed")
    for first in range(1, count + 1, AT_ONCE):
        recount(range(first, first + AT_ONCE))
    for first in range(0, count, AT_ONCE):
        texts = (f"{each.name} {each.sentence} {each.card}" for each in modules[first : first + AT_ONCE])
        words_add(words_in(" ".join(texts)))
    for table in (User, Namespace, BaseModel, Tag, FacetValue, Module, Version):
        set_sequence(table)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
    count_values()
    count_words()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
    told("likes, values and words are counted")


@contextmanager
def without_triggers() -> Iterator[None]:
    """Rows of modules are copied without the triggers that keep the list of those to compose from."""
    with connection.cursor() as cursor:
        cursor.execute(TRIGGERS)
        triggers = [(sql.Identifier(table), sql.Identifier(name)) for table, name in cursor.fetchall()]
        for names in triggers:
            cursor.execute(sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(*names))  # type: ignore[arg-type]
        yield
        for names in triggers:
            cursor.execute(sql.SQL("ALTER TABLE {} ENABLE TRIGGER {}").format(*names))  # type: ignore[arg-type]


@contextmanager
def without_indexes(model: type[models.Model]) -> Iterator[None]:
    """A table whose indexes are built once at the end, except those that keep rows unique."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes "
            "WHERE tablename = %s AND indexdef NOT LIKE 'CREATE UNIQUE%%'",
            [table],
        )
        indexes = cursor.fetchall()
        for name, _ in indexes:
            cursor.execute(sql.SQL("DROP INDEX {}").format(sql.Identifier(name)))  # type: ignore[arg-type]
        yield
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET maintenance_work_mem = '512MB'")
        for _, definition in indexes:
            cursor.execute(definition)


def copy_rows(model: type[models.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """COPY rows in; columns that are not named get what the model gives a new row."""
    named = [model._meta.get_field(name) for name in columns]
    others = [
        field
        for field in model._meta.concrete_fields
        if field not in named and not field.generated and not field.has_db_default() and not field.primary_key
    ]
    more = [field.get_db_prep_save(field.get_default(), connection) for field in others]
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(model._meta.db_table),
        sql.SQL(", ").join([sql.Identifier(str(field.column)) for field in (*named, *others)]),  # type: ignore[misc, union-attr]
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row([*row, *more])


def copy_accounts(owners: int) -> None:
    names = [owner_name(place) for place in range(owners)]
    joined = [BEGUN_AT - timedelta(hours=place) for place in range(owners)]
    copy_rows(
        User,
        ("id", "username", "password", "date_joined"),
        ((place + 1, name, "!", joined[place]) for place, name in enumerate(names)),
    )
    copy_rows(
        Namespace,
        ("id", "name", "key", "kind", "user", "created_at", "updated_at"),
        (
            (place + 1, name, name_key(name), "user", place + 1, joined[place], joined[place])
            for place, name in enumerate(names)
        ),
    )


def owner_name(place: int) -> str:
    tag = tag_names()[place % 2_000].replace("_", "-")
    return f"{tag}-{'lab' if place % 7 else 'team'}-{place}"


def copy_bases() -> None:
    for place, (name, kind, architecture, parameters, width, layers, _) in enumerate(BASES):
        BaseModel.objects.create(
            pk=place + 1,
            name=name,
            revision=sha1_of(name),
            kind=kind,
            architecture=architecture,
            parameters=parameters,
            licence="apache-2.0",
            layers=layers_of(kind, width, layers),
            sentence="A base model of the library that the site is measured with.",
        )


def facts_of(module: DrawnModule) -> FacetFacts:
    names = tag_names()
    return FacetFacts(
        owner=owner_name(module.owner),
        licence=module.licence,
        tags=sorted(names[tag] for tag in module.tags),
        base=module.base_name,
        architecture=BASES[module.base][2] if module.base is not None else "",
        task_type=module.task_type,
        rank=module.rank,
        alpha=module.alpha,
        scaling=module.scaling,
        has_own_ranks=False,
        targets=module.targets,
        size_bytes=module.size_bytes,
        is_composable=module.base is not None,
        has_evidence=module.has_evidence,
        front_matter={"pipeline_tag": module.pipeline, "language": module.language},
    )


def copy_facet_values(modules: Iterable[DrawnModule]) -> dict[tuple[str, str], int]:
    values = sorted({pair for module in modules for pair in facet_values(facts_of(module))})
    keys = {pair: key for key, pair in enumerate(values, start=1)}
    copy_rows(FacetValue, ("id", "facet", "value"), ((key, *pair) for pair, key in keys.items()))
    return keys


def copy_modules(modules: Iterable[DrawnModule], keys: dict[tuple[str, str], int]) -> None:
    columns = ("id", "namespace", "name", "key", "sentence", "licence", "current", "downloads", "search_text")
    more = ("card_text", "facets", "has_evidence", "indexed_at", "created_at", "updated_at")
    copy_rows(Module, (*columns, *more), (module_row(module, keys) for module in modules))


def module_row(module: DrawnModule, keys: dict[tuple[str, str], int]) -> tuple[Any, ...]:
    facts = facts_of(module)
    values = facet_values(facts)
    described = Module(name=module.name, sentence=module.sentence)
    return (
        *(module.pk, module.owner + 1, module.name, name_key(module.name), module.sentence, module.licence),
        *(module.pk, module.downloads, search_text_of(described, facts.tags, values)),
        *(searched_card(module.card.split("---\n", 2)[2]), sorted(keys[pair] for pair in values)),
        *(module.has_evidence, module.updated_at, module.created_at, module.updated_at),
    )


def copy_versions(modules: Sequence[DrawnModule]) -> None:
    columns = ("id", "module", "number", "commit_id", "message", "author", "created_at", "base_name", "base")
    facts = ("task_type", "rank", "alpha", "scaling", "targets", "parameters", "dtype", "weights_sha256")
    copy_rows(
        Version,
        (*columns, *facts, "size_bytes"),
        (
            (
                *(module.pk, module.pk, 1, sha1_of(f"commit {module.pk}"), "First version", module.owner + 1),
                *(module.updated_at, module.base_name, module.base + 1 if module.base is not None else None),
                *(
                    module.task_type,
                    module.rank,
                    module.alpha,
                    module.scaling,
                    json.dumps(list(module.targets)),
                ),
                *(module.parameters, "F32", sha256_of(weights_of(module.weights)), module.size_bytes),
            )
            for module in modules
        ),
    )
    store = SeededStore(Path(settings.HUB_DATA) / "blobs")
    copy_rows(
        VersionFile,
        ("version", "path", "sha256", "size_bytes"),
        (
            (module.pk, path, store.put(data), len(data))
            for module in modules
            for path, data in (
                (CARD_FILE, module.card.encode()),
                (CONFIG_FILE, config_of(module)),
                (WEIGHTS_FILE, weights_of(module.weights)),
            )
        ),
    )


class SeededStore:
    """Writes files where the site's store looks for them, without waiting for the disk after each one."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.there, self.folders = folder, set[str](), set[Path]()

    def put(self, data: bytes) -> str:
        sha256 = sha256_of(data)
        folder = self.folder / sha256[:2] / sha256[2:4]
        if folder not in self.folders:
            folder.mkdir(parents=True, exist_ok=True)
            self.folders.add(folder)
        if sha256 not in self.there:
            self.there.add(sha256)
            (folder / sha256).write_bytes(data)
        return sha256


def copy_tags(modules: Iterable[DrawnModule]) -> None:
    copy_rows(Tag, ("id", "name"), ((place + 1, name) for place, name in enumerate(tag_names())))
    rows = ((module.pk, tag + 1) for module in modules for tag in module.tags)
    copy_rows(Module.tags.through, ("module", "tag"), rows)


def copy_popularity(modules: Sequence[DrawnModule], owners: int) -> None:
    random = Random(SEED)
    ends = BEGUN_AT + LASTS
    likes = {
        (random.randint(1, owners), random.randint(1, int(random.paretovariate(0.4)) % len(modules) + 1))
        for _ in range(LIKES_EACH * len(modules))
    }
    at = (ends - LASTS * random.random() ** 2 for _ in likes)
    copy_rows(
        Like, ("user", "module", "created_at"), ((*pair, when) for pair, when in zip(likes, at, strict=True))
    )
    days = {
        (module.pk, (ends - timedelta(days=int(random.expovariate(0.02)))).date()): module.downloads
        for module in modules
        for _ in range(random.randint(0, 2 * DAYS_EACH))
    }
    rows = ((pk, day, min(downloads, 50)) for (pk, day), downloads in days.items())
    copy_rows(DownloadDay, ("module", "day", "downloads"), rows)


def copy_lineage(modules: Sequence[DrawnModule]) -> None:
    """Some were composed, of up to 45 parents; the last one of all 45."""
    random = Random(SEED)
    children = [module.pk for module in modules if module.pk > PARENTS_MAX and random.random() < COMPOSED]
    counts = {child: random.randint(2, 12) for child in children} | {modules[-1].pk: PARENTS_MAX}
    rows = (
        (child, parent, round(random.uniform(-0.3, 1.2), 4), position)
        for child, count in counts.items()
        if child > PARENTS_MAX
        for position, parent in enumerate(random.sample(range(1, child), count))
    )
    copy_rows(Lineage, ("child", "made_from", "weight", "position"), rows)


def set_sequence(model: type[models.Model]) -> None:
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT setval(pg_get_serial_sequence('{table}', 'id'), (SELECT max(id) FROM {table}))"
        )


def sha256_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def sha1_of(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
