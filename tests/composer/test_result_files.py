"""Stored results that are missing or altered: every way to them tells that, with a code that is counted."""

import pytest

from composer.share.services import share_renew
from hub_site.common.metrics import REFUSALS
from modules_registry.blobs import store
from modules_registry.core.errors import WEIGHTS_FILE
from tests.composer.test_baseline_adapters import made  # noqa: F401  a fixture

pytestmark = pytest.mark.usefixtures("wakes")
TEXT = {"missing": "A stored file is missing", "altered": "A stored file was altered"}


def break_file(file, how, data_folder):
    if how == "missing":
        store().delete(file.sha256)
        return
    (path,) = (data_folder / "blobs").rglob(file.sha256)
    path.chmod(0o600)
    path.write_bytes(b"x" + path.read_bytes()[1:])  # of the same size


def count_of(code):
    return REFUSALS.labels(code)._value.get()


WAYS = {
    "adapter by the API": (WEIGHTS_FILE, lambda composition, link: f"{api(composition)}/adapter"),
    "adapter by the page": (WEIGHTS_FILE, lambda composition, link: f"{page(composition)}adapter.zip"),
    "baseline by the API": (
        f"baselines/tuned/{WEIGHTS_FILE}", lambda composition, link: f"{api(composition)}/adapters/tuned",
    ),
    "baseline by the page": (
        f"baselines/tuned/{WEIGHTS_FILE}", lambda composition, link: f"{page(composition)}adapters/tuned.zip",
    ),
    "adapter by a link": (WEIGHTS_FILE, lambda composition, link: f"{link.get_absolute_url()}adapter.zip"),
    "adapter by a link's API": (
        WEIGHTS_FILE, lambda composition, link: f"/api/v1/shared/{link.token}/adapter",
    ),
    "card by a link": ("README.md", lambda composition, link: f"{link.get_absolute_url()}adapter.zip"),
    "baseline by a link": (
        f"baselines/tuned/{WEIGHTS_FILE}",
        lambda composition, link: f"{link.get_absolute_url()}adapters/tuned.zip",
    ),
}  # fmt: skip


def api(composition):
    return f"/api/v1/compositions/{composition.pk}"


def page(composition):
    return composition.get_absolute_url()


@pytest.mark.parametrize("how", TEXT)
@pytest.mark.parametrize(("path", "address"), WAYS.values(), ids=WAYS)
def test_every_way_to_a_broken_result_tells_what_is_wrong(
    made, alice, browser_of, api_of, data_folder, how, path, address  # noqa: F811
):  # fmt: skip
    composition = made()
    link = share_renew(owner=alice, composition_id=composition.pk, shows_answers=True)
    break_file(composition.files.get(path=path), how, data_folder)
    before, asked = count_of(f"file_{how}"), address(composition, link)
    who = api_of(alice) if asked.startswith("/api/") else browser_of(alice)
    answer = who.get(asked)
    assert answer.status_code == 500
    assert TEXT[how] in answer.content.decode()
    if asked.startswith("/api/"):
        assert answer.json()["error"]["code"] == f"file_{how}"
    assert count_of(f"file_{how}") == before + 1


@pytest.mark.parametrize("how", TEXT)
def test_what_is_broken_is_not_published(made, alice, api_of, data_folder, how):  # noqa: F811
    composition = made()
    break_file(composition.files.get(path=WEIGHTS_FILE), how, data_folder)
    answer = api_of(alice).post(f"{api(composition)}/publish", {"name": "made-here"}, format="json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, f"file_{how}")
