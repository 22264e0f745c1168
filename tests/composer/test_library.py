"""`import composer`, as a person in Python or in a notebook would use it."""

import gc
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from django.conf import settings
from huggingface_hub import RepoUrl
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

import composer
from composer.__main__ import main
from composer.core.spec.errors import (
    BaseModelError,
    ExamplesError,
    InvalidJobError,
    MismatchedModulesError,
    NoModulesError,
    SourceError,
)
from composer.library.composition import load_model
from composer.library.progress import warn_caller
from composer.lorahub import LORA_MODULE_NAMES, default_get_loss, lorahub_inference, lorahub_learning
from tests.composer.core.tiny import (
    EXAMPLES,
    FAMILIES,
    TARGETS,
    as_dora,
    make_base,
    make_module,
    write_examples,
)

pytestmark = pytest.mark.slow  # whole jobs

DEMO = Path(settings.HUB_DEMO_BUNDLE)
HELD_OUT = (("hat", "CAT"), ("leg dog", "FIG"), ("cat dog", "DOG"))


@pytest.fixture(params=["t5", "llama"])
def tiny(request, tmp_path):
    """A base model and three modules, as folders."""
    return made_tiny(tmp_path, request.param)


@pytest.fixture
def t5(tmp_path):
    return made_tiny(tmp_path, "t5")


def made_tiny(folder, kind):
    base = make_base(folder / "base", kind)
    modules = [make_module(folder / f"m{i}", base, seed=i, targets=TARGETS[kind]) for i in range(3)]
    return {"base": base, "modules": modules, "examples": EXAMPLES}


def in_new_process(code, folder=settings.BASE_DIR):
    """What a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(settings.BASE_DIR), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def demo_examples(task="animal-spanish"):
    """(inputs, outputs) of a task of the demo world."""
    lines = (DEMO / "tasks" / task / "shots-0.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    return [row["input"] for row in rows], [row["output"] for row in rows]


# --- importing ----------------------------------------------------------------


def test_importing_the_package_loads_no_torch_no_transformers_and_no_django():
    heavy = in_new_process(
        "import sys, composer\n"
        "heavy = ('torch', 'transformers', 'peft', 'django', 'numpy')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    assert heavy.strip() == "[]"


def test_the_library_needs_no_django():
    in_new_process(
        "import sys; sys.modules['django'] = None\n"
        "import composer, composer.lorahub\n"
        "from composer import *\n"
        "assert callable(compose) and callable(evaluate) and callable(screen)"
    )


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        composer.no_such_name  # noqa: B018


def test_all_names_are_listed_and_there_and_no_others():
    assert dir(composer) == sorted(composer.__all__)
    assert all(getattr(composer, name) is not None for name in composer.__all__)


# --- composing ----------------------------------------------------------------


@pytest.mark.parametrize("rank", ["auto", "full"])
def test_a_composition_is_the_adapter_of_the_command_line(tiny, tmp_path, capsys, rank):
    options = {"method": "exact", "search": "adam", "budget": 30, "seed": 5, "rank": rank}
    made = composer.compose(**tiny, held_out=HELD_OUT, **options, progress=False)
    write_examples(tmp_path / "shots.jsonl", EXAMPLES)
    write_examples(tmp_path / "held_out.jsonl", HELD_OUT)
    words = ["compose", "--base", str(tiny["base"]), "--modules", *map(str, tiny["modules"])]
    words += ["--examples", str(tmp_path / "shots.jsonl"), "--held-out", str(tmp_path / "held_out.jsonl")]
    words += [word for name, value in options.items() for word in (f"--{name}", str(value))]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert made.weights == {row["name"]: row["weight"] for row in report["modules"]}
    assert rank == "auto" or list(made.weights) == ["m0", "m1", "m2"]
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (made.folder / name).read_bytes() == (tmp_path / "out" / name).read_bytes()
    told = report["verdict"]
    *words, size = capsys.readouterr().out.strip().splitlines()
    assert words == [told["text"], told["quality"]["text"], told["tokens"]["text"]]
    assert str(made.verdict) == "\n".join(words)
    assert made.verdict.quality.level == told["quality"]["level"]
    assert made.verdict.tokens.in_context > made.verdict.tokens.adapter
    assert size.startswith(f"The adapter is made of {len(made.weights)} module")
    assert made.verdict.decision == report["verdict"]["decision"]
    assert made.losses["composed"] == report["few_shot_loss_nats"]
    assert set(made.losses) >= {"zero_shot", "best_single", "uniform", "composed"}
    assert [row["expected"] for row in made.predictions] == [output for _, output in HELD_OUT]


def test_a_saved_composition_is_loaded_by_peft_and_answers_the_same(t5, tmp_path):
    made = composer.compose(**t5, held_out=HELD_OUT, budget=80, progress=False)
    folder = made.save(tmp_path / "saved")
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "report.json",
    ]
    base = AutoModelForSeq2SeqLM.from_pretrained(t5["base"])
    loaded, own = PeftModel.from_pretrained(base, folder).eval(), made.model()
    ids = torch.tensor([[3, 4, 1]])
    with torch.no_grad():
        expected = loaded(input_ids=ids, decoder_input_ids=ids).logits
        plain = AutoModelForSeq2SeqLM.from_pretrained(t5["base"])(input_ids=ids, decoder_input_ids=ids)
        assert torch.equal(own(input_ids=ids, decoder_input_ids=ids).logits, expected)
    assert not torch.allclose(plain.logits, expected)
    inputs = [given for given, _ in HELD_OUT]
    answers, _ = lorahub_inference(inputs, own, made.tokenizer(), batch_size=2)
    for answer, row in zip(answers, made.predictions, strict=True):  # the report cuts off endless answers
        assert row["composed"]
        assert answer.startswith(row["composed"])


def test_models_in_memory_give_the_same_adapter_as_their_folders(t5, tmp_path):
    options = {"examples": EXAMPLES, "method": "exact", "budget": 30, "rank": "full"}
    options |= {"baselines": "none", "progress": False}
    from_folders = composer.compose(base=t5["base"], modules=t5["modules"], **options)
    base = AutoModelForSeq2SeqLM.from_pretrained(t5["base"])
    before = {name: tensor.clone() for name, tensor in base.state_dict().items()}
    modules = [
        PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(t5["base"]), folder)
        for folder in t5["modules"][:2]
    ]
    modules.append(PeftModel.from_pretrained(base, t5["modules"][2]))  # peft changes `base` itself
    made = composer.compose(base=base, modules=modules, **options)
    assert list(made.weights) == ["module-1", "module-2", "module-3"]
    assert list(made.weights.values()) == list(from_folders.weights.values())
    for name, tensor in modules[2].unload().state_dict().items():
        assert torch.equal(tensor, before[name])
    assert isinstance(made.model(), PeftModel)


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_base_in_memory_is_read_as_its_folder_is_whatever_its_family(kind, tmp_path):
    tiny = made_tiny(tmp_path, kind)
    model = load_model(tiny["base"])
    PeftModel.from_pretrained(model, tiny["modules"][0])  # puts LoRA layers into it
    live = composer.screen(**(tiny | {"base": model}), progress=False)
    assert live == composer.screen(**tiny, progress=False)


def test_a_module_in_memory_has_the_name_of_its_adapter(t5):
    base = AutoModelForSeq2SeqLM.from_pretrained(t5["base"])
    config = LoraConfig(r=2, target_modules=["q", "v"], task_type="SEQ_2_SEQ_LM", init_lora_weights=False)
    french = get_peft_model(base, config, adapter_name="french")
    losses = composer.screen(
        base=t5["base"], modules=[french, *t5["modules"]], examples=EXAMPLES, progress=False
    )
    assert set(losses) == {"french", "m0", "m1", "m2"}


def test_a_base_in_memory_needs_a_tokenizer(t5):
    base = AutoModelForSeq2SeqLM.from_pretrained(t5["base"])
    base.config._name_or_path = base.name_or_path = ""
    asked = {"modules": t5["modules"], "examples": EXAMPLES, "progress": False}
    with pytest.raises(BaseModelError, match="tokenizer="):
        composer.screen(base=base, **asked)
    tokenizer = AutoTokenizer.from_pretrained(t5["base"])
    assert composer.screen(base=base, tokenizer=tokenizer, **asked) == composer.screen(
        base=t5["base"], **asked
    )


def test_a_base_with_a_merged_adapter_is_refused(t5):
    model = PeftModel.from_pretrained(AutoModelForSeq2SeqLM.from_pretrained(t5["base"]), t5["modules"][0])
    model.merge_adapter()
    with pytest.raises(BaseModelError, match="merged"):
        composer.screen(base=model, modules=t5["modules"], examples=EXAMPLES, progress=False)


@pytest.mark.parametrize("kind", ["t5", "llama"])
def test_a_base_of_which_peft_trains_whole_layers_is_refused(kind, tmp_path):
    tiny = made_tiny(tmp_path, kind)
    config = LoraConfig(r=2, target_modules=list(TARGETS[kind]), modules_to_save=["lm_head"])
    model = get_peft_model(load_model(tiny["base"]), config)
    for base in (model, model.get_base_model()):
        with pytest.raises(BaseModelError, match=r"peft trains lm_head .* Give the base model's name"):
            composer.screen(**tiny | {"base": base}, progress=False)


def test_a_temporary_result_is_gone_with_its_composition(t5):
    made = composer.compose(**t5, budget=30, baselines="none", progress=False)
    folder = made.folder
    assert folder.is_dir()
    del made
    gc.collect()
    assert not folder.exists()


def test_ctrl_c_leaves_the_adapter_that_is_done_and_nothing_else(t5, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()

    def press(event):
        if event.get("stage") == "evaluate":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match="the adapter is in"):
        composer.compose(**t5, budget=30, out=tmp_path / "out", on_event=press, progress=False)
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_search_is_stopped_by_its_watcher_and_events_come_as_they_are(t5):
    events = []

    def watch(event):
        events.append(event["event"])
        if event["event"] == "step":
            raise composer.StopSearch

    made = composer.compose(
        **t5, method="lorahub", budget=40, baselines="none", on_event=watch, progress=False
    )
    assert made.report["stopped"]
    assert events.count("step") == 1
    assert events[-1] == "done"


# --- what else there is -------------------------------------------------------


def test_evaluate_measures_the_base_and_an_adapter(tiny):
    made = composer.compose(**tiny, budget=80, rank="full", baselines="none", progress=False)
    alone = composer.evaluate(base=tiny["base"], examples=EXAMPLES, progress=False)
    adapted = composer.evaluate(base=tiny["base"], adapter=made.folder, examples=EXAMPLES, progress=False)
    live = composer.evaluate(base=tiny["base"], adapter=made.model(), examples=EXAMPLES, progress=False)
    assert adapted == live
    assert adapted["loss_nats_per_token"] == pytest.approx(made.losses["composed"], rel=1e-3)
    assert alone["loss_nats_per_token"] > adapted["loss_nats_per_token"]
    assert alone["n"] == len(EXAMPLES)


def test_screen_gives_the_loss_of_each_module_alone_the_best_first(tiny):
    losses = composer.screen(**tiny, progress=False)
    made = composer.compose(**tiny, budget=80, rank="full", baselines="none", progress=False)
    alone = {row["name"]: row["alone_loss_nats"] for row in made.report["modules"]}
    assert losses == pytest.approx(alone)
    assert list(losses.values()) == sorted(losses.values())


def test_screen_warns_of_a_module_that_does_not_fit(t5, tmp_path):
    other = make_base(tmp_path / "llama", "llama")
    stray = make_module(tmp_path / "stray", other, seed=0, targets=TARGETS["llama"])
    with pytest.warns(UserWarning, match="stray was left out"):
        losses = composer.screen(
            base=t5["base"], modules=[*t5["modules"], stray], examples=EXAMPLES, progress=False
        )
    assert "stray" not in losses


def test_compose_warns_of_a_module_that_does_not_fit_as_screen_does(t5, tmp_path):
    other = make_base(tmp_path / "llama", "llama")
    stray = make_module(tmp_path / "stray", other, seed=0, targets=TARGETS["llama"])
    asked = t5 | {"modules": [*t5["modules"], stray]}
    with pytest.warns(UserWarning, match="stray was left out: it ") as caught:
        made = composer.compose(**asked, search="adam", budget=3, baselines="none", progress=False)
    assert caught[0].filename == __file__
    assert [row["name"] for row in made.report["modules_left_out"]] == ["stray"]


def with_saved_layer(folder):
    path = folder / "adapter_model.safetensors"
    saved = {"base_model.model.lm_head.modules_to_save.weight": torch.ones(2, 2)}
    save_file(load_file(path) | saved, path)
    return folder


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [(as_dora, "cannot be composed: it is a DoRA"), (with_saved_layer, "cannot be read: adapter_model.safe")],
)
def test_a_module_that_cannot_be_composed_is_set_aside_beside_sound_ones(t5, tmp_path, capsys, spoil, reason):
    stray = spoil(make_module(tmp_path / "stray", Path(t5["base"]), seed=5, targets=TARGETS["t5"]))
    modules = [str(stray), *map(str, t5["modules"])]
    with pytest.warns(UserWarning, match=f"stray was left out: it {reason}"):
        losses = composer.screen(base=t5["base"], modules=modules, examples=EXAMPLES, progress=False)
    assert len(losses) == len(t5["modules"])
    write_examples(tmp_path / "examples.jsonl", EXAMPLES)
    asked = ["compose", "--base", str(t5["base"]), "--examples", str(tmp_path / "examples.jsonl")]
    asked += ["--search", "adam", "--budget", "3", "--baselines", "none", "--modules"]
    assert main([*asked, *modules, "--out", str(tmp_path / "out")]) == 0
    assert f"stray was left out: it {reason}" in capsys.readouterr().out
    assert main([*asked, str(stray), "--out", str(tmp_path / "none")]) == 2
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_what_may_spoil_the_result_is_a_warning_at_the_callers_line_before_the_search(t5):
    begun = []
    with pytest.warns(UserWarning, match="cannot write 1 of the 2 outputs") as caught:
        composer.compose(
            **t5 | {"examples": [("cat", "{}"), ("dog", "chien")]},
            method="exact",
            search="adam",
            budget=3,
            baselines="none",
            progress=False,
            on_event=lambda event: begun.append((event.get("stage"), len(caught))),
        )
    assert ("search", 1) in begun
    assert caught[0].filename == __file__


def test_examples_may_be_pairs_lists_or_dicts(t5):
    forms = (
        EXAMPLES,
        [list(pair) for pair in EXAMPLES],
        ({"input": given, "output": output} for given, output in EXAMPLES),
    )
    losses = [
        composer.screen(base=t5["base"], modules=t5["modules"], examples=form, progress=False)
        for form in forms
    ]
    assert losses[0] == losses[1] == losses[2]


@pytest.mark.parametrize(
    ("changes", "error", "sentence"),
    [
        ({"base": "no where"}, SourceError, "neither a folder nor the name"),
        ({"base": Path("nowhere")}, SourceError, "no folder ./nowhere"),
        ({"base": 5}, InvalidJobError, "not int"),
        ({"modules": []}, NoModulesError, "no module"),
        ({"modules": "alice/french"}, InvalidJobError, "list"),
        ({"modules": [5]}, InvalidJobError, "not int"),
        ({"modules": ["./nowhere"]}, SourceError, "no folder"),
        ({"examples": []}, ExamplesError, "no examples"),
        ({"examples": "cat"}, ExamplesError, "list of pairs"),
        ({"examples": {"input": "cat", "output": "chat"}}, ExamplesError, "list of pairs"),
        ({"examples": ["ab"]}, ExamplesError, "Example 1 is neither a pair"),
        ({"examples": [("cat", "chat"), ("dog",)]}, ExamplesError, "Example 2 is neither"),
        ({"examples": [("cat", {"a": "chat"})]}, ExamplesError, "output of example 1"),
        ({"examples": [("cat", "")]}, ExamplesError, "Example 1 has no output"),
        ({"examples": [("cat", "chat")] * 65}, ExamplesError, "at most 64"),
        ({"held_out": [("cat", "chat")]}, ExamplesError, "1 of the held-out examples"),
        ({"held_out": [{"output": "chat"}]}, ExamplesError, "Held-out example 1 has no input"),
        ({"method": "magic"}, InvalidJobError, "method is 'magic'"),
        ({"budget": 0}, InvalidJobError, "budget"),
        ({"budget": 2.5}, InvalidJobError, "budget"),
        ({"seed": object()}, InvalidJobError, "neither text nor a number"),
        ({"template": "no place"}, InvalidJobError, "template"),
        ({"batch_size": 2}, InvalidJobError, "lorahub alone"),
        ({"out": "/proc/nowhere"}, InvalidJobError, "Nothing can be written"),
    ],
)
def test_bad_input_raises_the_error_of_the_core(t5, changes, error, sentence):
    with pytest.raises(composer.ComposeError, match=sentence) as refused:
        composer.compose(**(t5 | changes), progress=False)
    assert isinstance(refused.value, error)


def test_a_whole_number_of_numpy_is_a_number(t5):
    import numpy as np

    made = composer.compose(**t5, budget=np.int64(30), baselines="none", progress=False)
    assert made.report["budget"] == 30


# --- what is shown ------------------------------------------------------------


def test_a_notebook_shows_the_comparison_without_anybody_elses_markup(t5, tmp_path):
    evil = tmp_path / "<script>alert(1)<"
    t5["modules"][0].rename(evil)
    made = composer.compose(
        base=t5["base"],
        modules=[evil, *t5["modules"][1:]],
        examples=EXAMPLES,
        held_out=HELD_OUT,
        budget=30,
        rank="full",  # so that the module takes part
        progress=False,
    )
    html = made._repr_html_()
    assert "<script" not in html
    assert "&lt;script&gt;alert(1)&lt;" in html
    rows = made.report["baselines"]
    assert html.count("<rect") == sum(row["held_out_exact_match_percent"] is not None for row in rows)
    assert "This composition" in html
    assert made.verdict.text in repr(made)


def test_without_held_out_examples_the_picture_shows_losses(t5):
    html = composer.compose(**t5, budget=30, baselines="none", progress=False)._repr_html_()
    assert "lower is better" in html
    assert html.count("<rect") == 1


def test_nothing_is_drawn_where_there_is_neither_a_terminal_nor_a_notebook(t5, capsys):
    composer.compose(**t5, budget=30, baselines="none").model()
    assert capsys.readouterr() == ("", "")


def test_a_notebook_has_a_bar_that_is_gone_in_the_end(t5, capsys, monkeypatch):
    monkeypatch.setattr("composer.library.progress.is_notebook", lambda: True)
    composer.compose(**t5, search="adam", budget=30, baselines="none")
    drawn = capsys.readouterr().err
    assert "Searching" in drawn
    assert "10/10" in drawn
    assert drawn.split("\r")[-1].strip() == ""


# --- LoraHub's own functions --------------------------------------------------


@pytest.fixture
def lists():
    return [given for given, _ in EXAMPLES], [output for _, output in EXAMPLES]


def test_a_loss_of_ones_own_is_what_the_search_minimizes(tiny, lists):
    seen = []

    def get_loss(dataset, model, batch_size):
        seen.append((len(dataset), dataset["input"], type(model), batch_size))
        return float(
            sum(parameter.abs().sum() for name, parameter in model.named_parameters() if "lora" in name)
        )

    def get_regular(weights):
        return sum((weight - 1) ** 2 for weight in weights) * 1e6  # so the best weights are near 1

    weights, model, _ = lorahub_learning(
        tiny["modules"], *lists, 30, tiny["base"], 2, get_loss=get_loss, get_regular=get_regular
    )
    assert len(seen) == 30
    assert seen[0] == (5, lists[0], type(model), 2)
    assert weights == pytest.approx([1, 1, 1], abs=0.2)


def letters_base(folder, chat_template):
    """A decoder with a token a letter, so that a line break before the answer counts; its modules help."""
    base = make_base(folder / "base", "qwen2")
    if chat_template:
        (base / "chat_template.jinja").write_text(chat_template)
    modules = [
        make_module(folder / f"m{i}", base, seed=i, targets=TARGETS["qwen2"], alpha=12) for i in range(3)
    ]
    return {"base": base, "modules": modules}


CHAT = (
    "{% for m in messages %}{{ m['role'] }} {{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant {% endif %}"
)


@pytest.mark.parametrize(
    ("chat_template", "read"),
    [("", "cat\n"), (CHAT, "user cat\nassistant ")],
    ids=["no chat template", "chat template"],
)
def test_learning_a_loss_of_ones_own_and_inference_read_the_same_prompts(
    tmp_path, lists, chat_template, read
):
    tiny = letters_base(tmp_path, chat_template)
    given = (tiny["modules"], *lists, 20, tiny["base"])
    fast, model, tokenizer = lorahub_learning(*given)
    rows, generated = [], []

    def get_loss(dataset, wrapped, size):
        rows.append(dataset["input_ids"][0])
        return default_get_loss(dataset, wrapped, size)

    slow, _, _ = lorahub_learning(*given, get_loss=get_loss)
    assert fast == pytest.approx(slow, abs=1e-3)
    assert any(fast)
    generate = model.generate
    model.generate = lambda **asked: generated.append(asked["input_ids"]) or generate(**asked)
    lorahub_inference(["cat"], model, tokenizer, 1)
    prompt = generated[0][0].tolist()
    assert prompt == tokenizer(read.rstrip(" "))["input_ids"] or prompt == tokenizer(read)["input_ids"]
    assert rows[0][: len(prompt)] == prompt


@pytest.mark.parametrize("kind", ["encoder-decoder", "decoder"])
def test_the_default_loss_by_peft_and_by_the_core_finds_the_same_weights(kind, tmp_path, lists):
    if kind == "decoder":
        tiny, (inputs, outputs) = made_tiny(tmp_path, "llama"), lists
        base, modules = tiny["base"], tiny["modules"]
    else:  # a T5 with random modules is best without them
        base, modules = DEMO / "base", [DEMO / "modules" / name for name in ("animal", "answer", "spanish")]
        inputs, outputs = demo_examples()
    fast, model, tokenizer = lorahub_learning(modules, inputs, outputs, 12, base, batch_size=2)

    def get_loss(*arguments):
        return default_get_loss(*arguments)

    slow, other, _ = lorahub_learning(modules, inputs, outputs, 12, base, batch_size=2, get_loss=get_loss)
    assert fast == pytest.approx(slow, abs=1e-3)
    assert any(fast)
    assert lorahub_inference(inputs, model, tokenizer, 3) == lorahub_inference(inputs, other, tokenizer, 2)


def test_the_answers_are_counted_as_the_paper_does(t5, lists):
    inputs, _ = lists
    answers, none = lorahub_inference(inputs, t5["base"], t5["base"], 2)
    assert none is None
    expected = [f" {answer.upper()}. " for answer in answers[:-1]] + ["something else"]
    again, percent = lorahub_inference(inputs, t5["base"], t5["base"], 10, expected)
    assert again == answers
    assert percent == pytest.approx(80)


def test_modules_that_do_not_agree_are_refused(t5, tmp_path, lists):
    other = make_module(tmp_path / "rank4", t5["base"], seed=9, rank=4)
    with pytest.raises(MismatchedModulesError, match="Of 4 modules only 3 agree"):
        lorahub_learning([*t5["modules"], other], *lists, 5, t5["base"])


def test_a_module_of_another_base_is_the_same_error_by_both_ways(t5, tmp_path, lists):
    other = make_base(tmp_path / "gpt2", "gpt2")
    strays = [make_module(tmp_path / f"s{i}", other, seed=i, targets=TARGETS["gpt2"]) for i in range(2)]
    for modules, sentence in ((strays, "does not have"), ([*t5["modules"], strays[0]], "only 3 agree")):
        messages = set()
        for own in ({}, {"get_loss": lambda *arguments: 0.0}):
            with pytest.raises(MismatchedModulesError, match=sentence) as refused:
                lorahub_learning(modules, *lists, 5, t5["base"], **own)
            messages.add(str(refused.value))
        assert len(messages) == 1


@pytest.mark.parametrize("kind", ["gpt2", "gpt-neox", "llama", "t5"])
def test_too_long_inputs_are_cut_off_whatever_the_base_can_read(kind, tmp_path):
    base = make_base(tmp_path / "base", kind)
    long = " ".join(["cat dog"] * 1500)
    model = load_model(base)
    read, generate = [], model.generate
    model.generate = lambda **asked: (
        read.append(asked["input_ids"]) or generate(**asked | {"max_new_tokens": 2})
    )
    answers, _ = lorahub_inference([long, "cat"], model, AutoTokenizer.from_pretrained(base), 2)
    assert len(answers) == 2
    assert read[0].shape[1] == {"gpt2": 32, "gpt-neox": 128, "llama": 1792, "t5": 2048}[kind]
    if kind == "gpt2":  # which has 64 positions
        del model.generate
        assert len(lorahub_inference([long], model, base, 1)[0]) == 1


@pytest.mark.parametrize(
    ("modules", "outputs", "sentence"),
    [
        ([], ["chat"], "no module"),
        (["./nowhere"], ["chat"], "no folder"),
        ([5], ["chat"], "not int"),
        (["./nowhere"], [], "1 input and 0 outputs"),
    ],
)
def test_bad_lists_are_refused(modules, outputs, sentence):
    with pytest.raises(composer.ComposeError, match=sentence):
        lorahub_learning(modules, ["cat"], outputs, 5)


def test_a_module_that_names_no_base_asks_for_one(t5, lists):
    with pytest.raises(BaseModelError, match="model_name_or_path="):
        lorahub_learning(t5["modules"], *lists, 5)


def test_the_196_modules_of_the_paper_have_their_names():
    assert len(set(LORA_MODULE_NAMES)) == 196
    assert all(name.startswith("lorahub/flan_t5_large-") for name in LORA_MODULE_NAMES)


# --- the example notebook -----------------------------------------------------

RUN_CELLS = """
import json
cells = json.load(open("compose.ipynb", encoding="utf-8"))["cells"]
names = {"__name__": "__main__"}
for cell in cells:
    if cell["cell_type"] == "code":
        exec("".join(cell["source"]), names)
print(json.dumps({"weights": names["made"].weights, "decision": names["made"].verdict.decision,
                  "answer": names["answer"], "expected": names["held_out"][0]["output"],
                  "shown": names["made"]._repr_html_()[:5]}))
"""


def test_the_example_notebook_runs_from_its_first_cell_to_its_last():
    told = json.loads(in_new_process(RUN_CELLS, folder=settings.BASE_DIR / "docs"))
    heaviest = sorted(told["weights"], key=lambda name: -abs(told["weights"][name]))
    assert set(heaviest[:2]) == {"animal", "spanish"}
    assert told["decision"] == "use"
    assert told["answer"] == told["expected"]
    assert told["shown"] == "<div>"


def test_a_trained_lora_can_be_loaded_saved_and_pushed_beside_the_composition(t5, tmp_path, monkeypatch):
    made = composer.compose(**t5, held_out=HELD_OUT, budget=30, progress=False)
    assert set(made.adapters) >= {"composed", "lora_on_shots"}
    assert made.adapters["composed"] == made.folder
    saved = made.save(tmp_path / "lora", adapter="lora_on_shots")
    config = (made.folder / "baselines" / "lora_on_shots" / "adapter_config.json").read_bytes()
    assert (saved / "adapter_config.json").read_bytes() == config
    assert (saved / "report.json").exists()
    assert made.model(adapter="lora_on_shots").peft_config["default"].r == json.loads(config)["r"]
    pushed = []

    def upload_folder(api, *, repo_id, folder_path, **others):
        pushed.append({path.name: path.read_bytes() for path in folder_path.iterdir()})

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda api, name, **others: RepoUrl(name))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    made.push_to_hub("alice/lora", adapter="lora_on_shots", base_model="demo/tiny")
    named = made.save(tmp_path / "named", adapter="lora_on_shots", base_model="demo/tiny")
    assert pushed == [{path.name: path.read_bytes() for path in named.iterdir()}]
    for use in (made.model, partial(made.push_to_hub, "alice/lora")):
        with pytest.raises(composer.ComposeError, match="no adapter 'best' here; there is composed, lora_on"):
            use(adapter="best")
    assert len(pushed) == 1


def test_the_card_states_the_strictest_licence_and_a_conflict_is_not_pushed_in_public(
    t5, tmp_path, monkeypatch
):
    pushed = []
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda api, name, **others: RepoUrl(name))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda api, **given: pushed.append(given))
    given = t5 | {"modules": t5["modules"][:2]}
    quick = {"method": "exact", "search": "lbfgs", "budget": 30, "baselines": "none", "rank": "full"}

    def composed(*licences):
        for folder, licence in zip(given["modules"], licences, strict=True):
            (folder / "README.md").write_text(f"---\nlicense: {licence}\n---\n# A module\n")
        return composer.compose(**given, **quick, progress=False)

    made = composed("mit", "apache-2.0")
    assert made.report["licence"]["identifier"] == "apache-2.0"
    assert "\nlicense: apache-2.0\n" in (made.folder / "README.md").read_text()
    made.push_to_hub("alice/open", base_model="demo/tiny")
    made = composed("mit", "cc-by-nd-4.0")
    assert "license:" not in (made.folder / "README.md").read_text()
    with pytest.raises(InvalidJobError, match=r"forbids publishing.*private=True"):
        made.push_to_hub("alice/closed", base_model="demo/tiny")
    assert len(pushed) == 1
    made.push_to_hub("alice/closed", private=True, base_model="demo/tiny")
    assert len(pushed) == 2


def test_what_is_pushed_names_a_base_that_a_hub_knows(t5, tmp_path, monkeypatch):
    pushed = []

    def upload_folder(api, *, folder_path, **others):
        pushed.append(
            {path.name: path.read_text() for path in folder_path.iterdir() if path.suffix != ".safetensors"}
        )

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda api, name, **others: RepoUrl(name))
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", upload_folder)
    quick = {"method": "exact", "search": "lbfgs", "budget": 30, "baselines": "none", "rank": "full"}
    model = AutoModelForSeq2SeqLM.from_pretrained(t5["base"])
    tokenizer = AutoTokenizer.from_pretrained(t5["base"])
    model.name_or_path = ""
    for base, more in ((t5["base"], {}), (model, {"tokenizer": tokenizer})):
        made = composer.compose(**t5 | {"base": base}, **quick, **more, progress=False)
        for wrong in ({}, {"base_model": str(t5["base"])}, {"base_model": "no--name"}):
            with pytest.raises(InvalidJobError, match=r"owner/name"):
                made.push_to_hub("alice/made", **wrong)
        assert not pushed
        made.push_to_hub("alice/made", base_model="demo/tiny")
        (files,) = pushed
        pushed.clear()
        assert json.loads(files["adapter_config.json"])["base_model_name_or_path"] == "demo/tiny"
        assert json.loads(files["report.json"])["base"] == {"name": "demo/tiny", "revision": ""}
        assert 'base_model: "demo/tiny"\n' in files["README.md"]
        assert "\nA LoRA adapter for `demo/tiny`, composed" in files["README.md"]
        assert str(t5["base"]) not in "".join(files.values())
    model.name_or_path = "demo/tiny"  # loaded from a Hub
    made = composer.compose(**t5 | {"base": model}, **quick, tokenizer=tokenizer, progress=False)
    made.push_to_hub("alice/made")
    assert json.loads(pushed[0]["adapter_config.json"])["base_model_name_or_path"] == "demo/tiny"


def test_a_place_or_a_base_that_does_not_fit_is_refused_in_a_sentence(t5, tmp_path):
    made = composer.compose(**t5, budget=30, baselines="none", progress=False)
    file = tmp_path / "file"
    file.write_text("mine")
    for place in (file, file / "below"):
        with pytest.raises(InvalidJobError, match="Nothing can be written to"):
            made.save(place)
    with pytest.raises(InvalidJobError, match="no name of a Hub"):
        made.save(tmp_path / "saved", base_model="./base")
    assert not (tmp_path / "saved").exists()
    other = load_model(make_base(tmp_path / "other", "llama"))
    with pytest.raises(InvalidJobError, match="does not fit this LlamaForCausalLM"):
        made.model(base=other)
    for wrong in ("a/name", t5["base"], object()):
        with pytest.raises(InvalidJobError, match="must be a PreTrainedModel"):
            made.model(base=wrong)


def test_code_that_has_no_name_is_warned_too():
    with pytest.warns(UserWarning, match="look here"):
        exec("warn_caller('look here')", {"warn_caller": warn_caller})
