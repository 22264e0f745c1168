"""The help: every page is there, its links and pictures lead somewhere, its sections are found by words."""

import re
from html import unescape

import pytest
from django.conf import settings
from django.contrib.staticfiles import finders

from demo.words import WORDS
from hub_site.pages.help_pages import PAGES, PICTURE_HEIGHT, PICTURE_WIDTH, read_page
from hub_site.pages.help_search import find_in_help
from tests.pages.rendered import Page
from tests.pages.test_pages import require_calm

pytestmark = pytest.mark.django_db
OUR_PAGES = re.compile(r'href="(/help/[^"#]*)(?:#([^"]*))?"')


def page_of(client, slug):
    answer = client.get(PAGES[slug].get_absolute_url())
    assert answer.status_code == 200
    return answer.content.decode()


def titles(query):
    return [(found.place.page, found.place.title) for found in find_in_help(query)]


@pytest.mark.parametrize("slug", PAGES)
def test_a_page_is_calm_and_is_titled(client, slug):
    markup = page_of(client, slug)
    require_calm(markup)
    assert f"<h1>{PAGES[slug].title}</h1>" in unescape(markup)


def test_the_index_leads_to_every_page(client):
    links = set(Page(client.get("/help/").content.decode()).links)
    assert {page.get_absolute_url() for page in PAGES.values()} <= links
    assert client.get("/help/nothing/").status_code == 404


@pytest.mark.parametrize("slug", PAGES)
def test_links_between_pages_lead_to_a_section_that_is_there(slug):
    for address, anchor in OUR_PAGES.findall(read_page(slug).html):
        other = read_page(address.removeprefix("/help/").strip("/"))
        assert not anchor or f'id="{anchor}"' in other.html, f"{address}#{anchor}"


def test_the_site_s_own_pages_that_the_help_names_are_there(browser_of, alice):
    browser, linked = browser_of(alice), set()
    for slug in PAGES:
        linked |= set(re.findall(r'href="(/(?!help|static)[^"]*)"', read_page(slug).html))
    assert len(linked) > 5
    assert [path for path in sorted(linked) if browser.get(path).status_code >= 400] == []


def test_a_link_to_a_file_of_the_repository_alone_keeps_its_text():
    html = read_page("glossary").html + read_page("operators").html
    assert 'href=""' not in html
    assert "decisions/" not in re.sub(r"<code>.*?</code>", "", html)


def test_every_picture_is_there_in_both_themes_and_in_its_size(client):
    names = re.findall(r'src="/static/([^"]+\.webp)"', read_page("getting-started").html)
    assert len(names) == 8
    for name in names:
        data = open(finders.find(name), "rb").read()  # noqa: SIM115, PTH123
        assert size_of_webp(data) == (PICTURE_WIDTH, PICTURE_HEIGHT), name
        assert len(data) < 120_000, name


def size_of_webp(data):
    """Of the extended form: width and height less one, 24 bits each."""
    assert (data[:4], data[8:16]) == (b"RIFF", b"WEBPVP8X")
    return tuple(int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))


def test_commands_name_this_site_s_own_address(client, settings):
    settings.ALLOWED_HOSTS = ["hub.example.org"]
    markup = client.get("/help/hub/", headers={"host": "hub.example.org"}).content.decode()
    assert "export HF_ENDPOINT=http://hub.example.org\n" in markup.replace("</code>", "\n")
    assert "127.0.0.1" not in markup[markup.index("<main") :]


def test_the_glossary_has_an_address_for_each_term(client):
    markup = page_of(client, "glossary")
    assert 'id="held-out-examples"' in markup
    assert 'id="baseline"' in markup
    source = (settings.BASE_DIR / "docs/glossary.md").read_text(encoding="utf-8")
    assert markup.count("<p id=") == len(re.findall(r"^\*\*", source, re.MULTILINE))


@pytest.mark.parametrize(
    ("query", "page", "title"),
    [
        ("baselines", "What the verdict means", "Baselines"),
        ("held-out example", "What the verdict means", "Held-out examples"),
        ("upload", "For authors of modules", "Upload"),
        ("HUB_DISK_SPARE_MB", "For operators", "Settings"),
        ("dropout_not_a_number", "Use it with hf, peft and transformers", None),
        ("config_of_a_model", "Use it with hf, peft and transformers", "config_of_a_model"),
        ("rank", "Glossary", "rank"),
        ("time for one composition", "Limits", "Composing"),
    ],
)
def test_a_section_is_found_by_its_words(query, page, title):
    found = titles(query)
    if title is None:
        assert found == []
    else:
        assert (page, title) in found[:3], found[:5]


def test_a_result_shows_where_the_words_stand(client):
    markup = client.get("/help/", {"q": "wilson interval"}).content.decode()
    require_calm(markup)
    assert '<a href="/help/verdict/#intervals">Intervals</a>' in markup
    assert "<mark>Wilson</mark>" in markup
    assert "Nothing found" in client.get("/help/", {"q": "zebra"}).content.decode()


def test_what_is_looked_for_is_never_markup(client):
    markup = client.get("/help/", {"q": "<script>alert(1)</script>"}).content.decode()
    assert "<script>alert" not in markup
    assert client.get("/help/", {"q": "x" * 5000}).status_code == 200


def test_a_program_finds_the_same(client):
    everything = client.get("/api/v1/help").json()["results"]
    assert [each["page"] for each in everything] == [page.title for page in PAGES.values()]
    (first, *_) = client.get("/api/v1/help", {"q": "wilson interval"}).json()["results"]
    assert first["url"].endswith("/help/verdict/#intervals")
    assert "Wilson" in first["excerpt"]
    assert client.get("/api/v1/help", {"q": "x" * 201}).status_code == 400


def test_the_inputs_in_the_help_are_written_as_the_demo_s_modules_saw_theirs(client):
    shown = unescape(client.get("/").content.decode() + page_of(client, "getting-started"))
    inputs = re.findall(r'tokenizer\("([^"]+)"', shown) + re.findall(r'<text x="44"[^>]*>([^<]+)', shown)
    assert len(inputs) > 4
    assert all(text.startswith(": ") for text in inputs)
    assert {word for text in inputs for word in text.removeprefix(": ").split()} <= set(WORDS)


def test_the_help_knows_how_many_words_the_demo_world_has(client):
    assert f"knows {len(WORDS)} words" in page_of(client, "composing")
