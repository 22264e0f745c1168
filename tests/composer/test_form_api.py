"""What the compose form knows, for programs: how long, which modules, drafts, an earlier request."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from composer.models import Composition
from composer.request.services import require_versions
from hub_site.common.errors import Refusal
from modules_registry.models import Module
from modules_registry.repositories import repository_move
from tests.composer.test_api import ADDRESS, BODY, error_of

pytestmark = pytest.mark.usefixtures("wakes")  # nothing here reaches a broker

DRAFT = "/api/v1/drafts/0f8b"
FIELDS = {"name": ["Colours"], "shots_input": ["red", ""], "shots_output": ["rouge", ""]}


@pytest.fixture
def api(alice, modules, api_of):
    return api_of(alice)


def test_a_request_is_estimated_and_nothing_is_started(api):
    quick = api.post(f"{ADDRESS}/estimate", BODY | {"level": "quick"}).json()
    thorough = api.post(f"{ADDRESS}/estimate", BODY | {"level": "thorough"}).json()
    assert 0 < quick["low_s"] < quick["high_s"] < thorough["high_s"]
    assert (quick["n_modules"], quick["budget"], thorough["baselines"]) == (3, 200, "thorough")
    assert not Composition.objects.exists()


def test_the_estimate_of_a_choice_left_to_us_counts_as_many_as_its_level_takes(api, monkeypatch):
    monkeypatch.setattr("composer.matching.ranking.QUICK_MAX", 2)
    for level, n_modules in (("quick", 2), ("balanced", 3)):
        body = BODY | {"level": level, "selection": "auto"}
        assert api.post(f"{ADDRESS}/estimate", body).json()["n_modules"] == n_modules


def test_modules_are_ranked_for_a_task(api):
    found = api.post(f"{ADDRESS}/candidates", BODY | {"name": "A", "sentence": "upper case"}).json()
    assert (len(found), found[0]["name"]) == (3, "bob/upper")
    assert found[0]["shared_words"] == ["upper"]
    assert found[0]["nats"] is None


@pytest.mark.parametrize("what", ["estimate", "candidates"])
def test_a_method_that_is_none_is_refused(api, what):
    assert (
        error_of(api.post(f"{ADDRESS}/{what}", BODY | {"method": "magic"}), 400)["code"] == "unknown_method"
    )


@pytest.mark.parametrize("what", ["", "/estimate", "/candidates"])
@pytest.mark.parametrize(
    ("template", "code"),
    [("nothing", "bad_template"), ("input", "bad_template"), ("chat", "no_chat_template")],
)
def test_a_template_that_the_base_cannot_be_asked_in_is_refused_by_every_way(api, base, what, template, code):
    base.chat_prompt = ""
    base.save()
    error = error_of(api.post(f"{ADDRESS}{what}", BODY | {"template": template}), 400)
    assert (error["code"], list(error["fields"])) == (code, ["template"])


def test_what_was_asked_can_be_asked_again(api):
    first = api.post(ADDRESS, BODY | {"level": "thorough", "modules": ["bob/upper"]}).json()
    body = api.get(f"{ADDRESS}/{first['id']}/request").json()
    second = api.post(ADDRESS, body).json()
    digests = {composition.request_digest for composition in Composition.objects.all()}
    assert first["id"] != second["id"]
    assert len(digests) == 1


def test_a_draft_is_kept_read_listed_and_discarded(api):
    assert api.put(DRAFT, {"fields": FIELDS}).json()["n_examples"] == 1
    assert api.get(DRAFT).json()["fields"] == FIELDS
    assert [draft["name"] for draft in api.get("/api/v1/drafts").json()] == ["Colours"]
    assert api.delete(DRAFT).status_code == 204
    assert api.get(DRAFT).status_code == 404


def test_nobody_reads_somebody_else_s_draft_or_request(api, api_of, charlie, ask):
    api.put(DRAFT, {"fields": FIELDS})
    stranger = api_of(charlie)
    assert stranger.get(DRAFT).status_code == 404
    assert stranger.get(f"{ADDRESS}/{ask().pk}/request").status_code == 404
    stranger.delete(DRAFT)
    assert api.get(DRAFT).status_code == 200


def test_a_draft_too_large_to_keep_is_refused(api):
    assert error_of(api.put(DRAFT, {"fields": {"x": ["y" * 2_000_001]}}), 413)["code"] == "draft_too_large"


@pytest.mark.parametrize("what", ["estimate", "candidates"])
def test_naming_more_modules_asks_the_database_no_more_often(api, what):
    def n_queries(names):
        with CaptureQueriesContext(connection) as asked:
            assert api.post(f"{ADDRESS}/{what}", BODY | {"modules": names}).status_code == 200
        return len(asked)

    n_queries(["bob/upper"])  # content types and the like are read once
    one = n_queries(["bob/upper"])
    assert n_queries([f"bob/{name}" for name in Module.objects.values_list("name", flat=True)]) == one


def test_a_module_is_named_as_in_its_address_in_any_case_or_by_its_former_name(api, bob):
    repository_move(editor=bob, module=Module.objects.get(name="upper"), namespace=bob.namespace, name="caps")
    for name in ("BOB/Caps", "bob/upper", " bob/caps "):
        assert api.post(f"{ADDRESS}/estimate", BODY | {"modules": [name]}).json()["n_modules"] == 1
    for name in ("bob/cap5", "bob/", "bob", "alice/caps", "bob/caps\x00"):
        assert error_of(api.post(f"{ADDRESS}/estimate", BODY | {"modules": [name]}), 400)


def test_too_many_modules_are_refused_by_every_way_in(api, alice):
    names = [f"bob/m{number}" for number in range(501)]
    assert "modules" in error_of(api.post(f"{ADDRESS}/estimate", BODY | {"modules": names}), 400)["fields"]
    with pytest.raises(Refusal, match="at most 500"):
        require_versions(names, alice)


def test_a_draft_that_is_kept_again_says_when(api):
    kept = [api.put(DRAFT, {"fields": FIELDS}, format="json") for _ in range(2)]
    assert [answer.status_code for answer in kept] == [200, 200]
    assert kept[0].json()["kept_at"] < kept[1].json()["kept_at"]


@pytest.mark.parametrize("what", ["", "/estimate", "/candidates"])
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"selection": "bogus"}, "bad_selection"),
        ({"selection": "chosen+bogus", "modules": ["bob/upper"]}, "bad_selection"),
        ({"selection": "chosen"}, "no_modules"),
    ],
)
def test_a_selection_of_nothing_is_refused_by_every_way(api, what, changes, code):
    assert error_of(api.post(f"{ADDRESS}{what}", BODY | changes), 400)["code"] == code
    assert not Composition.objects.exists()


def test_modules_are_ranked_for_a_task_without_a_name_and_nothing_else_is(api):
    body = {key: value for key, value in BODY.items() if key != "name"} | {"sentence": "upper case"}
    assert api.post(f"{ADDRESS}/candidates", body).json()[0]["name"] == "bob/upper"
    assert "name" in error_of(api.post(ADDRESS, body), 400)["fields"]
