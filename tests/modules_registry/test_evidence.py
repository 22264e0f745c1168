"""What was measured with a module, on its page and for programs."""

import pytest

from modules_registry.evidence import evidence_of, evidence_record, versions_not_of
from modules_registry.models import Evidence
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
