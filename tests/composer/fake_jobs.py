"""In place of the numeric core: a job that does what its first example names. Imported by the launcher."""

import json
import signal
import time


def run(folder, on_event):
    job = json.loads((folder / "job.json").read_text())
    first = json.loads((folder / "examples.jsonl").read_text().splitlines()[0])
    on_event({"event": "stage", "stage": "search", "text": "Searching"})
    FAKE_JOBS.get(first["input"], finish)(folder, job, on_event)


def finish(folder, job, on_event):
    for step in (1, 2):
        on_event(step_event(step, job))
    on_event({"event": "chatter", "text": "of no interest"})
    write_result(folder / "out", job)
    on_event({"event": "done"})


def step_event(step, job):
    loss = 3.0 - step
    weights = [1.0 / step] * len(job["modules"])
    return {"event": "step", "step": step, "budget": 2, "loss": loss, "best_loss": loss, "weights": weights}


def write_result(out, job):
    out.mkdir()
    (out / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (out / "adapter_model.safetensors").write_bytes(b"weights of " + json.dumps(job["modules"]).encode())
    (out / "README.md").write_text("# A composed adapter\n")
    (out / "report.json").write_text(json.dumps(report_of(job)))


def report_of(job):
    accuracy = {"held_out_exact_match_percent": 50.0, "interval_percent": [10.0, 90.0]}
    return {
        "schema": 1,
        "method": job["method"],
        "search": job["search"],
        "optimizer": "Adam",
        "select": "all",
        "objective": "loss",
        "budget": job["budget"],
        "seed": job["seed"],
        "precision": "fp32",
        "rank": 24,
        "template": "{input}",
        "n_shots": 3,
        "n_held_out": 2,
        "modules": [
            {"name": module["name"], "revision": module["revision"], "sha256": module["sha256"],
             "weight": 0.5 - number, "alone_loss_nats": 2.0}
            for number, module in enumerate(job["modules"])
        ],
        "few_shot_loss_nats": 1.0,
        "objective_value": 1.05,
        "baselines": [
            {"key": "zero_shot", "label": "Base alone", "detail": "", "few_shot_loss_nats": 3.0,
             "held_out_exact_match_percent": 0.0, "interval_percent": [0.0, 60.0]},
            {"key": "composed", "label": "This composition", "detail": "", "few_shot_loss_nats": 1.0,
             **accuracy},
        ],
        "verdict": {"decision": "use", "text": "Use the composition. It is right on 1 of 2."},
        "predictions": [
            {"input": "fig", "expected": "FIG", "base": "FIG", "composed": "FIG", "correct": True},
            {"input": "lime", "expected": "LIME", "base": "lime", "composed": "<script>alert(1)</script>",
             "correct": False},
        ],
        "steps": [{"step": 1, "loss": 2.0, "best_loss": 2.0}, {"step": 2, "loss": 1.0, "best_loss": 1.0}],
        "candidates_scored": 2,
        "gradient_steps": 0,
        "seconds": {"search": 0.1},
        "peak_memory_mb": 100,
        "versions": {"torch": "none"},
        "inputs_sha256": {"examples.jsonl": "0" * 64},
    }  # fmt: skip


def small_report(job):
    """The report of a small composition: the first module stands for the second, the third is not used."""
    whole = report_of(job)
    first, second, third = whole["modules"]
    names = ("name", "revision", "sha256")
    copy = {name: second[name] for name in names} | {"reason": "weights", "similarity": 0.97}
    pruned = {name: third[name] for name in (*names, "weight", "alone_loss_nats")}
    return whole | {
        "rank_asked": "auto",
        "rank": 16,
        "size_bytes": 390_000,
        "vllm_max_lora_rank": 16,
        "layers": {"adapted": 2, "of": 4},
        "modules": [first | {"copies": [copy]}],
        "modules_pruned": [pruned | {"loss_change_nats": 0.0042, "copies": []}],
    }


class PickyError(Exception):
    code = "modules_do_not_match"


def refuse(folder, job, on_event):
    raise PickyError("q is 2 × 8 in one module and 4 × 8 in another.")


def break_down(folder, job, on_event):
    raise ZeroDivisionError("nobody foresaw this")


def kill_itself(folder, job, on_event):
    signal.raise_signal(signal.SIGKILL)


def advance_and_die(folder, job, on_event):
    """One new step in each of five attempts, as on a machine that is taken away again and again."""
    steps = folder / "steps.jsonl"
    done = len(steps.read_text().splitlines()) if steps.exists() else 0
    if done < 5:
        on_event(step_event(done + 1, job))
        signal.raise_signal(signal.SIGKILL)
    write_result(folder / "out", job)
    on_event({"event": "done"})


def loop_for_ever(folder, job, on_event):
    while True:
        pass


def work_for_2_s(folder, job, on_event):
    for _ in range(20):
        on_event({"event": "chatter", "text": "still at it"})
        time.sleep(0.1)
    finish(folder, job, on_event)


def fill_the_disk(folder, job, on_event):
    raise OSError(28, "No space left on device")


def eat_memory(folder, job, on_event):
    bytearray(2 * 1024**3)


def leave_nothing(folder, job, on_event):
    on_event({"event": "done"})


FAKE_JOBS = {
    fake_job.__name__: fake_job
    for fake_job in (
        refuse, break_down, kill_itself, advance_and_die, loop_for_ever, work_for_2_s, fill_the_disk,
        eat_memory, leave_nothing,
    )
}  # fmt: skip
