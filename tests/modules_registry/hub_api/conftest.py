"""A served site, the people's machines, and folders as peft leaves them."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from django.conf import settings as django_settings

from hub_site.accounts.models import User
from hub_site.accounts.services import token_create
from tests.factories import adapter_config, weights_file
from tests.served_site import HubCommandLine, ServedSite, served_site

OLD_CLIENT = "0.36.2"
TRL = ("trl==1.16.0", "datasets==5.2.0", "dill==0.4.1", "pyarrow==26.0.1")  # tried together
CARD = "---\nlibrary_name: peft\nlicense: mit\ntags:\n- french\n---\n# French\n\nTranslates words.\n"


@pytest.fixture(scope="session")
def web(django_db_setup, django_db_blocker) -> Iterator[ServedSite]:
    """One web server for all of these tests; each begins with an empty database."""
    with (
        tempfile.TemporaryDirectory(prefix="lora-hub-served-") as folder,
        django_db_blocker.unblock(),
        served_site(Path(folder)) as site,
    ):
        yield site


@pytest.fixture
def site(web: ServedSite, transactional_db, settings) -> ServedSite:
    settings.HUB_DATA = web.data
    settings.FILE_UPLOAD_TEMP_DIR = web.data / "uploads"
    return web


@pytest.fixture
def token_of() -> Callable[..., str]:
    return lambda user, scope="write": token_create(user=user, label="laptop", scope=scope)[1]


@pytest.fixture
def machine_of(site: ServedSite, tmp_path: Path, token_of) -> Callable[..., HubCommandLine]:
    """The current client on somebody's machine; nobody in particular without a user."""

    def machine(
        user: User | None = None, scope: str = "write", python: Path | str = sys.executable
    ) -> HubCommandLine:
        name = f"home-{user.username}-{scope}" if user else "home-of-a-stranger"
        return site.client(tmp_path / name, token=token_of(user, scope) if user else "", python=python)

    return machine


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What peft's save_pretrained() leaves."""
    return adapter_folder(tmp_path / "adapter")


def adapter_folder(folder: Path, *, seed: int = 0, card: str = CARD, **changes: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(adapter_config(**changes)), encoding="utf-8")
    (folder / "adapter_model.safetensors").write_bytes(weights_file(seed=seed).read())
    (folder / "README.md").write_text(card, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def old_python() -> Path:
    """A Python with an old major of the Hub's client, made once and kept under var/."""
    return environment_with(f"huggingface_hub[cli]=={OLD_CLIENT}")


@pytest.fixture(scope="session")
def trl_python() -> Path:
    """A Python with TRL on top of what runs the tests, made once and kept under var/."""
    return environment_with(*TRL, on_top_of=Path(sysconfig.get_path("purelib")))


def environment_with(*wanted: str, on_top_of: Path | None = None) -> Path:
    """The Python of an environment with these packages; `on_top_of`: the folder of packages it has besides.

    It is kept for the next run, by a name that says what is in it.
    """
    name = "-".join(requirement.replace("==", "-").replace("[cli]", "") for requirement in wanted)
    kept = django_settings.BASE_DIR / "var" / "test-clients" / name
    python, below = kept / "bin" / "python", kept / "on_top_of.txt"
    is_on_top = not on_top_of or (below.exists() and below.read_text() == str(on_top_of))
    if not (python.exists() and is_on_top):
        shutil.rmtree(kept, ignore_errors=True)
        make_environment(kept, wanted, on_top_of)
    return python


def make_environment(kept: Path, wanted: Sequence[str], on_top_of: Path | None) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(dir=kept.parent))
    try:
        venv.create(made, with_pip=True, symlinks=True)
        if on_top_of is not None:
            (packages,) = made.glob("lib/python*/site-packages")
            (packages / "on_top_of.pth").write_text(f"{on_top_of}\n")
            (made / "on_top_of.txt").write_text(str(on_top_of))
        command = [made / "bin" / "python", "-m", "pip", "install", "--quiet", *wanted]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
        if done.returncode:
            say = f"{', '.join(wanted)} could not be installed: {done.stderr[-300:]}"
            (pytest.fail if os.environ.get("CI") else pytest.skip)(say)
        if not kept.exists():
            made.rename(kept)
    finally:
        shutil.rmtree(made, ignore_errors=True)
