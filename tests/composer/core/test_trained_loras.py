"""The LoRA trained on the examples and the tuned composition: how long, by which losses, and within what."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from composer.core import job
from composer.core.evaluation.baselines import lora_starts, trained_detail
from composer.core.evaluation.trained_loras import (
    Path,
    choose_steps,
    from_loras,
    may_come_below,
    nested_nats,
    new_loras,
    train_adapters,
    train_on_examples,
    train_path,
)
from composer.core.methods.base import PlainLora
from composer.core.model.base_model import FrozenBaseModel
from composer.core.model.scorer import FewShotScorer, token_mean
from composer.core.modules.module_stack import read_module, stack_modules
from composer.core.search.folds import fold_masks
from composer.core.spec import training
from composer.core.spec.examples import Example
from composer.core.spec.training import TrainingPlan, plan_lora, plan_tuning, steps_on_all
from tests.composer.core.tiny import EXAMPLES, TARGETS, make_base, make_job, make_module

SHOTS = [Example(*pair) for pair in EXAMPLES]
HELD_OUT = ("cat dog", "hat", "leg", "fig dog", "bay saw", "cat cat", "saw leg", "dog hat")


def world(folder, kind, precision="fp32"):
    files = make_base(folder / "base", kind)
    module = make_module(folder / "m", files, seed=0, targets=TARGETS[kind])
    base = FrozenBaseModel.load(files, "{input}\n", precision=precision)
    stack = stack_modules([read_module(module, "m")])
    base.hook(layer.path for layer in stack.layers)
    return FewShotScorer(base, base.encode(SHOTS)), stack


# --- what a training may cost ---------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "parameters", "rates", "steps"),
    [
        (3000, 10**6, (5e-3, 2e-3), 55),  # 5 · (3 · 55 + 1) + 3 · 69 = 1037 of 1050
        (7500, 10**6, (5e-3, 2e-3), 60),  # never more along one path
        (3000, 783_000_000, (2e-3,), 55),
        (1500, 10**6, (5e-3, 2e-3), 27),  # 2 · 5 · (3 · 15 + 1) + 3 · 19 = 517 of 525
        (1200, 10**6, (2e-3,), 22),
        (900, 10**6, (2e-3,), 16),  # 5 · (3 · 16 + 1) + 3 · 20 = 305 of 315
        (600, 10**6, (2e-3,), 0),
        (40, 783_000_000, (2e-3,), 0),
    ],
)
def test_the_lora_gets_as_many_steps_as_its_share_of_the_search_pays_for(budget, parameters, rates, steps):
    plan = plan_lora(budget, 5, parameters)
    assert (plan.rates, plan.steps) == (rates, steps)
    if steps:
        assert plan.passes(5) <= 0.35 * budget
    else:
        assert plan.passes(5) == 3 * training.FIXED_STEPS


def test_the_second_learning_rate_gets_the_work_that_the_first_left():
    plan = plan_lora(3000, 5, 10**6)
    assert plan.steps_after([], 5) == 55
    assert plan.steps_after([20], 5) == 39  # 305 of 1050; 5 · (3 · 39 + 1) + 3 · 49 = 737 of 745
    assert plan.steps_after([40], 5) == 23
    assert plan.steps_after([50], 5) == 15
    assert plan.steps_after([52], 5) == 0  # 14 steps would tell nothing
    assert TrainingPlan((5e-3, 2e-3), 6).steps_after([6], 5) == 0
    assert TrainingPlan((5e-3, 2e-3), 16).steps_after([16], 5) == 16


def test_a_large_base_and_a_short_search_say_why_there_is_one_rate_or_no_choice():
    assert plan_lora(3000, 5, 783_000_000).why == "one learning rate, as the base is large"
    assert plan_lora(900, 5, 10**6).why == "one learning rate, as the search is short"
    assert plan_lora(40, 5, 10**6).why == "the steps are not chosen, as the search is short"
    assert plan_lora(3000, 1, 10**6).why == "the steps are not chosen, as there is one example"
    assert plan_lora(3000, 5, 10**6).why == ""


@pytest.mark.parametrize(("budget", "steps"), [(3000, 30), (600, 7), (40, 0), (0, 0)])
def test_tuning_gets_as_many_steps_as_a_quarter_of_the_search_pays_for(budget, steps):
    plan = plan_tuning(budget, 5)
    assert plan.steps == steps
    assert plan.passes(5) <= budget / 4
    assert bool(plan.why) == (steps == 0)


def test_all_examples_get_as_many_steps_more_as_there_are_more_of_them():
    assert [steps_on_all(5, steps) for steps in (0, 1, 4, 10)] == [0, 1, 5, 12]
    assert steps_on_all(2, 10) == 20


# --- the choice ------------------------------------------------------------------

FOLDS = fold_masks(3, 3)
TOKENS = torch.tensor([1.0, 1.0, 2.0])
PATHS = [
    Path(0.002, torch.tensor([[4.0, 4.0, 4.0], [3.0, 3.0, 2.0], [1.0, 5.0, 2.0]]), True),  # 3, 2, 2
    Path(0.005, torch.tensor([[4.0, 4.0, 4.0], [2.0, 1.0, 4.0], [5.0, 0.5, 9.0]]), True),  # 3, 1.75, 3.6
]


def test_the_rate_and_the_steps_of_the_lowest_left_out_loss_are_chosen():
    chosen = choose_steps(PATHS, TOKENS, torch.ones(3), 1)
    assert (chosen.path, chosen.step, chosen.loss) == (1, 1, 1.75)
    first = choose_steps([PATHS[0]], TOKENS, torch.ones(3), 1)
    assert (first.step, first.loss) == (1, 2.0)  # of equal ones the earlier


def test_no_example_has_a_say_in_the_choice_that_it_is_judged_by():
    # without the first both paths are at 5 / 3 after 1 step, and the earlier counts;
    # without the second path 0 is at 3 / 3 after 2; without the third path 1 is at 3 / 2 after 1
    assert nested_nats(PATHS, TOKENS, FOLDS, 1).tolist() == [3.0, 5.0, 4.0]
    chosen = choose_steps(PATHS, TOKENS, torch.ones(3), 1)
    assert nested_nats(PATHS, TOKENS, FOLDS, 1).sum() > PATHS[chosen.path].nats[chosen.step].sum()


def test_a_step_without_a_finite_loss_is_never_chosen():
    broken = Path(0.01, torch.tensor([[4.0, 4.0, 4.0], [torch.nan, 0.0, 0.0], [3.0, 3.0, 3.0]]), True)
    assert choose_steps([broken], TOKENS, torch.ones(3), 0).step == 2


# --- the training ----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["t5", "llama", "gpt2"])
def test_adapters_side_by_side_train_as_if_alone_and_never_see_what_they_leave_out(tmp_path, kind):
    scorer, stack = world(tmp_path, kind)
    masks = fold_masks(5, 5)
    start = partial(new_loras, stack.layers, rank=2, scaling=2.0, seed=3, device=torch.device("cpu"))
    together = train_path(scorer, start(n_loras=5), masks, rate=5e-3, steps=6)
    alone = train_path(scorer, start(n_loras=1), masks[1:2], rate=5e-3, steps=6)
    torch.testing.assert_close(alone.nats[:, 1], together.nats[:, 1], rtol=1e-4, atol=1e-4)
    base_nats = scorer.nats_of_base()[0]
    torch.testing.assert_close(together.nats[0], base_nats)  # B is zero
    assert together.steps == 6
    assert together.is_complete


def test_a_path_ends_when_the_left_out_loss_has_not_fallen_for_long(tmp_path, monkeypatch):
    scorer, stack = world(tmp_path, "llama")
    monkeypatch.setattr("composer.core.evaluation.trained_loras.PATIENCE", 3)
    start = lora_starts(scorer, stack, seed=1, n_fits=5)
    path = train_path(scorer, start(True), fold_masks(5, 5), rate=0.05, steps=60)
    lowest = int(path.nats.sum(1).argmin())
    assert path.steps == lowest + 3 < 60
    assert not path.is_complete


def test_a_path_that_cannot_come_below_another_s_lowest_loss_ends(tmp_path):
    scorer, stack = world(tmp_path, "llama")
    start = lora_starts(scorer, stack, seed=1, n_fits=5)
    train = partial(train_path, scorer, start(True), fold_masks(5, 5), rate=1e-4, steps=40)
    alone, beaten = train(), train(to_beat=0.0)
    assert alone.steps == 40
    assert (beaten.steps, beaten.is_complete) == (training.FEWEST_TO_JUDGE, False)
    assert torch.equal(beaten.nats, alone.nats[: len(beaten.nats)])


@pytest.mark.parametrize(
    ("to_beat", "steps_left", "may"),
    [
        (1.0, 10, True),  # 4 - 10 · 0.5 is below 1
        (1.0, 6, False),  # 4 - 6 · 0.5 is 1, and not below
        (-1.0, 10, False),
        (float("inf"), 0, True),
    ],
)
def test_a_path_is_judged_by_its_fall_over_the_last_steps(to_beat, steps_left, may):
    losses = [20.0] * 10 + [8.0 - 0.5 * step for step in range(9)]  # ends at 4
    assert may_come_below(to_beat, losses, steps_left) is may


def test_a_young_path_is_never_judged_and_a_rising_one_can_only_stay():
    assert may_come_below(0.0, [9.0] * training.FEWEST_TO_JUDGE, 1)
    rising = [float(step) for step in range(training.FEWEST_TO_JUDGE + 1)]
    assert not may_come_below(rising[-1], rising, 100)
    assert may_come_below(rising[-1] + 1, rising, 100)


def test_the_training_repeats_to_the_bit_and_counts_its_steps(tmp_path):
    scorer, stack = world(tmp_path, "llama")
    plan = TrainingPlan((5e-3, 2e-3), 15)

    def made():
        starts = lora_starts(scorer, stack, seed=1, n_fits=5)
        return train_on_examples(
            scorer, plan, fold_masks(5, 5), starts, first=1, steps_on_all=partial(steps_on_all, 5)
        )

    one, other = made(), made()
    assert all(
        torch.equal(a, b)
        for pair in zip(one.lora.factors.values(), other.lora.factors.values(), strict=True)
        for a, b in zip(*pair, strict=True)
    )
    assert one.gradient_steps == 2 * 5 * 15 + one.steps
    assert one.candidates == 2 * 5
    assert one.steps == steps_on_all(5, one.chosen_step)


def test_a_training_from_adapters_starts_at_their_own_loss(tmp_path):
    scorer, stack = world(tmp_path, "t5")
    A, B = {}, {}
    for path, a, b in stack.factors():
        A[path], B[path] = a[0], b[0]
    lora = PlainLora({path: (A[path], B[path]) for path in A}, 2, 6.0)
    start = from_loras([lora] * 2)
    assert start.scaling == 3.0
    path = train_path(scorer, start, fold_masks(5, 2), rate=1e-3, steps=1)
    same = scorer.nats_of(start.candidates({key: (a[:1], b[:1]) for key, (a, b) in start.factors.items()}))
    torch.testing.assert_close(path.nats[0], same[0])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_a_decoder_s_lora_no_longer_gives_one_answer_to_everything(tmp_path, kind):
    """After forty steps at 0.005, as many as there were before, these bases say the same to most inputs."""
    scorer, stack = world(tmp_path, kind)
    prompts = [scorer.base.prompt(text) for text in HELD_OUT]
    starts = lora_starts(scorer, stack, seed=1, n_fits=5)

    def distinct(start, factors):
        (answers,) = scorer.base.answers(prompts, 4, start.candidates(factors))
        return len(set(answers))

    everything = torch.ones(1, 5)
    start = starts(False)
    before = train_adapters(scorer.base, scorer.batch, start, rate=5e-3, steps=40, train_mask=everything)
    plan = plan_lora(3000, 5, scorer.base.n_parameters)
    made = train_on_examples(
        scorer, plan, fold_masks(5, 5), starts, first=1, steps_on_all=partial(steps_on_all, 5)
    )
    after = {path: (A.unsqueeze(0), B.unsqueeze(0)) for path, (A, B) in made.lora.factors.items()}
    assert distinct(start, after) > distinct(start, before)


# --- in a job --------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "precision"), [("t5", "fp32"), ("llama", "bf16")])
def test_both_adapters_lie_beside_the_composition_and_peft_loads_what_the_report_says(
    tmp_path, kind, precision
):
    asked = {"method": "exact", "budget": 1400, "max_new_tokens": 4, "precision": precision}
    folder = make_job(tmp_path, kind=kind, **asked)
    job.run(folder, lambda event: None)
    out = folder / "out"
    report = json.loads((out / "report.json").read_text())
    rows = {row["key"]: row for row in report["baselines"]}
    assert rows["lora_on_shots"]["adapter"] == "baselines/lora_on_shots"
    assert rows["lora_on_shots"]["left_out_loss_nats"] > 0
    assert "on left-out examples" in rows["lora_on_shots"]["detail"]
    assert rows["composed"]["adapter"] is None
    kinds = AutoModelForSeq2SeqLM if kind == "t5" else AutoModelForCausalLM
    for row in rows.values():
        if row["adapter"]:
            base = FrozenBaseModel.load(folder / "base")
            peft = PeftModel.from_pretrained(kinds.from_pretrained(folder / "base"), out / row["adapter"])
            batch = base.encode(SHOTS)
            loss = float(peft(**batch.inputs, labels=batch.labels).loss)
            assert loss == pytest.approx(row["few_shot_loss_nats"], rel=0.05 if precision == "bf16" else 1e-4)
            assert f"rank {peft.peft_config['default'].r}," in row["detail"]
    tuned = rows["tuned"]
    assert bool(tuned["adapter"]) == ("not tuned" not in tuned["detail"])
    again = make_job(tmp_path / "again", kind=kind, **asked)
    job.run(again, lambda event: None)
    for path in (out / "baselines").rglob("*.safetensors"):
        assert path.read_bytes() == (again / "out" / path.relative_to(out)).read_bytes()


def test_the_loss_is_the_token_mean_of_all_examples(tmp_path):
    scorer, stack = world(tmp_path, "t5")
    start = lora_starts(scorer, stack, seed=1, n_fits=5)(False)
    told = []
    train_adapters(
        scorer.base,
        scorer.batch,
        start,
        rate=1e-2,
        steps=20,
        train_mask=torch.ones(1, 5),
        on_step=lambda nats: told.append(float(token_mean(nats, scorer.label_tokens)[0])) or True,
    )
    assert len(told) == 21
    assert told[-1] < told[0]


@pytest.mark.parametrize(
    ("steps", "chosen", "said"),
    [
        (
            34,
            27,
            "rank 8, 34 steps at 0.005; without a fold, of at most 27 steps at 0.005, stopping after 27 had "
            "the lowest loss on left-out examples, and on all examples 34 steps go as far",
        ),
        (
            9,
            9,
            "rank 8, 9 steps at 0.005; without a fold, of at most 27 steps at 0.005, stopping after 9 had "
            "the lowest loss on left-out examples",
        ),
    ],
)
def test_a_trained_adapter_says_how_its_steps_were_chosen(steps, chosen, said):
    made = SimpleNamespace(
        lora=SimpleNamespace(rank=8), steps=steps, rate=0.005, rates_tried=(0.005,), chosen_step=chosen
    )
    assert trained_detail(made, SimpleNamespace(steps=27, rates=(0.005,), why="")) == said
