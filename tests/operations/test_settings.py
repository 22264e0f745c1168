"""Settings fail loudly, and each one is explained where an operator looks."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from hub_site.embedded.environment import read_or_make_secrets, site_environment
from hub_site.embedded.folders import DataFolder
from hub_site.settings import env
from hub_site.settings.env import SettingError

DOCUMENTED = (settings.BASE_DIR / "docs" / "operating.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("reader", "value", "complaint"),
    [
        (lambda: env.env_str("X"), "", "X is not set"),
        (lambda: env.env_bool("X", True), "maybe", "not yes or no"),
        (lambda: env.env_int("X", 3), "three", "not a whole number"),
        (lambda: env.env_int("X", 3, most=5), "6", "between 0 and 5"),
        (lambda: env.env_choice("X", "disk", ("disk",)), "tape", "it can be disk"),
        (lambda: env.env_path("X", Path("/srv")), "var/hub", "not a full path"),
        (lambda: env.env_secret("X"), "short", "shorter than 32"),
        (lambda: env.env_database("X", pool_size=0), "mysql://host/db", "must begin with postgresql://"),
        (lambda: env.env_database("X", pool_size=0), "postgresql://host", "names no database"),
        (lambda: env.env_database("X", pool_size=0), "postgresql://host:port/db", "is not a URL"),
        (lambda: env.env_email("X"), "smtp://", "names no mail server"),
    ],
)
def test_a_wrong_value_is_named_explained_and_answered_with_an_example(reader, value, complaint, monkeypatch):
    monkeypatch.setenv("X", value)
    with pytest.raises(SettingError) as refusal:
        reader()
    assert complaint in str(refusal.value)
    assert re.search(r"Example: X=\S+", str(refusal.value))


def test_a_password_in_a_wrong_url_stays_out_of_the_message(monkeypatch):
    monkeypatch.setenv("X", "mysql://hub:secret-word@host/db")
    with pytest.raises(SettingError) as refusal:
        env.env_database("X", pool_size=0)
    assert "secret-word" not in str(refusal.value)


def test_a_database_url_may_name_a_socket_folder(monkeypatch):
    monkeypatch.setenv("X", "postgresql://hub@/hub?host=%2Fsrv%2Fa%20b%2Fsocket&sslmode=disable")
    database = env.env_database("X", pool_size=7)
    assert database["HOST"] == "/srv/a b/socket"
    assert (database["NAME"], database["USER"]) == ("hub", "hub")
    assert database["OPTIONS"]["sslmode"] == "disable"
    assert database["OPTIONS"]["pool"]["max_size"] == 7
    assert database["CONN_MAX_AGE"] == 0  # Django refuses a pool beside lasting connections


def test_a_mail_url_chooses_encryption_and_port(monkeypatch):
    monkeypatch.setenv("X", "smtps://me:p%40ss@mail.example.org")
    mail = env.env_email("X")
    assert (mail["EMAIL_PORT"], mail["EMAIL_USE_SSL"], mail["EMAIL_USE_TLS"]) == (465, True, False)
    assert mail["EMAIL_HOST_PASSWORD"] == "p@ss"
    monkeypatch.delenv("X")
    assert env.env_email("X") is None


def test_any_setting_can_be_given_by_a_file(tmp_path, monkeypatch):
    (tmp_path / "secret").write_text("k" * 40 + "\n")
    monkeypatch.delenv("X", raising=False)
    monkeypatch.setenv("X_FILE", str(tmp_path / "secret"))
    assert env.env_secret("X") == "k" * 40
    monkeypatch.setenv("X", "of the environment, which is longer than a file")
    assert env.env_secret("X").startswith("of the environment")
    monkeypatch.delenv("X")
    monkeypatch.setenv("X_FILE", str(tmp_path / "none"))
    with pytest.raises(SettingError, match=r"X_FILE names .*none, which cannot be read \(No such file"):
        env.env_secret("X")


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://valkey:6379/0", "redis://:p%40ss%2Fword@valkey:6379/0"),
        ("redis://hub@valkey:6379/0", "redis://hub:p%40ss%2Fword@valkey:6379/0"),
        ("redis://:other@valkey:6379/0", "redis://:other@valkey:6379/0"),
        ("redis+socket:///run/valkey.sock", "redis+socket:///run/valkey.sock"),
        ("memory://", "memory://"),
    ],
)
def test_a_password_of_its_own_joins_a_url_without_one(monkeypatch, url, expected):
    monkeypatch.setenv("X", url)
    monkeypatch.setenv("CELERY_BROKER_PASSWORD", "p@ss/word")
    assert env.env_broker("X") == expected


def test_the_password_of_the_database_may_come_apart(monkeypatch):
    monkeypatch.setenv("X", "postgresql://hub@db:5432/hub?sslmode=verify-full")
    monkeypatch.setenv("DATABASE_PASSWORD", "p@ss/word")
    database = env.env_database("X", pool_size=0)
    assert (database["USER"], database["PASSWORD"], database["HOST"]) == ("hub", "p@ss/word", "db")
    assert database["OPTIONS"]["sslmode"] == "verify-full"


def test_a_database_over_a_network_is_given_up_in_time_by_both_ends(monkeypatch):
    monkeypatch.setenv("X", "postgresql://hub@db/hub?connect_timeout=3&options=-c%20tcp_user_timeout%3D9")
    options = env.env_database("X", pool_size=0)["OPTIONS"]
    assert options["connect_timeout"] == "3"  # what the URL says wins
    assert (options["keepalives_idle"], options["tcp_user_timeout"]) == ("30", "30000")
    ours, theirs = options["options"].index("tcp_user_timeout=30000"), options["options"].index("=9")
    assert ours < theirs  # of two the last one holds
    monkeypatch.setenv("X", "postgresql://hub@/hub?host=%2Frun%2Fpostgresql")
    options = env.env_database("X", pool_size=0)["OPTIONS"]
    assert "tcp" not in options["options"]
    assert "connect_timeout" not in options


def test_a_bucket_is_described_by_its_settings_and_half_a_key_is_refused(monkeypatch):
    monkeypatch.setenv("X_BUCKET", "lora-hub")
    expected = {"bucket": "lora-hub", "endpoint": None, "public_endpoint": None, "region": "us-east-1"}
    assert env.env_object_store("X") == expected | {"key": None, "secret": None}
    monkeypatch.setenv("X_ENDPOINT", "http://storage:8333/")
    assert env.env_object_store("X")["endpoint"] == "http://storage:8333"
    monkeypatch.setenv("X_KEY", "hub")
    with pytest.raises(SettingError, match="X_SECRET is not set"):
        env.env_object_store("X")
    monkeypatch.setenv("X_SECRET", "secret-word")
    monkeypatch.setenv("X_ENDPOINT", "storage:8333")
    with pytest.raises(SettingError, match="X_ENDPOINT must begin with http://") as refusal:
        env.env_object_store("X")
    assert "secret-word" not in str(refusal.value)


def manage(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return python("manage.py", *arguments, **environment)


def python(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    basics = {"DATABASE_URL": "postgresql://hub@localhost/hub", "CELERY_BROKER_URL": "redis://localhost"}
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=settings.BASE_DIR,
        env={"PATH": os.environ["PATH"], **basics, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_production_has_no_default_secret():
    done = manage("check")
    assert done.returncode == 2
    assert "HUB_SECRET_KEY is not set" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("url", "is_safe"), [("https://hub.example.org", True), ("http://127.0.0.1:8000", False)]
)
def test_cookies_are_kept_to_https_exactly_where_the_site_is_served_by_it(url, is_safe):
    show = "import hub_site.settings.prod as s; print(s.SESSION_COOKIE_SECURE, s.SECURE_SSL_REDIRECT)"
    done = python("-c", show, HUB_SECRET_KEY="k" * 40, HUB_PUBLIC_URL=url)
    assert done.stdout.strip() == f"{is_safe} {is_safe}", done.stderr


@pytest.mark.slow  # a process of its own imports the whole site; ./hub check runs the same check
def test_the_settings_of_a_site_served_by_https_pass_djangos_deployment_checks():
    done = manage(
        *("check", "--deploy", "--fail-level", "WARNING"),
        HUB_SECRET_KEY="aB3-xyz7" * 8,
        HUB_PUBLIC_URL="https://hub.example.org",
    )
    assert done.returncode == 0, done.stderr


def test_the_site_never_reads_the_hub_clients_variables():
    done = manage("check", HUB_SECRET_KEY="k" * 40, HF_ENDPOINT="http://127.0.0.1:1", HF_TOKEN="hf_x")
    assert done.returncode == 0, done.stderr
    read = [path for path in sources() if re.search(r"environ.{0,12}HF_", path.read_text(encoding="utf-8"))]
    # the command line fetches for whoever calls it, from the Hub that their client is set to; snippets are
    # text that people copy into programs of their own
    allowed = ("composer/core/modules/sources.py", "modules_registry/snippets.py")
    assert set(read) == {settings.BASE_DIR / path for path in allowed}


def sources() -> list[Path]:
    folders = ("hub_site", "modules_registry", "composer")
    return [path for folder in folders for path in (settings.BASE_DIR / folder).rglob("*.py")]


def test_every_setting_is_documented_in_one_table():
    names = set()
    for path in sources():
        names |= set(
            re.findall(
                r"\"((?:HUB_[A-Z_]+)|(?:DATABASE|CELERY_BROKER)_(?:URL|PASSWORD))\"", path.read_text("utf-8")
            )
        )
    # From the supervisor to its children; and any NAME may be a NAME_FILE.
    internal = {"HUB_READY_FILE", "HUB_QUEUE", "HUB_SECRET_KEY_FILE"}
    assert names - internal - set(re.findall(r"^\| `([A-Z_]+)`", DOCUMENTED, re.MULTILINE)) == set()


def test_an_empty_variable_of_the_caller_is_as_good_as_none(tmp_path, monkeypatch):
    folder = DataFolder(tmp_path)
    made = read_or_make_secrets(folder)["HUB_SECRET_KEY"]
    monkeypatch.setenv("HUB_SECRET_KEY", " ")
    assert site_environment(folder, {}, "hub_site.settings.prod")["HUB_SECRET_KEY"] == made
