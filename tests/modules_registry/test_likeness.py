"""Modules that are alike: equal weights, near-copies, near by weights or by text; and what a hash finds."""

import json

import numpy as np
import pytest
from safetensors.numpy import save

from modules_registry import measuring
from modules_registry.hashes import hash_find, read_hash
from modules_registry.likeness import copies_of, originals_of, similar_by_text, similar_by_weights
from modules_registry.models import Module, NearCopy, Sketch, TextSketch, Version, VersionFile
from modules_registry.selectors import git_blob_id
from modules_registry.services import module_delete, module_edit, version_add
from tests.factories import adapter_tensors, config_file, make_module, named, weights_file


def published(owner, name, tensors=None, **described):
    """A module whose weights are measured."""
    files = {"weights_file": weights_file(tensors)} if tensors is not None else {}
    module = make_module(owner, name, **files, **described)
    measuring.version_measure(module.current.pk)
    module.refresh_from_db()
    return module


def moved(tensors, share, seed=99):
    """The same adapter with a share of another one in each B."""
    other = adapter_tensors(seed=seed)
    return {
        key: ((1 - share) * value + share * other[key] if "lora_B" in key else value).astype("f4")
        for key, value in tensors.items()
    }


@pytest.fixture
def family(base, alice, bob):
    """An adapter of Alice's, a near-copy and a relative of it, and one of nothing in common."""
    tensors = adapter_tensors(seed=1)
    return {
        "first": published(alice, "first", tensors),
        "near": published(bob, "near", moved(tensors, 0.001)),
        "relative": published(bob, "relative", moved(tensors, 0.3)),
        "other": published(bob, "other", adapter_tensors(seed=2)),
    }


def names(found):
    return [similar.module.name for similar in found]


def test_the_nearest_by_weights_come_first(family, charlie):
    found = similar_by_weights(family["first"].current, charlie)
    assert names(found)[:2] == ["near", "relative"]
    assert found[0].cosine == pytest.approx(1.0, abs=1e-3)
    assert found[1].cosine < 0.99


def test_a_near_copy_is_found_with_its_exact_cosine_and_a_relative_is_none(family, charlie):
    (pair,) = NearCopy.objects.all()
    assert {pair.first_id, pair.second_id} == {family[name].current.sketch_id for name in ("first", "near")}
    exact = measuring.distance_of(family["first"].current, family["near"].current).cosine
    assert pair.cosine == pytest.approx(exact)
    assert 0.999 <= exact < 1
    copies = copies_of(family["first"].current, charlie)
    assert (copies.same_count, names(copies.near)) == (0, ["near"])


def test_equal_weights_in_another_file_are_one_sketch_and_are_said_of_the_newer_module(base, alice, bob):
    tensors = adapter_tensors(seed=1)
    first = published(alice, "first", tensors)
    second = published(bob, "second", dict(reversed(tensors.items())))
    assert first.current.sketch_id == second.current.sketch_id
    assert Sketch.objects.count() == 1
    said = originals_of([first, second], bob)
    assert list(said) == [second.pk]
    assert said[second.pk].sentence == "same weights as alice/first"
    assert [module.name for module in copies_of(first.current, bob).same] == ["second"]
    assert similar_by_weights(first.current, bob) == []


def test_a_module_with_the_same_weights_is_one_entry_with_the_others_counted(family, bob, charlie):
    published(bob, "relative-again", moved(adapter_tensors(seed=1), 0.3))
    found = similar_by_weights(family["first"].current, charlie)
    entry = next(similar for similar in found if similar.module.name == "relative")
    assert entry.same_weights == 1
    assert "relative-again" not in names(found)


def test_a_private_module_is_in_no_list_of_a_stranger_s(family, bob, alice, charlie):
    for name in ("near", "relative"):
        module_edit(editor=bob, module=family[name], private=True)
    first = family["first"].current
    assert names(similar_by_weights(first, charlie)) == ["other"]
    assert copies_of(first, charlie).near == ()
    assert "near" not in names(similar_by_text(family["first"], charlie))
    assert originals_of([family["near"]], bob)[family["near"].pk].module == family["first"]
    assert hash_find(family["near"].current.commit_id, charlie) == []
    assert names(similar_by_weights(first, bob))[0] == "near"


def test_another_card_keeps_the_sketch_and_needs_no_measuring(family, alice):
    module_edit(editor=alice, module=family["first"], card="# Another card\n")
    sketch_before = family["first"].versions.get(number=1).sketch_id
    module = Module.objects.get(name="first")
    assert module.current.number == 2
    assert module.current.sketch_id == sketch_before
    assert measuring.unmeasured() == []


def test_the_distance_to_the_version_before_is_kept(family, alice):
    version, _ = version_add(
        author=alice,
        module=family["first"],
        config_file=config_file(),
        weights_file=weights_file(moved(adapter_tensors(seed=1), 0.3)),
    )
    measuring.version_measure(version.pk)
    stored = Version.objects.get(pk=version.pk).distance_before
    exact = measuring.distance_of(version.parent, version)
    assert stored.before == version.parent
    assert stored.distance == pytest.approx(exact.distance)
    assert [row[0] for row in stored.layers] == [layer.path for layer in exact.layers]
    assert stored.layers[0][3] == pytest.approx(exact.layers[0].distance, rel=1e-4)


def test_weights_that_cannot_be_read_are_tried_three_times(base, alice, monkeypatch):
    module = make_module(alice, "broken")
    monkeypatch.setattr(measuring, "measure", lambda layers: 1 / 0)
    for _ in range(3):
        assert measuring.unmeasured() == [module.current.pk]
        with pytest.raises(ZeroDivisionError):
            measuring.version_measure(module.current.pk)
    assert measuring.unmeasured() == []
    measuring.version_measure(module.current.pk)  # is not tried again


def test_weights_that_change_nothing_are_measured_and_near_to_none(family, alice, charlie):
    nothing = {key: value * ("lora_A" in key) for key, value in adapter_tensors(seed=3).items()}
    module = published(alice, "nothing", nothing)
    assert module.current.sketch.norm == 0
    assert similar_by_weights(module.current, charlie) == []
    assert names(similar_by_weights(family["first"].current, charlie)).count("nothing") == 0


def test_sketches_that_nothing_has_are_swept(family, bob):
    from modules_registry.maintenance import sweep_files

    module_delete(editor=bob, module=family["other"])
    sweep_files()
    assert Sketch.objects.count() == 3


def test_modules_of_which_the_same_is_said_are_near_by_text(base, alice, charlie):
    french = make_module(alice, "french", sentence="Translates words into French.", tags=["french"])
    make_module(alice, "to-french", seed=1, sentence="Translation of single words to French.", tags=[])
    make_module(alice, "capitals", seed=2, sentence="Writes the animal in capitals.", tags=["upper"])
    found = similar_by_text(french, charlie)
    assert names(found)[0] == "to-french"
    module_edit(editor=alice, module=Module.objects.get(name="to-french"), sentence="Counts sheep.", tags=[])
    assert "to-french" not in names(similar_by_text(french, charlie)) or (
        similar_by_text(french, charlie)[0].cosine < found[0].cosine
    )


def test_what_older_modules_lack_is_filled_in(french):
    TextSketch.objects.all().delete()
    expected = dict(french.current.files.values_list("path", "git_sha1"))
    VersionFile.objects.update(git_sha1="")
    measuring.fill_in()
    assert TextSketch.objects.filter(module=french).exists()
    assert dict(french.current.files.values_list("path", "git_sha1")) == expected
    assert all(expected.values())


def test_the_index_finds_the_same_modules_as_comparing_all(family, charlie, monkeypatch):
    first = family["first"].current
    compared = [(each.module.name, each.cosine) for each in similar_by_weights(first, charlie)]
    monkeypatch.setattr("modules_registry.nearest.COMPARED_MAX", 0)
    found = [(each.module.name, each.cosine) for each in similar_by_weights(first, charlie)]
    assert [name for name, _ in found] == [name for name, _ in compared]
    assert [cosine for _, cosine in found] == pytest.approx([cosine for _, cosine in compared])


def test_a_hash_finds_the_module_by_commit_file_weights_and_git_blob(family, charlie):
    version = family["first"].current
    card = version.files.get(path="adapter_config.json")
    weights = version.files.get(path="adapter_model.safetensors")
    for text, kind in (
        (version.commit_id, "commit"),
        (version.commit_id[:8], "commit"),
        (version.commit_id[:7], "commit"),
        (version.weights_sha256, "file"),
        (f"sha256:{weights.sha256.upper()}", "file"),
        (git_blob_id(weights), "git_blob"),
        (version.sketch.delta_sha256, "weights"),
    ):
        (match,) = hash_find(text, charlie)
        assert (match.module, match.kind) == (family["first"], kind)
    of_card = hash_find(git_blob_id(card), charlie)
    assert {match.module.name for match in of_card} == {"first", "near", "relative", "other"}
    assert all("adapter_config.json" in match.sentence for match in of_card)


def test_the_hash_of_a_weights_file_names_the_modules_with_the_same_weights_last(family, bob, charlie):
    tensors = adapter_tensors(seed=1)
    for name, is_private in (("again", False), ("hidden", True)):
        data = save(tensors, metadata={"written": name})
        published(bob, name, weights_file=named(data, "adapter_model.safetensors"), private=is_private)
    weights = family["first"].current.files.get(path="adapter_model.safetensors")
    for text in (weights.sha256, weights.sha256[:10], git_blob_id(weights)):
        found = {match.module.name: match for match in hash_find(text, charlie)}
        assert list(found) == ["first", "again"]
        assert found["again"].kind == "same_weights"
        assert "the same weights as alice/first" in found["again"].sentence
    of_config = git_blob_id(family["first"].current.files.get(path="adapter_config.json"))
    assert "same_weights" not in {match.kind for match in hash_find(of_config, charlie)}


def test_a_hash_of_an_earlier_version_still_finds_it(family, alice, charlie):
    old = family["first"].current
    version_add(
        author=alice, module=family["first"], config_file=config_file(), weights_file=weights_file(seed=7)
    )
    (match,) = hash_find(old.weights_sha256, charlie)
    assert match.version.number == 1


@pytest.mark.parametrize("text", ["", "french", "123456", "xyz12345", "0" * 65, "sha1:12345678", "a b"])
def test_what_is_no_hash_is_none(text, db):
    assert read_hash(text) is None
    assert hash_find(text, None) == []


def test_the_sketch_of_a_module_is_that_of_its_files(family):
    sketch = family["first"].current.sketch
    assert json.loads(json.dumps(sketch.strengths)) == sketch.strengths
    assert len(sketch.strengths) == 2
    assert sketch.norm == pytest.approx(np.linalg.norm([row[1] for row in sketch.strengths]), rel=1e-4)
