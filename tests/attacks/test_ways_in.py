"""Every hostile folder through every way in: its status and code, quickly, and nothing is left behind.

The folders are those of gate_cases.py, and pickled checkpoints; the ways are the API, a Hub client's commit,
an import from another Hub, and the gate's own command. In the usual run only some go through.
"""

import base64
import json
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.conf import settings as site_settings
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.test import Client

from hub_site.accounts.models import User
from hub_site.accounts.services import token_create
from modules_registry.base_models import base_model_add
from modules_registry.blobs import store
from modules_registry.core.errors import CONFIG_FILE, LEGACY_FILE, WEIGHTS_FILE
from modules_registry.core.gate.__main__ import check_folder, main
from modules_registry.files.conversion import launcher, stop_launcher
from modules_registry.importing import runner
from modules_registry.importing.models import ImportItem
from modules_registry.importing.services import import_request
from tests.attacks.adapters import BASE_SHAPES, D_IN, PLAIN_CONFIG, config, tensor, weights
from tests.attacks.gate_cases import HOSTILE
from tests.modules_registry.importing.checkpoints import attacks
from tests.modules_registry.importing.source_server import small_hub

SLOWEST_S = 5.0  # of computing
# A Hub client is told in its own terms where to write the base's name.
ABOUT_THE_BASE, NAMES_NO_MODEL = ("base_missing", "base_not_a_name"), "names no model on the Hub"
USUAL = 40  # every so manieth folder goes through in the usual run

# By name: the files of a folder, the code of its refusal, and whether its base is in the library.
Folder = tuple[dict[str, bytes], str, bool]
OF_FILES: dict[str, Folder] = {
    case.name: ({CONFIG_FILE: case.config, WEIGHTS_FILE: case.weights}, case.code, case.base_known)
    for case in HOSTILE
    if case.base_weights is None  # a copy of a base's own weights: test_gate.py has it
}
PICKLED: dict[str, Folder] = {
    f"checkpoint: {name}": ({CONFIG_FILE: config(), LEGACY_FILE: data}, code, False)
    for name, (data, code) in attacks().items()
}
ALL = OF_FILES | PICKLED


# The API converts a checkpoint, as the form does, and says what hinders that.
BY_CONVERSION = {
    "weights: raw pickle": "checkpoint_not_torch",
    "weights: raw pickle 3": "checkpoint_not_torch",
    "weights: raw pickle 4": "checkpoint_not_plain",
    "weights: zipped pickle": "checkpoint_truncated",
}
# What an import does not fetch at all, its size being told.
TOO_LARGE_TO_FETCH = {"config: 1 MB and more": "source_too_large"}
# An empty file is none: the form asks for it before the gate looks.
EMPTY = {name: "invalid" for name, (files, _, _) in OF_FILES.items() if b"" in files.values()}


def some(folders: dict[str, Folder], part: str) -> dict[str, Folder]:
    return folders if part == "all" else dict(list(folders.items())[::USUAL])


WITH_TIME = [pytest.mark.slow, pytest.mark.timeout(1200)]
some_or_all = pytest.mark.parametrize("part", ["some", pytest.param("all", marks=WITH_TIME)])


@pytest.fixture(scope="session")
def base_folder(tmp_path_factory) -> Path:
    """The base model of the corpus, as transformers writes it."""
    folder = tmp_path_factory.mktemp("base")
    described = {
        "architectures": ["T5ForConditionalGeneration"],
        "model_type": "t5",
        "is_encoder_decoder": True,
    }
    tensors = {f"{path}.weight": tensor(*shape) for path, shape in BASE_SHAPES.items()}
    (folder / "config.json").write_text(json.dumps(described | {"d_model": D_IN}))
    (folder / "model.safetensors").write_bytes(weights(tensors | {"shared.weight": tensor(32, D_IN)}))
    (folder / "tokenizer.json").write_text("{}")
    return folder


@pytest.fixture
def program(alice) -> Client:
    _, token = token_create(user=alice, label="test", scope="write")
    return Client(raise_request_exception=False, headers={"Authorization": f"Bearer {token}"})


@pytest.fixture(autouse=True)
def end_conversions() -> Iterator[None]:
    yield
    stop_launcher()


def what_is_there() -> dict[str, object]:
    """The stored files, the files in work, the rows of every table, and the processes."""
    data = Path(site_settings.HUB_DATA)
    tables = [name for name in connection.introspection.table_names() if name != "django_session"]
    count = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name}" for name in sorted(tables))
    with connection.cursor() as cursor:
        cursor.execute(count)
        rows = dict(cursor.fetchall())
    known = launcher().process.pid if launcher().process else None
    return {
        "stored": {blob.sha256 for blob in store().iter()},
        "in work": sorted(
            str(path) for name in ("uploads", "imports", "jobs") for path in data.glob(f"{name}/*")
        ),
        "rows": {name: number for name, number in rows.items() if number},
        "processes": {child.pid for child in psutil.Process().children()} - {known},
    }


def wrong_answers(folders: dict[str, Folder], answer) -> dict[str, object]:
    """The folders whose answer is not their code, or came too late, or left something behind."""
    wrong: dict[str, object] = {}
    before = what_is_there()
    for name, (files, code, _) in folders.items():
        begin = time.process_time()
        said = answer(files)
        taken_s = time.process_time() - begin
        if said != code or taken_s > SLOWEST_S:
            wrong[name] = (said, code, taken_s)
        if (after := what_is_there()) != before:
            wrong[name] = {
                part: (before[part], after[part]) for part in before if before[part] != after[part]
            }
            before = after
    return wrong


@pytest.fixture
def add_base(base_folder):
    def add() -> None:
        base_model_add(folder=base_folder, name=str(PLAIN_CONFIG["base_model_name_or_path"]), licence="mit")

    return add


def in_both_libraries(folders: dict[str, Folder], add_base, answer) -> dict[str, object]:
    """First those whose base nobody has, then the others, with the base."""
    wrong = wrong_answers({name: folder for name, folder in folders.items() if not folder[2]}, answer)
    add_base()
    return wrong | wrong_answers({name: folder for name, folder in folders.items() if folder[2]}, answer)


@some_or_all
def test_the_api_refuses_each_with_400_and_its_code(program, add_base, part):
    def answer(files: dict[str, bytes]) -> str:
        config_file, weights_file = (SimpleUploadedFile(name, data) for name, data in files.items())
        said = {"name": "hostile", "sentence": "Harmless.", "licence": "mit"}
        sent = said | {"config_file": config_file, "weights_file": weights_file}
        response = program.post("/api/v1/modules", sent)
        return response.json()["error"]["code"] if response.status_code == 400 else str(response.status_code)

    otherwise = EMPTY | BY_CONVERSION
    folders = {
        name: (files, otherwise.get(name, code), known) for name, (files, code, known) in OF_FILES.items()
    }
    assert in_both_libraries(some(folders, part), add_base, answer) == {}


@some_or_all
def test_a_commit_of_each_is_refused_with_400_and_the_gate_s_sentence(
    program, alice, add_base, part, tmp_path
):
    def answer(files: dict[str, bytes]) -> str:
        lines = [{"key": "header", "value": {"summary": "Upload"}}] + [
            {
                "key": "file",
                "value": {"content": base64.b64encode(data).decode(), "path": path, "encoding": "base64"},
            }
            for path, data in files.items()
        ]
        body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        address = "/api/models/alice/hostile/commit/main"
        response = program.generic("POST", address, body, content_type="application/x-ndjson")
        said = response["X-Error-Message"] if response.status_code == 400 else str(response.status_code)
        found = {one["code"]: one["message"] for one in gate_says(files, tmp_path)["findings"]}
        for code, message in found.items():
            if message in said or (code in ABOUT_THE_BASE and NAMES_NO_MODEL in said):
                return code
            if (
                code == "weights_lfs_pointer" and "is a Git LFS pointer" in said
            ):  # said of any file of a commit
                return code
        return said

    program.post("/api/repos/create", {"name": "hostile"}, content_type="application/json")
    without_base = {name: folder for name, folder in OF_FILES.items() if not folder[2]}
    assert wrong_answers(some(without_base, part), answer) == {}


def gate_says(files: dict[str, bytes], folder: Path) -> dict:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return check_folder(folder)


@some_or_all
def test_the_gate_s_command_ends_with_1_and_prints_its_code(base_folder, tmp_path, capsys, db, part):
    def answer_with(*options: str):
        def answer(files: dict[str, bytes]) -> str:
            for name, data in files.items():
                (tmp_path / name).write_bytes(data)
            ended_with = main([str(tmp_path), *options])
            codes = json.loads(capsys.readouterr().out).get("codes", ["accepted"])
            return codes[0] if ended_with == 1 else "accepted"

        return answer

    folders = some(OF_FILES, part)
    known = {name: folder for name, folder in folders.items() if folder[2]}
    wrong = wrong_answers({name: folders[name] for name in folders.keys() - known.keys()}, answer_with())
    assert wrong | wrong_answers(known, answer_with("--base", str(base_folder))) == {}


@some_or_all
def test_an_import_refuses_each_with_its_code_or_repairs_it(settings, alice, part):
    """What is only written in another way is imported as it is meant, and says so."""
    folders = some({name: folder for name, folder in ALL.items() if not folder[2]}, part)
    folders |= {
        name: (files, TOO_LARGE_TO_FETCH.get(name, code), needs)
        for name, (files, code, needs) in folders.items()
    }
    repositories = {f"far/case-{number}": files for number, (files, _, _) in enumerate(folders.values())}
    with small_hub(repositories) as address:
        settings.HUB_IMPORT_ENDPOINT = address
        items = imported(alice, list(repositories))
    wrong = {}
    for (name, (_, code, _)), item in zip(folders.items(), items, strict=True):
        is_repaired = item.state == ImportItem.State.IMPORTED and item.version.repairs
        if not is_repaired and item.code != code:
            wrong[name] = (item.state, item.code, code)
    assert wrong == {}
    assert not list((Path(site_settings.HUB_DATA) / "imports").iterdir())


def imported(owner: User, sources: list[str]) -> list[ImportItem]:
    job = import_request(owner=owner, namespace=owner.namespace, sources=sources, enqueue=False)
    runner.import_run(job.pk)
    return list(job.items.select_related("version").order_by("position"))


def test_the_corpus_is_large():
    assert len(ALL) >= 250
