"""Every page of the site by the pattern of its address, who looks at it, and what has to be there before."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from playwright.sync_api import APIRequestContext, Browser, expect

from hub_site.embedded.processes import wait_for
from tests.running_hub import Hub

VISITOR, OWNER, STAFF = "visitor", "paula", "stella"
MODULE = "my-capitals"
FILES = settings.BASE_DIR / "demo" / "bundle" / "modules" / "upper"
TASK = "fruit-upper"
COMPOSED_S = 180


@dataclass(frozen=True)
class Visit:
    address: str  # with the parts of `make_world` in braces
    who: str = VISITOR


PAGES = {
    "/": Visit("/"),
    "/accounts/confirm-email/": Visit("/accounts/confirm-email/"),
    "/accounts/confirm-email/{key}/": Visit("/accounts/confirm-email/nonsense/"),
    "/accounts/email/": Visit("/accounts/email/", OWNER),
    "/accounts/inactive/": Visit("/accounts/inactive/"),
    "/accounts/login/": Visit("/accounts/login/"),
    "/accounts/logout/": Visit("/accounts/logout/", OWNER),
    "/accounts/password/change/": Visit("/accounts/password/change/", OWNER),
    "/accounts/password/reset/": Visit("/accounts/password/reset/"),
    "/accounts/password/reset/done/": Visit("/accounts/password/reset/done/"),
    "/accounts/password/reset/key/done/": Visit("/accounts/password/reset/key/done/"),
    "/accounts/password/reset/key/{uidb36}-{key}/": Visit("/accounts/password/reset/key/1-nonsense/"),
    "/accounts/reauthenticate/": Visit("/accounts/reauthenticate/", OWNER),
    "/accounts/sessions/": Visit("/accounts/sessions/", OWNER),
    "/accounts/signup/": Visit("/accounts/signup/"),
    "/api/docs/": Visit("/api/docs/"),
    "/api/docs/{topic}/": Visit("/api/docs/modules/"),
    "/compositions/": Visit("/compositions/", OWNER),
    "/compositions/new/": Visit("/compositions/new/", OWNER),
    "/compositions/{composition_id}/": Visit("/compositions/{composition_id}/", OWNER),
    "/compositions/{composition_id}/publish/": Visit("/compositions/{composition_id}/publish/", OWNER),
    "/find/": Visit("/find/"),
    "/find/{search_id}/": Visit("/find/{search_id}/", OWNER),
    "/help/": Visit("/help/"),
    "/help/{slug}/": Visit("/help/getting-started/"),
    "/limits/": Visit("/limits/"),
    "/modules/": Visit("/modules/"),
    "/modules/compare/": Visit("/modules/compare/?id=demo/french&id=demo/spanish"),
    "/modules/imports/": Visit("/modules/imports/", OWNER),
    "/modules/imports/new/": Visit("/modules/imports/new/", OWNER),
    "/modules/imports/{import_id}/": Visit("/modules/imports/{import_id}/", OWNER),
    "/modules/new/": Visit("/modules/new/", OWNER),
    "/notifications/": Visit("/notifications/", OWNER),
    "/settings/": Visit("/settings/", OWNER),
    "/settings/delete/": Visit("/settings/delete/", OWNER),
    "/settings/history/": Visit("/settings/history/", OWNER),
    "/settings/organizations/": Visit("/settings/organizations/", OWNER),
    "/settings/organizations/{namespace}/": Visit("/settings/organizations/paulas-lab/", OWNER),
    "/settings/tokens/": Visit("/settings/tokens/", OWNER),
    "/shared/{token}/": Visit("/shared/{token}/"),
    "/shared/{token}/report/": Visit("/shared/{token}/report/"),
    "/staff/": Visit("/staff/", STAFF),
    "/staff/accounts/{namespace}/": Visit("/staff/accounts/paula/", STAFF),
    "/staff/jobs/": Visit("/staff/jobs/", STAFF),
    "/staff/things/{kind}/{key}/": Visit("/staff/things/module/{module_id}/", STAFF),
    "/styleguide/": Visit("/styleguide/", STAFF),
    "/tags/{tag}/": Visit("/tags/demo/"),
    "/{namespace}": Visit("/demo"),
    "/{namespace}/{name}": Visit("/demo/french"),
    "/{namespace}/{name}/blob/{address}": Visit("/demo/french/blob/main/adapter_model.safetensors"),
    "/{namespace}/{name}/changes": Visit("/paula/my-capitals/changes", OWNER),
    "/{namespace}/{name}/compatible": Visit("/demo/french/compatible"),
    "/{namespace}/{name}/delete": Visit("/paula/my-capitals/delete", OWNER),
    "/{namespace}/{name}/edit": Visit("/paula/my-capitals/edit", OWNER),
    "/{namespace}/{name}/history": Visit("/paula/my-capitals/history", OWNER),
    "/{namespace}/{name}/move": Visit("/paula/my-capitals/move", OWNER),
    "/{namespace}/{name}/report": Visit("/demo/french/report"),
    "/{namespace}/{name}/similar": Visit("/demo/french/similar"),
    "/{namespace}/{name}/tree/{revision}": Visit("/demo/french/tree/v1"),
    "/{namespace}/{name}/upload": Visit("/paula/my-capitals/upload", OWNER),
    "/{namespace}/{name}/versions/{number}": Visit("/paula/my-capitals/versions/1", OWNER),
    "/{namespace}/{name}/weights": Visit("/demo/french/weights"),
}

# Addresses that a browser does not show as a page of their own, and why.
NO_PAGES = {
    "/.well-known/security.txt": "a text",
    "/accounts/login/code/confirm/": "leads elsewhere",
    "/accounts/password/set/": "leads elsewhere",
    "/compositions/example/": "leads to the example report",
    "/compositions/new/modules/": "a part of the form",
    "/compositions/{composition_id}/adapter.zip": "a file",
    "/compositions/{composition_id}/adapters/{key}.zip": "a file",
    "/compositions/{composition_id}/events/": "JSON",
    "/compositions/{composition_id}/examples.jsonl": "a file",
    "/compositions/{composition_id}/held_out.jsonl": "a file",
    "/compositions/{composition_id}/modules.csv": "a file",
    "/compositions/{composition_id}/predictions.csv": "a file",
    "/compositions/{composition_id}/progress/": "a part of the page that is watched: test_watching.py",
    "/compositions/{composition_id}/comparison.csv": "a file",
    "/compositions/{composition_id}/report.json": "a file",
    "/compositions/{composition_id}/report.md": "a file",
    "/compositions/{composition_id}/stream/": "a stream",
    "/health/": "JSON",
    "/health/live": "JSON",
    "/health/ready": "JSON",
    "/metrics": "a text",
    "/modules/imports/{import_id}/progress/": "a part of the import's page",
    "/modules/suggestions/": "a part of the search",
    "/help/picture.png": "a picture",
    "/{namespace}/{name}/picture.png": "a picture",
    "/settings/invitations/{token}/": "from a mail; the same list stands on the page of organisations",
    "/shared/{token}/adapter.zip": "a file",
    "/shared/{token}/adapters/{key}.zip": "a file",
    "/shared/{token}/modules.csv": "a file",
    "/shared/{token}/predictions.csv": "a file",
    "/shared/{token}/comparison.csv": "a file",
    "/shared/{token}/report.json": "a file",
    "/shared/{token}/report.md": "a file",
    "/staff/accounts/": "leads to an account",
    "/try/answers/": "a part of the comparison: test_comparing.py",
    "/try/compare/": "the same",
    "/try/compositions/{composition_id}/": "a part of the report: test_try_it.py",
    "/try/modules/{namespace}/{name}/": "a part of the module's page: test_try_it.py",
    "/try/modules/{namespace}/{name}/{revision}/": "the same",
    "/try/{tryout_id}/": "the same",
    "/{kind}/{rest}/resolve/": "a file",
    "/{namespace}/": "leads to the owner",
    "/{namespace}/{name}/": "leads to the module",
    "/{namespace}/{name}/commit/{address}": "leads to a version",
    "/{namespace}/{name}/commits/{address}": "leads to a version",
    "/{namespace}/{name}/raw/{address}": "leads to a file",
    "/{repo}/resolve/{address}": "a file",
}


@dataclass(frozen=True)
class World:
    """What the addresses name, and who is signed in: for each a browser's cookies."""

    parts: dict[str, str]
    cookies: dict[str, Any]

    def address(self, visit: Visit) -> str:
        return visit.address.format(**self.parts)


def make_world(hub: Hub, browser: Browser) -> World:
    """An account with a module, a composition that is shared, an organisation and an import; and staff."""
    cookies = {name: sign_in(hub, browser, name) for name in (OWNER, STAFF)}
    with program(hub, browser, OWNER) as api:
        publish_module(api)
        say(api, "/api/v1/organizations", {"name": "paulas-lab"})
        composition_id = compose(api)
        shared = say(api, f"/api/v1/compositions/{composition_id}/share", {})
        parts = {
            "composition_id": composition_id,
            "token": shared["url"].rstrip("/").rpartition("/")[2],
            "import_id": say(api, "/api/v1/imports", {"sources": ["nobody/nothing"]})["id"],
            "search_id": say(api, "/api/v1/find", {"examples": [{"input": ": pear owl", "output": "PEAR"}]})[
                "id"
            ],
        }
    return World(parts | {"module_id": key_for_staff(hub, browser, f"{OWNER}/{MODULE}")}, cookies)


def sign_in(hub: Hub, browser: Browser, name: str) -> Any:
    """Make an account, sign it in, and return the browser's cookies."""
    staff = ("--staff",) if name == STAFF else ()
    printed = hub.call("manage", "create_user", name, *staff).stdout
    context = browser.new_context(base_url=hub.address)
    page = context.new_page()
    page.goto("/accounts/login/")
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill(printed.split("Password: ")[1].strip())
    page.locator("main form button").first.click()
    expect(page.get_by_role("banner")).to_contain_text(name)
    cookies = context.storage_state()
    context.close()
    return cookies


def say(api: APIRequestContext, address: str, body: Any) -> Any:
    answer = api.post(address, data=json.dumps(body), headers={"Content-Type": "application/json"})
    assert answer.ok, answer.text()
    return answer.json()


def publish_module(api: APIRequestContext) -> None:
    """A module with two versions."""
    fields = {"name": MODULE, "licence": "apache-2.0", "sentence": "Writes the answer in capitals."}
    files = {
        "config_file": FILES / "adapter_config.json",
        "weights_file": FILES / "adapter_model.safetensors",
        "card_file": FILES / "README.md",
    }
    answer = api.post(
        "/api/v1/modules", multipart=fields | {name: sent(path) for name, path in files.items()}
    )
    assert answer.ok, answer.text()
    changed = api.patch(
        f"/api/v1/modules/{OWNER}/{MODULE}",
        data=json.dumps({"card": "# Capitals\n\nIt writes the answer in capitals."}),
        headers={"Content-Type": "application/json"},
    )
    assert changed.ok, changed.text()


def key_for_staff(hub: Hub, browser: Browser, address: str) -> str:
    """Report a module, and return the key by which the pages of staff name it."""
    with program(hub, browser, OWNER) as api:
        say(api, f"/api/v1/modules/{address}/reports", {"reason": "other", "note": "A test."})
    with program(hub, browser, STAFF) as api:
        cases = api.get("/api/v1/staff/queue").json()
    return next(str(case["thing"]["key"]) for case in cases if case["thing"]["name"] == address)


@contextmanager
def program(hub: Hub, browser: Browser, name: str) -> Iterator[APIRequestContext]:
    """A program with a token of somebody."""
    token = hub.call("manage", "create_token", name, "--scope", "write").stdout.strip()
    headers = {"Authorization": f"Bearer {token}"}
    context = browser.new_context(base_url=hub.address, extra_http_headers=headers)
    yield context.request
    context.close()


def sent(path: Path) -> Any:
    return {"name": path.name, "mimeType": "application/octet-stream", "buffer": path.read_bytes()}


def compose(api: APIRequestContext) -> str:
    """A finished composition of a ready-made task."""
    task = api.get(f"/api/v1/demo-tasks/{TASK}").json()
    asked = {"name": TASK, "base": task["base"], "examples": task["shots"], "held_out": task["held_out"]}
    composition: str = say(api, "/api/v1/compositions", asked)["id"]

    def is_done() -> bool:
        return api.get(f"/api/v1/compositions/{composition}").json()["status"] not in ("queued", "running")

    assert wait_for(is_done, timeout_s=COMPOSED_S)
    return composition
