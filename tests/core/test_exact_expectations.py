"""The enumerable world: expected gradients over all 121 completions, exact to float64 rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from enumerable import (
    ONE,
    A,
    assert_same,
    completion_logits,
    completions,
    gradient,
    gradient_of,
    ids,
    logprobs,
    prompt,
    rollout,
    row,
    tabular,
)
from torch import Tensor

from statewise.arms import Stream, Term
from statewise.data import Prompts
from statewise.objectives import ClippedSurrogate, KLStudentTeacher, KLTeacherStudent
from statewise.rewards import ExactAnswer
from statewise.sources import Learner
from statewise.supervision import GroupAdvantage, TeacherDistribution
from statewise.trajectory import Sampling, Segment

START = prompt(A)
EVERY = completions()


def summed(*, supervision, objective, normaliser_tokens: float = 1.0) -> Stream:
    """Sums over the states of a completion: no division that differs between completions."""
    term = Term(supervision, objective, normaliser="constant", constant_tokens=normaliser_tokens)
    return Stream(Prompts([START]), Learner(4, samples_per_prompt=2), (term,), 1)


def expected_gradient(student, stream: Stream, values) -> dict[str, Tensor]:
    """`E_{y ~ pi}` of the gradient that one completion gives, by listing all of them."""
    with torch.no_grad():
        probabilities = logprobs(student, [A], EVERY).exp()
    assert abs(float(probabilities.sum()) - 1) < 1e-12
    total: dict[str, Tensor] = {}
    for y, p, value in zip(EVERY, probabilities, values, strict=True):
        made = row(START, Segment("student@0", ids(*y)), sampling=Sampling())
        _, one = gradient(student, rollout(stream, [made], [value]))
        for name, g in one.items():
            total[name] = total.get(name, 0.0) + p * g
    return total


def visits(student) -> dict[tuple[int, ...], Tensor]:
    """`d(s)`: the probability that the completion passes through each prefix, differentiable."""
    out: dict[tuple[int, ...], Tensor] = {}
    logits = completion_logits(student, [A], EVERY)
    for y, lines in zip(EVERY, logits, strict=True):
        steps = lines.log_softmax(-1)
        for t in range(len(y)):
            past = sum((steps[k, y[k]] for k in range(t)), torch.zeros((), dtype=torch.float64))
            out[y[:t]] = past.exp()
    return out


def state_kls(student, teacher, *, teacher_first: bool) -> dict[tuple[int, ...], Tensor]:
    """The divergence at each prefix, from its definition."""
    out: dict[tuple[int, ...], Tensor] = {}
    own = completion_logits(student, [A], EVERY)
    told = completion_logits(teacher, [A], EVERY)
    for y, s, t in zip(EVERY, own, told, strict=True):
        p, q = s.softmax(-1), t.softmax(-1).detach()
        if teacher_first:
            p, q = q, p
        for k in range(len(y)):
            out[y[:k]] = (p[k] * (p[k] / q[k]).log()).sum()
    return out


def test_the_world_holds_every_completion_once():
    assert len(EVERY) == len(set(EVERY)) == 1 + 3 + 9 + 27 + 81
    assert len(visits(tabular())) == 1 + 3 + 9 + 27


def test_expected_policy_gradient_is_the_gradient_of_expected_reward():
    """REINFORCE with the reward as advantage, through the clipped surrogate at ratio 1."""
    student = tabular(0)
    rewards = [float(ONE in y) - 0.25 * len(y) for y in EVERY]
    stream = summed(supervision=GroupAdvantage(ExactAnswer()), objective=ClippedSurrogate())
    found = expected_gradient(student, stream, rewards)
    worth = torch.tensor(rewards, dtype=torch.float64)
    expected = -(logprobs(student, [A], EVERY).exp() * worth).sum()
    exact = gradient_of(expected, student)
    assert max(float(g.abs().max()) for g in exact.values()) > 1e-2
    assert_same(found, exact, atol=1e-14)


def test_a_constant_advantage_has_expected_gradient_0():
    student = tabular(1)
    stream = summed(supervision=GroupAdvantage(ExactAnswer()), objective=ClippedSurrogate())
    found = expected_gradient(student, stream, [3.0] * len(EVERY))
    assert max(float(g.abs().max()) for g in found.values()) < 1e-14


@pytest.mark.parametrize("teacher_first", [False, True])
def test_opd_is_the_gradient_of_the_state_divergence_with_visitation_held_fixed(teacher_first):
    student, teacher = tabular(0), tabular(1, name="teacher:mild")
    objective = KLTeacherStudent() if teacher_first else KLStudentTeacher()
    stream = summed(supervision=TeacherDistribution(teacher), objective=objective)
    found = expected_gradient(student, stream, np.zeros(len(EVERY)))
    kls, seen = state_kls(student, teacher, teacher_first=teacher_first), visits(student)
    held = sum(seen[s].detach() * kls[s] for s in seen)
    assert_same(found, gradient_of(held, student), atol=1e-14)


def test_opd_misses_the_sequence_kl_by_exactly_the_future_state_term():
    """`grad KL(pi(y) || pi_T(y)) = sum_s d(s) grad KL(s) + sum_s KL(s) grad d(s)`; OPD is the first."""
    student, teacher = tabular(0), tabular(1, name="teacher:mild")
    stream = summed(supervision=TeacherDistribution(teacher), objective=KLStudentTeacher())
    opd = expected_gradient(student, stream, np.zeros(len(EVERY)))
    own = logprobs(student, [A], EVERY)
    told = logprobs(teacher, [A], EVERY).detach()
    sequence = gradient_of((own.exp() * (own - told)).sum(), student)
    kls, seen = state_kls(student, teacher, teacher_first=False), visits(student)

    # The future-state term once as a derivative of the visitation ...
    moved = gradient_of(sum(seen[s] * kls[s].detach() for s in seen), student)
    assert max(float(g.abs().max()) for g in moved.values()) > 1e-2, "the term is not small"
    assert_same({n: opd[n] + moved[n] for n in opd}, sequence, atol=1e-13)

    # ... and once as a policy gradient whose return is the divergence still to come.
    logits = completion_logits(student, [A], EVERY)
    surrogate = torch.zeros((), dtype=torch.float64)
    for y, lines, p in zip(EVERY, logits, own.exp().detach(), strict=True):
        steps = lines.log_softmax(-1)
        for t in range(len(y)):
            to_come = sum(kls[y[:k]].detach() for k in range(t + 1, len(y)))
            surrogate = surrogate + p * steps[t, y[t]] * to_come
    assert_same(gradient_of(surrogate, student), moved, atol=1e-13)
