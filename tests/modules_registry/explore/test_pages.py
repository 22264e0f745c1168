"""The pages of weights, neighbours and files, the parts of the module's page, and the same by API."""

import re

import numpy as np
import pytest

from modules_registry import measuring
from modules_registry.lineage import lineage_record
from modules_registry.models import Module
from modules_registry.pictures import strength_picture
from modules_registry.selectors import git_blob_id, strengths_of
from modules_registry.services import module_edit
from tests.factories import adapter_tensors, config_file, make_module, weights_file

API = "/api/v1/modules/alice/french"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def measured(french):
    measuring.version_measure(french.current.pk)
    french.refresh_from_db()
    return french


@pytest.fixture
def copy(measured, bob):
    """Bob's module with the same weights as Alice's."""
    module = make_module(bob, "copy")
    measuring.version_measure(module.current.pk)
    return module


def text_of(answer):
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


@pytest.mark.parametrize("part", ["weights", "similar", "compatible", "changes"])
def test_htmx_gets_the_part_alone_and_everybody_else_a_page(measured, client, part):
    page, alone = client.get(f"/alice/french/{part}"), client.get(f"/alice/french/{part}", headers=HTMX)
    assert page.content.startswith(b"<!doctype html>")
    assert b"<html" not in alone.content
    assert alone.content.strip() in page.content


@pytest.mark.parametrize("part", ["weights", "similar", "compatible"])
def test_the_module_s_page_leads_to_each_part(measured, client, part):
    page = client.get("/alice/french").content.decode()
    assert f'hx-get="/alice/french/{part}?revision={measured.current.commit_id}"' in page
    assert f'href="/alice/french/{part}?revision={measured.current.commit_id}"' in page


def test_the_strongest_layer_is_named_and_every_layer_is_drawn_and_in_the_table(measured, client):
    page = client.get("/alice/french/weights")
    strengths = strengths_of(measured.current)
    strongest = max(strengths, key=lambda strength: strength.norm)
    assert f"The largest change is in {strongest.path}" in text_of(page)
    assert page.content.decode().count("<title>encoder.block") == len(strengths) == 2
    for strength in strengths:
        assert f"{strength.path} {strength.norm:.4g}" in text_of(page)


def test_before_a_worker_has_measured_it_the_page_says_so(french, client):
    assert "Not measured yet" in text_of(client.get("/alice/french/weights"))
    assert "Not measured yet" in text_of(client.get("/alice/french/similar"))
    told = client.get(f"{API}/strengths").json()
    assert told == {"is_measured": False, "norm": 0.0, "delta_sha256": "", "layers": []}


def test_the_picture_has_a_row_for_each_target_and_shades_by_the_norm(measured):
    picture = strength_picture(strengths_of(measured.current))
    (stack,) = picture.stacks
    assert (stack.name, [label for label, _ in stack.targets]) == (
        "encoder",
        ["SelfAttention.q", "SelfAttention.v"],
    )
    assert max(cell.shade for cell in stack.cells) == pytest.approx(1.0)
    assert sum(row.share for row in picture.rows) == pytest.approx(100)
    assert strength_picture([]) is None


def test_equal_weights_are_said_on_the_page_the_card_and_by_the_api(measured, copy, client):
    assert "same weights as alice/french" in text_of(client.get("/bob/copy"))
    assert "same weights as alice/french" in text_of(client.get("/modules/"))
    assert "same weights as" not in text_of(client.get("/alice"))
    told = {each["id"]: each["copy_of"] for each in client.get("/api/v1/modules").json()["results"]}
    assert told == {"alice/french": None, "bob/copy": {"id": "alice/french", "cosine": 1.0, "is_same": True}}
    assert client.get("/api/v1/modules/bob/copy").json()["copy_of"]["id"] == "alice/french"
    assert client.get(f"{API}/copies").json() == {"same": ["bob/copy"], "same_count": 1, "near": []}
    assert "The same weights bob/copy" in text_of(client.get("/alice/french/similar"))


def test_a_copy_of_a_private_module_names_it_to_its_owner_alone(measured, copy, alice, client, browser_of):
    module_edit(editor=alice, module=measured, private=True)
    assert "alice/french" not in text_of(client.get("/bob/copy"))
    assert "alice/french" not in text_of(client.get("/modules/"))
    assert "same weights as alice/french" in text_of(browser_of(alice).get("/bob/copy"))


def test_the_copies_of_a_list_cost_two_queries_however_many_cards(
    measured, copy, bob, client, django_assert_max_num_queries
):
    from modules_registry.likeness import originals_of

    for number in range(5):
        make_module(bob, f"more-{number}")
    for version in measuring.unmeasured():
        measuring.version_measure(version)
    modules = list(Module.objects.select_related("current"))
    with django_assert_max_num_queries(2):
        assert len(originals_of(modules, None)) == 6


@pytest.mark.parametrize(
    "page",
    ["", "/weights", "/similar", "/compatible?module=bob/copy", "/changes", "/blob/main/adapter_config.json"],
)
def test_a_page_asks_the_database_at_most_twelve_times(
    measured, copy, client, django_assert_max_num_queries, page
):
    client.get(f"/alice/french{page}")
    with django_assert_max_num_queries(12):
        assert client.get(f"/alice/french{page}").status_code == 200


def test_the_nearest_are_listed_with_their_cosines(measured, bob, client):
    tensors = adapter_tensors()
    near = {key: (value * (1 + 0.2 * ("q." in key))).astype("f4") for key, value in tensors.items()}
    module = make_module(bob, "near", weights_file=weights_file(near))
    measuring.version_measure(module.current.pk)
    told = client.get(f"{API}/similar").json()
    assert [each["id"] for each in told] == ["bob/near"]
    assert 0.95 < told[0]["cosine"] < 1
    by_text = client.get(f"{API}/similar?by=text").json()
    assert by_text[0]["id"] == "bob/near"
    assert "bob/near" in text_of(client.get("/alice/french/similar"))
    assert client.get(f"{API}/similar?by=colour").status_code == 400


def test_compatible_modules_are_counted_listed_by_a_filter_and_one_is_told_exactly_why_not(
    measured, copy, bob, client
):
    files = {"config_file": config_file(r=4, lora_alpha=8), "weights_file": weights_file(rank=4, seed=2)}
    make_module(bob, "rank-four", **files)
    page = client.get("/alice/french/compatible?module=bob/rank-four")
    assert "2 modules by methods that add whole updates" in text_of(page)
    assert "1 module by methods that add A to A" in text_of(page)
    assert "Its rank is 4; alice/french has 2." in text_of(page)
    assert 'href="/modules/?fits=alice/french&amp;fits_by=factors"' in page.content.decode()
    found = text_of(client.get("/modules/?fits=alice/french&fits_by=factors"))
    assert "bob/ copy" in found
    assert "rank-four" not in found
    assert "Compatible with: alice/french, product of sums" in found
    listed = client.get("/api/v1/modules?fits=alice/french").json()["results"]
    assert {each["id"] for each in listed} == {"bob/copy", "bob/rank-four"}
    refused = client.get("/api/v1/modules?fits=nobody/nothing").json()["error"]
    assert (refused["code"], list(refused["fields"])) == ("bad_fits", ["fits"])
    assert client.get("/api/v1/modules?fits_by=magic").status_code == 400


def test_the_api_says_of_one_module_why_it_does_not_fit(measured, bob, client):
    files = {"config_file": config_file(lora_alpha=8), "weights_file": weights_file(seed=3)}
    make_module(bob, "strong", **files)
    told = client.get(f"{API}/compatible?module=bob/strong").json()
    assert told["pair"] == {
        "id": "bob/strong",
        "fits_by": ["sum"],
        "why_not": {
            "sum": [],
            "factors": ["Its scaling, alpha / r, is 4; alice/french has 2."],
        },
    }
    assert (told["by_sum"], told["by_factors"]) == (1, 0)
    assert client.get(f"{API}/compatible?module=nobody/x").json()["error"]["code"] == "no_such_module"


def test_json_markdown_and_the_header_of_weights_are_shown(measured, client):
    config = client.get("/alice/french/blob/main/adapter_config.json")
    assert "&quot;lora_alpha&quot;: 4" in config.content.decode()
    weights = client.get("/alice/french/blob/v1/adapter_model.safetensors")
    assert "base_model.model.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight F32 2 × 8 64" in text_of(
        weights
    )
    file = measured.current.files.get(path="adapter_model.safetensors")
    assert file.sha256 in text_of(weights)
    assert git_blob_id(file) in text_of(weights)


def test_markdown_is_rendered_without_its_front_matter_and_its_source_is_there(base, alice, client):
    from tests.factories import card_file

    make_module(alice, "french", card_file=card_file("---\nlicense: mit\n---\n# A title\n\n<b>x</b>\n"))
    page = client.get("/alice/french/blob/main/README.md").content.decode()
    assert "<h1" in page
    assert "license: mit" in page
    assert "&lt;b&gt;x&lt;/b&gt;" in page  # the source is text


def test_a_long_text_and_a_file_of_a_base_are_handled(base, client, settings, monkeypatch):
    from modules_registry.explore import viewer

    page = text_of(client.get("/tests/tiny/blob/main/config.json"))
    assert "T5ForConditionalGeneration" in page
    assert "SelfAttention.q.weight F32" in text_of(client.get("/tests/tiny/blob/main/model.safetensors"))
    monkeypatch.setattr(viewer, "SHOWN_BYTES_MAX", 10)
    assert "too long" in text_of(client.get("/tests/tiny/blob/main/config.json"))


def test_a_hash_in_the_library_s_search_leads_to_the_version(measured, client):
    page = client.get(f"/modules/?q={measured.current.weights_sha256}")
    assert (
        "This hash belongs to alice/french The sha256 of adapter_model.safetensors in version 1."
        in text_of(page)
    )
    told = client.get(f"/api/v1/hashes/{measured.current.commit_id[:10]}").json()
    assert [(each["id"], each["kind"], each["version"]) for each in told] == [("alice/french", "commit", 1)]
    assert client.get("/api/v1/hashes/french").json()["error"]["code"] == "not_a_hash"


def test_the_lineage_of_45_parents_is_drawn_and_in_the_table(base, alice, bob, client):
    child = make_module(alice, "mix", seed=99)
    parents = [make_module(bob, f"parent-{number:02}", seed=number) for number in range(45)]
    weights = np.linspace(-1, 1, 45)
    shares = [(parent.current, float(w)) for parent, w in zip(parents, weights, strict=True)]
    lineage_record(version=child.current, parents=shares)
    page = client.get("/alice/mix").content.decode()
    assert page.count('class="lineage__line') == 45
    assert page.count('class="lineage__line lineage__line--negative"') == 22
    assert "/bob/parent-44/tree/v1" in page
    of_parent = client.get("/bob/parent-00").content.decode()
    assert 'href="/alice/mix"' in of_parent
    assert "-1.00" in of_parent or "−1.00" in of_parent


def test_a_file_is_searched(alice, measured, client):
    address = "/alice/french/blob/main/"
    tensors = text_of(client.get(f"{address}adapter_model.safetensors?q=LORA_a"))
    assert "have “LORA_a” in their name" in tensors
    assert "lora_A.weight" in tensors
    assert "lora_B.weight" not in tensors
    nothing = text_of(client.get(f"{address}adapter_model.safetensors?q=nothing"))
    assert "0 have “nothing” in their name" in nothing
    lines = text_of(client.get(f"{address}adapter_config.json?q=r%22%3A"))
    assert "&quot;r&quot;: 2" in lines
    assert "lora_dropout" not in lines
    assert "1 line with" in lines
