"""Each objective by hand numbers, and the contract that all of them keep."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from enumerable import EOS, ONE, A, B, ids, prompt, row
from kinds import EVERY_OBJECTIVE

from statewise.arms.pairing import takes
from statewise.errors import ConfigError, DataError
from statewise.objectives import (
    JSD,
    Cispo,
    ClippedSurrogate,
    CrossEntropy,
    DynamicFineTuning,
    EntropyGated,
    Importance,
    ImportanceWeighted,
    KLStudentTeacher,
    KLTeacherStudent,
    Reinforce,
    SequenceRatio,
)
from statewise.objectives.divergence import kl
from statewise.objectives.rows import row_log_ratios
from statewise.signals import (
    Actions,
    Advantages,
    Mixture,
    Reference,
    TeacherHidden,
    TopK,
    with_tail,
)
from statewise.trajectory import Sampling, Segment, States, gather_states


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
    wants = takes(objective)
    if Actions in wants:
        return Actions()
    if Advantages in wants:
        return Advantages(torch.randn(n, generator=generator, dtype=torch.float64))
    if Reference in wants:
        return Reference(-torch.rand(n, generator=generator, dtype=torch.float64))
    hidden = torch.randn(n, 4, generator=generator, dtype=torch.float64)
    return TeacherHidden(hidden, torch.eye(4, dtype=torch.float64))


def advantage(value: float) -> Advantages:
    return Advantages(torch.tensor([value]).double())


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


# ---- likelihoods --------------------------------------------------------------------------------


def test_dft_by_hand_and_its_gradient_is_that_of_the_probability():
    logits = log(0.1, 0.2, 0.3, 0.4).requires_grad_()
    value = DynamicFineTuning()(logits, states(ONE), Actions())
    value.sum().backward()
    assert value.item() == pytest.approx(-0.3 * math.log(0.3), abs=1e-15)
    # d(-p_a) = -p_a (1[v = a] - p_v)
    expected = [0.3 * 0.1, 0.3 * 0.2, -0.3 * 0.7, 0.3 * 0.4]
    np.testing.assert_allclose(logits.grad[0], expected, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("reference", "weight"), [(0.2, 1.5), (0.3, 1.0), (0.6, 0.5), (0.01, 1.8), (0.99, 0.4)]
)
def test_iw_sft_weighs_by_the_clipped_ratio_to_the_reference(reference, weight):
    signal = Reference(log(reference)[0])
    logits = log(0.1, 0.2, 0.3, 0.4).requires_grad_()
    value = ImportanceWeighted("token", 0.4, 1.8)(logits, states(ONE), signal)
    value.sum().backward()
    assert value.item() == pytest.approx(-weight * math.log(0.3), abs=1e-15)
    assert logits.grad[0, ONE].item() == pytest.approx(-weight * 0.7, abs=1e-15)


def test_iw_sft_by_sequence_takes_the_weight_of_the_row():
    here = replace(states(ONE), row_log_ratio=log(1.25)[0])
    value = ImportanceWeighted()(log(0.1, 0.2, 0.3, 0.4), here, Reference(log(0.3)[0]))
    assert value.item() == pytest.approx(-1.25 * math.log(0.3), abs=1e-15)


# ---- divergences --------------------------------------------------------------------------------


def test_jsd_by_hand_at_beta_0_a_quarter_a_half_and_1():
    """S = (1/2, 1/2), T = (1/4, 3/4); at 1/2 the middle is (3/8, 5/8), at 1/4 (7/16, 9/16)."""
    student, teacher = log(0.5, 0.5), told(0.25, 0.75)

    def kl_to(p, q):
        return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))

    s, t, half, quarter = (0.5, 0.5), (0.25, 0.75), (0.375, 0.625), (0.4375, 0.5625)
    expected = {
        0.0: kl_to(t, s),
        0.25: 0.25 * kl_to(t, quarter) + 0.75 * kl_to(s, quarter),
        0.5: 0.5 * kl_to(t, half) + 0.5 * kl_to(s, half),
        1.0: kl_to(s, t),
    }
    for beta, value in expected.items():
        found = JSD(beta)(student, states(A), teacher).item()
        assert found == pytest.approx(value, abs=1e-15), beta
    assert expected[0.5] == pytest.approx(0.0338, abs=1e-4)


@pytest.mark.parametrize("beta", [1e-6, 1 - 1e-6])
def test_the_ends_of_jsd_are_the_limits_of_the_formula_over_its_small_weight(beta):
    student, teacher = log(0.2, 0.3, 0.5), told(0.6, 0.3, 0.1)
    near = JSD(beta)(student, states(A), teacher).item() / min(beta, 1 - beta)
    assert near == pytest.approx(
        JSD(float(round(beta)))(student, states(A), teacher).item(), rel=1e-4
    )


def test_jsd_of_strangers_is_at_most_log_2():
    value = JSD(0.5)(log(1.0, 1e-300), states(A), told(1e-300, 1.0)).item()
    assert value == pytest.approx(math.log(2))


@pytest.mark.parametrize(("threshold", "gated"), [(0.5, True), (0.6, False)])
def test_the_entropy_gate_by_hand(threshold, gated):
    """H(1/4, 3/4) = 0.5623 nats."""
    student, teacher = log(0.5, 0.5), told(0.25, 0.75)
    expected = KLStudentTeacher()(student, states(A), teacher)
    if gated:
        expected = expected + KLTeacherStudent()(student, states(A), teacher)
    found = EntropyGated(threshold)(student, states(A), teacher)
    assert found.item() == pytest.approx(expected.item(), abs=1e-15)


STUDENT, TEACHER = (0.1, 0.2, 0.3, 0.4), (0.5, 0.1, 0.3, 0.1)


@pytest.mark.parametrize(
    ("support", "buckets"),
    [
        ("teacher", ((0.1, 0.3, 0.6), (0.5, 0.3, 0.2))),
        ("student", ((0.4, 0.3, 0.3), (0.1, 0.3, 0.6))),
    ],
)
def test_top_2_and_the_tail_by_hand(support, buckets):
    """The teacher's two are tokens 0 and 2, the student's 3 and 2; the tail is all the others."""
    signal = TopK(told(*TEACHER), 2, support)
    found = [x.exp()[0].tolist() for x in signal.compare(log(*STUDENT))]
    np.testing.assert_allclose(found, buckets, rtol=0, atol=1e-15)
    p, q = buckets
    value = KLStudentTeacher()(log(*STUDENT), states(A), signal).item()
    assert value == pytest.approx(sum(a * math.log(a / b) for a, b in zip(p, q, strict=True)))
    value = KLTeacherStudent()(log(*STUDENT), states(A), signal).item()
    assert value == pytest.approx(sum(b * math.log(b / a) for a, b in zip(p, q, strict=True)))


def test_the_union_holds_both_top_k_and_no_token_twice():
    # Top 1 of the teacher is token 0, and of the student token 3.
    found = TopK(told(*TEACHER), 1, "union").compare(log(*STUDENT))
    np.testing.assert_allclose(found[0].exp(), [[0.1, 0.4, 0.5]], rtol=0, atol=1e-15)
    np.testing.assert_allclose(found[1].exp(), [[0.5, 0.1, 0.4]], rtol=0, atol=1e-15)
    # Where both choose token 3, the student's next best takes the other place.
    same = TopK(told(0.1, 0.2, 0.3, 0.4), 1, "union").compare(log(*STUDENT))
    np.testing.assert_allclose(same[0].exp(), [[0.4, 0.3, 0.3]], rtol=0, atol=1e-15)


@pytest.mark.parametrize("support", ["teacher", "student", "union"])
@pytest.mark.parametrize("objective", [KLStudentTeacher(), KLTeacherStudent(), JSD(0.5)], ids=str)
def test_merging_tokens_lowers_a_divergence_and_k_equal_to_v_is_the_whole_one(support, objective):
    generator = torch.Generator().manual_seed(3)
    logits, hidden = torch.randn(2, 50, 6, generator=generator, dtype=torch.float64)
    here = states(*[A] * 50)
    teacher = TeacherHidden(hidden, torch.eye(6, dtype=torch.float64))
    whole = objective(logits, here, teacher)
    for k in (1, 2, 5):
        part = objective(logits, here, TopK(teacher, k, support))
        assert (part >= 0).all()
        assert (part <= whole + 1e-15).all()
    for k in (6, 7, 100):
        assert torch.equal(objective(logits, here, TopK(teacher, k, support)), whole)


def test_a_tail_too_small_to_see_from_1_is_still_there():
    """1 - p in float32 would be 0 or noise: the tail's log is -50."""
    logits = torch.tensor([[0.0, -50.0]])
    (found,) = with_tail(logits.log_softmax(-1), torch.tensor([[0]]))[:, -1].tolist()
    assert found == pytest.approx(-50.0)


def test_dropping_the_tail_would_make_a_divergence_negative():
    """Why it is kept: the truncated sum over the student's top 1 is 0.4 log(0.4 / 0.9) < 0."""
    student, teacher = log(0.4, 0.3, 0.3), told(0.9, 0.05, 0.05)
    truncated = 0.4 * math.log(0.4 / 0.9)
    kept = KLStudentTeacher()(student, states(A), TopK(teacher, 1, "student")).item()
    assert truncated < 0 < kept
    assert kept == pytest.approx(truncated + 0.6 * math.log(0.6 / 0.1))


def test_a_mixture_of_teachers_mixes_probabilities_and_not_logits():
    mixed = Mixture((told(0.2, 0.8), told(0.6, 0.4)), (0.25, 0.75))
    np.testing.assert_allclose(mixed.logprobs().exp(), [[0.5, 0.5]], rtol=0, atol=1e-15)
    assert KLStudentTeacher()(log(0.5, 0.5), states(A), mixed).item() == pytest.approx(0, abs=1e-15)


def test_heads_of_different_width_are_compared_over_the_ids_that_both_have():
    wide, narrow = told(0.2, 0.3, 0.5), log(0.4, 0.6)
    student, teacher = wide.compare(narrow)
    np.testing.assert_allclose(student.exp(), [[0.4, 0.6]], rtol=0, atol=1e-15)
    np.testing.assert_allclose(teacher.exp(), [[0.4, 0.6]], rtol=0, atol=1e-15)
    student, teacher = told(0.4, 0.6).compare(log(0.2, 0.3, 0.5))
    np.testing.assert_allclose(student.exp(), [[0.4, 0.6]], rtol=0, atol=1e-15)


def test_a_token_that_the_teacher_forbids_leaves_the_gradient_finite():
    logits = torch.tensor([[1.0, 2.0, 0.5]], dtype=torch.float64, requires_grad=True)
    hidden = told(0.5, 0.5, 0.0)
    hidden = replace(hidden, hidden=torch.tensor([[0.5, 0.1, -1e30]], dtype=torch.float64))
    for objective in (KLStudentTeacher(), KLTeacherStudent(), JSD(0.5)):
        (grad,) = torch.autograd.grad(objective(logits, states(A), hidden).sum(), logits)
        assert torch.isfinite(grad).all(), objective


# ---- policy gradients ---------------------------------------------------------------------------


def test_reinforce_by_hand():
    logits = log(0.3, 0.7).requires_grad_()
    value = Reinforce()(logits, states(B), advantage(2.0))
    value.sum().backward()
    assert value.item() == pytest.approx(-2 * math.log(0.7))
    np.testing.assert_allclose(logits.grad[0], [2.0 * 0.3, -2.0 * 0.3], rtol=0, atol=1e-15)


@pytest.mark.parametrize("worth", [1.0, -1.0])
@pytest.mark.parametrize(("now", "weight"), [(0.9, 1.5), (0.6, 1.2), (0.25, 0.5), (0.1, 0.5)])
def test_cispo_by_hand_clips_the_weight_and_keeps_the_gradient(now, weight, worth):
    """Old probability 0.5, weights in [0.5, 1.5]; d loss / d logit = -w A (1 - p)."""
    logits = log(now, 1 - now).requires_grad_()
    here = states(A, old=[math.log(0.5)])
    value = Cispo(0.5, 0.5)(logits, here, advantage(worth))
    value.sum().backward()
    assert value.item() == pytest.approx(-weight * worth * math.log(now), abs=1e-6)
    assert logits.grad[0, 0].item() == pytest.approx(-weight * worth * (1 - now), abs=1e-6)


def test_cispo_leaves_small_ratios_alone_unless_told():
    here = states(A, old=[math.log(0.5)])
    value = Cispo()(log(0.05, 0.95), here, advantage(1.0)).item()
    assert value == pytest.approx(-0.1 * math.log(0.05), abs=1e-6)


@pytest.mark.parametrize(
    ("row", "worth", "loss", "share"),
    [
        # clip at [0.9, 1.1]; the share is d loss / d log-prob of one of the row's actions
        (1.2, +1.0, -1.1, 0.0),
        (1.2, -1.0, +1.2, +1.2),
        (0.8, +1.0, -0.8, -0.8),
        (0.8, -1.0, +0.9, 0.0),
        (1.0, +2.0, -2.0, -2.0),
    ],
)
def test_sequence_ratio_by_hand(row, worth, loss, share):
    logits = log(0.3, 0.7).requires_grad_()
    here = replace(states(A), row_log_ratio=log(row)[0])
    value = SequenceRatio(0.1, 0.1)(logits, here, advantage(worth))
    value.sum().backward()
    assert value.item() == pytest.approx(loss, abs=1e-15)
    assert logits.grad[0, 0].item() == pytest.approx(share * 0.7, abs=1e-15)


@pytest.mark.parametrize(
    ("over", "weights", "expected"),
    [
        ("mean", (1.0, 1.0, 1.0), [0.15, 0.15, 0.4]),
        ("sum", (1.0, 1.0, 1.0), [0.3, 0.3, 0.4]),
        ("mean", (3.0, 1.0, 1.0), [0.125, 0.125, 0.4]),
        ("sum", (3.0, 1.0, 0.5), [0.3, 0.3, 0.4]),
        ("mean", (0.0, 1.0, 1.0), [0.2, 0.2, 0.4]),
        ("sum", (0.0, 1.0, 1.0), [0.2, 0.2, 0.4]),
        ("sum", (1.0, 1.0, 0.0), [0.3, 0.3, 0.0]),
    ],
)
def test_the_ratio_of_a_row_is_over_the_states_that_the_term_speaks_of(over, weights, expected):
    """Log-ratios 0.1 and 0.2 of a row: 0.15 on the mean, 0.3 in sum; the other row has 0.4 alone.

    A weight is a state's part of the mean; in the sum a state counts once or not at all.
    """
    here = replace(
        sampled(0.0, 0.0, 0.0, rows=(0, 0, 1)),
        logprobs=torch.tensor([-0.9, -0.8, -0.6], dtype=torch.float64),
        old_logprobs=-torch.ones(3, dtype=torch.float64),
    )
    spoken = torch.tensor(weights, dtype=torch.float64)
    found = row_log_ratios(SequenceRatio(over=over), here, advantage(1.0), spoken)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_a_log_ratio_that_does_not_exist_where_the_term_is_silent_is_no_part_of_the_row():
    here = replace(
        sampled(0.0, 0.0, rows=(0, 0)),
        logprobs=torch.tensor([-0.9, -0.8], dtype=torch.float64),
    )
    told = Reference(torch.tensor([-1.0, math.nan], dtype=torch.float64))
    found = row_log_ratios(ImportanceWeighted(), here, told, torch.tensor([1.0, 0.0]).double())
    np.testing.assert_allclose(found, [0.1, 0.1], rtol=0, atol=1e-12)


def sampled(*gaps: float, rows: tuple[int, ...]) -> States:
    """States whose policy is `exp(gap)` times as likely as the behaviour, in these rows."""
    made = states(*[A] * len(gaps))
    return replace(
        made,
        row=torch.tensor(rows),
        behaviour_logprobs=-torch.tensor(gaps, dtype=torch.float64),
        logprobs=torch.zeros(len(gaps)).double(),
    )


@pytest.mark.parametrize(
    ("importance", "weights"),
    [
        (Importance(1.5), [1.5, 0.5, 1.25]),
        (Importance(1.5, "mask"), [0.0, 0.5, 1.25]),
        (Importance(1.5, level="sequence"), [1.0, 1.0, 1.25]),
        (Importance(1.1, "mask", "sequence"), [1.0, 1.0, 0.0]),
    ],
)
def test_importance_weights_by_hand(importance, weights):
    """Ratios 2 and 1/2 in the first row, 5/4 in the second."""
    here = sampled(math.log(2), math.log(0.5), math.log(1.25), rows=(0, 0, 1))
    found = importance(here, here.logprobs, torch.ones(3))
    np.testing.assert_allclose(found, weights, rtol=0, atol=1e-12)


def test_importance_speaks_of_the_terms_states_alone_and_refuses_unknown_samplers():
    here = sampled(math.log(2), math.log(3), rows=(0, 0))
    silent = torch.tensor([1.0, 0.0])
    assert Importance(9.0, level="sequence")(here, here.logprobs, silent)[0] == pytest.approx(2)
    unknown = replace(here, behaviour_logprobs=torch.tensor([-1.0, math.nan]).double())
    assert torch.isfinite(Importance()(unknown, here.logprobs, silent)).all()
    with pytest.raises(DataError, match="1 of 2 states have none"):
        Importance()(unknown, here.logprobs, torch.ones(2))


@pytest.mark.parametrize(
    "make",
    [
        lambda: JSD(1.5),
        lambda: JSD(-0.1),
        lambda: ClippedSurrogate(1.5, 0.2),
        lambda: Cispo(0.2, -0.1),
        lambda: SequenceRatio(-1.0, 0.1),
        lambda: Importance(0.5),
        lambda: ImportanceWeighted(low=2.0, high=1.0),
    ],
)
def test_values_that_mean_nothing_are_refused(make):
    with pytest.raises(ConfigError):
        make()


# ---- the contract -------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", EVERY_OBJECTIVE, ids=str)
def test_contract_one_value_a_state_that_no_other_state_touches(objective):
    actions = (A, B, ONE, EOS, B)
    here, n = states(*actions, old=[-1.0, -2.0, -0.5, -1.5, -1.0], temperature=0.5), len(actions)
    here = replace(here, row_log_ratio=torch.full((n,), 1e-4).double())
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


@pytest.mark.parametrize("objective", EVERY_OBJECTIVE, ids=str)
def test_contract_weights_are_left_to_the_normaliser(objective):
    here = states(A, B)
    heavy = gather_states(
        [row(prompt(A), Segment("student@0", ids(A, B), weight=7.0), sampling=Sampling())]
    )
    logits = torch.tensor([[0.1, 0.7, -1.0, 0.2], [1.0, 0.0, 0.5, -0.5]], dtype=torch.float64)
    signal = signal_for(objective, 2)
    here, heavy = (replace(s, row_log_ratio=torch.zeros(2).double()) for s in (here, heavy))
    assert torch.equal(objective(logits, here, signal), objective(logits, heavy, signal))
