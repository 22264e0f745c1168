"""The home page: what was measured, what is used, what others did; nothing that is not public."""

import pytest

from composer.publish.services import composition_publish
from modules_registry.popularity import module_like
from modules_registry.services import module_edit
from tests.composer.conftest import ask, base, modules, wakes  # noqa: F401
from tests.composer.test_publishing import finished  # noqa: F401
from tests.factories import make_module

pytestmark = pytest.mark.usefixtures("wakes")

QUERIES_MAX = 12


def home(client) -> str:
    answer = client.get("/")
    assert answer.status_code == 200
    return " ".join(answer.content.decode().split())


@pytest.fixture
def published(finished, alice):  # noqa: F811
    """A composition of Alice's that became a public module, with the module."""
    composition = finished()
    module, _ = composition_publish(
        owner=alice,
        composition_id=composition.pk,
        site="http://site",
        namespace=alice.namespace,
        name="fruit-in-capitals",
        sentence="Writes the fruit in capitals.",
        private=False,
    )
    return composition, module


def test_an_empty_site_says_what_will_be_there(client, db):
    page = home(client)
    assert "Published modules are listed here." in page
    assert "Compositions that helped" not in page
    assert "Recent activity" not in page


def test_modules_that_are_used_stand_first_and_uploads_alone_are_no_news(client, modules, alice):  # noqa: F811
    module_like(user=alice, module=modules[1])
    page = home(client)
    trending = page[page.index("Trending modules") :]
    assert "fruit</a>" in trending
    assert "upper</a>" not in trending  # nobody has used it yet
    assert '<a href="/alice">alice</a> likes' in page
    assert "bob</a> composed" not in page


def test_one_s_own_like_is_no_news(client, modules, bob):  # noqa: F811
    module_like(user=bob, module=modules[1])
    assert "likes" not in home(client).partition("Recent activity")[2]


def test_a_published_composition_is_told_with_its_figures(client, published):
    page = home(client)
    assert "Compositions that helped" in page
    assert "fruit-in-capitals" in page
    assert '<span class="num">50 %</span> <span class="quiet">against 0 %</span>' in page
    assert "2 held-out examples" in page
    assert '<a href="/alice">alice</a> composed' in page


def test_a_private_module_is_on_no_home_page(client, published, alice):
    _, module = published
    module_edit(editor=alice, module=module, private=True)
    assert "fruit-in-capitals" not in home(client)


def test_figures_of_a_composition_that_did_not_help_are_no_boast(client, published):
    composition, _ = published
    composition.report["verdict"]["decision"] = "none"
    composition.save(update_fields=["report"])
    assert "Compositions that helped" not in home(client)


def test_a_visitor_is_told_that_no_account_is_needed(client, browser_of, alice):
    assert "No account needed" in home(client)
    assert "No account needed" not in home(browser_of(alice))


def test_the_page_takes_few_queries_however_much_there_is(
    browser_of,
    alice,
    bob,
    published,
    modules,  # noqa: F811
    django_assert_max_num_queries,
):
    for number in range(3, 9):
        module_like(user=alice, module=make_module(bob, f"more-{number}", seed=number))
    browser = browser_of(alice)
    with django_assert_max_num_queries(QUERIES_MAX):
        home(browser)
