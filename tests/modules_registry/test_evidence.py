"""What was measured with a module, on its page and for programs."""

import re
from html import unescape

import pytest

from modules_registry.evidence import Measured, evidence_of, evidence_record, measured_of, versions_not_of
from modules_registry.models import Evidence, Module
from modules_registry.services import version_add
from tests.factories import adapter_files, make_base, make_module


@pytest.fixture
def module(db, tmp_path, bob):
    make_base(tmp_path / "base")
    return make_module(bob, "fruit")


def alone(module, task, loss, base=2.0):
    return Evidence(
        module=module, weights_sha256=module.current.weights_sha256, kind="alone", source=f"task:{task}",
        task=task, n_examples=5, loss_nats=loss, reference_nats=base,
    )  # fmt: skip


def part(module, source, without, whole=1.0):
    return Evidence(
        module=module, weights_sha256=module.current.weights_sha256, kind="part", source=source, n_examples=5,
        loss_nats=without, reference_nats=whole,
    )  # fmt: skip


def answers(module, percent, *, kind="score", task="plurals", base=10.0):
    return Evidence(
        module=module, weights_sha256=module.current.weights_sha256, kind=kind, source=f"{kind}:{task}",
        task=task, n_examples=5, loss_nats=0.5, reference_nats=2.0,
        score_percent=percent, reference_percent=base, n_scored=20,
    )  # fmt: skip


def best_of(module):
    module.refresh_from_db()
    return measured_of([module])[module.pk].best


def test_a_list_shows_the_strongest_of_what_was_measured(module):
    assert measured_of([module]) == {}
    evidence_record(
        [alone(module, "plurals", 1.5), alone(module, "capitals", 0.5), alone(module, "dots", 2.5)]
    )
    assert (best_of(module).task, best_of(module).loss_nats) == ("capitals", 0.5)
    evidence_record(
        [answers(module, 60.0), answers(module, 80.0, task="dots"), answers(module, 5.0, task="x")]
    )
    assert (best_of(module).task, best_of(module).score_percent) == ("dots", 80.0)
    evidence_record([answers(module, 70.0, kind="whole", task="")])
    assert (best_of(module).task, best_of(module).score_percent) == ("", 70.0)


def test_a_module_that_never_beat_its_base_has_no_best(module):
    evidence_record([alone(module, "plurals", 2.5), part(module, "a", 1.001)])
    module.refresh_from_db()
    assert measured_of([module])[module.pk] == Measured(best=None, n_parts=1, n_hurt=0)


def test_a_list_asks_twice_however_many_modules_there_are(module, bob, django_assert_num_queries):
    modules = [module, *(make_module(bob, f"module-{number}", seed=number) for number in range(1, 4))]
    evidence_record(row for each in modules for row in (alone(each, "plurals", 1.0), part(each, "a", 1.5)))
    modules = [Module.objects.select_related("current").get(pk=each.pk) for each in modules]
    with django_assert_num_queries(2):
        assert len(measured_of(modules)) == 4


def test_lists_and_the_module_s_page_tell_right_answers(module, client):
    evidence_record([alone(module, "plurals", 0.5), answers(module, 80.0), part(module, "a", 1.5)])
    for address in ("/modules/", "/bob"):
        page = words_of(client.get(address))
        assert "80 % right on plurals (base alone 10 %) Needed in 1 of 1 composition that helped" in page
    assert "80 % of 20" in words_of(client.get("/bob/fruit"))
    told = client.get("/api/v1/modules").json()["results"][0]["measured"]
    assert (told["best"]["score_percent"], told["best"]["n_scored"], told["n_parts"]) == (80.0, 20, 1)
    assert client.get("/api/v1/modules/bob/fruit").json()["measured"] == told


def test_a_published_result_tells_how_good_it_was_when_it_was_composed(module, client):
    evidence_record([answers(module, 89.0, kind="whole", task="", base=46.0)])
    assert "89 % right on 20 held-out examples (base alone 46 %)" in words_of(client.get("/modules/"))
    page = words_of(client.get("/bob/fruit"))
    assert "it answered 89 % of 20 held-out examples right; its base model alone 46 %." in page
    assert client.get("/api/v1/modules/bob/fruit/evidence").json()["result"]["score_percent"] == 89.0


def words_of(response):
    """The text of a page as it is read."""
    text = re.sub(r"<[^>]*>", "", response.content.decode())
    return " ".join(unescape(text).split())


def test_losses_by_task_and_parts_that_hurt_are_summed_up(module):
    evidence_record([alone(module, "plurals", 1.5), alone(module, "capitals", 0.5)])
    evidence_record([part(module, "a", 1.5), part(module, "b", 2.5), part(module, "c", 1.001)])
    found = evidence_of(module.current)
    assert [(row.task, row.drop_nats) for row in found.tasks] == [("capitals", 1.5), ("plurals", 0.5)]
    assert (found.n_parts, found.n_hurt, found.mean_rise_nats) == (3, 2, 1.0)


def test_the_same_measurement_again_takes_the_place_of_the_earlier_one(module):
    evidence_record([alone(module, "plurals", 1.5)])
    evidence_record([alone(module, "plurals", 1.0), alone(module, "plurals", 0.8)])
    assert [row.loss_nats for row in evidence_of(module.current).tasks] == [0.8]


def test_other_weights_have_no_evidence_yet(module, bob):
    evidence_record([alone(module, "plurals", 1.5)])
    version, _ = version_add(author=bob, module=module, **adapter_files(seed=9))
    assert not evidence_of(version)


def test_what_its_own_owner_composes_does_not_count(module, alice, bob):
    assert versions_not_of(bob, [module.current]) == []
    assert versions_not_of(alice, [module.current]) == [module.current]


def test_the_page_and_the_api_tell_it(module, client):
    assert "Measured evidence" not in client.get("/bob/fruit").content.decode()
    evidence_record([alone(module, "plurals", 1.5), part(module, "a", 1.5)])
    page = client.get("/bob/fruit").content.decode()
    assert "Measured evidence" in page
    assert "plurals" in page
    told = client.get("/api/v1/modules/bob/fruit/evidence").json()
    assert told["tasks"][0] == {
        "task": "plurals", "n_examples": 5, "loss_nats": 1.5, "base_loss_nats": 2.0, "drop_nats": 0.5,
        "score_percent": None, "base_score_percent": None, "n_scored": None,
    }  # fmt: skip
    assert (told["n_parts"], told["n_hurt"], told["mean_rise_nats"], told["n_published"]) == (1, 1, 0.5, 0)
    assert client.get("/api/v1/modules/bob/none/evidence").status_code == 404


def test_a_library_can_be_narrowed_to_modules_that_something_was_measured_with(module, client):
    assert str(module) not in client.get("/modules/?evidence=yes").content.decode()
    evidence_record([alone(module, "plurals", 1.5)])
    module.refresh_from_db()
    assert module.has_evidence
    found = client.get("/api/v1/modules", {"evidence": "yes"}).json()["results"]
    assert [each["id"] for each in found] == [module.full_name]
