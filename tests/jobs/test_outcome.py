"""How training ended: by hand, and on policies whose weights were changed by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from enumerable import EOS, A, B, ids, prompt, row, tiny

from statewise.jobs.outcome import (
    judging_rows,
    keep_rows,
    kept_rows,
    loss_on,
    why_wrecked,
    wrecked,
)
from statewise.study.arm_run import ArmRun
from statewise.trajectory import Segment


def rows():
    return [
        row(prompt(A), Segment("dataset", ids(B, EOS))),
        row(prompt(B), Segment("dataset", ids(EOS))),
    ]


@pytest.mark.parametrize(
    ("first", "last", "fails"),
    [
        (0.5, 0.2, False),
        (0.5, 4.99, False),
        (0.5, 5.0, True),
        (2.0, 19.0, False),
        (2.0, 21.0, True),
        (0.0, 0.99, False),  # ten times nearly nothing is nearly nothing
        (0.0, 1.0, True),
        (0.5, float("nan"), True),
        (0.5, float("inf"), True),
    ],
)
def test_an_end_is_none_where_its_loss_is_no_number_or_ten_times_the_start(first, last, fails):
    assert (wrecked(first, last) is not None) is fails


def test_the_loss_is_the_mean_over_the_tokens_that_were_trained_on():
    policy = tiny(dtype=torch.float64)
    exact = [
        policy.module(torch.tensor([[A, B]])).logits[0].log_softmax(-1)[[0, 1], [B, EOS]],
        policy.module(torch.tensor([[B]])).logits[0].log_softmax(-1)[[0], [EOS]],
    ]
    by_hand = -torch.cat(exact).mean().item()
    assert loss_on(policy, rows(), tokens_per_microbatch=64) == pytest.approx(by_hand, abs=1e-6)


def change(policy, factor: float):
    with torch.no_grad():
        for p in policy.module.parameters():
            p.mul_(factor)
    return policy


def judged(student):
    return why_wrecked(student, tiny(dtype=torch.float32), rows(), tokens_per_microbatch=64)


def test_a_policy_that_hardly_moved_is_one():
    assert judged(change(tiny(dtype=torch.float32), 1.01)) is None


def test_finite_weights_that_forgot_everything_are_none():
    found = judged(change(tiny(dtype=torch.float32), -400.0))
    assert found is not None
    assert "rose from" in found


def test_weights_that_are_not_finite_are_named():
    student = tiny(dtype=torch.float32)
    with torch.no_grad():
        student.module.model.norm.weight[3] = torch.inf
    assert judged(student) == "its weight model.norm.weight holds numbers that are not finite"


def test_log_probs_that_overflow_are_no_loss():
    """Every weight is finite, and what the layers make of them is not."""
    student = tiny(dtype=torch.float32, tied=False)
    with torch.no_grad():
        student.module.model.norm.weight.mul_(1e30)
        student.head_weight()[0].mul_(1e30)
    assert judged(student) == ("its log-probs of the rows of the first step are not finite")


def test_the_rows_that_judge_an_end_are_those_trained_on_or_else_every_completion(tmp_path):
    context = row(prompt(A), Segment("dataset", ids(B), weight=0.0))
    keep_rows(tmp_path, judging_rows([*rows(), context]))
    again = kept_rows(tmp_path)
    assert [t.token_ids.tolist() for t in again] == [[A, B, EOS], [B, EOS]]
    # A first step that trained on nothing, as where every group of completions is rewarded alike.
    assert [t.weights.tolist() for t in judging_rows([context])] == [[0.0, 1.0]]
    keep_rows(tmp_path / "none", [])
    assert kept_rows(tmp_path / "none") == []


# ---- in a study ---------------------------------------------------------------------------------


@pytest.fixture
def two_arms(tiny_study):
    """A teacher and an arm that learns from it; nothing else is asked."""
    from dataclasses import replace

    names = ("stress_sft", "opd_from_stress")
    arms = tuple(arm for arm in tiny_study.arms if arm.name in names)
    return replace(tiny_study, arms=arms, claims=(), drift=None, dev=None, nulls=())


def run_with_last_step(study, monkeypatch, folder, change):
    """Run the study; `change` is done to the teacher's weights after its last step. Returns events, results."""
    from statewise.jobs import train as jobs
    from statewise.jobs.executor import run_study
    from statewise.results.summary import summarise

    real = jobs.train

    def train(arm, student, *args, **kwargs):
        for step in real(arm, student, *args, **kwargs):
            if arm.name == "stress_sft" and step.step == arm.steps:
                with torch.no_grad():
                    for p in student.module.parameters():
                        change(p)
            yield step

    monkeypatch.setattr(jobs, "train", train)
    events = []
    run = run_study(study, folder, workers=0, watch=events.append)
    told = {str(e.job): e.failed for e in events if e.state == "ended"}
    assert bool(told["training stress_sft, seed 0"]) == (change is not None)
    return run, list(told), summarise(folder)


@pytest.mark.parametrize("kind", ["nan", "wrecked"])
def test_an_arm_whose_last_step_wrecked_its_weights_has_failed(
    two_arms, monkeypatch, tmp_path, kind
):
    from statewise.store.finished import failure

    change = {"nan": lambda p: p.fill_(torch.nan), "wrecked": lambda p: p.mul_(-300.0)}[kind]
    run, ended, results = run_with_last_step(two_arms, monkeypatch, tmp_path / "run", change)
    folder = run.arm("stress_sft", 0)
    assert failure(folder) is not None
    assert not (folder / "policy").exists()
    assert not (folder / "first-step.parquet").exists()
    assert "training opd_from_stress, seed 0" not in ended, "a dependant learned from it"
    assert not results.complete
    told = [note for note in results.notes if "stress_sft" in note and "opd" not in note]
    assert len(told) == 1
    assert told[0].startswith("Failed: stress_sft, seed 0: ")
    assert "until arms/stress_sft/seed-0/failed.json is deleted" in told[0]
    behind = [note for note in results.notes if "opd_from_stress, seed 0, cannot run" in note]
    assert behind == [
        "Failed: opd_from_stress, seed 0, cannot run: it needs stress_sft, which failed."
    ]


def test_an_arm_that_diverges_on_the_way_has_failed_and_others_go_on(
    two_arms, monkeypatch, tmp_path
):
    from dataclasses import replace

    from statewise.jobs.executor import run_study
    from statewise.store.finished import failure

    arm = two_arms.arm("stress_sft")
    wild = replace(arm, budget=replace(arm.budget, learning_rate=1e30, max_grad_norm=1e30))
    arms = tuple(wild if a.name == arm.name else a for a in two_arms.arms)
    run = run_study(replace(two_arms, arms=arms), tmp_path / "run", workers=0)
    assert failure(run.arm("stress_sft", 0)) is not None
    assert (run.arm("base", 0) / "items.parquet").is_file()


def test_a_sound_arm_leaves_no_rows_behind_and_no_path_of_this_machine(
    two_arms, tiny_base, tmp_path
):
    from statewise.jobs.executor import run_study

    run = run_study(two_arms, tmp_path / "run", workers=0)
    folder = run.arm("stress_sft", 0)
    assert not (folder / "first-step.parquet").exists()
    published = [*(folder / "policy").iterdir(), run.root / "environment.json"]
    texts = [f for f in published if f.suffix in (".json", ".md")]
    assert not [f.name for f in texts if str(tiny_base) in f.read_text()]
    assert f"| base | {tiny_base.name} |" in (folder / "policy" / "README.md").read_text()


# ---- whose fault it is, and which weights are looked at -------------------------------------------

ARM = ("stress_sft", 0)


def quiet(*_):
    """Progress that nobody watches."""


def patched_train(monkeypatch, at, do):
    """After step `at` of training `do` is called with the student, before the step is given out."""
    from statewise.jobs import train as jobs

    real = jobs.train

    def train(arm, student, *args, **kwargs):
        for step in real(arm, student, *args, **kwargs):
            if step.step == at:
                do(student)
            yield step

    monkeypatch.setattr(jobs, "train", train)


def raising(owner):
    from statewise.errors import NotFiniteError

    def do(_):
        raise NotFiniteError(f"{owner} gives log-probs that are not finite", owner)

    return do


def wreck(student):
    with torch.no_grad():
        for p in student.module.parameters():
            p.mul_(-300.0)


def test_numbers_of_another_model_are_no_failure_of_the_arm(two_arms, monkeypatch, tmp_path):
    from statewise.errors import NotFiniteError
    from statewise.jobs.train import train_arm
    from statewise.store import RunFolder
    from statewise.store.finished import failure

    run = RunFolder(tmp_path)
    with monkeypatch.context() as patch:
        patched_train(patch, 3, raising("base@0"))
        with pytest.raises(NotFiniteError, match="base@0"):
            train_arm(ArmRun(two_arms, run, *ARM), quiet)
    assert failure(run.arm("stress_sft", 0)) is None
    patched_train(monkeypatch, 4, raising("student@3"))
    train_arm(ArmRun(two_arms, run, *ARM), quiet)
    assert "student@3" in (failure(run.arm("stress_sft", 0)) or "")


def test_an_arm_that_cannot_be_measured_has_failed_and_the_run_goes_on(
    two_arms, monkeypatch, tmp_path
):
    from statewise.errors import NotFiniteError
    from statewise.jobs import train as jobs
    from statewise.store import RunFolder
    from statewise.store.finished import failure

    run = RunFolder(tmp_path)
    jobs.train_arm(ArmRun(two_arms, run, *ARM), quiet)
    monkeypatch.setattr(jobs, "evaluate", lambda *_, **__: raising("student@5")(None))
    jobs.measure_arm(ArmRun(two_arms, run, *ARM), quiet)
    assert "student@5" in (failure(run.arm("stress_sft", 0)) or "")
    with pytest.raises(NotFiniteError):  # the base did not train: no arm is at fault
        jobs.measure_arm(ArmRun(two_arms, run, "base", 0), quiet)


@pytest.mark.parametrize("rows_are", ["in the checkpoint", "lost"])
def test_a_resumed_arm_is_judged_by_the_rows_of_its_first_step(
    two_arms, monkeypatch, tmp_path, rows_are
):
    from statewise.jobs import train as jobs
    from statewise.store import RunFolder, unseal
    from statewise.store.finished import failure

    def killed(_):
        raise KeyboardInterrupt

    run = RunFolder(tmp_path)
    checkpoint = run.arm("stress_sft", 0) / "checkpoint"
    with monkeypatch.context() as patch:
        patched_train(patch, 3, killed)
        with pytest.raises(KeyboardInterrupt):
            jobs.train_arm(ArmRun(two_arms, run, *ARM), quiet)
    assert (checkpoint / "first-step.parquet").is_file()
    if rows_are == "lost":  # a checkpoint of before has none
        unseal(checkpoint, "checkpoint")
        (checkpoint / "first-step.parquet").unlink()
    drawn = []
    real = jobs.why_wrecked
    monkeypatch.setattr(jobs, "why_wrecked", lambda *a, **k: drawn.append(a[2]) or real(*a, **k))
    patched_train(monkeypatch, 5, wreck)
    jobs.train_arm(ArmRun(two_arms, run, *ARM), quiet)
    assert "rose from" in (failure(run.arm("stress_sft", 0)) or "")
    fresh = jobs.judging_rows(jobs._first_rows(ArmRun(two_arms, run, *ARM)))
    assert [t.token_ids.tolist() for t in drawn[0]] == [t.token_ids.tolist() for t in fresh]


def test_of_an_arm_that_is_matched_the_weights_that_are_kept_are_judged(
    two_arms, monkeypatch, tmp_path
):
    from statewise.claims.controls import Match
    from statewise.jobs import train as jobs
    from statewise.jobs.budget_match import Goal, begin_record
    from statewise.store import RunFolder, read_json
    from statewise.store.finished import failure, is_trained

    run = RunFolder(tmp_path)
    folder = run.arm("stress_sft", 0)

    def goal(*_):
        begin_record(folder / "match.json", "update_norm", 1.0, 1.0, 0.1)
        match = Match("update_norm", 1.0, every_steps=3)
        return Goal(match, 1.0, folder, lambda p: (1.0 if p.version == 3 else 9.0, None))

    monkeypatch.setattr(jobs, "goal_of", goal)
    patched_train(monkeypatch, 5, wreck)
    jobs.train_arm(ArmRun(two_arms, run, *ARM), quiet)
    assert failure(folder) is None
    assert is_trained(run, "stress_sft", 0)
    assert read_json(folder / "policy" / "statewise.json")["steps"] == 3


def test_what_a_kill_left_of_a_failed_arm_goes(two_arms, tmp_path):
    from statewise.jobs.folder import clear
    from statewise.store import RunFolder
    from statewise.store.finished import fail

    run = RunFolder(tmp_path)
    folder = run.arm("stress_sft", 0)
    for part in ("checkpoint", "nearest"):
        (folder / part).mkdir(parents=True)
    (folder / "first-step.parquet").write_bytes(b"")
    fail(folder, "it diverged", 3)
    clear(run)
    assert [p.name for p in folder.iterdir() if not p.name.startswith(".")] == ["failed.json"]
