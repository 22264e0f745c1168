"""./hub, the script: what it says, and how it makes its environment."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from django.conf import settings

COMMANDS = (
    *(
        "up",
        "down",
        "status",
        "install",
        "test",
        "check",
        "manage",
        "compose",
        "screenshots",
        "help-pictures",
        "demo",
    ),
    *("backup", "restore", "doctor"),
)


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A copy of the script beside requirements that need no network."""
    shutil.copy(settings.BASE_DIR / "hub", tmp_path / "hub")
    for name in ("requirements.txt", "constraints.txt", "pyproject.toml"):
        (tmp_path / name).write_text("# nothing to install\n")
    return tmp_path


def hub(folder: Path, *words: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [folder / "hub", *words],
        env=os.environ | environment,
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def fake_python(folder: Path, program: str) -> str:
    path = folder / "some-python"
    path.write_text(f"#!/bin/sh\n{program}\n")
    path.chmod(0o755)
    return str(path)


def test_alone_it_lists_its_commands_with_a_line_each(checkout):
    listed = hub(checkout)
    assert listed.returncode == 0
    lines = listed.stdout.splitlines()
    assert [line.split()[1] for line in lines] == list(dict.fromkeys(line.split()[1] for line in lines))
    assert {line.split()[1] for line in lines} == set(COMMANDS)


def test_an_unknown_command_is_named(checkout):
    refused = hub(checkout, "fly")
    assert refused.returncode == 1
    assert "“fly”" in refused.stderr
    assert "./hub up" in refused.stderr


@pytest.mark.parametrize(
    ("words", "passed_on"),
    [
        (["--base", "b"], "compose --base b"),
        (["evaluate", "--base", "b"], "evaluate --base b"),
        (["methods"], "methods"),
        ([], "compose"),
    ],
)
def test_composing_scoring_and_the_methods_are_reached_without_a_server(checkout, words, passed_on):
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    shutil.move(fake_python(checkout, 'echo "$@"'), python)
    ran = hub(checkout, "compose", *words)
    assert ran.stdout.splitlines()[-1] == f"-m composer {passed_on}"


def test_the_english_library_is_made_and_then_loaded(checkout):
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    shutil.move(fake_python(checkout, 'echo "$@"'), python)
    ran = hub(checkout, "demo", "english").stdout.splitlines()[-2:]
    loads = f"-m hub_site.embedded run -- {python} {checkout}/manage.py prepare --world english"
    assert ran == ["-m demo.english.base", loads]


def test_without_its_base_model_the_english_library_is_not_loaded(checkout):
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    shutil.move(fake_python(checkout, 'echo "$@"; [ "$2" != demo.english.base ]'), python)
    ran = hub(checkout, "demo", "english")
    assert ran.returncode == 1
    assert "prepare" not in ran.stdout


@pytest.mark.parametrize("words", [[], ["german"], ["english", "again"]])
def test_another_library_is_refused_with_the_one_there_is(checkout, words):
    refused = hub(checkout, "demo", *words)
    assert refused.returncode == 1
    assert "./hub demo english" in refused.stderr


def test_every_test_runs_once_and_those_that_only_compute_side_by_side(checkout):
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    shutil.move(fake_python(checkout, 'echo "$@"; case $* in *"not slow"*) exit 1;; esac'), python)
    ran = hub(checkout, "test")
    quick, computing, rest = ran.stdout.splitlines()[-3:]
    assert quick.startswith("-m hub_site.embedded test -- -m not slow and not browser and not long --num")
    assert computing.startswith("-m hub_site.embedded test -- -m slow --num")
    folders = [word for word in computing.split() if word.startswith("tests/")]
    assert rest.split() == [
        *["-m", "hub_site.embedded", "test", "--", "-m", "slow", "or", "browser", "--durations", "40"],
        *(f"--ignore={folder}" for folder in folders),
    ]
    assert all((settings.BASE_DIR / folder).is_dir() for folder in folders)
    assert ran.returncode == 1  # the quick ones failed


def test_it_is_plain_posix_shell():
    shell = shutil.which("dash") or "/bin/sh"
    subprocess.run([shell, "-n", settings.BASE_DIR / "hub"], check=True)


def test_a_python_that_is_too_old_is_explained(checkout):
    refused = hub(checkout, "install", HUB_PYTHON=fake_python(checkout, "exit 1"))
    assert refused.returncode == 1
    assert "needs Python 3.11 or newer" in refused.stderr
    assert "HUB_PYTHON=" in refused.stderr


def test_a_python_without_venv_is_explained(checkout):
    without = fake_python(checkout, "case $2 in *venv*) exit 1;; esac")
    refused = hub(checkout, "install", HUB_PYTHON=without)
    assert refused.returncode == 1
    assert "without its venv module" in refused.stderr
    assert "apt-get install python3-venv" in refused.stderr


@pytest.mark.slow
def test_it_installs_once_and_again_only_when_what_it_needs_has_changed(checkout):
    assert "Installed." in hub(checkout, "install").stdout
    assert hub(checkout, "install").stdout == ""
    (checkout / "constraints.txt").write_text("# another version\n")
    assert "Installed." in hub(checkout, "install").stdout


@pytest.mark.slow
def test_pips_own_settings_decide_where_packages_come_from(checkout):
    (checkout / "requirements.txt").write_text("a-package-that-is-nowhere==1\n")
    nowhere = (checkout / "no packages").as_uri()
    failed = hub(checkout, "install", PIP_NO_INDEX="1", PIP_FIND_LINKS=nowhere, PIP_RETRIES="0")
    assert failed.returncode == 1
    assert "pip could not install everything" in failed.stderr
    assert "Installed." not in hub(checkout, "install", PIP_NO_INDEX="1", PIP_FIND_LINKS=nowhere).stdout
