"""The registry's pages, as Alice, Bob and Charlie meet them."""

import re
import struct
from html import unescape

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from hub_site.common.figures import NO_BREAK_SPACE
from modules_registry import rendering
from modules_registry.models import Module
from modules_registry.selectors import card_of, module_find
from modules_registry.templatetags.registry import size_words
from tests.factories import adapter_files, card_file, config_file, make_module, weights_file

pytestmark = pytest.mark.django_db
SCRIPT = "<script>alert(1)</script>"


def upload(client, **changes):
    form = {
        "namespace": "alice",
        "name": "french",
        "sentence": "Into French",
        "licence": "mit",
        "tags": "A b, c",
    }
    return client.post("/modules/new/", form | adapter_files() | changes)


def text(response):
    return response.content.decode()


# ---- Upload ---------------------------------------------------------------------------------------------


def test_an_upload_leads_to_the_module_s_page(alice, browser_of, base):
    client = browser_of(alice)
    response = upload(client, card_file=card_file("# My card\n"))
    assert response["Location"] == "/alice/french"
    page = text(client.get("/alice/french"))
    for part in ("Into French", "composable", "<h3>My card</h3>", "a-b", "adapter_model.safetensors"):
        assert part in page
    assert "alice/french published." in page


def test_a_base_of_the_library_is_chosen_where_the_config_names_a_folder(alice, browser_of, base):
    client, files = browser_of(alice), {"config_file": config_file(base_model_name_or_path="/home/me/base")}
    refused = upload(client, **files)
    assert "Write its name in the field “Base model”" in refused.context["form"].errors["config_file"][0]
    assert f'<option value="{base.name}">' in text(refused)
    files["config_file"].seek(0)
    assert upload(client, **files, base=base.name)["Location"] == "/alice/french"
    assert Module.objects.get().current.base == base


def test_a_visitor_signs_in_before_uploading(client, db):
    assert client.get("/modules/new/")["Location"] == "/accounts/login/?next=/modules/new/"
    assert upload(client)["Location"].startswith("/accounts/login/")
    assert not Module.objects.exists()


@pytest.mark.parametrize(
    ("changes", "field", "sentence"),
    [
        ({"name": ""}, "name", "This field is required."),
        ({"sentence": ""}, "sentence", "Say in one sentence"),
        ({"licence": ""}, "licence", "Choose a license"),
        ({"weights_file": ""}, "weights_file", "Choose the adapter_model.safetensors"),
        ({"config_file": SimpleUploadedFile("adapter_config.json", b"")}, "config_file", "is empty"),
        ({"config_file": SimpleUploadedFile("adapter_config.json", b"[]")}, "config_file", ""),
        ({"weights_file": SimpleUploadedFile("m.bin", b"PK\x03\x04")}, "weights_file", "ZIP archive"),
        ({"name": "no--good"}, "name", "cannot be the name"),
        ({"tags": "fine, <b>"}, "tags", "cannot be a tag"),
        ({"namespace": "bob"}, "namespace", "bob"),
        ({"name": "a\x00b"}, "name", "Null"),
    ],
)
def test_a_refused_upload_says_why_at_its_field_and_keeps_what_was_typed(
    alice, bob, browser_of, changes, field, sentence
):
    response = upload(browser_of(alice), **changes)
    assert response.status_code == 200
    assert sentence in " ".join(response.context["form"].errors[field])
    if "sentence" not in changes:
        assert 'value="Into French"' in text(response)
    assert not Module.objects.exists()


def test_a_taken_name_is_said_at_the_name(alice, french, browser_of):
    response = upload(browser_of(alice))
    assert "exists already" in response.context["form"].errors["name"][0]


def test_fields_that_are_nobody_s_business_change_nothing(alice, bob, browser_of):
    upload(
        browser_of(alice),
        author=bob.pk,
        number=99,
        commit_id="x",
        deleted_at="2020-01-01",
        weights_sha256="0",
    )
    version = Module.objects.get().current
    assert (version.author, version.number, version.module.deleted_at) == (alice, 1, None)


def test_the_owner_is_asked_for_only_when_there_is_a_choice(alice, bob, charlie, lab, browser_of):
    assert b'<select name="namespace"' in browser_of(alice).get("/modules/new/").content
    assert b'<select name="namespace"' not in browser_of(charlie).get("/modules/new/").content


# ---- A module's page ------------------------------------------------------------------------------------


def test_a_module_for_an_unknown_base_says_why_it_is_not_composable(alice, client):
    make_module(alice, config_file=config_file(base_model_name_or_path="google/flan-t5-large"))
    page = text(client.get("/alice/french"))
    assert "not composable here" in page
    assert "google/flan-t5-large is not in this site" in unescape(page)
    assert "Compose with it" not in page


def test_a_composable_module_leads_to_composing_with_it(french, client):
    assert '/compositions/new/?modules=alice/french"' in text(client.get("/alice/french"))


def test_what_people_write_is_text_and_nothing_else(alice, browser_of, base):
    make_module(
        alice, sentence=f"Says {SCRIPT}", card_file=card_file(f"# {SCRIPT}\n\n[x](javascript:alert(1))")
    )
    client = browser_of(alice)
    for address in (
        "/alice/french",
        "/modules/",
        f"/modules/?q={SCRIPT}&tag={SCRIPT}&base={SCRIPT}",
        "/alice",
    ):
        page = text(client.get(address))
        assert SCRIPT not in page
        assert 'href="javascript:' not in page


def test_pages_carry_no_inline_script_or_style(alice, french, browser_of):
    client = browser_of(alice)
    for address in ("/modules/", "/alice/french", "/alice", "/modules/new/", "/alice/french/edit"):
        page = text(client.get(address))
        assert " style=" not in page
        assert "<script>" not in page


def test_an_old_version_says_that_it_is_old(alice, french, browser_of, client):
    browser_of(alice).post("/alice/french/upload", {**adapter_files(seed=1), "message": "Longer"})
    page = text(client.get("/alice/french/tree/v1"))
    assert "This is version 1 of 2" in page
    assert 'PeftModel.from_pretrained(base, "alice/french", revision="v1")' in unescape(page)
    assert "Compose with it" not in page
    assert client.get("/alice/french/tree/v3").status_code == 404


@pytest.mark.parametrize("address", ["/ALICE/French", "/alice/FRENCH"])
def test_an_address_in_another_case_leads_to_the_right_one(french, client, address):
    assert client.get(address)["Location"] == "/alice/french"


@pytest.mark.parametrize(
    "address", ["/alice/nothing", "/nobody/french", "/nobody", "/alice/frenc%00h", "/alice/a--b"]
)
def test_what_is_not_there_is_404(french, client, address):
    assert client.get(address).status_code == 404


def test_a_base_model_of_the_library_has_a_page(french, base, client):
    page = text(client.get("/tests/tiny"))
    for part in ("T5ForConditionalGeneration", "alice/</span>french", "model.safetensors", "base model"):
        assert part in page


def test_a_base_model_has_no_page_at_another_revision(base, client):
    assert client.get(f"/tests/tiny/tree/{base.revision}").status_code == 200
    assert client.get("/tests/tiny/tree/v1").status_code == 404


def test_reserved_words_stay_the_site_s_own(client, db):
    assert client.get("/modules").status_code == 301


# ---- Changing it ----------------------------------------------------------------------------------------

CHANGES = ["edit", "upload", "delete"]


@pytest.mark.parametrize("action", CHANGES)
def test_for_a_stranger_there_are_no_pages_that_change_it(french, charlie, browser_of, action):
    client = browser_of(charlie)
    assert client.get(f"/alice/french/{action}").status_code == 404
    assert (
        client.post(f"/alice/french/{action}", {"name": "alice/french", "sentence": "Mine"}).status_code
        == 404
    )
    assert "/alice/french/edit" not in text(client.get("/alice/french"))
    assert module_find("alice", "french").sentence == "Translates words into French."


@pytest.mark.parametrize("action", CHANGES)
def test_a_visitor_is_asked_to_sign_in_first(french, client, action):
    assert client.get(f"/alice/french/{action}")["Location"].startswith("/accounts/login/")


def test_a_team_mate_edits_what_the_organisation_has(alice, bob, lab, browser_of):
    upload(browser_of(alice), namespace="lab")
    response = browser_of(bob).post(
        "/lab/french/edit", {"sentence": "Bob's words", "licence": "mit", "tags": "", "card": "# Hi"}
    )
    assert response["Location"] == "/lab/french"
    module = module_find("lab", "french")
    assert (module.sentence, card_of(module.current).text) == ("Bob's words", "# Hi")
    assert module.current.author == bob


def test_a_card_that_cannot_be_is_said_at_the_card(alice, french, browser_of):
    form = {"sentence": "Other", "licence": "mit", "card": "---\na: *b\n---\n"}
    response = browser_of(alice).post("/alice/french/edit", form)
    assert "references" in response.context["form"].errors["card"][0]
    assert module_find("alice", "french").sentence == "Translates words into French."


def test_saving_an_edit_unchanged_makes_no_version(alice, browser_of, base):
    module = make_module(alice, card_file=card_file("# A\n\nb\n"))
    client = browser_of(alice)
    initial = client.get("/alice/french/edit").context["form"].initial
    typed = initial | {"tags": ", ".join(initial["tags"]), "card": initial["card"].replace("\n", "\r\n")}
    client.post("/alice/french/edit", typed)
    assert module.versions.count() == 1


def test_a_new_version_is_uploaded_with_what_changed(alice, french, browser_of):
    client = browser_of(alice)
    client.post("/alice/french/upload", {**adapter_files(seed=3), "message": "Trained longer"})
    assert "Trained longer" in text(client.get("/alice/french"))


def test_uploading_the_same_files_says_so(alice, french, browser_of):
    response = browser_of(alice).post("/alice/french/upload", adapter_files(), follow=True)
    assert "These are already the files of version 1" in text(response)
    assert french.versions.count() == 1


def test_a_refused_version_leaves_the_current_one(alice, french, browser_of):
    files = {"config_file": config_file(), "weights_file": weights_file(width=16)}
    response = browser_of(alice).post("/alice/french/upload", files)
    assert "in the base model" in response.context["form"].errors["weights_file"][0]
    assert french.versions.count() == 1


def test_deleting_asks_for_the_name(alice, french, browser_of):
    client = browser_of(alice)
    refused = client.post("/alice/french/delete", {"name": "french"})
    assert "Nothing was deleted" in refused.context["form"].errors["name"][0]
    assert client.post("/alice/french/delete", {"name": "alice/french"})["Location"] == "/alice"
    assert client.get("/alice/french").status_code == 404


# ---- The library ----------------------------------------------------------------------------------------


def test_an_empty_library_offers_to_fill_it(client, db):
    assert "Upload the first one" in text(client.get("/modules/"))


def test_a_search_without_results_offers_the_way_back(french, client):
    page = text(client.get("/modules/?q=klingon"))
    assert "No module matches" in page
    assert "Show all modules" in page


def test_chosen_filters_are_chips_that_remove_themselves(french, client):
    page = text(client.get("/modules/?q=french&tag=french&sort=name"))
    assert 'href="/modules/?q=french&amp;sort=name"' in page
    assert 'href="/modules/?tag=french&amp;sort=name"' in page


@pytest.mark.parametrize(
    "query",
    [
        "page=99",
        "page=-1",
        "page=x",
        "sort=evil",
        "tag=%00",
        "q=%00",
        "author=%00&base=%00&licence=%00",
        "page=%00",
    ],
)
def test_an_odd_address_still_shows_the_library(french, client, query):
    assert client.get(f"/modules/?{query}").status_code == 200


@pytest.mark.parametrize(
    ("size_bytes", "words"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1_000, "1 kB"),
        (9_960, "10 kB"),
        (100_213, "100 kB"),
        (999_600, "1 MB"),
        (4_215_000, "4.2 MB"),
        (512_000_000, "512 MB"),
        (2_500_000_000_000, "2500 GB"),
    ],
)
def test_a_size_has_a_decimal_only_where_it_says_something(size_bytes, words):
    assert size_words(size_bytes) == words.replace(" ", NO_BREAK_SPACE)


def test_the_facets_come_before_the_cards_where_they_fold(french, client):
    page = text(client.get("/modules/"))
    assert page.index("library__narrow") < page.index("facet__list") < page.index("module-card")


def test_the_list_asks_the_database_as_often_for_many_modules_as_for_few(
    alice, base, client, django_assert_max_num_queries
):
    for number in range(12):
        make_module(alice, f"module-{number}", seed=number)
    with django_assert_max_num_queries(12):
        client.get("/modules/")


def test_an_owner_s_page_lists_what_is_theirs(alice, bob, french, base, client):
    make_module(bob, "spanish")
    page = text(client.get("/alice"))
    assert "french" in page
    assert "spanish" not in page


@pytest.mark.parametrize("address", ["/alice", "/alice/french"])
def test_a_slash_too_many_is_taken_away(french, client, address):
    assert client.get(f"{address}/").headers["Location"] == address


CARD = "---\nlicense: mit\n---\n# Fruit\n\n| input | output |\n|---|---|\n| `fig` | `FIG` |\n"


def test_a_list_and_the_module_s_page_show_an_example_of_the_card(alice, base, client):
    make_module(alice, card_file=card_file(CARD))
    for address in ("/modules/", "/alice/french", "/alice"):
        page = text(client.get(address))
        assert '<dd class="mono">fig</dd>' in page, address
        assert '<dd class="mono">FIG</dd>' in page
    assert client.get("/api/v1/modules").json()["results"][0]["sample"] == {"input": "fig", "output": "FIG"}


def test_the_example_of_a_list_follows_the_card(alice, base, browser_of):
    make_module(alice, card_file=card_file(CARD))
    form = {"sentence": "Into French", "licence": "mit", "tags": "", "card": CARD.replace("fig", "plum")}
    browser_of(alice).post("/alice/french/edit", form)
    assert Module.objects.get().sample_input == "plum"
    browser_of(alice).post("/alice/french/edit", form | {"card": "# No example"})
    assert Module.objects.get().sample_output == ""


def test_a_card_in_a_list_says_its_date_likes_and_downloads(french, client):
    page = " ".join(text(client.get("/modules/")).split())
    card = page[page.index('<article class="card') : page.index("</article>")]
    assert f"{french.updated_at:%b %Y}</time>" in card
    for words in ("likes", "downloads"):
        assert f'<span class="num">0</span> {words}' in card


def test_a_preview_shows_the_card_and_saves_nothing(alice, base, browser_of):
    module = make_module(alice)
    form = {"sentence": "", "licence": "mit", "card": CARD.replace("\n", "\r\n"), "preview": "yes"}
    page = text(browser_of(alice).post("/alice/french/edit", form))
    preview = page[page.index('id="preview"') :]
    assert "<h3>Fruit</h3>" in preview
    assert '<dd class="mono">FIG</dd>' in preview
    assert "license: mit" not in preview
    module.refresh_from_db()
    assert (module.sentence, module.versions.count()) == ("Translates words into French.", 1)


def test_a_preview_is_not_kept_and_is_safe(alice, base, browser_of, monkeypatch):
    make_module(alice)
    monkeypatch.setattr(rendering, "rendered_html", lambda _markdown: pytest.fail("It was kept."))
    form = {"sentence": "a", "licence": "mit", "card": f"# A\n\n{SCRIPT}", "preview": "yes"}
    preview = text(browser_of(alice).post("/alice/french/edit", form))
    preview = preview[preview.index('<div class="prose">') :]
    assert "<script>alert" not in preview


def test_a_program_gets_the_same_preview(alice, api_of):
    told = api_of(alice).post("/api/v1/cards/preview", {"card": CARD}).json()
    assert "<h3>Fruit</h3>" in told["html"]
    assert (told["is_plain"], told["sample"]) == (False, {"input": "fig", "output": "FIG"})
    assert told["repairs"] == []
    unclosed = api_of(alice).post("/api/v1/cards/preview", {"card": "---\nlicense: mit\n"}).json()
    assert [repair["code"] for repair in unclosed["repairs"]] == ["front_matter_not_closed"]


def meta(page):
    """What a page says of itself to other programs, by property."""
    found = re.findall(r'<meta (?:name="[^"]*" )?property="([^"]*)"\s+content="([^"]*)"', page)
    return {name: " ".join(unescape(content).split()) for name, content in found}


def test_pages_describe_themselves_to_other_programs(alice, base, client, settings):
    make_module(alice, sentence='Says "oui" & <b>.')
    told = meta(text(client.get("/alice/french")))
    assert told["og:title"] == "alice/french"
    assert told["og:description"].startswith(f'Says "oui" & <b>. For {base.name}, rank 2, license: MIT')
    assert told["og:image"] == f"{settings.PUBLIC_ADDRESS}/alice/french/picture.png"
    descriptions = {
        address: meta(text(client.get(address)))["og:description"]
        for address in ("/", "/modules/", f"/{base.name}", "/alice", "/tags/french/", "/modules/compare/")
    }
    assert len(set(descriptions.values())) == len(descriptions)
    assert all(20 < len(each) < 200 for each in descriptions.values())


def test_the_picture_of_a_module_is_for_who_may_see_it(alice, base, client, browser_of, bob):
    make_module(alice)
    make_module(alice, "hidden", private=True)
    shown = client.get("/alice/french/picture.png")
    assert (shown["Content-Type"], shown["Cache-Control"]) == ("image/png", "public, max-age=3600")
    assert size_of_png(shown.content) == (1200, 630)
    assert browser_of(bob).get("/alice/hidden/picture.png").status_code == 404
    own = browser_of(alice).get("/alice/hidden/picture.png")
    assert own["Cache-Control"] == "private, no-store"
    assert own.content != shown.content
    assert size_of_png(client.get("/help/picture.png").content) == (1200, 630)


def size_of_png(data):
    return struct.unpack(">II", data[16:24])
