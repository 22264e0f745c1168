"""Who may ask for something, and the things that there are to ask for."""

from dataclasses import dataclass

from django.test import Client

from composer.models import Composition, ExampleSearch
from composer.playground.models import TryOut
from composer.request.drafts import draft_keep
from composer.share.services import share_renew
from hub_site.accounts.models import ApiToken, Membership, User
from hub_site.accounts.services import account_suspend, organization_create, token_create, user_create
from modules_registry.importing.services import import_request
from modules_registry.services import module_publish
from tests.factories import adapter_files

IDENTITIES = (
    "anonymous", "stranger", "reader", "writer", "owner", "staff",
    "read token", "write token", "limited token", "suspended",
)  # fmt: skip
DRAFT_KEY = "0f8b"
# Clients of the Hub send a token to these; pages and our own API know a person by the session.
FOR_HUB_CLIENTS = ("/api/", ".git/", "/lfs/", "/resolve/")
OUR_API = "/api/v1/"
# What an address names where the usual things would name nothing, and bodies that ask for something.
PARTS = {
    "/api/v1/hashes/{digest}": {"digest": "0123abcd"},
    "/compositions/new/{group}/file/": {"group": "shots"},
    "/api/organizations/{name}/settings/repositories": {"name": "lab"},
    "/api/users/{name}/overview": {"name": "lab"},
    "/api/users/{name}/likes": {"name": "reader-person"},
    "/api/v1/bases/{namespace}/{name}": {"namespace": "{base_owner}", "name": "{base_name}"},
    "/api/models/{repo}/tree/{address}": {"address": "main"},
    "/api/v1/compositions/{composition_id}/files/{name}": {"name": "report.json"},
    "/api/v1/shared/{token}/files/{name}": {"name": "report.json"},
    "/api/v1/staff/things/{kind}/{key}": {"kind": "module", "key": "{module_id}"},
    "/staff/things/{kind}/{key}/": {"kind": "module", "key": "{module_id}"},
    "/api/v1/staff/accounts/{namespace}": {"namespace": "stranger-person"},
    "/staff/accounts/{namespace}/": {"namespace": "stranger-person"},
    "/{repo}/resolve/{address}": {"address": "main/adapter_config.json"},
    "/{namespace}/{name}/blob/{address}": {"address": "main/adapter_config.json"},
    "/{namespace}/{name}/raw/{address}": {"address": "main/adapter_config.json"},
    "/{namespace}/{name}/commit/{address}": {"address": "main"},
    "/{namespace}/{name}/commits/{address}": {"address": "main"},
}
BODIES = {
    ("/api/repos/create", "POST"): {"name": "new", "organization": "lab"},
    ("/api/repos/delete", "DELETE"): {"name": "hidden", "organization": "lab"},
    ("/api/repos/move", "POST"): {"fromRepo": "lab/hidden", "toRepo": "lab/moved"},
    ("/api/v1/cards/preview", "POST"): {"card": "# A card"},
    ("/api/v1/modules/{namespace}/{name}", "PATCH"): {"sentence": "Says something else."},
    ("/api/v1/organizations/{namespace}/members", "POST"): {"who": "stranger-person", "role": "read"},
    ("/api/v1/organizations/{namespace}/members/{member}", "PATCH"): {"role": "write"},
    ("/api/v1/modules/{namespace}/{name}/move", "POST"): {"name": "moved"},
    ("/api/v1/modules/{namespace}/{name}/reports", "POST"): {"reason": "other", "note": "Look at it."},
    ("/api/v1/staff/things/{kind}/{key}", "POST"): {"decision": "quarantine", "reason": "Look at it."},
    ("/api/v1/staff/accounts/{namespace}", "POST"): {"decision": "suspend", "reason": "Sends spam."},
    ("/staff/things/{kind}/{key}/", "POST"): {"decision": "quarantine", "reason": "Look at it."},
    ("/staff/accounts/{namespace}/", "POST"): {"decision": "suspend", "reason": "Sends spam."},
    ("/settings/organizations/{namespace}/", "POST"): {"who": "stranger-person", "role": "read"},
    ("/settings/organizations/{namespace}/members/{member}/", "POST"): {"role": "write"},
    ("/{namespace}/{name}/move", "POST"): {"name": "moved", "namespace": "lab"},
    ("/api/v1/compositions/{composition_id}/mail", "PUT"): {"wanted": True},
    ("/api/v1/drafts/{key}", "PUT"): {"fields": {"name": ["another name"]}},
    ("/api/v1/account/notifications/mail", "PUT"): {"mail": ["use"]},
}


@dataclass(frozen=True)
class Identity:
    """Somebody, as a browser and as a program."""

    browser: Client
    program: Client

    def client_for(self, address: str) -> Client:
        is_program = any(part in address for part in FOR_HUB_CLIENTS) and not address.startswith(OUR_API)
        return self.program if is_program else self.browser


def person(user: User) -> Identity:
    browser = Client(raise_request_exception=False)
    browser.force_login(user)
    return Identity(browser, bearer(user, "write"))


def token_holder(user: User, scope: str, limited_to: str = "") -> Identity:
    """Somebody who has a token and no session."""
    client = bearer(user, scope, limited_to)
    return Identity(client, client)


def bearer(user: User, scope: str, limited_to: str = "") -> Client:
    _, token = token_create(user=user, label=f"{scope} {limited_to}", scope=scope, limited_to=limited_to)
    return Client(raise_request_exception=False, headers={"Authorization": f"Bearer {token}"})


def make_identities(owner: User, staff: User) -> dict[str, Identity]:
    """One of each kind, by name. Reader, writer, owner and who is suspended belong to the lab."""
    lab = organization_create(founder=owner, name="lab")
    others = {
        name: user_create(username=f"{name}-person") for name in ("stranger", "reader", "writer", "suspended")
    }
    roles = {
        "reader": Membership.Role.READ,
        "writer": Membership.Role.WRITE,
        "suspended": Membership.Role.ADMIN,
    }
    for name, role in roles.items():
        Membership.objects.create(namespace=lab, user=others[name], role=role)
    nobody = Client(raise_request_exception=False)
    identities = {
        "anonymous": Identity(nobody, nobody),
        **{name: person(user) for name, user in others.items()},
        "owner": person(owner),
        "staff": person(staff),
        "read token": token_holder(owner, "read"),
        "write token": token_holder(owner, "write"),
        "limited token": token_holder(owner, "write", limited_to="lab/other"),
    }
    account_suspend(staff=staff, account=others["suspended"], reason="Sends spam.")
    return {name: identities[name] for name in IDENTITIES}


def make_things(owner: User, composition: Composition) -> dict[str, str]:
    """What the parts of an address name: a private module of the lab, and what is the owner's own."""
    lab = owner.memberships.get(namespace__name="lab").namespace
    for number, name in enumerate(("hidden", "other")):
        said = {"sentence": "Nobody else sees it.", "licence": "mit", "private": True, "tags": ["secret"]}
        module = module_publish(author=owner, namespace=lab, name=name, **said, **adapter_files(seed=number))
    link = share_renew(owner=owner, composition_id=composition.pk)
    draft_keep(owner=owner, key=DRAFT_KEY, fields={"name": ["a draft"]})
    asked = import_request(owner=owner, namespace=lab, sources=["somebody/something"])
    question = TryOut.objects.create(
        owner=owner,
        composition=composition,
        base=composition.base,
        input="a",
        template="{input}",
        max_new_tokens=1,
    )
    search = ExampleSearch.objects.create(owner=owner, base=composition.base, examples=[["a", "b"]])
    assert module
    return {
        "composition_id": str(composition.pk),
        "tryout_id": str(question.pk),
        "search_id": str(search.pk),
        "import_id": str(asked.pk),
        "token_id": str(ApiToken.objects.filter(user=owner).earliest("pk").pk),
        "token": link.token,
        "namespace": "lab",
        "name": "hidden",
        "repo": "lab/hidden",
        "address": "main/README.md",
        "revision": "main",
        "path": "adapter_config.json",
        "key": DRAFT_KEY,
        "number": "1",
        "module_id": str(lab.modules.get(name="hidden").pk),
        "kind": "datasets",
        "rest": "x",
        "signed": "x",
        "uidb36": "1",
        "member": "reader-person",
        "tag": "secret",
        "slug": "hub",
        "topic": "modules",
        "base_owner": composition.base.name.partition("/")[0],
        "base_name": composition.base.name.partition("/")[2],
    }
