"""Equation 4: which states a source visits, and how often, against the exact law by listing.

`d(s) = E[(1/T) sum_t 1{s_t = s}]` over a trajectory's T supervised states. One state drawn uniformly
from each trajectory is a draw from d, and draws from different trajectories are independent, so
Pearson's chi-square holds as it stands. The laws below are sums over listed completions; none of
them calls the source.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import get_args

import numpy as np
import pytest
import torch
from enumerable import EOS, ONE, A, B, blended_step, completions, probabilities, prompt, tiny
from scipy.stats import chi2

from statewise.rewards import ExactAnswer
from statewise.sources import (
    Blended,
    Continuation,
    Dataset,
    Filtered,
    Learner,
    Mixture,
    PrefixReset,
    PythonSource,
    Replay,
    Source,
    Stored,
    Teacher,
)
from statewise.sources.continuation import cut_position
from statewise.trajectory import Sampling

FALSE_ALARM = 1e-4  # of one test; the seeds are fixed, so a pass stays a pass
ROWS = 3000
STUDENT, TEACHER = tiny(3, name="student", version=2), tiny(4, name="teacher:mild")
START = prompt(B, reference="ab#### 1")
GOLD = (A, B, ONE)
FULL = Sampling()

Law = dict[tuple[tuple[int, ...], int], float]
"""Probability of a completion and the number of its tokens that are given, not supervised."""


def walked(
    policy, given=(), *, horizon: int, sampling: Sampling = FULL, weight: float = 1.0
) -> Law:
    """A policy writes on from `given` to the horizon."""
    start = [*START.token_ids, *given]
    listed = probabilities(policy, start, sampling, horizon)
    return {((*given, *y), len(given)): weight * p for y, p in listed.items()}


def plus(*laws: Law) -> Law:
    total: Law = defaultdict(float)
    for law in laws:
        for outcome, p in law.items():
            total[outcome] += p
    return total


def times(law: Law, factor: float) -> Law:
    return {outcome: factor * p for outcome, p in law.items()}


def cuts(y: tuple[int, ...], low: float, high: float) -> dict[int, float]:
    """The law of floor(U n), U uniform on [low, high], n the length with its stop token."""
    n = len(y)
    overlap = {c: min(high, (c + 1) / n) - max(low, c / n) for c in range(n)}
    return {c: size / (high - low) for c, size in overlap.items() if size > 0}


def branched(root_of, branch_of, roots: Law, horizon: int, low: float, high: float) -> Law:
    """A root up to a cut, then another author to its horizon."""
    prefixes: dict[tuple[int, ...], float] = defaultdict(float)
    for (y, _), p in roots.items():
        for c, q in cuts(y, low, high).items():
            prefixes[y[:c]] += p * q
    return plus(*(walked(branch_of, x, horizon=horizon, weight=p) for x, p in prefixes.items()))


def blended_law(epsilon: float, temperature: float) -> Law:
    law: Law = {}
    for y in completions():
        p = 1.0
        for t in range(len(y)):
            start = [*START.token_ids, *y[:t]]
            p *= float(blended_step(STUDENT, TEACHER, start, epsilon, temperature)[y[t]].exp())
        law[y, 0] = p
    assert abs(sum(law.values()) - 1) < 1e-9
    return law


def visitation(law: Law) -> dict[tuple[int, ...], float]:
    """d(s) of the trajectories that have a supervised state."""
    d: dict[tuple[int, ...], float] = defaultdict(float)
    for (y, given), p in law.items():
        for t in range(given, len(y)):
            d[y[:t]] += p / (len(y) - given)
    total = sum(d.values())
    return {s: p / total for s, p in d.items()}


def test_the_visitation_of_a_law_by_hand():
    law: Law = {((A, EOS), 0): 0.5, ((B, A, EOS), 1): 0.5}
    assert visitation(law) == {(): 0.25, (A,): 0.25, (B,): 0.25, (B, A): 0.25}


LEARNER, GREEN = Learner(4), walked(STUDENT, horizon=4)
CORRECT = {outcome: p for outcome, p in GREEN.items() if ONE in outcome[0]}
GOLDEN: Law = {((*GOLD, EOS), 0): 1.0}
CASES = {
    "dataset": (Dataset(), GOLDEN),
    "learner": (
        Learner(4, temperature=0.7, top_k=3),
        walked(STUDENT, horizon=4, sampling=Sampling(0.7, 1.0, 3)),
    ),
    "teacher": (
        Teacher(TEACHER, 4, temperature=1.5),
        walked(TEACHER, horizon=4, sampling=Sampling(1.5)),
    ),
    "continuation": (
        Continuation(TEACHER, branch_tokens=2, max_new_tokens=3, cut_low=0.2, cut_high=0.9),
        branched(STUDENT, TEACHER, walked(STUDENT, horizon=3), 2, 0.2, 0.9),
    ),
    "continuation of one token": (Continuation(TEACHER, branch_tokens=1, max_new_tokens=4), GREEN),
    "reset to gold": (
        PrefixReset(2, probability=0.6, low=0.1, high=1.0),
        plus(
            times(branched(None, STUDENT, GOLDEN, 2, 0.1, 1.0), 0.6),
            walked(STUDENT, horizon=2, weight=0.4),
        ),
    ),
    "reset to the teacher": (
        PrefixReset(2, TEACHER, low=0.0, high=0.8),
        branched(TEACHER, STUDENT, walked(TEACHER, horizon=2), 2, 0.0, 0.8),
    ),
    "blended": (Blended(TEACHER, 0.05, 4), blended_law(0.05, 1.0)),
    "blended, warm": (Blended(TEACHER, 0.2, 4, temperature=1.4), blended_law(0.2, 1.4)),
    "filtered": (Filtered(LEARNER, ExactAnswer()), CORRECT),
    "mixture": (
        Mixture((LEARNER, Dataset()), (0.25,)),
        plus(times(GREEN, 0.25), times(GOLDEN, 0.75)),
    ),
    "mixture of three": (
        Mixture((LEARNER, Teacher(TEACHER, 4), Dataset()), (0.5, 0.3)),
        plus(times(GREEN, 0.5), times(walked(TEACHER, horizon=4), 0.3), times(GOLDEN, 0.2)),
    ),
    "replay, while nothing is stored": (Replay(LEARNER, 0.5, 3), GREEN),
}


UNDRAWN = {Stored, PythonSource}
"""A stored sample draws nothing (`test_stored.py`), and what a user's own source visits is the user's."""


def test_every_source_that_draws_has_its_law_here():
    assert {type(source) for source, _ in CASES.values()} | UNDRAWN == set(get_args(Source))


@pytest.mark.parametrize("name", CASES)
def test_a_source_visits_states_as_often_as_equation_4_says(name):
    source, law = CASES[name]
    exact = visitation(law)
    rows = source([START] * ROWS, student=STUDENT, seed=5, progress=0.0)
    assert len(rows) == ROWS
    draws = np.random.default_rng(0).random(ROWS)
    seen: Counter[tuple[int, ...]] = Counter()
    for row, u in zip(rows, draws, strict=True):
        columns = row.weights.nonzero()[0]
        if len(columns):
            column = int(columns[int(u * len(columns))])
            seen[tuple(row.token_ids[row.prompt_tokens : column].tolist())] += 1
    assert seen.keys() <= exact.keys(), "a state of probability 0 was visited"
    total = sum(seen.values())
    assert total > ROWS / 10
    cells = [s for s, p in exact.items() if p * total >= 5]
    expected = np.array([exact[s] * total for s in cells])
    observed = np.array([seen[s] for s in cells])
    rest = total - expected.sum()
    statistic = ((observed - expected) ** 2 / expected).sum()
    statistic += (total - observed.sum() - rest) ** 2 / rest if rest > 1e-6 else 0.0
    # Exact counts of a mixture only make the statistic smaller than chi-square has it.
    assert statistic < chi2.isf(FALSE_ALARM, max(1, len(cells) - 1 + (rest > 1e-6)))


def test_the_root_of_a_continuation_is_a_state_of_the_learner_with_the_share_of_equation_4():
    """By listing: a completion of T tokens is cut at each of its T states with probability 1/T, stopped or not."""
    every = completions()
    green = probabilities(STUDENT, START.token_ids, FULL)
    middles = (np.arange(12) + 0.5) / 12  # 12 is divided by 1, 2, 3 and 4
    roots: dict[tuple[int, ...], float] = defaultdict(float)
    for y in every:
        for u in middles:
            roots[y[: cut_position(len(y), y[-1] == EOS, u)]] += green[y] / 12
    exact = visitation(GREEN)
    assert roots.keys() == exact.keys()
    for s, p in exact.items():
        assert roots[s] == pytest.approx(p, abs=1e-15)
    stops = sum(green[y] / len(y) for y in every if y[-1] == EOS)
    assert stops > 0.2, "states where the learner stops would not be missed"


def test_the_laws_differ_enough_to_be_told_apart():
    """What the chi-square would see if a source visited another one's states."""
    kinds = ["learner", "teacher", "continuation", "reset to gold", "blended", "filtered"]
    laws = [visitation(CASES[kind][1]) for kind in kinds]
    for i, p in enumerate(laws):
        for q in laws[:i]:
            states = p.keys() | q.keys()
            distance = sum(abs(p.get(s, 0) - q.get(s, 0)) for s in states) / 2
            # chi-square >= n (sum |p - q|)^2 = 4 n d^2, far beyond its threshold of about 90.
            assert 4 * ROWS * distance**2 > 200, distance


def test_the_blend_lies_between_its_policies():
    near, far = (visitation(blended_law(e, 1.0)) for e in (1e-6, 50.0))
    for s, p in visitation(GREEN).items():
        assert near[s] == pytest.approx(p, abs=2e-3)
    for s, p in visitation(walked(TEACHER, horizon=4)).items():
        assert far[s] == pytest.approx(p, abs=1e-9)
    assert torch.is_tensor(blended_step(STUDENT, TEACHER, [A], 0.1, 1.0))
