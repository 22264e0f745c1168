"""Everything this site has of an account, as one zip of JSON files."""

import hashlib
import json
import tempfile
import zipfile
from collections.abc import Iterator
from typing import Any

from allauth.account.models import EmailAddress
from allauth.usersessions.models import UserSession
from django.core.serializers.json import DjangoJSONEncoder
from django.db.models import Model, QuerySet

from composer.models import Composition, Draft
from composer.playground.models import TryOut
from hub_site.accounts.models import Membership, User
from hub_site.audit.selectors import history_of_account
from hub_site.audit.services import audit_record
from hub_site.common.downloads import Download
from hub_site.moderation.models import Report
from hub_site.notifications.selectors import notifications_of
from modules_registry.importing.models import ModuleImport
from modules_registry.models import Like, Module

ACCOUNT_FIELDS = ("username", "email", "first_name", "last_name", "date_joined", "last_login")
TOKEN_FIELDS = (
    "label",
    "hint",
    "scope",
    "limited_to",
    "created_at",
    "expires_at",
    "revoked_at",
    "last_used_at",
)
LIKE_FIELDS = ("module__namespace__name", "module__name", "created_at")
README = """\
What this site has of your account. One file for each kind; a file in compositions/ for each composition,
with its examples and its report. The files of your modules and adapters are not in here: fetch them with
“hf download”, or from their pages, while your account exists. Access tokens and passwords are kept as
fingerprints only, and stay here.
"""


def account_export(user: User) -> Download:
    """The zip, written aside to an unnamed file, and a line in the account's history."""
    archive = tempfile.TemporaryFile()  # noqa: SIM115  the answer closes it once it is sent
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("README.txt", README)
        for name, content in parts(user):
            target.writestr(name, json.dumps(content, cls=DjangoJSONEncoder, indent=1, ensure_ascii=False))
    size_bytes = archive.seek(0, 2)
    archive.seek(0)
    sha256 = hashlib.file_digest(archive, "sha256").hexdigest()
    audit_record(actor=user, action="account.export", subject=user.username, thing=user)
    return Download(f"{user.username}-data.zip", sha256, size_bytes, lambda: archive)


def parts(user: User) -> Iterator[tuple[str, Any]]:
    """Each file's name and content, one after the other: an account may have many compositions."""
    yield "account.json", row(user, ACCOUNT_FIELDS)
    yield "addresses.json", rows(EmailAddress.objects.filter(user=user), ("email", "verified", "primary"))
    yield "tokens.json", rows(user.api_tokens.all(), TOKEN_FIELDS)
    yield "sessions.json", rows(UserSession.objects.filter(user=user), ("created_at", "ip", "user_agent"))
    yield (
        "organizations.json",
        rows(Membership.objects.filter(user=user), ("namespace__name", "role", "created_at")),
    )
    yield "modules.json", [module_of(module) for module in Module.objects.filter(namespace=user.namespace)]
    yield (
        "imports.json",
        rows(
            ModuleImport.objects.filter(owner=user),
            ("id", "sources", "status", "created_at", "error_message"),
        ),
    )
    yield "likes.json", rows(Like.objects.filter(user=user), LIKE_FIELDS)
    yield "drafts.json", rows(Draft.objects.filter(owner=user), ("fields", "kept_at"))
    yield (
        "try_outs.json",
        rows(TryOut.objects.filter(owner=user), ("input", "template", "result", "status", "created_at")),
    )
    yield (
        "abuse_reports.json",
        rows(Report.objects.filter(reporter=user), ("reason", "note", "created_at", "outcome")),
    )
    yield (
        "notifications.json",
        rows(notifications_of(user), ("kind", "text", "created_at", "read_at")),
    )
    yield "history.json", rows(history_of_account(user), ("at", "action", "subject"))
    for pk in Composition.objects.filter(owner=user).values_list("pk", flat=True):
        yield f"compositions/{pk}.json", composition_of(Composition.objects.select_related("base").get(pk=pk))


def rows(found: QuerySet[Any, Any], fields: tuple[str, ...]) -> list[dict[str, Any]]:
    return list(found.values(*fields))


def row(found: Model, fields: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(found, name) for name in fields}


def module_of(module: Module) -> dict[str, Any]:
    said = row(module, ("name", "sentence", "licence", "private", "created_at", "deleted_at", "downloads"))
    versions = module.versions.values("number", "commit_id", "message", "created_at", "size_bytes")
    return said | {"tags": [tag.name for tag in module.tags.all()], "versions": list(versions)}


def composition_of(composition: Composition) -> dict[str, Any]:
    asked = row(
        composition, ("name", "sentence", "method", "selection", "template", "status", "created_at", "report")
    )
    examples = list(composition.examples.values("role", "input", "output"))
    modules = list(composition.modules.values("name", "weight"))
    return asked | {"base": composition.base.name, "modules": modules, "examples": examples}
