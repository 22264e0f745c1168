"""A private link: what it opens, to whom, for how long, and what it keeps to itself."""

import io
import re
import zipfile

import pytest
from django.core.signing import Signer
from django.utils import timezone

from composer.models import Composition, ShareLink
from composer.run.job_folder import job_description
from composer.share.services import in_text
from tests.composer.fake_jobs import small_report
from tests.factories import make_module

pytestmark = pytest.mark.usefixtures("wakes")
FILES = ("report.json", "report.md", "comparison.csv", "modules.csv", "predictions.csv")


@pytest.fixture
def shared(browser_of, alice, done):
    """A finished composition of Alice's, the address of its link, and a way to renew it."""

    def share(answers=True, **changes):
        composition = done(**changes)
        browser_of(alice).post(
            f"{composition.get_absolute_url()}share/", {"shows_answers": "on"} if answers else {}
        )
        return composition, composition.share.get_absolute_url()

    return share


def test_a_signed_out_reader_reads_the_report_and_takes_the_adapter(client, shared):
    composition, address = shared()
    page = client.get(address)
    assert page.status_code == 200
    assert composition.name in page.content.decode()
    assert "Use the composition" in page.content.decode()
    with zip_of(client, address) as archive:
        assert sorted(archive.namelist()) == [
            f"{composition.slug}/{name}"
            for name in ("README.md", "adapter_config.json", "adapter_model.safetensors", "report.json")
        ]
    for name in FILES:
        assert client.get(f"{address}{name}").status_code == 200


def test_no_page_that_holds_the_link_is_compressed(client, browser_of, alice, shared, done):
    composition, address = shared()
    owner, reads_gzip = browser_of(alice), {"Accept-Encoding": "gzip"}
    for browser, page in (
        (client, address),
        (client, f"/api/v1{address}".rstrip("/")),
        (owner, composition.get_absolute_url()),
        (owner, f"/api/v1{composition.get_absolute_url()}share"),
    ):
        answer = browser.get(page, headers=reads_gzip)
        assert answer.status_code == 200
        assert "Content-Encoding" not in answer, page
    assert owner.get(done().get_absolute_url(), headers=reads_gzip)["Content-Encoding"] == "gzip"


def zip_of(client, address):
    return zipfile.ZipFile(io.BytesIO(b"".join(client.get(f"{address}adapter.zip").streaming_content)))


def test_its_page_offers_nothing_that_only_the_owner_can_do(client, shared):
    composition, address = shared()
    page = client.get(address).content.decode()
    main = page[page.index('<main id="main"') : page.index("</main>")]
    assert "<form" not in main
    assert str(composition.pk) not in page
    assert composition.owner.username not in page.replace("alice@", "")
    assert "python -m composer" not in main  # its examples are the owner's


@pytest.mark.parametrize("path", ["", "adapter.zip", *FILES])
def test_nothing_behind_it_is_kept_by_search_engines_or_caches(client, shared, path):
    _, address = shared()
    answer = client.get(f"{address}{path}")
    assert answer["X-Robots-Tag"] == "noindex, nofollow"
    assert "no-store" in answer["Cache-Control"]
    assert answer["Referrer-Policy"] == "no-referrer"  # the address is the secret


def test_a_renewed_link_ends_the_one_before_and_a_withdrawn_one_leads_nowhere(
    client, browser_of, alice, shared
):
    composition, first = shared()
    owner = browser_of(alice)
    owner.post(f"{composition.get_absolute_url()}share/", {"shows_answers": "on"})
    second = ShareLink.objects.get().get_absolute_url()
    assert second != first
    assert [client.get(address).status_code for address in (first, second)] == [404, 200]
    assert f"http://testserver{second}" in owner.get(composition.get_absolute_url()).content.decode()
    owner.post(f"{composition.get_absolute_url()}share/withdraw/")
    for path in ("", "adapter.zip", *FILES):
        assert client.get(f"{second}{path}").status_code == 404
    owner.post(f"{composition.get_absolute_url()}share/withdraw/")  # twice is harmless


def test_a_key_without_the_site_s_signature_opens_nothing(client, shared):
    composition, address = shared()
    key = composition.share.key.hex
    good = address.split("/")[-2]
    for token in (key, f"{key}.", good[:-1], good.upper(), Signer(salt="x", sep=".").sign(key), "a.b", "%00"):
        assert client.get(f"/shared/{token}/").status_code == 404
        assert client.get(f"/api/v1/shared/{token}").status_code == 404


def test_it_ends_with_its_composition_and_with_its_owner_s_account(client, browser_of, alice, shared):
    composition, address = shared()
    alice.is_active = False
    alice.save(update_fields=["is_active"])
    assert client.get(address).status_code == 404
    alice.is_active = True
    alice.save(update_fields=["is_active"])
    browser_of(alice).post(f"{composition.get_absolute_url()}delete/")
    assert client.get(address).status_code == 404


def test_nobody_but_the_owner_makes_or_withdraws_it_and_only_when_done(
    browser_of, alice, charlie, ask, shared
):
    composition, address = shared()
    for path in ("share/", "share/withdraw/"):
        assert browser_of(charlie).post(f"{composition.get_absolute_url()}{path}").status_code == 404
    assert ShareLink.objects.get().get_absolute_url() == address
    running = ask(seed=2)
    browser_of(alice).post(f"{running.get_absolute_url()}share/")
    assert not ShareLink.objects.filter(composition=running).exists()


def test_a_module_that_is_not_public_any_more_is_named_nowhere(client, api_of, alice, modules, shared):
    composition, address = shared()
    secret = modules[1]
    name = secret.full_name
    report = composition.report
    report["verdict"]["text"] = f"Use {name} by itself: it answers more."
    report["verdict"]["decision"] = "single"
    report["baselines"].append(report["baselines"][0] | {"key": "best_single", "detail": name})
    report["modules_left_out"] = [{"name": name, "reason": "has another rank"}]
    Composition.objects.filter(pk=composition.pk).update(report=report)
    assert name in client.get(address).content.decode()
    secret.private = True
    secret.save(update_fields=["private"])
    told = {path: client.get(f"{address}{path}").content.decode() for path in ("", *FILES)}
    told["api"] = client.get(f"/api/v1/shared/{composition.share.token}").content.decode()
    with zip_of(client, address) as archive:
        for file in ("README.md", "report.json"):
            told[f"in the zip: {file}"] = archive.read(f"{composition.slug}/{file}").decode()
    for path, text in told.items():
        assert name not in text, path
    assert secret.current.commit_id not in "".join(told.values())
    assert "private module 1" in told[""]
    assert modules[0].full_name in told[""]


@pytest.mark.parametrize("position", [1, 2])  # a copy, and a pruned one
def test_a_copy_or_a_pruned_module_that_is_not_public_any_more_is_named_nowhere(
    client, modules, shared, position
):
    composition, address = shared()
    job = job_description(composition, list(composition.modules.select_related("version")))
    Composition.objects.filter(pk=composition.pk).update(report=small_report(job))
    secret = modules[position]
    assert secret.full_name in client.get(address).content.decode()
    secret.private = True
    secret.save(update_fields=["private"])
    told = {path: client.get(f"{address}{path}").content.decode() for path in ("", *FILES)}
    for path, text in told.items():
        assert secret.full_name not in text, path
        assert secret.current.commit_id not in text, path
    assert "private module 1" in told[""]


def test_whole_names_alone_are_replaced():
    names = {"a/b": "private module 1"}
    assert in_text("Use a/b by itself, not a/b-c, a/b.c or x/a/b.", names) == (
        "Use private module 1 by itself, not a/b-c, a/b.c or x/a/b."
    )
    assert in_text("It was a/b.", names) == "It was private module 1."


def test_the_examples_stay_away_when_the_owner_wants_it(client, shared):
    composition, address = shared(answers=False)
    texts = [client.get(f"{address}{path}").content.decode() for path in ("", *FILES)]
    texts.append(client.get(f"/api/v1/shared/{composition.share.token}/predictions").content.decode())
    for private in ("lime", "LIME", "apple", "plum"):
        assert not any(re.search(rf"\b{private}\b", text) for text in texts)
    shown = client.get(shared(answers=True, seed=8)[1]).content.decode()
    assert "LIME" in shown
    assert "apple" not in shown  # what it was composed from is never shown


def test_the_api_makes_tells_renews_and_withdraws_the_same_link(client, api_of, alice, charlie, done):
    composition = done()
    share = f"/api/v1/compositions/{composition.pk}/share"
    api = api_of(alice)
    assert api.get(share).json()["error"]["code"] == "not_shared"
    made = api.post(share, {"shows_answers": False}, format="json")
    assert made.status_code == 201
    assert made.json() == api.get(share).json()
    link = made.json()
    assert not link["shows_answers"]
    assert client.get(link["url"]).status_code == 200
    told = client.get(link["api_url"]).json()
    assert (told["name"], told["report"]["predictions"]) == (composition.name, [])
    assert client.get(f"{link['api_url']}/adapter").status_code == 200
    assert client.get(f"{link['api_url']}/files/comparison.csv")["X-Robots-Tag"] == "noindex, nofollow"
    for method in ("get", "post", "delete"):
        assert getattr(api_of(charlie), method)(share).status_code == 404
    assert api_of(alice, scope="read").post(share).status_code == 403
    assert api.post(share).json()["url"] != link["url"]
    assert client.get(link["api_url"]).status_code == 404
    assert api.delete(share).status_code == 204
    assert api.get(share).status_code == 404


def test_an_unfinished_composition_has_nothing_to_share(api_of, alice, ask):
    answer = api_of(alice).post(f"/api/v1/compositions/{ask().pk}/share")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "not_done")


def test_what_was_not_used_of_the_owner_s_file_is_the_owner_s_alone(client, shared):
    composition, _ = shared()
    composition.example_notes = ["Not used: the column “phone”."]
    composition.report["warnings"] = [*composition.example_notes, "A template that glues."]
    composition.save(update_fields=["example_notes", "report"])
    assert client.get(f"/api/v1/shared/{composition.share.token}").json()["report"]["warnings"] == [
        "A template that glues."
    ]


def test_a_link_may_end_by_itself(client, api_of, alice, done):
    composition = done()
    own = f"/api/v1/compositions/{composition.pk}/share"
    made = api_of(alice).post(own, {"days": 7}).json()
    assert client.get(f"/api/v1/shared/{composition.share.token}").status_code == 200
    composition.share.refresh_from_db()
    assert (composition.share.expires_at - composition.share.made_at).days == 7
    assert made["expires_at"]
    ShareLink.objects.update(expires_at=timezone.now())
    for address in (f"/api/v1/shared/{composition.share.token}", composition.share.get_absolute_url()):
        assert client.get(address).status_code == 404
    assert api_of(alice).post(own, {"days": 0}).status_code == 400
    assert api_of(alice).post(own, {}).json()["expires_at"] is None


def test_the_page_makes_a_link_with_an_end_and_says_it(browser_of, alice, done):
    composition, browser = done(), browser_of(alice)
    page = browser.post(f"{composition.get_absolute_url()}share/", {"days": "3"}, follow=True)
    assert "It works until" in page.content.decode()
    assert not ShareLink.objects.get().shows_answers
    refused = browser.post(f"{composition.get_absolute_url()}share/", {"days": "0"}, follow=True)
    assert "Days:" in refused.content.decode()
    assert ShareLink.objects.get().expires_at is not None


def test_a_private_module_is_in_no_key_of_the_report(client, shared, alice, base):
    make_module(alice, "secret-sauce", seed=9, private=True)
    composition, address = shared()
    report = composition.report
    sums = {f"modules/{name}/adapter_config.json": "5" * 64 for name in ("alice/secret-sauce", "bob/upper")}
    composition.report = report | {
        "inputs_sha256": report["inputs_sha256"] | sums,
        "similarity": {"alice/secret-sauce": {"alice/secret-sauce": 1.0}},
    }
    composition.save(update_fields=["report"])
    assert composition.modules.filter(name="alice/secret-sauce").exists()
    told = client.get(f"{address}report.json").json()
    assert list(told["inputs_sha256"]) == ["modules/bob/upper/adapter_config.json"]
    assert told["similarity"] == {"private module 1": {"private module 1": 1.0}}
