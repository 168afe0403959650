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
