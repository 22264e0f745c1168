"""A whole owner from a Hub over HTTP: converted, repaired, refused with the reason, continued."""

import pytest
from django.core.management import call_command

from hub_site.common.errors import Refusal
from hub_site.jobs.models import Status
from modules_registry.importing import runner, work
from modules_registry.importing.models import ModuleImport
from modules_registry.importing.services import import_request
from modules_registry.models import Module
from tests.modules_registry.importing.small_hub import COMMIT


def run(owner, *sources, **options):
    job = import_request(owner=owner, namespace=owner.namespace, sources=sources, ring=False, **options)
    runner.import_run(job.pk)
    job.refresh_from_db()
    return job


def states(job):
    return {item.repo_id: (item.state, item.code) for item in job.items.all()}


def test_an_owner_s_repositories_come_in_and_each_refusal_says_why(hub, alice, base):
    job = run(alice, "far")
    assert job.status == Status.DONE
    assert states(job) == {
        "far/good": ("imported", ""),
        "far/wrong-rank": ("imported", ""),
        "far/harmful": ("refused", "checkpoint_code"),
        "far/empty": ("refused", "not_an_adapter"),
    }
    origin = Module.objects.get(name="wrong-rank").current.origin
    assert (origin.repo_id, origin.commit_id, origin.was_converted) == ("far/wrong-rank", COMMIT, True)
    assert [repair["code"] for repair in origin.repairs] == ["peft_type", "rank"]
    assert Module.objects.get(name="good").current.base == base
    assert states(run(alice, "far/good", "far/none")) == {
        "far/good": ("unchanged", ""),
        "far/none": ("refused", "source_missing"),
    }
    assert Module.objects.get(name="good").versions.count() == 1


def test_an_import_goes_on_where_a_worker_left_it(hub, alice, base):
    job = import_request(owner=alice, namespace=alice.namespace, sources=["far"], ring=False)
    work.stopping.set()
    try:
        runner.import_run(job.pk)
    finally:
        work.stopping.clear()
    assert ModuleImport.objects.get().status == Status.QUEUED
    runner.import_run(job.pk)
    assert ModuleImport.objects.get().status == Status.DONE


def test_nobody_imports_into_another_s_name(alice, bob):
    with pytest.raises(Refusal) as refused:
        import_request(owner=alice, namespace=bob.namespace, sources=["far"], ring=False)
    assert refused.value.code == "not_your_namespace"


@pytest.mark.parametrize("source", ["../x", "http://127.0.0.1/x", "a/b@../c", "a@main", ""])
def test_what_names_no_repository_is_refused(alice, source):
    with pytest.raises(Refusal, match=r"one a line|is no repository"):
        import_request(owner=alice, namespace=alice.namespace, sources=[source], ring=False)


def test_the_command_imports_and_says_what_came_of_each(hub, alice, base, capsys):
    call_command("import_modules", "far/good", user="alice")
    assert capsys.readouterr().out == "far/good: Imported\n"
