"""Where a base model and a module come from: folders, and a real Hub over HTTP."""

import json
import re
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest

from composer.__main__ import main
from composer.core.modules.sources import as_folder, base_source, module_source
from composer.core.spec.errors import SourceError
from tests.composer.core.tiny import make_job

COMMIT = "c" * 40


class TinyHub(BaseHTTPRequestHandler):
    """The two answers that a download needs: what is in a repository, and a file of it."""

    repositories: dict[str, dict[str, bytes]] = {}
    asked: list[str] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        parts = self.path.split("?")[0].strip("/").split("/")
        if parts[:2] == ["api", "models"]:
            self.describe("/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main", parts[4:5])
        elif len(parts) > 4 and parts[2] == "resolve":
            self.hand_out("/".join(parts[:2]), "/".join(parts[4:]))
        else:
            self.refuse("EntryNotFound")

    def do_HEAD(self) -> None:
        self.do_GET()

    def describe(self, repository: str, revision: str, what: list[str]) -> None:
        files = self.repositories.get(repository)
        if files is None:
            self.refuse("RepoNotFound")
        elif revision not in ("main", "v1", COMMIT):
            self.refuse("RevisionNotFound")
        elif what == ["tree"]:
            tree = [
                {"type": "file", "path": name, "oid": "0" * 40, "size": len(content)}
                for name, content in files.items()
            ]
            self.answer(json.dumps(tree).encode())
        else:
            siblings = [{"rfilename": name} for name in files]
            self.answer(json.dumps({"id": repository, "sha": COMMIT, "siblings": siblings}).encode())

    def hand_out(self, repository: str, name: str) -> None:
        content = self.repositories[repository].get(name)
        if content is None:
            self.refuse("EntryNotFound")
        else:
            self.answer(content, ETag=f'"{hash(content)}"')

    def answer(self, content: bytes, **headers: str) -> None:
        self.send_response(200)
        for name, value in {"X-Repo-Commit": COMMIT, "Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing in the tests' output."""


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Iterator[type[TinyHub]]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), TinyHub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    TinyHub.repositories, TinyHub.asked = {}, []
    yield TinyHub
    server.shutdown()
    server.server_close()


def published(hub, name, folder) -> None:
    hub.repositories[name] = {path.name: path.read_bytes() for path in folder.iterdir()}


def test_base_modules_and_adapter_may_come_from_a_hub(tmp_path, hub, capsys):
    job = make_job(tmp_path / "job")
    published(hub, "tiny/t5", job / "base")
    for i in range(2):
        published(hub, f"alice/m{i}", job / f"modules/{i}")
    hub.repositories["alice/m0"]["adapter_model.bin"] = b"a pickle"
    hub.repositories["alice/m0"]["onnx/adapter_model.safetensors"] = b"something else"
    out = tmp_path / "out"
    asked = ["compose", "--base", "tiny/t5", "--modules", "alice/m0@v1", "alice/m1"]
    asked += ["--examples", str(job / "examples.jsonl"), "--search", "greedy", "--baselines", "none"]
    asked += ["--rank", "full"]
    assert main([*asked, "--out", str(out)]) == 0
    report = json.loads((out / "report.json").read_text())
    assert [(row["name"], row["revision"]) for row in report["modules"]] == [
        ("alice/m0", COMMIT),
        ("alice/m1", COMMIT),
    ]
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == "tiny/t5"
    assert not [path for path in hub.asked if ".bin" in path or "onnx" in path]
    scored = ["evaluate", "--base", "tiny/t5", "--adapter", "alice/m1"]
    fetched = capsys.readouterr().err.splitlines()[:3]
    assert fetched == ["Fetching tiny/t5", "Fetching alice/m0", "Fetching alice/m1"]
    assert main([*scored, "--examples", str(job / "held_out.jsonl")]) == 0
    assert json.loads(capsys.readouterr().out)["n"] == 3


def test_a_folder_that_is_there_is_taken_and_a_revision_means_a_repository(tmp_path, monkeypatch, hub):
    monkeypatch.chdir(tmp_path)
    for name in ("french", "alice/french"):
        (tmp_path / name).mkdir(parents=True)
    for written in ("french", "./french", str(tmp_path / "french"), "alice/french", "alice/../french"):
        assert as_folder(written) is not None, written
    for named in ("french@main", "alice/french@main", "bob/french", "german"):
        assert as_folder(named) is None, named
    with pytest.raises(SourceError, match=r"french holds no config\.json"):
        base_source("french")


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("./nowhere", "There is no folder"),
        ("/nowhere/at/all", "There is no folder"),
        ("alice/nothing", "There is no repository"),
        ("alice/pickled", "is a pickle, which can run code"),
        ("alice/pickled@v9", "has no revision v9"),
        ("a b", "neither a folder nor the name"),
        ("", "neither a folder nor the name"),
        ("alice/../../etc", "neither a folder nor the name"),
        ("alice/m@", "neither a folder nor the name"),
        ("https://example.org/x", "neither a folder nor the name"),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_sentence(hub, reference, told):
    hub.repositories["alice/pickled"] = {"adapter_config.json": b"{}", "adapter_model.bin": b"x"}
    with pytest.raises(SourceError, match=told) as refusal:
        module_source(reference)
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:9", "no address", "127.0.0.1:9", "http://", "ftp://x"]
)
def test_a_hub_that_is_away_or_none_at_all_is_told_so(hub, monkeypatch, endpoint):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(SourceError, match=re.escape(endpoint)) as refusal:
        module_source("alice/french")
    assert len(str(refusal.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        (None, "There is no repository saved"),
        ("http://127.0.0.1:9", "cannot be reached"),
        ("ftp://x", "ftp://x"),
    ],
)
def test_what_a_hub_says_is_told_without_the_traces_of_its_client(hub, monkeypatch, endpoint, told):
    if endpoint:
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
    with pytest.raises(SourceError, match=told) as refusal:
        module_source("saved")
    is_foreseen = endpoint != "ftp://x"
    traces = "".join(traceback.format_exception(refusal.value)).count("Traceback")
    assert (traces == 1) == is_foreseen  # without those of httpx


def test_what_is_wrong_with_the_options_is_told_before_anything_is_fetched(tmp_path, hub, capsys):
    job = make_job(tmp_path / "job")
    published(hub, "tiny/t5", job / "base")
    asked = ["compose", "--base", "tiny/t5", "--modules", "alice/m0", "--budget", "0"]
    assert main([*asked, "--examples", str(job / "examples.jsonl"), "--out", str(tmp_path / "out")]) == 2
    assert "budget" in capsys.readouterr().err
    assert not hub.asked


def test_a_download_draws_nothing_unless_it_is_asked_to(tmp_path, hub, capsys):
    published(hub, "tiny/t5", make_job(tmp_path / "job") / "base")
    base_source("tiny/t5")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (["checkpoint-100/adapter_model.safetensors", "checkpoint-200/adapter_model.safetensors"],
         ["in the folder checkpoint-200 (of 2 folders", "Give that folder"]),
        (["style/adapter_model.safetensors"], ["in the folder style"]),
        (["adapters.safetensors", "adapter_config.json"], ["an MLX adapter", "transpose lora_a"]),
        (["adapter.zip"], ["an archive", "Unpack it, and give the folder"]),
        (["adapter_config.json", "adapter_model.bin"], ["a pickle", "python -c"]),
        (["adapter_config.json", "adapter_model-00001-of-00002.safetensors"], ["part 1 of 2", "python -c"]),
        (["adapter_model.safetensors"], ["has no adapter_config.json"]),
        (["notes.txt"], ["has no adapter_config.json", "has no adapter_model.safetensors"]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("way", ["folder", "hub"])
def test_what_is_no_module_names_what_it_is_and_the_way_out(tmp_path, hub, files, words, way):
    if way == "hub":
        hub.repositories["alice/none"] = dict.fromkeys(files, b"x")
    for name in files if way == "folder" else ():
        path = tmp_path / "none" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    with pytest.raises(SourceError) as refusal:
        module_source(str(tmp_path / "none") if way == "folder" else "alice/none")
    assert [word for word in words if word not in str(refusal.value)] == []
    assert "upload" not in str(refusal.value)
