"""What clients send that is wrong, or meant to harm: a clean no, and nothing left behind."""

import base64
import hashlib
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from io import BytesIO
from urllib.parse import quote

import pytest
from django.core import signing
from django.db import connection
from django.test import Client
from django.utils.html import escape

from hub_site.accounts.services import token_create
from modules_registry.blobs import store
from modules_registry.core.adapter_file import read_header
from modules_registry.hub_api import lfs, ndjson
from modules_registry.hub_api.errors import MESSAGE_LENGTH_MAX, to_ascii
from modules_registry.hub_api.warnings import WarningResponse, warning_of
from modules_registry.maintenance import sweep_refused
from modules_registry.models import IncomingFile, Module, Version
from modules_registry.selectors import module_find
from modules_registry.services import module_edit
from modules_registry.storage import StorageFullError
from tests.factories import OTHER_FORMATS, adapter_tensors, config_file, make_module, weights_file

pytestmark = pytest.mark.django_db

CONFIG, WEIGHTS, CARD = "adapter_config.json", "adapter_model.safetensors", "README.md"


class Uploader:
    """Somebody with a token who speaks the protocol by hand."""

    def __init__(self, user, scope="write"):
        _, token = token_create(user=user, label="test", scope=scope)
        self.client = Client(raise_request_exception=False)
        self.headers = {"Authorization": f"Bearer {token}"}

    def send(self, method, path, value=None, *, data=None):
        body = data if data is not None else json.dumps(value or {})
        return self.client.generic(method, path, body, content_type="application/json", headers=self.headers)

    def create(self, name="french", **more):
        return self.send("POST", "/api/repos/create", {"name": name, **more})

    def commit(self, *lines, repo="alice/french", revision="main", **header):
        body = ndjson_of({"key": "header", "value": {"summary": "Upload", **header}}, *lines)
        return self.send("POST", f"/api/models/{repo}/commit/{revision}", data=body)

    def preupload(self, *paths, repo="alice/french", sample=""):
        files = [{"path": path, "size": 10, "sample": sample} for path in paths]
        return self.send("POST", f"/api/models/{repo}/preupload/main", {"files": files})


def ndjson_of(*lines):
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def file_line(path, data):
    value = {"content": base64.b64encode(data).decode(), "path": path, "encoding": "base64"}
    return {"key": "file", "value": value}


def adapter_lines(seed=0, **changes):
    return [
        file_line(CONFIG, config_file(**changes).read()),
        file_line(WEIGHTS, weights_file(seed=seed).read()),
    ]


def headers_of(response):
    return [value.partition("; ") for name, value in response.items() if name == "X-HF-Warning"]


def warnings_of(response):
    """The sentences that a client prints, each on a line of its own."""
    return [sentence for _, _, sentence in headers_of(response)]


def topics_of(response):
    return [topic for topic, _, _ in headers_of(response)]


def said(response):
    """The sentence, the same in the header and in the body."""
    assert response["X-Error-Message"] == response.json()["error"]
    return response["X-Error-Message"]


@pytest.fixture
def uploader(alice):
    uploader = Uploader(alice)
    assert uploader.create().status_code == 200
    return uploader


def stored_hashes():
    return {blob.sha256 for blob in store().iter()}


@pytest.mark.parametrize("title", OTHER_FORMATS)
def test_a_format_is_known_by_the_sample_that_a_client_sends_whatever_the_file_is_called(uploader, title):
    rename, words = OTHER_FORMATS[title]
    beginning = weights_file({rename(name): value for name, value in adapter_tensors().items()}).read()
    asked = {"sample": base64.b64encode(beginning[:512]).decode()}
    assert words in said(uploader.preupload(CARD, "my_lora.safetensors", **asked))


def test_a_sample_that_cannot_be_read_is_none(uploader):
    for unread in ("?", 7, None, ["x"]):
        answer = uploader.preupload("my_lora.safetensors", sample=unread)
        assert "weights under another name" in said(answer)


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        (["adapter_model.bin"], "convert it so: python -c"),
        ([CONFIG, "checkpoint-9/adapter_model.pt"], "convert it so: python -c"),
        ([CONFIG, f"style/{WEIGHTS}", "config.json"], 'hf upload OWNER/NAME "style"'),
        ([f"checkpoint-{step}/{WEIGHTS}" for step in (200, 90)], 'hf upload OWNER/NAME "checkpoint-200"'),
        ([CONFIG, "adapters.safetensors"], "is an MLX adapter"),
        ([CONFIG, "model-00001-of-00002.safetensors"], "is a whole model"),
        ([CONFIG, "pytorch_model.bin"], "is a whole model"),
        ([CARD, "pytorch_lora_weights.safetensors"], "a LoRA of diffusers"),
        ([CARD, "french.Q4_K_M.gguf"], "a model for llama.cpp"),
        ([CONFIG, "adapter.zip"], "is an archive, and there is no adapter_model.safetensors. Unpack it"),
        ([CONFIG, "adapter_model.tar.gz"], "is an archive"),
        ([CONFIG, "adapter_model.pkl"], "is a pickle"),
        ([CONFIG, "Weights.safetensors"], f'or: hf upload OWNER/NAME "Weights.safetensors" {WEIGHTS}.'),
        ([CARD, "lora.safetensors"], "weights under another name"),
    ],
)
def test_weights_in_the_wrong_place_are_refused_with_the_way_out(uploader, paths, words):
    """Leaving them out would lose the person's work."""
    before = stored_hashes()
    for response in (uploader.preupload(*paths), uploader.commit(*[file_line(path, b"x") for path in paths])):
        assert response.status_code == 400
        assert words in said(response)
    assert module_find("alice", "french") is None
    assert stored_hashes() == before


BY_PRODUCTS = [
    *("training_args.bin", "tokenizer.json", "checkpoint-100/optimizer.pt", ".gitattributes", "config.json"),
    *("debug.log", f"ref/{WEIGHTS}", f"ref/{CONFIG}", "args.json", "latest", "zero_to_fp32.py"),
    *("trainer_log.jsonl", "training_loss.png", ".ipynb_checkpoints/x.ipynb", f"last-checkpoint/{WEIGHTS}"),
    *("../adapter_config.json", "/etc/passwd", "sub/adapter_config.json", "ADAPTER_CONFIG.JSON"),
    *("adapter_config.json/", "adapter_model.bin", "optimizer.safetensors", "что-то.txt"),
]


def test_what_is_no_part_of_a_module_is_left_out_and_all_of_it_is_said(uploader, client, alice, browser_of):
    answer = uploader.preupload(CONFIG, WEIGHTS, *BY_PRODUCTS)
    ignored = {file["path"]: file["shouldIgnore"] for file in answer.json()["files"]}
    assert ignored == {CONFIG: False, WEIGHTS: False, **dict.fromkeys(BY_PRODUCTS, True)}
    (warning,) = warnings_of(answer)
    assert all(path in warning for path in BY_PRODUCTS if path.isascii())
    assert "zero_to_fp32.py (executable)" in warning
    assert "training_args.bin (pickled)" in warning
    # An old client that sends them all the same.
    answer = uploader.commit(*adapter_lines(), *[file_line(path, b"x" * 100) for path in BY_PRODUCTS])
    assert "Not part of a module, so left out" in warnings_of(answer)[0]
    module = module_find("alice", "french")
    assert {file.path for file in module.current.files.all()} == {CONFIG, WEIGHTS}
    assert set(module.left_out) == set(BY_PRODUCTS)
    page = browser_of(alice).get("/alice/french").content.decode()
    assert all(escape(path) in page for path in BY_PRODUCTS)
    others = client.get("/alice/french").content.decode()
    assert "debug.log" not in others  # the names in her folder are hers
    assert "Left out of the upload" in others


@pytest.mark.parametrize(
    "path", ["adapter_config.json\u0000", "\u202eosj.gifnoc", "x\r\nX-Evil: 1", "a" * 900]
)
def test_names_of_by_products_cannot_do_harm(uploader, path):
    answer = uploader.preupload(CONFIG, WEIGHTS, path)
    assert answer.status_code == 200
    assert "X-Evil" not in answer.headers
    assert uploader.commit(*adapter_lines(), file_line(path, b"x")).status_code == 200
    assert all(len(kept) <= 300 for kept in module_find("alice", "french").left_out)


def test_weights_that_came_or_were_announced_before_let_the_rest_be_left_out(uploader):
    """A client asks in batches: the second one of a folder holds checkpoints alone."""
    uploader.preupload(CONFIG, WEIGHTS)
    assert uploader.preupload(f"checkpoint-9/{WEIGHTS}").status_code == 200
    uploader.commit(*adapter_lines())
    Module.objects.update(weights_announced_at=None)
    assert uploader.preupload(f"checkpoint-9/{WEIGHTS}").status_code == 200


@pytest.mark.parametrize(
    ("version", "repeats"), [("0.36.2", True), ("1.4.1", True), ("2.4.0", False), ("10.0", False)]
)
def test_a_client_that_repeats_a_refused_upload_is_told_how_to_end_it(uploader, version, repeats):
    uploader.headers |= {"User-Agent": f"unknown/None; hf_hub/{version}; python/3.11"}
    refused = [uploader.preupload(f"style/{WEIGHTS}"), uploader.commit(*adapter_lines(r=3))]
    assert [answer.status_code for answer in refused] == [400, 400]
    assert all(("stop it with Ctrl-C" in said(answer)) == repeats for answer in refused)


def test_two_lists_of_left_out_files_are_two_topics_for_the_client(uploader):
    """It shows the first warning of each topic alone."""
    topics = {
        topic for path in ("a.log", "b.log") for topic in topics_of(uploader.preupload(CONFIG, WEIGHTS, path))
    }
    assert len(topics) == 2


def test_each_of_several_warnings_is_a_header_and_a_topic_of_its_own(uploader):
    """A client prints each header on a line, and of each topic the first alone."""
    wrapped = {f"module.{name}": value for name, value in adapter_tensors().items()}
    card = file_line(CARD, b"---\nlicense: Apache 2.0\nbase_model: some/other\n---\n# Mine\n")
    lines = [adapter_lines(target_modules="all-linear")[0], file_line(WEIGHTS, weights_file(wrapped).read())]
    answer = uploader.commit(*lines, card, file_line("debug.log", b"x"))
    begin = [
        "Not part of a module",
        'Left "module."',
        "Set target_modules",
        "Read the license",
        "README.md names",
    ]
    assert [
        sentence.startswith(words) for sentence, words in zip(warnings_of(answer), begin, strict=True)
    ] == [True] * len(begin)
    assert len(set(topics_of(answer))) == len(begin)


def test_a_commit_takes_the_card_s_tags_also_from_one_text_and_languages_alone_replace_none(uploader):
    uploader.commit(*adapter_lines(), file_line(CARD, b"---\ntags: lora, French\n---\n# Mine\n"))
    uploader.commit(file_line(CARD, b"---\ntags: [lora]\nlanguage: en\n---\n# Mine\n"))
    assert [tag.name for tag in module_find("alice", "french").tags.all()] == ["french"]


def test_warnings_that_no_client_could_take_together_are_counted(uploader):
    response = WarningResponse({}, [warning_of("card", "x" * 3000 + str(number)) for number in range(5)])
    assert len(warnings_of(response)) == 3
    assert warnings_of(response)[-1] == "3 more are on the module's page."
    many = WarningResponse({}, [warning_of("card", str(number)) for number in range(100)])
    assert (len(warnings_of(many)), warnings_of(many)[-1][:7]) == (33, "68 more")


def test_a_licence_set_on_the_page_that_the_card_contradicts_is_said_to_a_client(uploader, alice):
    card = file_line(CARD, b"---\nlicense: mit\n---\n# Mine\n")
    uploader.commit(*adapter_lines(), card)
    module_edit(editor=alice, module=module_find("alice", "french"), licence="apache-2.0")
    answer = uploader.commit(*adapter_lines(seed=1))
    assert any(
        "names mit as the license, but the module is under apache-2.0" in each for each in warnings_of(answer)
    )
    again = uploader.commit(file_line(CARD, b"---\nlicense: [mit, GPLv3]\n---\n# Mine\n"))
    assert module_find("alice", "french").licence == "gpl-3.0"
    assert [each.partition(" in ")[0] for each in warnings_of(again)] == ['Read the license "mit", "GPLv3"']
    checked = uploader.send("POST", "/api/validate-yaml", {"content": "---\nlicense: my-own\n---\n"}).json()
    assert "no identifier for" in checked["warnings"][0]["message"]


def test_names_with_one_reading_are_repaired_and_said(uploader):
    wrapped = {f"module.{name}": value for name, value in adapter_tensors().items()}
    answer = uploader.commit(adapter_lines()[0], file_line(WEIGHTS, weights_file(wrapped).read()))
    (warning,) = warnings_of(answer)
    assert 'Left "module."' in warning
    version = module_find("alice", "french").current
    assert [repair["code"] for repair in version.repairs] == ["module_names"]
    with store().open(version.weights_sha256) as stored:
        names = {tensor.name for tensor in read_header(stored).tensors}
    assert names == set(adapter_tensors())
    again = uploader.commit(adapter_lines()[0], file_line(WEIGHTS, weights_file(wrapped).read()))
    assert again.json()["commitOid"] == answer.json()["commitOid"]


# --- repositories that a refused upload leaves ---------------------------------


@pytest.fixture
def a_day_later():
    """Let every refusal be a day and a minute ago."""

    def go_on():
        for module in Module.objects.exclude(refused_at=None):
            Module.objects.filter(pk=module.pk).update(
                refused_at=module.refused_at - timedelta(days=1, minutes=1)
            )

    return go_on


@pytest.mark.parametrize("refused_by", ["preupload", "commit"])
@pytest.mark.parametrize("times", [1, 2], ids=["once", "and tried again"])
def test_a_repository_whose_only_uploads_were_refused_goes_after_a_day(
    uploader, refused_by, times, a_day_later
):
    for attempt in range(times):
        if attempt:
            uploader.create()  # as each upload does
        if refused_by == "preupload":
            uploader.preupload(f"style/{WEIGHTS}")
            uploader.preupload(f"style/{WEIGHTS}")  # upload-large-folder repeats it
        else:
            uploader.commit(*adapter_lines(r=3))
    assert sweep_refused() == 0
    a_day_later()
    assert sweep_refused() == 1
    assert not Module.objects.exists()
    assert uploader.create().status_code == 200


@pytest.mark.parametrize(
    "steps",
    [
        (),
        ("create", "refused"),
        ("create", "create", "refused"),
        ("refused", "create"),
        ("refused", "create", "create", "refused"),
        ("another program", "refused"),
        ("refused", "filled"),
    ],
    ids=" ".join,
)
def test_a_repository_that_was_made_for_its_own_sake_stays(uploader, steps, a_day_later):
    """The fixture has made it: by `hf repos create`, or by an upload that asks for it first."""
    for step in steps:
        if step == "create":
            assert uploader.create().status_code == 409
        elif step == "another program":
            uploader.headers |= {"User-Agent": "transformers/5.0"}
        elif step == "refused":
            assert uploader.commit(*adapter_lines(r=3)).status_code == 400
        else:
            assert uploader.commit(adapter_lines()[0]).status_code == 200
        a_day_later()
    assert sweep_refused() == 0
    assert Module.objects.count() == 1


def test_a_tag_may_have_a_version_s_name_and_wins_for_clients(uploader, client):
    first = uploader.commit(*adapter_lines()).json()["commitOid"]
    second = uploader.commit(*adapter_lines(seed=1)).json()["commitOid"]
    assert client.get("/api/models/alice/french/revision/v1").json()["sha"] == first
    made = uploader.send("POST", "/api/models/alice/french/tag/main", {"tag": "v1"})
    assert made.status_code == 200
    assert client.get("/api/models/alice/french/revision/v1").json()["sha"] == second
    assert client.get(f"/alice/french/resolve/v1/{CONFIG}")["X-Repo-Commit"] == second
    page = client.get("/alice/french/versions/1").content.decode()
    assert "This is version 1 of 2" in page
    assert client.get("/alice/french/tree/v1").content.decode().count("This is version 1 of 2") == 1
    assert first in page
    assert uploader.send("DELETE", "/api/models/alice/french/tag/v1").status_code == 200
    assert client.get("/api/models/alice/french/revision/v1").json()["sha"] == first


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (adapter_lines(r=3), "with r = 3"),
        (adapter_lines(peft_type="XLORA"), 'only "LORA" is accepted'),
        (adapter_lines(base_model_name_or_path="/home/me/t5"), "names no model on the Hub"),
        ([file_line(CONFIG, b"{")], "adapter_config.json"),
        ([file_line(WEIGHTS, b"\x80\x04pickle")], "adapter_model.safetensors"),
        (
            [file_line(WEIGHTS, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")],
            "Git LFS pointer",
        ),
        ([{"key": "lfsFile", "value": {"path": WEIGHTS, "oid": "0" * 64, "size": 9}}], "was not uploaded"),
        ([{"key": "lfsFile", "value": {"path": WEIGHTS, "oid": "../" * 21 + "x", "size": 9}}], "its sha256"),
        ([{"key": "copyFile", "value": {}}], "unknown key"),
        ([{"key": "file", "value": {"path": CARD}}], "base64"),
        ([{"key": "file", "value": {"content": "====", "path": CARD}}], "not base64"),
        ([{"key": "file", "value": {"content": "QQ==QQ==", "path": CARD}}], "not base64"),
        ([{"key": "file", "value": {"content": "QQ", "path": CARD}}], "not base64"),
        ([{"key": "file", "value": {"content": "QQ==", "path": 7}}], "path"),
        ([{"key": "deletedFile", "value": {"path": "README.md"}}], "A file with this name doesn't exist"),
        ([["not", "an", "object"]], "must be"),
    ],
)
def test_a_commit_that_does_not_pass_leaves_nothing(uploader, lines, words):
    before, head = stored_hashes(), Module.objects.get().draft
    response = uploader.commit(*lines)
    assert 400 <= response.status_code < 500
    assert words in said(response)
    assert stored_hashes() == before
    assert Module.objects.get().draft == head


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n\n",
        b"{",
        b"null\n",
        b'{"key":"file","value":{"content":"QUJD',
        b'{"key":"file","value":{"content":"' + b"A" * 3_000_001,
        b'{"key":"header","value":{"summary":"' + b"x" * 3_000_000 + b'"}}\n',
        b'{"key":"file","value":{"content":"QUJD","path":"' + b"x" * 3_000_000 + b'"}}\n',
        b"[" * 200_000,
        b"\xff\xfe\n",
    ],
)
def test_a_body_that_is_no_commit_is_a_plain_400_or_changes_nothing(uploader, body):
    head = Module.objects.get().draft
    response = uploader.send("POST", "/api/models/alice/french/commit/main", data=body)
    assert response.status_code in (200, 400)
    assert Module.objects.get().draft == head


def test_content_is_decoded_alike_however_it_is_cut(uploader, monkeypatch):
    card = b"# " + bytes(range(32, 127)) * 50
    for piece_bytes in (1, 3, 7, 4096):
        monkeypatch.setattr(ndjson, "PIECE_BYTES", piece_bytes)
        with ExitStack() as stack:
            body = ndjson_of({"key": "header", "value": {}}, file_line(CARD, card))
            operations = list(ndjson.read_operations(BytesIO(body), stack))
            assert [operation.key for operation in operations] == ["header", "file"]
            assert operations[1].content.read() == card
            assert operations[1].value["path"] == CARD


def test_parts_make_a_draft_that_a_second_commit_publishes(client, alice, uploader):
    config, weights = adapter_lines()
    first = uploader.commit(config)
    assert "adapter_model.safetensors" in warnings_of(first)[0]
    assert client.get("/alice/french").status_code == 404
    assert client.get("/api/models/alice/french").status_code == 404
    assert client.get("/api/models").json() == []
    mine = uploader.send("GET", "/api/models/alice/french").json()
    assert (mine["sha"], mine["private"]) == (first.json()["commitOid"], True)
    uploader.commit(weights)
    assert module_find("alice", "french").current.number == 1
    assert [each["id"] for each in client.get("/api/models").json()] == ["alice/french"]
    titles = [each["title"] for each in client.get("/api/models/alice/french/commits/main").json()]
    assert titles == ["Upload", "Upload", "Initial commit"]


def test_a_card_of_a_draft_whose_head_is_not_read_is_told_with_each_commit_once(alice, uploader):
    config, weights = adapter_lines()
    card = file_line(CARD, b"---\nprompt_template: Q: {input}\n---\n")
    for lines in ([card], [config], [weights]):
        told = warnings_of(uploader.commit(*lines))
        assert sum("Did not read the head" in warning for warning in told) == 1
    assert module_find("alice", "french").current.number == 1
    assert warnings_of(uploader.commit(file_line(CARD, b"# Better\n"))) == []


def test_a_card_of_a_draft_is_told_of_no_more_once_it_is_mended_or_gone(uploader):
    broken, better = file_line(CARD, b"---\na: [\n---\n"), file_line(CARD, b"# Better\n")
    gone = {"key": "deletedFile", "value": {"path": CARD}}
    for mended in (better, gone):
        uploader.commit(broken)
        assert not any("head" in warning for warning in warnings_of(uploader.commit(mended)))


def test_a_published_module_keeps_its_adapter(uploader):
    uploader.commit(*adapter_lines())
    response = uploader.commit({"key": "deletedFile", "value": {"path": WEIGHTS}})
    assert response.status_code == 400
    assert "keeps its adapter_config.json" in said(response)


def test_the_same_files_again_are_the_same_commit(uploader):
    first, second = uploader.commit(*adapter_lines()), uploader.commit(*adapter_lines())
    assert first.json()["commitOid"] == second.json()["commitOid"]
    oids = {file["path"]: file["oid"] for file in uploader.preupload(CONFIG, WEIGHTS).json()["files"]}
    for path, data in ((CONFIG, config_file().read()), (WEIGHTS, weights_file().read())):
        assert oids[path] == hashlib.sha1(b"blob %d\x00" % len(data) + data).hexdigest()


def test_the_card_may_name_the_base_that_the_config_does_not(uploader):
    card = file_line(CARD, b"---\nbase_model: tests/tiny\n---\n")
    response = uploader.commit(*adapter_lines(base_model_name_or_path="/home/me/t5"), card)
    assert response.status_code == 200
    assert module_find("alice", "french").current.base_name == "tests/tiny"


def test_a_commit_upon_an_old_state_is_412(uploader):
    first = uploader.commit(*adapter_lines()).json()["commitOid"]
    uploader.commit(*adapter_lines(seed=1))
    response = uploader.commit(*adapter_lines(seed=2), parentCommit=first[:7])
    assert response.status_code == 412
    assert "Someone else has committed" in said(response)


@pytest.mark.django_db(transaction=True)
def test_of_two_commits_at_once_one_wins_and_the_other_is_told(alice):
    uploaders = [Uploader(alice) for _ in range(4)]
    uploaders[0].create()

    def commit(number):
        try:
            return uploaders[number].commit(*adapter_lines(seed=number))
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(commit, range(4)))
    statuses = [answer.status_code for answer in answers]
    won = Version.objects.filter(number__isnull=False).count()
    assert statuses.count(200) == won >= 1
    assert set(statuses) <= {200, 412}
    head = module_find("alice", "french").current
    assert len({version.number for version in head.module.versions.all() if version.number}) == won


def upload_address(user, module, sha256, size_bytes):
    return "/lfs/" + signing.dumps([user.pk, module.pk, sha256, size_bytes], salt=lfs.SALT)


def test_a_full_store_is_told_to_a_client_with_the_time_to_come_back(alice, uploader, monkeypatch):
    def full(*_):
        raise StorageFullError

    monkeypatch.setattr("modules_registry.storage.disk._write", full)
    data = weights_file().read()
    address = upload_address(alice, Module.objects.get(), hashlib.sha256(data).hexdigest(), len(data))
    ahead = Client().put(address, data, content_type="application/octet-stream")
    for answer in (uploader.commit(*adapter_lines()), ahead):
        assert answer.status_code == 507
        assert "disk is full" in said(answer)
        assert int(answer.headers["Retry-After"]) > 0


def test_a_large_file_goes_where_its_signed_address_says_and_only_if_it_is_the_one(alice, uploader):
    data = weights_file().read()
    sha256, module = hashlib.sha256(data).hexdigest(), Module.objects.get()
    asked = {"operation": "upload", "objects": [{"oid": sha256, "size": len(data)}]}
    batch = uploader.send("POST", "/alice/french.git/info/lfs/objects/batch", asked).json()
    actions = batch["objects"][0]["actions"]
    address = actions["upload"]["href"].removeprefix("http://testserver")
    stranger, before = Client(), stored_hashes()

    def put(body, to=address):
        return stranger.put(to, body, content_type="application/octet-stream")

    assert put(data[:-1]).status_code == 400
    assert put(data + b"x").status_code == 400
    assert put(data[:-1] + b"x").status_code == 400
    assert put(data, address[:-1] + ("A" if address[-1] != "A" else "B")).status_code == 403
    assert put(data, "/lfs/" + signing.dumps([alice.pk, module.pk, sha256, 9])).status_code == 403
    assert stored_hashes() == before
    verify = {"oid": sha256, "size": len(data)}
    assert uploader.send("POST", "/alice/french.git/info/lfs/objects/verify", verify).status_code == 404
    assert put(data).status_code == 200
    assert uploader.send("POST", "/alice/french.git/info/lfs/objects/verify", verify).status_code == 200
    line = {"key": "lfsFile", "value": {"path": WEIGHTS, "algo": "sha256", "oid": sha256, "size": len(data)}}
    assert uploader.commit(adapter_lines()[0], line).status_code == 200
    assert module_find("alice", "french").current.weights_sha256 == sha256
    assert not IncomingFile.objects.exists()


def test_an_address_expires(alice, uploader, monkeypatch):
    address = upload_address(alice, Module.objects.get(), "0" * 64, 1)
    monkeypatch.setattr(lfs, "ADDRESS_LASTS_S", -1)
    response = Client().put(address, b"x", content_type="application/octet-stream")
    assert response.status_code == 403
    assert "expired" in said(response)


def test_to_know_a_sha256_is_not_to_have_the_file(alice, bob, uploader):
    """Bob's private weights cannot be pulled into Alice's module by their hash."""
    secret = make_module(bob, "secret", private=True, seed=9)
    line = {"key": "lfsFile", "value": {"path": WEIGHTS, "oid": secret.current.weights_sha256, "size": 1}}
    response = uploader.commit(adapter_lines()[0], line)
    assert "was not uploaded" in said(response)
    asked = {"operation": "upload", "objects": [{"oid": secret.current.weights_sha256, "size": 1}]}
    batch = uploader.send("POST", "/alice/french.git/info/lfs/objects/batch", asked).json()
    assert "actions" in batch["objects"][0]


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        ("POST", "/api/repos/create", {"name": "x", "type": "dataset"}),
        ("PUT", "/api/models/alice/french/settings", {"gated": "auto"}),
        ("PUT", "/api/models/alice/french/settings", {"sdk": "x"}),
        ("POST", "/api/models/alice/french/commit/main?create_pr=1", {}),
        ("POST", "/api/models/alice/french/preupload/main?create_pr=1", {}),
        ("POST", "/api/models/alice/french/discussions", {"title": "x"}),
        ("POST", "/api/models/alice/french/super-squash/main", {}),
        ("GET", "/api/models/alice/french/xet-write-token/main", None),
        ("POST", "/api/datasets/alice/french/commit/main", {}),
        ("GET", "/api/datasets", None),
    ],
)
def test_what_is_not_here_is_said_before_anything_is_written(uploader, method, path, value):
    head = Module.objects.get().draft
    response = uploader.send(method, path, value)
    assert response.status_code == 400
    assert "This site has no" in said(response)
    assert Module.objects.get().draft == head


def test_a_read_token_and_a_bad_one_write_nothing(alice, uploader):
    reader = Uploader(alice, scope="read")
    for response in (reader.create("other"), reader.commit(*adapter_lines()), reader.preupload(CONFIG)):
        assert response.status_code == 403
        assert "may only read" in said(response)
    reader.headers = {"Authorization": "Bearer lh_nothing"}
    response = reader.create("other")
    assert (response.status_code, said(response)) == (401, "Invalid credentials in Authorization header")
    assert Module.objects.count() == 1


def test_a_session_s_cookie_alone_writes_nothing(alice, browser_of):
    browser = browser_of(alice)
    response = browser.post("/api/repos/create", {"name": "x"}, content_type="application/json")
    assert response.status_code == 401


@pytest.mark.parametrize("name", ["../x", "a--b", "x.git", "", "x" * 97, "a/b/c", "\u0000", "ﬁne", "-x"])
def test_a_repository_needs_a_name(alice, name):
    response = Uploader(alice).create(name)
    assert response.status_code in (400, 403)
    assert not Module.objects.exists()


@pytest.mark.parametrize(
    "name", ["main", "v3", "0" * 40, "a..b", "refs/pr/1", "-x", "x.lock", "a//b", "\u202e", "x" * 101]
)
def test_a_branch_needs_a_name_of_its_own(uploader, name):
    uploader.commit(*adapter_lines())
    response = uploader.send("POST", f"/api/models/alice/french/branch/{quote(name, safe='')}", {})
    assert response.status_code == (409 if name == "main" else 400)
    assert not Module.objects.get().refs.exists()


def test_a_lost_file_is_said_and_no_traceback_shown(client, alice, french):
    store().delete(french.current.weights_sha256)
    client.raise_request_exception = False
    response = client.get(f"/alice/french/resolve/main/{WEIGHTS}")
    assert response.status_code == 500
    assert "missing" in said(response)


def test_downloads_count_once_per_version_day_and_client(client, french):
    address = f"/alice/french/resolve/main/{WEIGHTS}"

    def fetched(*, method="get", **headers):
        response = getattr(client, method)(address, headers=headers)
        if response.streaming:
            b"".join(response.streaming_content)
        return Module.objects.get().downloads

    assert fetched(method="head") == 0
    assert fetched(Range="bytes=5-9") == 0
    assert fetched() == 1
    assert fetched() == 1
    client.defaults["REMOTE_ADDR"] = "192.0.2.7"
    assert fetched(Range="bytes=0-9") == 2
    client.get(f"/alice/french/resolve/main/{CONFIG}")
    assert Module.objects.get().downloads == 2


@pytest.mark.parametrize("page", ["commit", "commits", "blob"])
def test_the_addresses_that_clients_print_lead_to_the_page_of_that_revision(client, alice, uploader, page):
    answer = uploader.commit(*adapter_lines()).json()
    address = answer["commitUrl"].removeprefix("http://testserver").replace("/commit/", f"/{page}/")
    address += f"/{CARD}" if page == "blob" else ""
    shown = client.get(address, follow=True)
    assert shown.redirect_chain == [(f"/alice/french/tree/{answer['commitOid']}", 302)]
    assert shown.status_code == 200
    assert client.get(f"/alice/french/{page}/{'0' * 40}").status_code == 404


def test_the_page_of_a_branch_with_a_slash_and_the_bytes_of_a_file_are_found(client, alice, uploader):
    uploader.commit(*adapter_lines())
    uploader.send("POST", f"/api/models/alice/french/branch/{quote('feat/longer', safe='')}", {})
    assert client.get("/alice/french/blob/feat/longer/README.md", follow=True).status_code == 200
    raw = client.get(f"/alice/french/raw/feat/longer/{CONFIG}", follow=True)
    assert json.loads(b"".join(raw.streaming_content))["peft_type"] == "LORA"


def test_the_address_of_a_private_commit_leads_nowhere_for_strangers(client, alice, uploader, browser_of):
    uploader.create("secret", private=True)
    commit = uploader.commit(*adapter_lines(), repo="alice/secret").json()["commitOid"]
    assert client.get(f"/alice/secret/commit/{commit}").status_code == 404
    assert browser_of(alice).get(f"/alice/secret/commit/{commit}", follow=True).status_code == 200


def test_files_that_are_too_large_for_a_commit_are_asked_for_ahead_of_it_by_default(uploader):
    size = 600_000_000
    asked = {"files": [{"path": WEIGHTS, "size": size, "sample": ""}]}
    answer = uploader.send("POST", "/api/models/alice/french/preupload/main", asked)
    assert answer.json()["files"][0]["uploadMode"] == "lfs"
    assert "HF_HUB_DISABLE_XET=1" in warnings_of(answer)[0]
    asked = {"operation": "upload", "objects": [{"oid": "0" * 64, "size": size}]}
    batch = uploader.send("POST", "/alice/french.git/info/lfs/objects/batch", asked).json()
    assert "upload" in batch["objects"][0]["actions"]
    xet = uploader.send("GET", "/api/models/alice/french/xet-write-token/main")
    assert "HF_HUB_DISABLE_XET=1" in said(xet)


@pytest.mark.parametrize(
    "query",
    [
        "filter=" + ",".join(f"t{number}" for number in range(50)),
        "&".join(f"filter=t{number}" for number in range(50)),
        "&".join(f"filter[]=t{number}" for number in range(50)),
        "&".join(f"expand=t{number}" for number in range(500)),
    ],
)
def test_a_list_asks_for_no_more_conditions_than_a_query_bears(client, query):
    answer = client.get(f"/api/models?{query}")
    assert answer.status_code == 400
    assert "at most" in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'"x"', "multipart/form-data"),
        (b"x", "multipart/form-data; boundary="),
        (b"&".join(b"paths=x" for _ in range(5000)), "application/x-www-form-urlencoded"),
        (b"[" * 100_000, "application/json"),
    ],
)
@pytest.mark.django_db
def test_a_form_that_cannot_be_read_is_refused(client, alice, body, kind):
    make_module(alice, "french")
    answer = client.generic("POST", "/api/models/alice/french/paths-info/main", body, content_type=kind)
    assert answer.status_code == 400
    assert answer.json()["error"] == answer.headers["X-Error-Message"]


@pytest.mark.parametrize("sentence", ["a" * 1999 + " b", " a\nb \n", "a" * 5000, "\u2026 x" * 900, "é \n"])
def test_a_message_of_any_length_is_a_header_that_every_server_sends(sentence):
    message = to_ascii(sentence)
    assert message == message.strip()
    assert 0 < len(message) <= MESSAGE_LENGTH_MAX
    assert message.isascii()
    assert message.isprintable()
