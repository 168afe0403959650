"""Each objective by hand numbers, and the contract that all of them keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from enumerable import EOS, ONE, A, B, ids, prompt, row

from statewise.objectives import (
    ClippedSurrogate,
    CrossEntropy,
    KLStudentTeacher,
    KLTeacherStudent,
)
from statewise.objectives.divergence import kl
from statewise.signals import Actions, Advantages, TeacherHidden
from statewise.trajectory import Sampling, Segment, States, gather_states

OBJECTIVES = [CrossEntropy(), KLStudentTeacher(), KLTeacherStudent(), ClippedSurrogate()]


def states(*actions: int, old: list[float] | None = None, temperature: float = 1.0) -> States:
    """One state an action."""
    made = row(
        prompt(A), Segment("student@0", ids(*actions)), sampling=Sampling(temperature=temperature)
    )
    before = None if old is None else [np.array([np.nan, *old], np.float32)]
    return gather_states([made], old_logprobs=before)


def log(*probabilities: float) -> torch.Tensor:
    return torch.tensor([probabilities], dtype=torch.float64).log()


def told(*probabilities: float) -> TeacherHidden:
    return TeacherHidden(log(*probabilities), torch.eye(len(probabilities), dtype=torch.float64))


def signal_for(objective, n: int):
    generator = torch.Generator().manual_seed(1)
    if isinstance(objective, CrossEntropy):
        return Actions()
    if isinstance(objective, ClippedSurrogate):
        return Advantages(torch.randn(n, generator=generator, dtype=torch.float64))
    hidden = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return TeacherHidden(hidden, torch.eye(4, dtype=torch.float64))


def test_cross_entropy_by_hand():
    value = CrossEntropy()(log(0.1, 0.2, 0.3, 0.4), states(ONE), Actions())
    assert value.tolist() == [pytest.approx(-math.log(0.3), abs=1e-15)]


def test_the_two_divergences_by_hand_and_their_direction():
    student, teacher = log(0.5, 0.5), told(0.25, 0.75)
    of_student = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    of_teacher = 0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2)
    assert abs(of_student - of_teacher) > 0.01
    assert KLStudentTeacher()(student, states(A), teacher).item() == pytest.approx(of_student)
    assert KLTeacherStudent()(student, states(A), teacher).item() == pytest.approx(of_teacher)


def test_gradients_of_the_two_divergences_by_hand():
    """`p (log p/q - KL)` for student first, `p - q` for teacher first, with respect to the logits."""
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    divergence = float((p * np.log(p / q)).sum())
    for objective, expected in (
        (KLStudentTeacher(), p * (np.log(p / q) - divergence)),
        (KLTeacherStudent(), p - q),
    ):
        logits = log(*p).requires_grad_()
        objective(logits, states(A), told(*q)).sum().backward()
        np.testing.assert_allclose(logits.grad[0].numpy(), expected, rtol=0, atol=1e-15)


def test_kl_counts_a_probability_of_0_as_0_and_a_missing_one_as_infinite():
    half, point = log(0.5, 0.5), log(1.0, 0.0)
    assert kl(point, half).item() == pytest.approx(math.log(2))
    assert kl(half, point).item() == math.inf
    # A fault stays a fault: only the product of a probability of 0 is 0.
    assert kl(torch.full((1, 2), math.nan), half).isnan().all()
    logits = torch.tensor([[0.0, -math.inf]], requires_grad=True)
    kl(logits.log_softmax(-1), half).sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_teachers_temperature_divides_its_logits():
    signal = TeacherHidden(
        torch.tensor([[2.0, 0.0]]), torch.eye(2), bias=torch.tensor([0.0, 4.0]), temperature=2.0
    )
    expected = torch.tensor([[1.0, 2.0]]).log_softmax(-1)
    torch.testing.assert_close(signal.logprobs(), expected)
    half = TeacherHidden(torch.ones(1, 2).bfloat16(), torch.eye(2).bfloat16())
    assert half.logprobs().dtype == torch.float32


@pytest.mark.parametrize(
    ("now", "advantage", "loss", "slope"),
    [
        # old probability 0.5, clip at [0.9, 1.1]; slope is d loss / d logit of the action
        (0.6, +1.0, -1.1, 0.0),  # already enough: held
        (0.6, -1.0, +1.2, +1.2 * 0.4),  # moved the wrong way: pulled back
        (0.4, +1.0, -0.8, -0.8 * 0.6),  # moved the wrong way: pulled back
        (0.4, -1.0, +0.9, 0.0),  # already enough: held
        (0.5, +2.0, -2.0, -2.0 * 0.5),  # not moved
    ],
)
def test_clipped_surrogate_by_hand(now, advantage, loss, slope):
    logits = log(now, 1 - now).requires_grad_()
    here = states(A, old=[math.log(0.5)])
    value = ClippedSurrogate(0.1, 0.1)(logits, here, Advantages(torch.tensor([advantage]).double()))
    value.sum().backward()
    assert value.item() == pytest.approx(loss, abs=1e-6)
    assert logits.grad[0, 0].item() == pytest.approx(slope, abs=1e-6)


def test_clip_low_and_clip_high_are_two_bounds():
    objective = ClippedSurrogate(clip_low=0.1, clip_high=0.3)
    for now, advantage, loss in ((0.9, 1.0, -1.3), (0.1, -1.0, 0.9)):
        here = states(A, old=[math.log(0.5)])
        value = objective(log(now, 1 - now), here, Advantages(torch.tensor([advantage]).double()))
        assert value.item() == pytest.approx(loss, abs=1e-6)


def test_a_policy_that_has_not_moved_has_ratio_1_and_the_policy_gradient():
    logits = log(0.3, 0.7).requires_grad_()
    value = ClippedSurrogate()(logits, states(B), Advantages(torch.tensor([2.0]).double()))
    value.sum().backward()
    assert value.item() == -2.0
    np.testing.assert_allclose(logits.grad[0], [2.0 * 0.3, -2.0 * 0.3], rtol=0, atol=1e-15)


def test_ratios_are_taken_under_the_temperature_of_sampling():
    """Probabilities 0.8 and 0.2 at temperature 0.5 are 16/17 and 1/17."""
    here = states(A, old=[math.log(16 / 17)], temperature=0.5)
    value = ClippedSurrogate()(log(0.8, 0.2), here, Advantages(torch.tensor([1.0]).double()))
    assert value.item() == pytest.approx(-1.0, abs=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.kind)
def test_contract_one_value_a_state_that_no_other_state_touches(objective):
    actions = (A, B, ONE, EOS, B)
    here, n = states(*actions, old=[-1.0, -2.0, -0.5, -1.5, -1.0], temperature=0.5), len(actions)
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(n, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    signal = signal_for(objective, n)
    whole = objective(logits, here, signal)
    assert whole.shape == (n,)
    assert whole.dtype == torch.float64
    assert torch.isfinite(whole).all()
    for cut in (slice(0, 2), slice(2, 5), slice(3, 4)):
        part = objective(logits[cut], here.at(cut), signal.at(cut))
        torch.testing.assert_close(part, whole[cut], rtol=0, atol=1e-15)
    jacobian = torch.autograd.functional.jacobian(lambda x: objective(x, here, signal), logits)
    for i in range(n):
        for j in range(n):
            assert i == j or not jacobian[i, j].any()


@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: o.kind)
def test_contract_weights_are_left_to_the_normaliser(objective):
    here = states(A, B)
    heavy = gather_states(
        [row(prompt(A), Segment("student@0", ids(A, B), weight=7.0), sampling=Sampling())]
    )
    logits = torch.tensor([[0.1, 0.7, -1.0, 0.2], [1.0, 0.0, 0.5, -0.5]], dtype=torch.float64)
    signal = signal_for(objective, 2)
    assert torch.equal(objective(logits, here, signal), objective(logits, heavy, signal))
