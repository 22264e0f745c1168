"""Private modules are composed by their own people, and are nowhere to be seen for anybody else."""

import pytest

from composer.matching import compatibility
from composer.matching.ranking import rank_modules
from hub_site.accounts.models import Membership, Namespace
from hub_site.accounts.names import name_key
from modules_registry.services import module_edit, module_publish
from tests.composer.conftest import SHOTS
from tests.factories import config_file, make_module, weights_file
from tests.pages.rendered import collapsed

pytestmark = pytest.mark.usefixtures("wakes")

ADDRESS = "/api/v1/compositions"
CHOOSER = "/compositions/new/modules/?base=tests/tiny"
BODY = {
    "name": "Fruit in capitals",
    "base": "tests/tiny",
    "examples": [{"input": "apple", "output": "APPLE"}, {"input": "pear", "output": "PEAR"}],
}


@pytest.fixture
def secret(modules, alice):
    return make_module(alice, "secret-fruit", private=True, seed=9)


@pytest.fixture
def lab_secret(modules, alice, bob):
    """A private module of the organisation in which Alice writes and Bob only reads."""
    lab = Namespace.objects.create(name="lab", key=name_key("lab"), kind=Namespace.Kind.ORGANISATION)
    Membership.objects.create(namespace=lab, user=alice, role=Membership.Role.WRITE)
    Membership.objects.create(namespace=lab, user=bob, role=Membership.Role.READ)
    files = {"config_file": config_file(), "weights_file": weights_file(seed=8)}
    return module_publish(author=alice, namespace=lab, name="hidden-fruit", private=True, **files)


def names_in(answer):
    assert answer.status_code == 202, answer.content
    return {module["name"] for module in answer.json()["modules"]}


def test_its_people_name_it_or_find_it_among_all(secret, lab_secret, alice, bob, api_of):
    for name in ("alice/secret-fruit", "lab/hidden-fruit"):
        assert names_in(api_of(alice).post(ADDRESS, BODY | {"modules": [name]})) == {name}
    assert names_in(api_of(alice).post(ADDRESS, BODY)) >= {"alice/secret-fruit", "lab/hidden-fruit"}
    assert names_in(api_of(bob).post(ADDRESS, BODY | {"modules": ["lab/hidden-fruit"]})) == {
        "lab/hidden-fruit"
    }


def test_for_a_stranger_it_does_not_exist_by_any_way(secret, lab_secret, charlie, api_of, browser_of):
    for name in ("alice/secret-fruit", "lab/hidden-fruit", "alice/nothing"):
        refused = api_of(charlie).post(ADDRESS, BODY | {"modules": [name]})
        assert refused.status_code == 400
        assert f"There is no module “{name}”" in str(refused.json())
    assert names_in(api_of(charlie).post(ADDRESS, BODY)) == {"bob/first", "bob/fruit", "bob/upper"}
    said = api_of(charlie).post(f"{ADDRESS}/candidates", BODY).content.decode()
    page = browser_of(charlie).get(CHOOSER).content.decode()
    for text in (said, page):
        assert "bob/fruit" in text
        assert "secret-fruit" not in text
        assert "hidden-fruit" not in text


def test_the_form_offers_it_to_its_owner_alone(secret, alice, bob, browser_of):
    for address in (CHOOSER, "/compositions/new/?modules=bob/first"):
        assert "alice/secret-fruit" in browser_of(alice).get(address).content.decode()
        assert "alice/secret-fruit" not in browser_of(bob).get(address).content.decode()
    ranked = [each.fit.name for each in rank_modules(secret.current.base, "exact", "", SHOTS, owner=alice)]
    assert "alice/secret-fruit" in ranked
    assert "alice/secret-fruit" not in str(rank_modules(secret.current.base, "exact", "", SHOTS))


def test_the_report_says_which_modules_the_command_needs_a_token_for(
    done, secret, modules, alice, api_of, browser_of
):
    composition = done(selection="chosen", modules=["bob/first", "alice/secret-fruit"])
    page = browser_of(alice).get(composition.get_absolute_url()).content.decode()
    assert "</span> is private, so first set <code>HF_TOKEN</code>" in collapsed(page)
    told = api_of(alice).get(f"{ADDRESS}/{composition.pk}/summary").json()
    assert told["private_modules"] == ["alice/secret-fruit"]
    usual = done()
    module_edit(editor=alice, module=secret, private=False)
    page = browser_of(alice).get(usual.get_absolute_url()).content.decode()
    assert "HF_TOKEN</code> to an" not in page


def test_one_of_another_base_is_not_named_to_strangers_as_a_misfit(modules, alice, charlie):
    files = {"config_file": config_file(base_model_name_or_path="other/base"), "weights_file": weights_file()}
    module_publish(author=alice, namespace=alice.namespace, name="elsewhere", private=True, **files)
    base = modules[0].current.base

    def offered(owner):
        return {module.name for module in compatibility.modules_to_choose_from(base, owner).modules}

    assert "alice/elsewhere" in offered(alice)
    assert "alice/elsewhere" not in offered(charlie)
