"""The expected gradient of every advantage under every normaliser, listed: two rows, all 121 x 121 pairs of them.

A row's factor depends on the pair through lengths alone, and its label through rewards: both come from the code
under test, once for each pair of kinds of rows. `test_a_pair_is_the_sum_of_its_rows` runs whole pairs through it.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from enumerable import (
    ONE,
    A,
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

from statewise.arms import Arm, Budget, Stream, Term, grpo, length_reward, negative_advantage
from statewise.arms.expected import LAWS
from statewise.data import Prompts
from statewise.gradient import Rollout, state_factors
from statewise.objectives import Reinforce
from statewise.rewards import ExactAnswer, Outcome, PythonTokenReward
from statewise.signals import Advantages
from statewise.sources import Learner
from statewise.supervision import (
    ConstantAdvantage,
    GroupAdvantage,
    LeaveOneOut,
    ProcessReward,
    RewardBaseline,
    TeacherLogRatio,
)
from statewise.trajectory import Sampling, Segment

START = prompt(A, reference="#### 1")
EVERY = completions()
STUDENT, TEACHER = tabular(0), tabular(1, name="teacher:mild")
REWARD = ExactAnswer()
WORTH = torch.tensor([float(ONE in y) for y in EVERY], dtype=torch.float64)
LENGTHS = torch.tensor([float(len(y)) for y in EVERY], dtype=torch.float64)
OWN = logprobs(STUDENT, [A], EVERY)
P = OWN.detach().exp()
C, VALUE, BASE = 8.0, -0.75, 0.25
NORMALISERS = ("constant", "sequence", "token")


def by_token(trajectory):
    """1 for each `a`, 2 for each marked answer: paid where they stand."""
    return [float(t == A) + 2.0 * (t == ONE) for t in trajectory.completion_ids]


PAID = ProcessReward(PythonTokenReward(f"{__file__}:by_token"), baseline=BASE)
MADE = {
    ("constant_advantage", "value c"): ConstantAdvantage(VALUE),
    ("reward_baseline", "a number b"): RewardBaseline(REWARD, BASE),
    ("reward_baseline", "mean of the M rows"): RewardBaseline(REWARD),
    ("leave_one_out", ""): LeaveOneOut(REWARD),
    ("group_advantage", "scale none"): GroupAdvantage(REWARD, scale="none"),
    ("group_advantage", "scale std"): GroupAdvantage(REWARD),
    ("process_reward", "paid at the last"): ProcessReward(Outcome(REWARD), baseline=BASE),
    ("process_reward", "paid by token"): PAID,
    ("teacher_log_ratio", "discount 0"): TeacherLogRatio(TEACHER),
    ("teacher_log_ratio", "discount 1"): TeacherLogRatio(TEACHER, discount=1.0),
}


def supervision_of(law):
    (found,) = [s for (kind, part), s in MADE.items() if kind == law.kind and part in law.settings]
    return found


def flat(grads: dict[str, Tensor]) -> Tensor:
    return torch.cat([grads[name].flatten() for name in sorted(grads)])


def made_rows():
    drawn = [
        lines.detach().log_softmax(-1)[range(len(y)), list(y)].float().numpy()
        for y, lines in zip(EVERY, completion_logits(STUDENT, [A], EVERY), strict=True)
    ]
    return [
        row(START, Segment("student@0", ids(*y), steps), sampling=Sampling())
        for y, steps in zip(EVERY, drawn, strict=True)
    ]


ROWS = made_rows()


def term_of(supervision, normaliser: str) -> Term:
    tokens = C if normaliser == "constant" else None
    return Term(supervision, Reinforce(), normaliser=normaliser, constant_tokens=tokens)


def stream_of(term: Term) -> Stream:
    return Stream(Prompts([START]), Learner(4, samples_per_prompt=2), (term,), 1)


def grouped(supervision) -> bool:
    """True where a row's label depends on the other's."""
    return isinstance(supervision, GroupAdvantage | LeaveOneOut | RewardBaseline)


KNOWN: dict[int, Tensor] = {}


def row_gradients(supervision) -> Tensor:
    """Minus the gradient of each row alone, summed over its states; of a label of 1 where labels hang on pairs."""
    name = 0 if grouped(supervision) else id(supervision)
    if name in KNOWN:
        return KNOWN[name]
    alone = Term(supervision, Reinforce(), normaliser="constant", constant_tokens=1.0)
    parts = [
        rollout(stream_of(alone), [r], [1.0])
        if grouped(supervision)
        else Rollout(stream_of(alone), [r], [supervision.label([r])])
        for r in ROWS
    ]
    KNOWN[name] = torch.stack([-flat(gradient(STUDENT, part)[1]) for part in parts])
    return KNOWN[name]


def coefficients(term: Term) -> Tensor:
    """`E[label * factor]` of each row over the other row of its pair, as first and as second."""
    supervision, seen = term.supervision, {}
    total = torch.zeros(len(EVERY), dtype=torch.float64)
    for i, j in np.ndindex(len(EVERY), len(EVERY)):
        key = (len(EVERY[i]), float(WORTH[i]), len(EVERY[j]), float(WORTH[j]))
        if key not in seen:
            pair = [ROWS[i], ROWS[j]]
            factors = [float(f[1]) for f in state_factors(term, pair)]
            labels = supervision.label(pair).values if grouped(supervision) else np.ones(2)
            seen[key] = labels * np.array(factors)
        first, second = seen[key]
        total[i] += P[j] * first
        total[j] += P[i] * second
    return total


def found(supervision, normaliser: str) -> Tensor:
    """The expected direction of an update over two rows, by the code under test."""
    weights = P * coefficients(term_of(supervision, normaliser))
    return weights @ row_gradients(supervision)


# ---- the laws, from their definitions -----------------------------------------------------------

OTHERS = 2 / (LENGTHS[:, None] + LENGTHS[None])
H, K = OTHERS @ P, OTHERS @ (P * WORTH)
R = float(P @ WORTH)
Q = 1 / (2**0.5 + 2e-4)


def grad_of(values: Tensor) -> Tensor:
    """`grad E[X]` of a number a completion, held fixed."""
    return flat(gradient_of((OWN.exp() * values.detach()).sum(), STUDENT))


def grad_by_token(supervision, scale: Tensor) -> Tensor:
    """`E[sum_t A_t scale grad log pi_t]`, A from its definition."""
    total = torch.zeros((), dtype=torch.float64)
    own, told = (completion_logits(policy, [A], EVERY) for policy in (STUDENT, TEACHER))
    for y, p, x, q, lines, theirs in zip(EVERY, P, scale, ROWS, own, told, strict=True):
        steps = lines.log_softmax(-1)[range(len(y)), list(y)]
        other = theirs.detach().log_softmax(-1)[range(len(y)), list(y)]
        paid = torch.tensor(by_token(q)).double()
        teaches = isinstance(supervision, TeacherLogRatio)
        gaps = other - steps.detach() if teaches else paid
        to_go = teaches and supervision.discount == 0
        values = gaps if to_go else gaps.flip(0).cumsum(0).flip(0)
        values = values if teaches else values - BASE
        total = total + p * x * (values * steps).sum()
    return flat(gradient_of(total, STUDENT))


def state_divergence() -> Tensor:
    """The gradient of `kl(student||teacher)` summed over visited states, visitation held fixed."""
    total = torch.zeros((), dtype=torch.float64)
    own, told = (completion_logits(policy, [A], EVERY) for policy in (STUDENT, TEACHER))
    for p, lines, theirs in zip(P, own, told, strict=True):
        a, b = lines.log_softmax(-1), theirs.detach().log_softmax(-1)
        total = total + p * (a.exp() * (a - b)).sum()
    return flat(gradient_of(total, STUDENT))


def sequence_divergence() -> Tensor:
    told = logprobs(TEACHER, [A], EVERY).detach()
    return flat(gradient_of((OWN.exp() * (OWN - told)).sum(), STUDENT))


def outcome(supervision) -> Tensor:
    """The reward of each completion."""
    if supervision is PAID:
        return torch.tensor([sum(by_token(r)) for r in ROWS], dtype=torch.float64)
    return WORTH


CLOSED = {
    "0": lambda s: torch.zeros_like(grad_of(WORTH)),
    "c grad E[1/T]": lambda s: VALUE * grad_of(1 / LENGTHS),
    "c grad E[h(T)]": lambda s: VALUE * grad_of(H),
    "grad E[R] / C": lambda s: grad_of(outcome(s)) / C,
    "grad E[(R - b) / T]": lambda s: grad_of((WORTH - BASE) / LENGTHS),
    "grad E[(R - b) h(T)]": lambda s: grad_of((WORTH - BASE) * H),
    "grad E[(R - r) / T]": lambda s: grad_of((WORTH - R) / LENGTHS),
    "grad E[R h(T) - k(T)]": lambda s: grad_of(WORTH * H - K),
    "E[sum_t A_t / T grad log pi_t]": lambda s: grad_by_token(s, 1 / LENGTHS),
    "E[sum_t A_t h(T) grad log pi_t]": lambda s: grad_by_token(s, H),
    "-E[sum_t grad kl(student||teacher) at s_t] / C": lambda s: -state_divergence() / C,
    "-grad kl(student||teacher) of completions / C": lambda s: -sequence_divergence() / C,
}
FACTORS = {"(M-1)/M ": 0.5, "(n-1)/n ": 0.5, "q ": Q}


def closed(text: str, supervision) -> Tensor:
    """The law that the text of the table says."""
    for prefix, factor in FACTORS.items():
        if text.startswith(prefix):
            return factor * CLOSED[text.removeprefix(prefix)](supervision)
    return CLOSED[text](supervision)


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.kind}, {law.settings}")
def test_the_expected_gradient_is_what_the_table_says(law, normaliser):
    """Labels and factors are float32, which leaves 1e-7."""
    supervision = supervision_of(law)
    exact = closed(getattr(law, normaliser), supervision)
    torch.testing.assert_close(found(supervision, normaliser), exact, rtol=0, atol=2e-7)


def test_the_table_has_every_advantage_of_the_package():
    from typing import get_args, get_type_hints

    from statewise.supervision import PythonSupervision, Supervision

    kinds = {
        kind.kind
        for kind in get_args(Supervision)
        if kind is not PythonSupervision and get_type_hints(kind.signal)["return"] is Advantages
    }
    assert {law.kind for law in LAWS} == kinds
    assert len({(law.kind, law.settings) for law in LAWS}) == len(LAWS) == len(MADE)


@pytest.mark.parametrize("normaliser", NORMALISERS)
@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.kind}, {law.settings}")
def test_a_pair_is_the_sum_of_its_rows(law, normaliser):
    supervision = supervision_of(law)
    term = term_of(supervision, normaliser)
    for i, j in ((0, 60), (3, 3), (120, 7)):
        pair = [ROWS[i], ROWS[j]]
        whole = Rollout(stream_of(term), pair, [supervision.label(pair)])
        labels = supervision.label(pair).values if grouped(supervision) else (1.0, 1.0)
        factors = [float(f[1]) for f in state_factors(term, pair)]
        parts = [
            float(a) * f * row_gradients(supervision)[k]
            for a, f, k in zip(labels, factors, (i, j), strict=True)
        ]
        _, grads = gradient(STUDENT, whole)
        torch.testing.assert_close(-flat(grads), sum(parts), rtol=0, atol=1e-9)


# ---- the null and what was taken for one --------------------------------------------------------

GIVEN = {"max_new_tokens": 4}


def direction(arm) -> Tensor:
    """The expected direction of an arm's first update, from its own term."""
    (term,) = arm.streams[0].terms
    alone = Term(term.supervision, term.objective, normaliser="constant", constant_tokens=1.0)
    parts = [Rollout(stream_of(alone), [r], [term.supervision.label([r])]) for r in ROWS]
    rows = torch.stack([-flat(gradient(STUDENT, part)[1]) for part in parts])
    return (P * coefficients(term)) @ rows


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / a.norm() / b.norm())


def test_the_null_pulls_nowhere_and_its_form_by_row_is_a_reward_for_length():
    made = [make(**GIVEN) for make in (negative_advantage, length_reward)]
    arms = [
        Arm.of("x", method, Prompts([START]), Budget(1e-3, steps=1), prompts_per_step=1)
        for method in made
    ]
    null, length = (direction(arm) for arm in arms)
    assert float(null.abs().max()) < 1e-15
    torch.testing.assert_close(length, -grad_of(1 / LENGTHS), rtol=0, atol=1e-8)
    assert cosine(length, grad_of(LENGTHS)) > 0.99
    (term,) = arms[0].streams[0].terms
    assert (term.normaliser, term.constant_tokens) == ("constant", 4.0)


def test_grpos_division_by_length_has_the_length_term_of_the_null_times_the_expected_reward():
    arm = Arm.of(
        "g",
        grpo(samples_per_prompt=2, **GIVEN),
        Prompts([START]),
        Budget(1e-3, steps=1),
        prompts_per_step=1,
    )
    (term,) = arm.streams[0].terms
    pulls = found(term.supervision, term.normaliser)
    parts = Q * grad_of(WORTH / LENGTHS), -Q * R * grad_of(1 / LENGTHS)
    torch.testing.assert_close(pulls, parts[0] + parts[1], rtol=0, atol=2e-7)
    assert float(parts[1].norm() / parts[0].norm()) > 0.1, "the term would be small here"


def test_under_the_token_normaliser_the_length_term_fades_with_the_rows():
    one = grad_of(1 / LENGTHS).norm()
    two = grad_of(H).norm()
    assert float(two / one) == pytest.approx(0.62, abs=0.01)
