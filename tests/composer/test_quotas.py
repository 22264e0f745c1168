"""What one account may have and compute, and what is refused because no worker could take it."""

from datetime import timedelta

import pytest
from django.utils import timezone

from composer.models import Attempt, Composition
from composer.request import services
from composer.services import composition_delete
from hub_site.common.errors import Refusal
from hub_site.jobs.models import Worker, WorkerRequest
from hub_site.jobs.presence import announce
from modules_registry.quotas import storage_quota
from tests.composer.conftest import SHOTS

pytestmark = pytest.mark.usefixtures("wakes")


def use_cpu(owner, minutes, *, ago, composition_id="00000000-0000-0000-0000-000000000001"):
    return Attempt.objects.create(
        owner=owner,
        composition_id=composition_id,
        is_quick=True,
        cpu_s=60 * minutes,
        seen_at=timezone.now() - ago,
    )


def test_what_compositions_keep_is_stored_too_and_full_storage_refuses_the_next(
    ask, done, alice, monkeypatch
):
    before = storage_quota(alice.namespace).used
    composition = done()
    kept = set(composition.files.values_list("sha256", "size_bytes"))
    assert storage_quota(alice.namespace).used == before + sum(size for _, size in kept) > before
    monkeypatch.setattr("modules_registry.quotas.MB", 1)
    monkeypatch.setattr("django.conf.settings.HUB_STORAGE_OF_OWNER_MB", storage_quota(alice.namespace).used)
    with pytest.raises(Refusal) as refused:
        ask(seed=8)
    assert (refused.value.code, refused.value.status) == ("storage_full", 403)
    composition_delete(owner=alice, composition_id=composition.pk)
    assert storage_quota(alice.namespace).used == before
    ask(seed=8)


@pytest.fixture
def ten_minutes(settings):
    settings.HUB_CPU_MINUTES_A_DAY = 10


@pytest.mark.usefixtures("ten_minutes")
def test_who_has_computed_too_long_is_told_when_it_is_possible_again(ask, alice, bob):
    use_cpu(alice, 8, ago=timedelta(hours=25))  # a day old: no matter
    use_cpu(alice, 3, ago=timedelta(hours=23))
    use_cpu(alice, 5, ago=timedelta(hours=20))
    ask()
    use_cpu(alice, 4, ago=timedelta(hours=1))
    with pytest.raises(Refusal) as caught:
        ask()
    refusal = caught.value
    assert (refusal.code, refusal.status) == ("cpu_quota", 429)
    assert refusal.retry_after_s == pytest.approx(3600, abs=5)  # when the first of the three is a day old
    again_at = timezone.now() + timedelta(seconds=refusal.retry_after_s)
    assert f"possible again on {again_at:%-d %B at %H:%M} UTC" in refusal.message
    assert ask(owner=bob)


def test_a_single_minute_is_one_minute(ask, alice, settings):
    settings.HUB_CPU_MINUTES_A_DAY = 1
    use_cpu(alice, 1, ago=timedelta(hours=1))
    with pytest.raises(Refusal, match=r"computed for 1 minute of .* 1 is the most"):
        ask()


@pytest.mark.usefixtures("ten_minutes")
def test_deleting_a_composition_gives_no_processor_time_back(ask, alice, done):
    composition = done()
    use_cpu(alice, 11, ago=timedelta(minutes=1), composition_id=composition.pk)
    composition.delete()
    with pytest.raises(Refusal, match="minutes of CPU time"):
        ask()


@pytest.mark.usefixtures("ten_minutes")
def test_staff_and_a_site_without_a_limit_compute_as_they_like(ask, alice, staff, settings):
    for owner in (alice, staff):
        use_cpu(owner, 11, ago=timedelta(minutes=1))
    assert ask(owner=staff)
    settings.HUB_CPU_MINUTES_A_DAY = 0
    assert ask()


@pytest.mark.parametrize(("minutes", "first_left"), [([6, 6], 0), ([1, 6, 6], 1), ([30], 0), ([5, 5], 0)])
def test_the_time_that_is_told_is_the_first_at_which_less_than_the_limit_is_used(minutes, first_left):
    uses = [(timezone.now() + timedelta(hours=n), 60.0 * m) for n, m in enumerate(minutes)]
    excess_s = sum(cpu_s for _, cpu_s in uses) - 600
    assert services.when_below(uses, excess_s) == uses[first_left][0]


# A worker that could take it ------------------------------------------------------


def kind_of_refusal(ask, **changes) -> tuple[str, list[str]]:
    with pytest.raises(Refusal) as caught:
        ask(**changes)
    assert caught.value.status == 409
    return caught.value.code, list(caught.value.fields)


def test_a_request_that_no_worker_could_take_is_refused_at_its_field(ask, base):
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    assert kind_of_refusal(ask, device="cuda") == ("no_worker_with_cuda", ["device"])
    type(base).objects.update(parameters=10**10)
    assert kind_of_refusal(ask) == ("no_worker_large_enough", ["base"])
    Worker.objects.update(memory_mb=64_000)
    assert ask().memory_mb == 30_000
    Worker.objects.update(has_cuda=True)
    assert ask(device="cuda")


def test_the_estimate_refuses_what_the_request_would_be_refused_for(api_of, alice, base, modules):
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    api = api_of(alice)
    body = {"name": "Fruit", "examples": [{"input": shot.input, "output": shot.output} for shot in SHOTS]}

    def codes(**changes):
        answers = [
            api.post(f"/api/v1/compositions{what}", body | changes, format="json")
            for what in ("/estimate", "")
        ]
        return [(answer.status_code, answer.json()["error"]) for answer in answers]

    for code, changes, parameters in (
        ("no_worker_with_cuda", {"device": "cuda"}, 1000),
        ("no_worker_large_enough", {}, 10**10),
    ):
        type(base).objects.update(parameters=parameters)
        estimated, asked = codes(**changes)
        assert estimated == asked
        assert (asked[0], asked[1]["code"]) == (409, code)


def test_workers_that_are_starting_or_just_away_refuse_nothing(ask):
    assert ask(device="cuda")  # none has announced itself yet
    announce("compose", slots=2, memory_mb=4096, has_cuda=True)
    Worker.objects.update(seen_at=timezone.now() - timedelta(hours=23))
    assert ask(device="cuda")
    assert Composition.objects.count() == 2


FIELDS = {
    "form_key": "k", "name": "Fruit", "method": "exact", "seed": "7", "selection": "all", "device": "cuda",
    "shots_input": [shot.input for shot in SHOTS], "shots_output": [shot.output for shot in SHOTS],
}  # fmt: skip


def test_the_form_says_it_beside_a_button_that_asks_staff(browser_of, alice, staff, base, modules):
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    browser = browser_of(alice)
    fields = FIELDS | {"base": base.name}
    shown = browser.post("/compositions/drafts/", fields).content.decode()
    assert "No worker of this site has a GPU" in shown
    assert 'name="keep" value="ask_worker"' in shown
    for _ in range(2):
        answer = browser.post("/compositions/new/", fields | {"keep": "ask_worker"}, follow=True)
    assert "Request sent to staff. Your form is saved as a draft." in answer.content.decode()
    assert 'value="Fruit"' in answer.content.decode()  # nothing that was typed is lost
    assert WorkerRequest.objects.get().has_cuda
    assert "1 request for a kind of worker" in browser_of(staff).get("/").content.decode()
    assert "request for a worker" not in browser.get("/").content.decode()


def test_a_program_asks_staff_too(api_of, alice, base):
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    answer = api_of(alice).post("/api/v1/worker-requests", {"device": "cuda"}, format="json")
    assert answer.status_code == 201
    assert (answer.json()["base_name"], answer.json()["has_cuda"]) == (base.name, True)
    answer = api_of(alice).post("/api/v1/worker-requests", {"device": "cpu"}, format="json")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "worker_exists")


def test_who_is_refused_by_a_limit_is_in_the_log_and_told_when_to_come_back(ask, alice, settings, caplog):
    settings.HUB_COMPOSITIONS_UNFINISHED_MAX = 0
    with pytest.raises(Refusal) as caught:
        ask()
    assert int(caught.value.headers["Retry-After"]) > 0
    assert f"account {alice.pk} refused: too_many_running: You have 0 compositions" in caplog.text
    announce("compose", slots=2, memory_mb=4096, has_cuda=False)
    with pytest.raises(Refusal):
        ask(device="cuda")
    assert f"account {alice.pk} refused: no_worker_with_cuda: No worker" in caplog.text
