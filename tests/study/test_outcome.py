"""How training ended: by hand, and on policies whose weights were changed by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "core"))

from enumerable import EOS, A, B, ids, prompt, row, tiny

from statewise.study.outcome import keep_rows, kept_rows, loss_on, why_wrecked, wrecked
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


def test_the_rows_of_the_first_step_come_back_and_rows_without_a_trained_token_do_not(tmp_path):
    context = row(prompt(A), Segment("dataset", ids(B), weight=0.0))
    keep_rows(tmp_path, [*rows(), context])
    again = kept_rows(tmp_path)
    assert [t.token_ids.tolist() for t in again] == [[A, B, EOS], [B, EOS]]
    keep_rows(tmp_path / "none", [context])
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
    from statewise.study import jobs
    from statewise.study.executor import run_study
    from statewise.study.results import summarise

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
    return run, [str(e.job) for e in events if e.state == "ended"], summarise(folder)


@pytest.mark.parametrize("kind", ["nan", "wrecked"])
def test_an_arm_whose_last_step_wrecked_its_weights_has_failed(
    two_arms, monkeypatch, tmp_path, kind
):
    from statewise.study.finished import failure

    change = {"nan": lambda p: p.fill_(torch.nan), "wrecked": lambda p: p.mul_(-300.0)}[kind]
    run, ended, results = run_with_last_step(two_arms, monkeypatch, tmp_path / "run", change)
    folder = run.arm("stress_sft", 0)
    assert failure(folder) is not None
    assert not (folder / "policy").exists()
    assert not (folder / "first-step.parquet").exists()
    assert "training opd_from_stress, seed 0" not in ended, "a dependant learned from it"
    assert not results.complete
    assert [note for note in results.notes if note.startswith("Failed: stress_sft, seed 0")]


def test_an_arm_that_diverges_on_the_way_has_failed_and_others_go_on(
    two_arms, monkeypatch, tmp_path
):
    from dataclasses import replace

    from statewise.study.executor import run_study
    from statewise.study.finished import failure

    arm = two_arms.arm("stress_sft")
    wild = replace(arm, budget=replace(arm.budget, learning_rate=1e30, max_grad_norm=1e30))
    arms = tuple(wild if a.name == arm.name else a for a in two_arms.arms)
    run = run_study(replace(two_arms, arms=arms), tmp_path / "run", workers=0)
    assert failure(run.arm("stress_sft", 0)) is not None
    assert (run.arm("base", 0) / "items.parquet").is_file()


def test_a_sound_arm_leaves_no_rows_behind_and_no_path_of_this_machine(
    two_arms, tiny_base, tmp_path
):
    from statewise.study.executor import run_study

    run = run_study(two_arms, tmp_path / "run", workers=0)
    folder = run.arm("stress_sft", 0)
    assert not (folder / "first-step.parquet").exists()
    published = [*(folder / "policy").iterdir(), run.root / "environment.json"]
    texts = [f for f in published if f.suffix in (".json", ".md")]
    assert not [f.name for f in texts if str(tiny_base) in f.read_text()]
    assert f"| base | {tiny_base.name} |" in (folder / "policy" / "README.md").read_text()
