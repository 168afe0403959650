"""Filters: what is kept, what is counted, and a step in which nothing is."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from enumerable import ONE, A, B, prompt, tiny

from statewise.arms import (
    Arm,
    Budget,
    Stream,
    Term,
    iterative_sft,
    rejection_sft,
    sft,
)
from statewise.data import Prompts
from statewise.gradient import Rollout, accumulate_gradient, state_factors
from statewise.objectives import CrossEntropy
from statewise.rewards import ExactAnswer
from statewise.signals import Labels
from statewise.sources import Filtered, Learner, Teacher
from statewise.supervision import OwnActions
from statewise.train import make_optimizer, train

STUDENT, TEACHER = tiny(0, version=7), tiny(1, name="teacher:base")
PROMPTS = Prompts([prompt(t, name=f"p{t}", reference="#### 1") for t in (A, B, ONE)])
HOPELESS = Prompts([prompt(A, reference="#### 2")])


def run(arm: Arm, policy):
    return [r.figures for r in train(arm, policy, make_optimizer(policy, arm.budget), seed=0)]


@pytest.mark.parametrize("inner", [Learner(6, 8), Teacher(TEACHER, 6, 8)], ids=lambda s: s.kind)
def test_the_correct_ones_keep_their_weight_and_the_others_have_none(inner):
    rows = Filtered(inner, ExactAnswer())(PROMPTS.items, student=STUDENT, seed=0)
    plain = inner(PROMPTS.items, student=STUDENT, seed=0)
    kept = 0
    for row, same in zip(rows, plain, strict=True):
        assert row.token_ids.tolist() == same.token_ids.tolist()
        assert (row.group_id, row.owners) == (same.group_id, same.owners)
        np.testing.assert_array_equal(row.behaviour_logprobs, same.behaviour_logprobs)
        correct = ONE in row.completion_ids
        kept += correct
        assert row.weights.tolist() == (same.weights.tolist() if correct else [0.0] * len(row))
    assert 3 < kept < 21


def test_the_threshold_is_kept_and_what_lies_below_it_is_not():
    rows = {
        threshold: Filtered(Learner(6, 8), ExactAnswer(), threshold)(
            PROMPTS.items, student=STUDENT, seed=0
        )
        for threshold in (0.0, 1.0, 1.1)
    }
    taught = {t: sum(r.supervised_tokens > 0 for r in made) for t, made in rows.items()}
    assert taught[0.0] == 24
    assert taught[1.1] == 0
    assert 0 < taught[1.0] < 24


def test_the_gradient_is_that_of_the_kept_alone():
    source = Filtered(Learner(6, 8), ExactAnswer())
    rows = source(PROMPTS.items, student=STUDENT, seed=0)
    stream = Stream(PROMPTS, source, (Term(OwnActions(), CrossEntropy()),), 3)
    found = []
    for part in (rows, [r for r in rows if r.supervised_tokens]):
        policy = tiny(0)
        labels = [Labels.none(len(part))]
        figures = accumulate_gradient(
            policy, [Rollout(stream, part, labels)], tokens_per_microbatch=1000
        )
        found.append((figures, [p.grad for p in policy.module.parameters()]))
    (figures, grads), (same, others) = found
    assert figures["states"] == same["states"]
    assert figures["loss"] == pytest.approx(same["loss"], abs=1e-9)
    for g, other in zip(grads, others, strict=True):
        torch.testing.assert_close(g, other, rtol=0, atol=1e-9)
    # The expected-reward normaliser divides by all that were tried.
    constant = Term(OwnActions(), CrossEntropy(), normaliser="constant", constant_tokens=1.0)
    factors = state_factors(constant, rows)
    assert {round(1 / float(f.max())) for f in factors if f.any()} == {24}


@pytest.mark.parametrize("frozen", [True, False])
def test_a_step_that_keeps_nothing_is_counted_says_so_and_moves_nothing(frozen):
    budget = Budget(1e-2, steps=2)
    given = {"max_new_tokens": 5, "samples_per_prompt": 3}
    arm = (
        Arm.of("r", rejection_sft(sampler=TEACHER, **given), HOPELESS, budget, prompts_per_step=2)
        if frozen
        else Arm.of("i", iterative_sft(**given), HOPELESS, budget, prompts_per_step=2)
    )
    policy = tiny(0, dtype=torch.float32)
    before = [p.detach().clone() for p in policy.module.parameters()]
    for figures in run(arm, policy):
        assert figures["updates"] == figures["tokens_trained"] == figures["loss"] == 0
        assert figures["taught_share"] == 0
        assert figures["tokens_sampled"] > 0
        assert (figures["teacher_tokens"] > 0) is frozen
    assert all(map(torch.equal, before, policy.module.parameters()))


def test_iterative_fine_tuning_raises_the_share_that_is_kept():
    arm = Arm.of(
        "i",
        iterative_sft(max_new_tokens=5, samples_per_prompt=8),
        PROMPTS,
        Budget(1e-2, steps=12, passes=2, minibatches=2),
        prompts_per_step=3,
    )
    rows = run(arm, tiny(6, dtype=torch.float32))
    kept = [r["taught_share"] for r in rows]
    assert np.mean(kept[-3:]) > np.mean(kept[:3]) + 0.2


def test_every_other_arm_teaches_with_all_that_it_walks():
    arm = Arm.of("plain", sft(), PROMPTS, Budget(1e-3, steps=2), prompts_per_step=2)
    policy = tiny(0, dtype=torch.float32)
    loop = train(arm, policy, make_optimizer(policy, arm.budget), seed=0)
    assert [r.figures["taught_share"] for r in itertools.islice(loop, 2)] == [1.0, 1.0]
