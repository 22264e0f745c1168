"""The compose file and the Kubernetes manifests are valid, have every role, and give no needless right."""

import ipaddress
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from django.conf import settings
from prometheus_client.samples import Sample

from hub_site.operations import metrics as site_metrics

COMPUTING = {"torch", "transformers", "peft", "nevergrad"}
COMPOSE = yaml.safe_load((settings.BASE_DIR / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
SITE = ("web", "worker-default", "worker-transfer", "scheduler", "prepare")  # from the image without torch
COMPUTES = ("worker-compose", "worker-compose-gpu", "worker-try")
MANIFESTS: list[dict[str, Any]] = [
    manifest
    for path in sorted((settings.BASE_DIR / "deploy" / "kubernetes").glob("*.yaml"))
    for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
WITH_PODS = {m["metadata"]["name"]: m for m in MANIFESTS if m["kind"] in ("Deployment", "StatefulSet", "Job")}
KUBERNETES = "1.37"
PROMETHEUS: dict[str, Any] = {
    path.stem: yaml.safe_load(path.read_text(encoding="utf-8"))
    for path in (settings.BASE_DIR / "deploy" / "prometheus").glob("*.yml")
}
DOCUMENTED = (settings.BASE_DIR / "docs" / "operating.md").read_text(encoding="utf-8")


def test_the_compose_file_follows_the_compose_specification():
    schema = json.loads(
        (Path(__file__).parent / "compose-spec" / "compose-spec.json").read_text(encoding="utf-8")
    )
    jsonschema.Draft201909Validator(schema).validate(COMPOSE)


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda m: f"{m['kind']}-{m['metadata']['name']}")
def test_every_manifest_follows_the_schema_of_its_kind(manifest):
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)


def queues_of(commands: list[list[str]]) -> set[str]:
    return {command[command.index("--queues") + 1] for command in commands if "--queues" in command}


def test_every_queue_has_a_worker_that_listens_to_it_alone():
    from hub_site.celery import app

    queues = {queue.name for queue in app.conf.task_queues}
    assert queues_of([service.get("command", []) for service in SERVICES.values()]) == queues
    assert queues_of([container_of(manifest).get("command", []) for manifest in WITH_PODS.values()]) == queues


def test_both_have_the_same_parts():
    assert set(WITH_PODS) == set(SERVICES) - {"proxy", "prometheus"}  # a cluster has an Ingress, and its own


def test_a_graphics_card_is_asked_for_by_profile_alone():
    gpu = SERVICES["worker-compose-gpu"]
    assert gpu["profiles"] == ["gpu"]
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]
    assert WITH_PODS["worker-compose-gpu"]["spec"]["replicas"] == 0


def test_nothing_starts_before_the_database_is_prepared():
    for name in (*SITE[:-1], *COMPUTES):
        assert SERVICES[name]["depends_on"]["prepare"]["condition"] == "service_completed_successfully"
    for name in ("postgres", "storage"):
        assert SERVICES["prepare"]["depends_on"][name]["condition"] == "service_healthy"


@pytest.mark.parametrize("name", SITE)
def test_what_does_not_compute_runs_from_the_image_without_torch(name):
    assert SERVICES[name]["build"]["target"] == "web"
    assert container_of(WITH_PODS[name])["image"].startswith("lora-hub-web:")


def test_the_web_image_installs_nothing_that_computes():
    stages = re.split(r"^FROM ", (settings.BASE_DIR / "Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    web = next(stage for stage in stages if re.match(r"\S+ AS web\n", stage))
    assert re.findall(r'"\.\[(.*?)\]"', web) == ["web"]
    extras = tomllib.loads((settings.BASE_DIR / "pyproject.toml").read_text("utf-8"))["project"]
    names = {re.split(r"[<>=\[]", line)[0] for line in extras["optional-dependencies"]["web"]}
    assert names.isdisjoint(COMPUTING)


def test_the_images_have_the_client_of_the_server_that_is_shipped():
    dockerfile = (settings.BASE_DIR / "Dockerfile").read_text(encoding="utf-8")
    (version,) = re.findall(r"^ARG POSTGRES_CLIENT=(\d+)$", dockerfile, flags=re.M)
    assert "postgresql-client-$POSTGRES_CLIENT" in dockerfile
    for image in (SERVICES["postgres"]["image"], container_of(WITH_PODS["postgres"])["image"]):
        assert image.endswith(f":pg{version}")


def test_only_the_proxy_is_reachable_and_from_this_machine_alone():
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert ports.pop("prometheus") == ["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"]  # by its profile alone
    assert ports == {"proxy": ["${HUB_BIND:-127.0.0.1}:${HUB_PORT:-8000}:8000"]}
    assert SERVICES["prometheus"]["profiles"] == ["metrics"]


def test_nobody_takes_the_address_at_which_the_web_processes_believe_the_proxy():
    network = COMPOSE["networks"]["front"]["ipam"]["config"][0]
    subnet, given_out = (ipaddress.ip_network(network[name]) for name in ("subnet", "ip_range"))
    fixed = {
        ipaddress.ip_address(part["ipv4_address"])
        for service in SERVICES.values()
        if isinstance(service.get("networks"), dict)
        for part in service["networks"].values()
    }
    assert given_out.subnet_of(subnet)
    assert len(fixed) == 1
    assert all(address in subnet and address not in given_out for address in fixed)
    assert str(*fixed) in SERVICES["web"]["environment"]["FORWARDED_ALLOW_IPS"]


def test_what_computes_and_the_servers_reach_nothing_outside():
    assert COMPOSE["networks"]["inner"] == {"internal": True}
    for name in (*COMPUTES, "postgres", "valkey", "storage", "scheduler"):
        assert SERVICES[name]["networks"] == ["inner"]


def test_servers_of_ones_own_are_reached_by_a_file_that_is_added(tmp_path):
    schema = json.loads(
        (Path(__file__).parent / "compose-spec" / "compose-spec.json").read_text(encoding="utf-8")
    )
    added = yaml.safe_load((settings.BASE_DIR / "deploy" / "outside.yml").read_text(encoding="utf-8"))
    jsonschema.Draft201909Validator(schema).validate(added)
    shut_in = {name for name in (*SITE, *COMPUTES) if "outside" not in SERVICES[name]["networks"]}
    assert added == {"services": {name: {"networks": ["outside"]} for name in shut_in}}  # and the rest stays
    assert COMPOSE["networks"]["outside"] == {}
    assert "--file docker-compose.yml --file deploy/outside.yml up" in " ".join(DOCUMENTED.split())


def test_in_a_cluster_they_are_reached_by_the_lines_that_are_given():
    """Without the comment signs they belong to the workers' policy, and are valid."""
    text = (settings.BASE_DIR / "deploy" / "kubernetes" / "70-network.yaml").read_text(encoding="utf-8")
    in_use = re.sub(r"^(    )# (?=- to:|    |  ports:)", r"\1", text, flags=re.M)
    policies = {manifest["metadata"]["name"]: manifest for manifest in yaml.safe_load_all(in_use)}
    before = {manifest["metadata"]["name"]: manifest for manifest in yaml.safe_load_all(text)}
    *others, own = policies["workers"]["spec"]["egress"]
    assert others == before["workers"]["spec"]["egress"]
    assert own["to"] == [{"ipBlock": {"cidr": "10.20.0.0/16"}}]
    assert [port["port"] for port in own["ports"]] == [5432, 6379, 443]
    kubernetes_validate.validate(policies["workers"], KUBERNETES, strict=True)
    assert "70-network.yaml" in DOCUMENTED


def test_the_english_library_is_loaded_by_a_container_that_can_fetch_it():
    told = " ".join(DOCUMENTED.replace("\\\n", "").split())
    assert "--file deploy/outside.yml run --rm worker-compose sh -c 'python -m demo.english.base" in told


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_read_only_without_rights_limited_and_asked_whether_it_is_well(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("cap_add", []) == (["NET_BIND_SERVICE"] if name == "proxy" else [])
    assert service["pids_limit"] == 1024
    assert {"cpus", "memory"} <= service["deploy"]["resources"]["limits"].keys()
    assert "healthcheck" in service
    assert "user" in service or service["build"]["target"] in ("web", "worker")  # whose image names one
    assert not str(service.get("user", "")).startswith(("root", "0"))


def test_both_images_end_as_an_account_without_rights():
    dockerfile = (settings.BASE_DIR / "Dockerfile").read_text(encoding="utf-8")
    for stage in re.split(r"^FROM ", dockerfile, flags=re.M)[1:]:
        assert re.findall(r"^USER (\w+)$", stage, flags=re.M)[-1] == "hub"


def test_no_part_of_the_site_shares_a_folder_with_another_one():
    for name in (*SITE, *COMPUTES):
        assert SERVICES[name]["volumes"] == ["/data"]
        assert SERVICES[name]["environment"]["HUB_STORE"] == "s3"


def container_of(manifest: dict[str, Any]) -> dict[str, Any]:
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    return dict(container)


@pytest.mark.parametrize("name", WITH_PODS)
def test_every_pod_meets_the_restricted_standard_and_has_limits(name):
    pod = WITH_PODS[name]["spec"]["template"]["spec"]
    container = container_of(WITH_PODS[name])
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
    if WITH_PODS[name]["kind"] != "Job":
        assert "readinessProbe" in container


@pytest.mark.parametrize("name", [name for name in (*SITE, *COMPUTES) if name != "prepare"])
def test_each_role_is_asked_by_http_whether_it_lives_and_whether_it_is_ready(name):
    service, container = SERVICES[name], container_of(WITH_PODS[name])
    port = 8000 if name == "web" else int(service["environment"]["HUB_HEALTH_ADDRESS"].rpartition(":")[2])
    assert f"http://localhost:{port}/health/ready" in service["healthcheck"]["test"][-1]
    (opened,) = container["ports"]
    assert opened == {"name": "web" if name == "web" else "health", "containerPort": port}
    for probe, path in (("livenessProbe", "live"), ("readinessProbe", "ready"), ("startupProbe", "live")):
        assert container[probe]["httpGet"] == {"path": f"/health/{path}", "port": opened["name"]}
    (config,) = [manifest["data"] for manifest in MANIFESTS if manifest["kind"] == "ConfigMap"]
    for given in (service["environment"], config):
        assert given["HUB_HEALTH_ADDRESS"] == "0.0.0.0:9100"  # which a probe and Prometheus reach
        assert {"HUB_LOG_FORMAT", "HUB_METRICS_TOKEN_FILE"} <= given.keys()


def test_prometheus_asks_every_process_by_itself():
    (job,) = PROMETHEUS["prometheus"]["scrape_configs"]
    asked = {(name, source["port"]) for source in job["dns_sd_configs"] for name in source["names"]}
    expected = {(name, 8000 if name == "web" else 9100) for name in (*SITE, *COMPUTES) if name != "prepare"}
    assert asked == expected
    prometheus = SERVICES["prometheus"]
    assert job["authorization"]["credentials_file"] == "/run/secrets/metrics_token"
    assert prometheus["secrets"] == ["metrics_token"]
    for name, _ in asked:
        assert set(prometheus["networks"]) & set(SERVICES[name]["networks"])
    (job,) = PROMETHEUS["prometheus-kubernetes"]["scrape_configs"]
    kept = next(rule for rule in job["relabel_configs"] if rule.get("action") == "keep")
    opened = [
        port["name"]
        for pod in WITH_PODS.values()
        for port in container_of(pod).get("ports", [])
        if "name" in port
    ]
    assert set(opened) == set(kept["regex"].split("|"))
    (policy,) = [m for m in MANIFESTS if m["kind"] == "NetworkPolicy" and m["metadata"]["name"] == "workers"]
    assert policy["spec"]["ingress"][0]["ports"] == [{"port": 9100}]


def test_an_alarm_counts_what_is_in_the_database_once_however_many_web_processes_tell_it(db):
    in_database = {"lora_hub_job_ends_total"} | {
        sample.name
        for metric in site_metrics.row_metrics()
        for sample in (*metric.samples, Sample(metric.name, {}, 0.0))
    }
    of_each = {"lora_hub_disk_free_bytes", "lora_hub_disk_spare_bytes", "lora_hub_requests_total"}
    rules = [rule for group in PROMETHEUS["alerts"]["groups"] for rule in group["rules"]]
    named = {name for rule in rules for name in re.findall(r"lora_hub_\w+", rule["expr"])}
    assert named <= in_database | of_each | {"lora_hub_database_up"}
    for rule in rules:
        for name in in_database & set(re.findall(r"lora_hub_\w+", rule["expr"])):
            assert re.search(rf"max by \([\w, ]+\) \((increase\()?{name}\b", rule["expr"]), rule


def test_secrets_come_by_file_alone():
    files = [settings.BASE_DIR / "docker-compose.yml", *(settings.BASE_DIR / "deploy").rglob("*.yaml")]
    text = "".join(path.read_text(encoding="utf-8") for path in files)
    for name in (
        "HUB_SECRET_KEY",
        "DATABASE_PASSWORD",
        "CELERY_BROKER_PASSWORD",
        "HUB_STORE_SECRET",
        "HUB_METRICS_TOKEN",
    ):
        assert not re.findall(rf"{name}:|name: {name}$", text, flags=re.M)
        assert f"{name}_FILE: /run/secrets/" in text
    assert not [m for m in MANIFESTS if m["kind"] == "Secret"]


def test_every_setting_that_they_name_is_one_of_the_site():
    named: set[str] = set()
    for service in SERVICES.values():
        named |= service.get("environment", {}).keys()
    for manifest in MANIFESTS:
        named |= manifest.get("data", {}).keys()
    for manifest in WITH_PODS.values():
        named |= {row["name"] for row in container_of(manifest).get("env", [])}
    of_others = {"FORWARDED_ALLOW_IPS", "TMPDIR", "SITE_ADDRESS", "POSTGRES_USER"}
    of_others |= {"POSTGRES_DB", "POSTGRES_PASSWORD_FILE"}
    settings_of_ours = {name.removesuffix("_FILE") for name in named - of_others}
    assert settings_of_ours <= set(re.findall(r"^\| `([A-Z_]+)`", DOCUMENTED, re.MULTILINE))
