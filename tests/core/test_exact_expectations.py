"""The enumerable world: expected gradients over all 121 completions, exact to float64 rounding.

Nothing here is drawn, so a failure is a fault: the false-alarm rate of every test is 0. Labels and
log-probs of the sampler are float32, which leaves 1e-7 where a test uses values that are not exact in it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from enumerable import (
    EOS,
    ONE,
    A,
    B,
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

from statewise.arms import Stream, Term, grpo, with_replay
from statewise.data import Prompts
from statewise.gradient import Rollout, accumulate_gradient
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
    Objective,
    PythonObjective,
    Reinforce,
    SequenceRatio,
)
from statewise.rewards import ExactAnswer, Outcome
from statewise.signals import Labels
from statewise.sources import Continuation, Dataset, Learner, Teacher
from statewise.sources.continuation import cut_position
from statewise.supervision import (
    GroupAdvantage,
    LeaveOneOut,
    OwnActions,
    ProcessReward,
    ReferenceActions,
    RewardBaseline,
    TeacherDistribution,
    TeacherLogRatio,
    TeacherMixture,
)
from statewise.trajectory import Sampling, Segment

START = prompt(A, reference="#### 1")
EVERY = completions()
REWARD = ExactAnswer()
WORTH = [float(ONE in y) for y in EVERY]


def summed(*, supervision, objective, normaliser_tokens: float = 1.0) -> Stream:
    """Sums over the states of a completion: no division that differs between completions."""
    term = Term(supervision, objective, normaliser="constant", constant_tokens=normaliser_tokens)
    return Stream(Prompts([START]), Learner(4, samples_per_prompt=2), (term,), 1)


def expected_gradient(
    student, stream: Stream, values, *, sampler=None, old=None
) -> dict[str, Tensor]:
    """`E_{y ~ pi}` of the gradient that one completion gives, by listing all of them.

    `sampler` drew the completions (the student, where none is given). `old` is the policy at the start of
    the rollout's updates, where the student has moved since. `values` are labels: one number a
    completion, or one a token.
    """
    sampler = sampler or student
    with torch.no_grad():
        probabilities = logprobs(sampler, [A], EVERY).exp()
        steps = completion_logits(sampler, [A], EVERY)
    assert abs(float(probabilities.sum()) - 1) < 1e-12
    total: dict[str, Tensor] = {}
    for y, p, value, lines in zip(EVERY, probabilities, values, steps, strict=True):
        drawn = lines.log_softmax(-1)[range(len(y)), list(y)].float().numpy()
        made = row(START, Segment("student@0", ids(*y), drawn), sampling=Sampling())
        label = Labels(np.array([np.sum(value)], np.float32))
        if np.ndim(value):
            label = replace(label, per_token=[np.array([0.0, *value], np.float32)])
        before = None
        if old is not None:
            with torch.no_grad():
                (at_start,) = completion_logits(old, [A], [y])
            steps_then = at_start.log_softmax(-1)[range(len(y)), list(y)].float().numpy()
            before = [np.array([np.nan, *steps_then], np.float32)]
        part = Rollout(stream, [made], [label], before)
        _, one = gradient(student, part)
        for name, g in one.items():
            total[name] = total.get(name, 0.0) + p * g
    return total


def group_gradient(student, supervision, objective, n: int = 2) -> dict[str, Tensor]:
    """The exact expectation over all pairs of completions: labels by the supervision, its own way.

    The gradient is linear in the labels, so that the pairs' mean label of each completion suffices.
    """
    with torch.no_grad():
        p = logprobs(student, [A], EVERY).exp().numpy()
    rows = [row(START, Segment("student@0", ids(*y)), sampling=Sampling()) for y in EVERY]
    mean = np.zeros(len(EVERY))
    for i, j in itertools.product(range(len(EVERY)), repeat=n):
        values = supervision.label([rows[i], rows[j]]).values.astype(np.float64)
        mean[i] += p[j] * values[0] / n
        mean[j] += p[i] * values[1] / n
    stream = summed(supervision=supervision, objective=objective)
    return expected_gradient(student, stream, mean)


def reward_gradient(student, factor: float = 1.0) -> dict[str, Tensor]:
    """`-factor * grad E[reward]`, from its definition."""
    worth = torch.tensor(WORTH, dtype=torch.float64)
    return gradient_of(-factor * (logprobs(student, [A], EVERY).exp() * worth).sum(), student)


def cosine(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    one, two = (torch.cat([x[n].flatten() for n in sorted(x)]) for x in (a, b))
    return float(one @ two / one.norm() / two.norm())


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


def test_a_continuation_of_one_token_is_one_step_distillation_by_samples():
    """Roots by the cut's own law, the teacher's token at each: `kl(teacher||student)` at d of equation 4.

    A twelfth of the cuts lies in each of twelve intervals, and 12 is divided by every length.
    """
    student, teacher = tabular(0), tabular(1, name="teacher:mild")
    with torch.no_grad():
        drawn = logprobs(student, [A], EVERY).exp()
        told = completion_logits(teacher, [A], EVERY)
    share: dict[tuple[int, ...], float] = {}
    says: dict[tuple[int, ...], Tensor] = {}
    for y, p, lines in zip(EVERY, drawn, told, strict=True):
        for u in (np.arange(12) + 0.5) / 12:
            cut = cut_position(len(y), y[-1] == EOS, u)
            share[y[:cut]] = share.get(y[:cut], 0.0) + float(p) / 12
            says[y[:cut]] = lines[cut].softmax(-1)
    term = Term(OwnActions(), CrossEntropy(), on=("teacher",))
    stream = Stream(Prompts([START]), Continuation(teacher, 1, 4), (term,), 1)
    found: dict[str, Tensor] = {}
    for root, p in share.items():
        for action in range(4):
            segments = [Segment("student@0", ids(*root), weight=0.0)] if root else []
            made = row(START, *segments, Segment("teacher:mild@0", ids(action)))
            _, one = gradient(student, rollout(stream, [made]))
            for name, g in one.items():
                found[name] = found.get(name, 0.0) + p * float(says[root][action]) * g
    one_step = Term(TeacherDistribution(teacher), KLTeacherStudent(), normaliser="sequence")
    whole = Stream(Prompts([START]), Learner(4), (one_step,), 1)
    # 1/3 in float32 leaves 1e-9.
    assert_same(found, expected_gradient(student, whole, np.zeros(len(EVERY))), atol=1e-8)


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


# ---- policy gradients ---------------------------------------------------------------------------

UNMOVED = [Reinforce(), ClippedSurrogate(), Cispo()]


@pytest.mark.parametrize("objective", UNMOVED, ids=str)
def test_every_policy_gradient_is_that_of_expected_reward_while_the_policy_has_not_moved(objective):
    student = tabular(0)
    stream = summed(supervision=GroupAdvantage(REWARD), objective=objective)
    found = expected_gradient(student, stream, WORTH)
    assert_same(found, reward_gradient(student), atol=1e-14)


def test_gspo_unmoved_is_the_policy_gradient_divided_by_length():
    """What its length normalisation does to the expectation; 1/3 in float32 leaves 1e-9."""
    student = tabular(0)
    term = Term(GroupAdvantage(REWARD), SequenceRatio(), normaliser="sequence")
    stream = Stream(Prompts([START]), Learner(4, samples_per_prompt=2), (term,), 1)
    found = expected_gradient(student, stream, WORTH)
    own = logprobs(student, [A], EVERY)
    lengths = torch.tensor([len(y) for y in EVERY], dtype=torch.float64)
    worth = torch.tensor(WORTH, dtype=torch.float64)
    exact = gradient_of(-(own.detach().exp() * worth / lengths * own).sum(), student)
    assert_same(found, exact, atol=1e-9)
    assert cosine(found, reward_gradient(student)) < 1 - 1e-3, "length would not matter here"


def test_importance_by_sequence_without_a_cap_makes_another_policys_samples_unbiased():
    """Float32 log-probs of the sampler leave 1e-6."""
    student, sampler = tabular(0), tabular(3)
    term = Term(
        GroupAdvantage(REWARD),
        Reinforce(),
        normaliser="constant",
        constant_tokens=1.0,
        importance=Importance(cap=float("inf"), level="sequence"),
    )
    stream = Stream(Prompts([START]), Learner(4, samples_per_prompt=2), (term,), 1)
    found = expected_gradient(student, stream, WORTH, sampler=sampler)
    assert_same(found, reward_gradient(student), atol=1e-6)
    plain = summed(supervision=GroupAdvantage(REWARD), objective=Reinforce())
    biased = expected_gradient(student, plain, WORTH, sampler=sampler)
    assert cosine(biased, reward_gradient(student)) < 0.95, "the correction would not be needed"


def test_a_capped_weight_is_biased_towards_what_the_sampler_likes():
    student, sampler = tabular(0), tabular(3)
    distances = []
    exact = reward_gradient(student)
    for cap in (1.0, 2.0, 8.0, float("inf")):
        term = Term(
            GroupAdvantage(REWARD),
            Reinforce(),
            normaliser="constant",
            constant_tokens=1.0,
            importance=Importance(cap, level="sequence"),
        )
        stream = Stream(Prompts([START]), Learner(4, samples_per_prompt=2), (term,), 1)
        found = expected_gradient(student, stream, WORTH, sampler=sampler)
        distances.append(1 - cosine(found, exact))
    assert distances == sorted(distances, reverse=True)
    assert distances[0] > 0.01
    assert distances[-1] < 1e-9


# ---- advantages ---------------------------------------------------------------------------------


def test_leave_one_out_is_unbiased():
    """No test of chance: all 121 x 121 pairs are listed, so a failure is a fault."""
    student = tabular(0)
    found = group_gradient(student, LeaveOneOut(REWARD), Reinforce())
    assert_same(found, reward_gradient(student), atol=1e-7)


@pytest.mark.parametrize(
    "supervision", [GroupAdvantage(REWARD, scale="none"), RewardBaseline(REWARD)], ids=str
)
def test_a_mean_that_holds_the_sample_shrinks_the_gradient_by_n_minus_1_over_n(supervision):
    student = tabular(0)
    found = group_gradient(student, supervision, Reinforce())
    assert_same(found, reward_gradient(student, factor=0.5), atol=1e-7)


def test_a_constant_baseline_is_unbiased():
    student = tabular(0)
    stream = summed(supervision=RewardBaseline(REWARD, 0.3), objective=Reinforce())
    found = expected_gradient(student, stream, [w - 0.3 for w in WORTH])
    assert_same(found, reward_gradient(student), atol=1e-7)


def test_grpos_division_weighs_a_prompt_by_the_inverse_of_its_spread():
    """Of two prompts the rarely solved one weighs more than in the expected reward.

    With two samples and rewards 0 and 1 an advantage is +-1/2 / (sqrt(1/2) + 1e-4) where they
    differ, so the expected gradient of a prompt is its own, times that over 1/2, times 1/2.
    """
    student = tabular(0)
    found = group_gradient(student, GroupAdvantage(REWARD), Reinforce())
    factor = 0.5 / (np.sqrt(0.5) + 1e-4)
    assert_same(found, reward_gradient(student, factor=factor), atol=1e-7)
    # With rewards of another size it does not change: GRPO's gradient is of no expected reward.
    assert factor != pytest.approx(0.5)


@pytest.mark.parametrize("discount", [1.0, 0.5])
def test_rewards_to_come_give_the_gradient_of_their_sum_and_a_discount_biases_it(discount):
    """Reward 1 a token that is `A` and the outcome at the end; earlier rewards may be left out."""
    student = tabular(2)
    paid = [np.array([float(t == A) for t in y]) for y in EVERY]
    for y, r in zip(EVERY, paid, strict=True):
        r[-1] += 2.0 * (ONE in y)
    to_come = [
        [sum(discount ** (k - t) * r[k] for k in range(t, len(r))) - 0.25 for t in range(len(r))]
        for r in paid
    ]
    stream = summed(supervision=ProcessReward(Outcome(REWARD)), objective=Reinforce())
    found = expected_gradient(student, stream, to_come)
    own = logprobs(student, [A], EVERY)
    total = torch.tensor([r.sum() for r in paid], dtype=torch.float64)
    exact = gradient_of(-(own.exp() * total).sum(), student)
    if discount == 1:
        assert_same(found, exact, atol=1e-7)
    else:
        assert cosine(found, exact) < 1 - 1e-3


# ---- teachers -----------------------------------------------------------------------------------


def differ(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    return max(float((a[n] - b[n]).abs().max()) for n in a)


def test_the_sampled_log_ratio_is_the_state_divergence_in_expectation():
    """Discount 0: one sampled token in place of V, and no gradient through the log-ratio itself."""
    student, teacher = tabular(0), tabular(1, name="teacher:mild")
    sampled = summed(supervision=TeacherLogRatio(teacher), objective=Reinforce())
    whole = summed(supervision=TeacherDistribution(teacher), objective=KLStudentTeacher())
    nothing = np.zeros(len(EVERY))
    found = expected_gradient(student, sampled, nothing)
    assert_same(found, expected_gradient(student, whole, nothing), atol=1e-7)


def test_the_log_ratio_to_come_is_the_sequence_kl_future_states_included():
    """Discount 1 adds the term that per-state distillation leaves out, all of it."""
    student, teacher = tabular(0), tabular(1, name="teacher:mild")
    stream = summed(supervision=TeacherLogRatio(teacher, discount=1.0), objective=Reinforce())
    found = expected_gradient(student, stream, np.zeros(len(EVERY)))
    own = logprobs(student, [A], EVERY)
    told = logprobs(teacher, [A], EVERY).detach()
    sequence = gradient_of((own.exp() * (own - told)).sum(), student)
    assert_same(found, sequence, atol=1e-6)
    local = summed(supervision=TeacherLogRatio(teacher), objective=Reinforce())
    assert differ(expected_gradient(student, local, np.zeros(len(EVERY))), sequence) > 1e-2


def test_a_clipped_log_ratio_is_biased():
    student, teacher = tabular(0), tabular(1, name="teacher:mild")
    nothing = np.zeros(len(EVERY))
    free, tight = (
        expected_gradient(
            student,
            summed(supervision=TeacherLogRatio(teacher, clip=c), objective=Reinforce()),
            nothing,
        )
        for c in (None, 0.5)
    )
    assert cosine(free, tight) < 1 - 1e-3


STALE, BEFORE = tabular(9), tabular(3)
"""A policy that sampled long ago, and the one at the start of the rollout's updates."""


def weighed(supervision, objective, level: str, cap: float = float("inf")) -> Stream:
    term = Term(
        supervision,
        objective,
        normaliser="constant",
        constant_tokens=1.0,
        importance=Importance(cap, level=level),
    )
    return Stream(Prompts([START]), Learner(4, samples_per_prompt=2), (term,), 1)


@pytest.mark.parametrize("objective", [Reinforce(), ClippedSurrogate(1.0, float("inf"))], ids=str)
def test_sampled_distillation_of_stale_samples_is_the_state_divergence_at_their_states(objective):
    """At every update of a rollout, the first (nothing is old) and a later one (the student has moved).

    Float32 log-probs of the sampler and of the old policy leave 1e-6.
    """
    student, teacher = tabular(0), tabular(5, name="teacher:mild")
    stream = weighed(TeacherLogRatio(teacher), objective, "token")
    kls, seen = state_kls(student, teacher, teacher_first=False), visits(STALE)
    exact = gradient_of(sum(seen[s].detach() * kls[s] for s in seen), student)
    for old in (None, BEFORE):
        found = expected_gradient(student, stream, np.zeros(len(EVERY)), sampler=STALE, old=old)
        assert_same(found, exact, atol=1e-6)
        assert cosine(found, exact) > 1 - 1e-9


def test_the_log_ratio_to_come_of_stale_samples_needs_weights_by_sequence():
    student, teacher = tabular(0), tabular(5, name="teacher:mild")
    own, told = logprobs(student, [A], EVERY), logprobs(teacher, [A], EVERY).detach()
    exact = gradient_of((own.exp() * (own - told)).sum(), student)
    supervision, nothing = TeacherLogRatio(teacher, discount=1.0), np.zeros(len(EVERY))
    whole = weighed(supervision, Reinforce(), "sequence")
    assert_same(expected_gradient(student, whole, nothing, sampler=STALE), exact, atol=1e-5)
    tokens = weighed(supervision, Reinforce(), "token")
    assert cosine(expected_gradient(student, tokens, nothing, sampler=STALE), exact) < 0.99


@pytest.mark.parametrize(
    ("objective", "level", "discount", "old"),
    [
        (Reinforce(), "token", 0.0, None),
        (Reinforce(), "sequence", 1.0, None),
        (ClippedSurrogate(), "token", 0.0, BEFORE),
        (Cispo(), "sequence", 0.5, BEFORE),
    ],
    ids=["reinforce", "reinforce-row", "clipped-later", "cispo-later"],
)
def test_a_student_that_equals_its_teacher_learns_nothing_from_stale_samples(
    objective, level, discount, old
):
    """Whoever sampled, whatever weight, clip and discount: every log-ratio is 0, not its mean alone."""
    student, teacher = tabular(5), tabular(5, name="teacher:same")
    stream = weighed(TeacherLogRatio(teacher, discount=discount), objective, level, cap=2.0)
    found = expected_gradient(student, stream, np.zeros(len(EVERY)), sampler=STALE, old=old)
    assert max(float(g.abs().max()) for g in found.values()) < 1e-14


REPLAYED_COSINES = {
    "grpo, nothing": 0.511,
    "grpo, token": 0.843,
    "grpo, default": 0.805,
    "grpo, sequence": 1.0,
}


@pytest.mark.parametrize("name", REPLAYED_COSINES)
def test_what_replay_does_to_a_policy_gradient_and_what_its_weights_correct(name):
    """A rollout that is all stale, sampled by another policy altogether; the reward itself as advantage.

    Weights by token leave the visitation of the sampler's states; the cap of 2 biases a little further.
    """
    free = float("inf")
    options = {
        "grpo, nothing": {"importance": None},
        "grpo, token": {"importance": Importance(free)},
        "grpo, default": {},
        "grpo, sequence": {"importance": Importance(free, level="sequence")},
    }
    method = grpo(max_new_tokens=4, samples_per_prompt=2)
    method = with_replay(method, share=0.5, age_limit=2, **options[name])
    (stale,) = method.streams(Prompts([START]), prompts_per_step=1)
    (term,) = stale.terms
    term = replace(term, normaliser="constant", constant_tokens=1.0)
    student = tabular(0)
    found = expected_gradient(student, replace(stale, terms=(term,)), WORTH, sampler=STALE)
    assert cosine(found, reward_gradient(student)) == pytest.approx(
        REPLAYED_COSINES[name], abs=1e-3
    )


def test_the_figures_say_what_a_cap_took_away():
    """One row of three tokens with ratios 1/2, 3 and 4 under a cap of 2: 2 of 3 states, 3 of 7.5 of the mass."""
    student = tabular(0)
    (lines,) = completion_logits(student, [A], [(A, ONE, EOS)])
    steps = lines.detach().log_softmax(-1)[range(3), [A, ONE, EOS]]
    drawn = (steps - torch.tensor([0.5, 3.0, 4.0]).log()).float().numpy()
    made = row(START, Segment("student@0", ids(A, ONE, EOS), drawn), sampling=Sampling())
    # The other row is another term's: its states are not weighed, and count for nothing here.
    silent = row(START, Segment("teacher:mild@0", ids(B, EOS)), sampling=Sampling())
    for rule, removed in (("truncate", 3 / 7.5), ("mask", 7 / 7.5)):
        weigh = Importance(2.0, rule)
        term = Term(RewardBaseline(REWARD), Reinforce(), on=("student",), importance=weigh)
        source = Continuation(TAUGHT, 2, 2, supervised=("student", "teacher"))
        stream = Stream(Prompts([START]), source, (term,), 1)
        part = rollout(stream, [made, silent], [1.0, 1.0])
        figures = accumulate_gradient(student, [part], tokens_per_microbatch=5)
        assert figures["importance_capped_share"] == pytest.approx(2 / 3)
        assert figures["importance_removed_share"] == pytest.approx(removed, abs=1e-6)
    plain = Stream(Prompts([START]), Learner(4), (replace(term, importance=None),), 1)
    figures = accumulate_gradient(student, [rollout(plain, [made])], tokens_per_microbatch=99)
    assert figures.keys() == {"loss", "states"}


def by_state(student, supervision, value: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
    """`sum_s d(s) value(pi(.|s), pi_T(.|s))` with visitation held fixed, from its definition."""
    own = completion_logits(student, [A], EVERY)
    with torch.no_grad():
        if isinstance(supervision, TeacherMixture):
            told = [
                sum(w * x for w, x in zip(supervision.weights, those, strict=True))
                for those in zip(
                    *(
                        [x.softmax(-1) for x in completion_logits(t.teacher, [A], EVERY)]
                        for t in supervision.teachers
                    ),
                    strict=True,
                )
            ]
        else:
            told = [x.softmax(-1) for x in completion_logits(supervision.teacher, [A], EVERY)]
    values = {}
    for y, s, q in zip(EVERY, own, told, strict=True):
        p = s.softmax(-1)
        for k in range(len(y)):
            values[y[:k]] = value(p[k], q[k])
    seen = visits(student)
    return gradient_of(sum(seen[s].detach() * values[s] for s in seen), student)


def top(p: Tensor, q: Tensor, chosen: list[int]) -> tuple[Tensor, Tensor]:
    rest = [v for v in range(4) if v not in chosen]
    return tuple(torch.cat([x[chosen], x[rest].sum()[None]]) for x in (p, q))


def kl_sum(p: Tensor, q: Tensor) -> Tensor:
    return (p * (p / q).log()).sum()


def jsd(p: Tensor, q: Tensor, beta: float) -> Tensor:
    middle = beta * q + (1 - beta) * p
    return beta * kl_sum(q, middle) + (1 - beta) * kl_sum(p, middle)


TAUGHT = tabular(1, name="teacher:mild")
OTHER = tabular(2, name="teacher:other")
MIXED = TeacherMixture((TeacherDistribution(TAUGHT), TeacherDistribution(OTHER)), (0.25, 0.75))
STATE_LOSSES = {
    "jsd": (TeacherDistribution(TAUGHT), JSD(0.25), lambda p, q: jsd(p, q, 0.25)),
    "gate": (
        TeacherDistribution(TAUGHT),
        EntropyGated(1.0),
        lambda p, q: kl_sum(p, q) + (-(q * q.log()).sum() > 1.0) * kl_sum(q, p),
    ),
    "mixture": (MIXED, KLTeacherStudent(), lambda p, q: kl_sum(q, p)),
    "top 2 of the teacher": (
        TeacherDistribution(TAUGHT, top_k=2),
        KLTeacherStudent(),
        lambda p, q: kl_sum(*top(p, q, q.topk(2).indices.tolist())[::-1]),
    ),
    "top 2 of the student": (
        TeacherDistribution(TAUGHT, top_k=2, support="student"),
        KLStudentTeacher(),
        lambda p, q: kl_sum(*top(p, q, p.topk(2).indices.tolist())),
    ),
}


@pytest.mark.parametrize("name", STATE_LOSSES)
def test_every_divergence_is_its_own_gradient_with_visitation_held_fixed(name):
    student = tabular(0)
    supervision, objective, value = STATE_LOSSES[name]
    stream = summed(supervision=supervision, objective=objective)
    found = expected_gradient(student, stream, np.zeros(len(EVERY)))
    assert_same(found, by_state(student, supervision, value), atol=1e-13)


def test_dft_raises_the_probability_of_tokens_and_not_its_logarithm():
    student = tabular(0)
    gold = (1, 0, ONE, 3)
    term = Term(OwnActions(), DynamicFineTuning(), normaliser="constant", constant_tokens=1.0)
    made = row(START, Segment("dataset", ids(*gold)))
    _, found = gradient(student, rollout(Stream(Prompts([START]), Dataset(), (term,), 1), [made]))
    (lines,) = completion_logits(student, [A], [gold])
    exact = gradient_of(-lines.softmax(-1)[range(4), list(gold)].sum(), student)
    assert_same(found, exact, atol=1e-14)


# ---- likelihoods --------------------------------------------------------------------------------


def taught_by(teacher, supervision, objective) -> Stream:
    """Sums over the states of what the teacher wrote."""
    term = Term(supervision, objective, normaliser="constant", constant_tokens=1.0)
    return Stream(Prompts([START]), Teacher(teacher, 4), (term,), 1)


def test_cross_entropy_on_the_teachers_samples_is_the_gradient_of_the_sequence_kl():
    """`grad KL(pi_T(y) || pi(y))`, whole: its states do not depend on the student, so no term is left out."""
    student, teacher = tabular(0), tabular(1, name="teacher:mild")
    stream = taught_by(teacher, OwnActions(), CrossEntropy())
    found = expected_gradient(student, stream, np.zeros(len(EVERY)), sampler=teacher)
    own, told = logprobs(student, [A], EVERY), logprobs(teacher, [A], EVERY).detach()
    exact = gradient_of((told.exp() * (told - own)).sum(), student)
    assert max(float(g.abs().max()) for g in exact.values()) > 1e-2
    assert_same(found, exact, atol=1e-14)


@pytest.mark.parametrize("level", ["token", "sequence"])
def test_iw_sft_is_the_likelihood_weighed_by_what_the_student_gives_over_the_reference(level):
    """The weights are the student's own, so the listing takes them from whole rows, without gradient."""
    student, data, reference = tabular(0), tabular(1, name="teacher:mild"), tabular(2, name="base")
    objective = ImportanceWeighted(level, 0.0, float("inf"))
    stream = taught_by(data, ReferenceActions(reference), objective)
    found = expected_gradient(student, stream, np.zeros(len(EVERY)), sampler=data)
    with torch.no_grad():
        drawn = logprobs(data, [A], EVERY).exp()
        based = completion_logits(reference, [A], EVERY)
    total = torch.zeros((), dtype=torch.float64)
    own = completion_logits(student, [A], EVERY)
    for y, p, mine, theirs in zip(EVERY, drawn, own, based, strict=True):
        steps, before = (x.log_softmax(-1)[range(len(y)), list(y)] for x in (mine, theirs))
        gaps = (steps - before).detach()
        weights = (gaps if level == "token" else gaps.mean()).exp()
        total = total - p * (weights * steps).sum()
    assert_same(found, gradient_of(total, student), atol=1e-12)


def test_iw_sft_by_token_moves_nothing_on_the_references_own_samples():
    """`E_{a ~ ref}[pi / ref * grad log pi] = 0` at every state: it lives by the filter on its data."""
    student, reference = tabular(0), tabular(2, name="base")
    objective = ImportanceWeighted("token", 0.0, float("inf"))
    stream = taught_by(reference, ReferenceActions(reference), objective)
    found = expected_gradient(student, stream, np.zeros(len(EVERY)), sampler=reference)
    assert max(float(g.abs().max()) for g in found.values()) < 1e-12


EXACT = {
    CrossEntropy: test_cross_entropy_on_the_teachers_samples_is_the_gradient_of_the_sequence_kl,
    DynamicFineTuning: test_dft_raises_the_probability_of_tokens_and_not_its_logarithm,
    ImportanceWeighted: test_iw_sft_is_the_likelihood_weighed_by_what_the_student_gives_over_the_reference,
    KLStudentTeacher: test_opd_is_the_gradient_of_the_state_divergence_with_visitation_held_fixed,
    KLTeacherStudent: test_opd_is_the_gradient_of_the_state_divergence_with_visitation_held_fixed,
    JSD: test_every_divergence_is_its_own_gradient_with_visitation_held_fixed,
    EntropyGated: test_every_divergence_is_its_own_gradient_with_visitation_held_fixed,
    Reinforce: test_every_policy_gradient_is_that_of_expected_reward_while_the_policy_has_not_moved,
    ClippedSurrogate: test_every_policy_gradient_is_that_of_expected_reward_while_the_policy_has_not_moved,
    Cispo: test_every_policy_gradient_is_that_of_expected_reward_while_the_policy_has_not_moved,
    SequenceRatio: test_gspo_unmoved_is_the_policy_gradient_divided_by_length,
}
"""Where each objective meets its exact gradient; a user's own is the user's."""


def test_every_objective_meets_its_exact_gradient():
    assert set(EXACT) | {PythonObjective} == set(get_args(Objective))
