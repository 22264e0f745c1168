"""The compose file is valid, has the roles of `./hub up`, and keeps torch out of the web image."""

import json
import re
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml
from django.conf import settings

COMPUTING = {"torch", "transformers", "peft", "nevergrad"}
COMPOSE = yaml.safe_load((settings.BASE_DIR / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]


def test_the_compose_file_follows_the_compose_specification():
    schema = json.loads(
        (Path(__file__).parent / "compose-spec" / "compose-spec.json").read_text(encoding="utf-8")
    )
    jsonschema.Draft201909Validator(schema).validate(COMPOSE)


def test_every_queue_has_a_worker_that_listens_to_it_alone():
    from hub_site.celery import app

    listening = [
        service["command"][service["command"].index("--queues") + 1]
        for name, service in SERVICES.items()
        if name.startswith("worker-")
    ]
    assert sorted(listening) == sorted(queue.name for queue in app.conf.task_queues)


def test_nothing_starts_before_the_database_is_prepared():
    for name in ("web", "worker-default", "worker-transfer", "worker-compose", "worker-try", "scheduler"):
        assert SERVICES[name]["depends_on"]["prepare"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("name", ["web", "worker-default", "worker-transfer", "scheduler", "prepare"])
def test_what_does_not_compute_runs_from_the_image_without_torch(name):
    assert SERVICES[name]["build"]["target"] == "web"


def test_the_web_image_installs_nothing_that_computes():
    stages = re.split(r"^FROM ", (settings.BASE_DIR / "Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    web = next(stage for stage in stages if re.match(r"\S+ AS web\n", stage))
    assert re.findall(r'"\.\[(.*?)\]"', web) == ["web"]
    extras = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[<>=\[]", line)[0] for line in extras["optional-dependencies"]["web"]}
    assert names.isdisjoint(COMPUTING)


def test_only_the_web_server_is_reachable_and_from_this_machine_alone():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(ports) == ["web"]
    assert all(port.startswith("127.0.0.1:") for port in ports["web"])
