"""Resets: where the prefix ends, who answers for what, and what a reward reads."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from enumerable import CONTEXT, EOS, ONE, A, B, prompt, step_logprobs, tiny
from scipy.stats import binom

from statewise.errors import ConfigError, DataError
from statewise.rewards import ExactAnswer
from statewise.sources import Learner, PrefixReset, Schedule
from statewise.supervision import GroupAdvantage
from statewise.trajectory import Sampling, origins, role

STUDENT, TEACHER = tiny(0, version=7), tiny(1, name="teacher:mild", version=3)
START = prompt(A, reference="ab#### 1ba")
GOLD = [A, B, ONE, B, A]


def walk(source, prompts=None, *, seed: int = 0, progress: float = 0.0):
    return source(prompts or [START] * 40, student=STUDENT, seed=seed, progress=progress)


def given(row) -> list[int]:
    """The tokens of a completion that weigh nothing."""
    free = row.weights[row.prompt_tokens :] == 0
    assert not free[free.argmin() :].any() or free.all(), "a gap in the supervised part"
    return row.completion_ids[free].tolist()


@pytest.mark.parametrize("teacher", [None, TEACHER], ids=["gold", "teacher"])
def test_only_the_learners_part_weighs_and_its_state_is_reached_by_the_other(teacher):
    source = PrefixReset(6, teacher, low=0.3, high=0.9)
    author = "dataset" if teacher is None else "teacher"
    rows = walk(source)
    assert any(given(r) for r in rows)
    for made in rows:
        prefix = given(made)
        authors = [role(made.owners[c]) for c in made.owner_codes]
        own = len(made.completion_ids) - len(prefix)
        assert authors == ["prompt"] + [author] * len(prefix) + ["student"] * own
        assert EOS not in prefix
        if prefix:
            assert origins(made)[1 + len(prefix)] == author
        exact = step_logprobs(STUDENT, [A, *prefix], made.completion_ids[len(prefix) :], Sampling())
        np.testing.assert_allclose(
            made.behaviour_logprobs[1 + len(prefix) :], exact, rtol=0, atol=1e-6
        )


def test_a_gold_prefix_is_a_fraction_of_the_gold_completion_rounded_down():
    for low, high, lengths in (
        (0.0, 0.0, {0}),
        (0.5, 0.5, {3}),
        (1.0, 1.0, {5}),
        (0.0, 1.0, set(range(6))),
    ):
        prefixes = [given(r) for r in walk(PrefixReset(3, low=low, high=high))]
        assert {len(p) for p in prefixes} == lengths
        assert all(p == GOLD[: len(p)] for p in prefixes)


def test_a_teachers_prefix_is_a_prefix_of_its_rollout_and_carries_its_logprobs():
    source = PrefixReset(6, TEACHER, low=0.4, high=1.0, teacher_temperature=1.5)
    rows = [r for r in walk(source) if given(r)]
    assert len({tuple(given(r)) for r in rows}) > 5
    for made in rows:
        prefix = given(made)
        # One trajectory states one transform, the learner's.
        assert np.isnan(made.behaviour_logprobs[1 : 1 + len(prefix)]).all()
        assert made.sampling == Sampling(1.0)
    same = PrefixReset(6, TEACHER, low=0.4, temperature=1.5, teacher_temperature=1.5)
    for made in walk(same):
        prefix = given(made)
        exact = step_logprobs(TEACHER, [A], [*prefix, EOS], Sampling(1.5))[:-1]
        found = made.behaviour_logprobs[1 : 1 + len(prefix)]
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6)


def test_without_resets_it_is_the_learner_under_the_same_seed():
    plain = walk(Learner(6, 3, temperature=0.8))
    rows = walk(PrefixReset(6, probability=0.0, samples_per_prompt=3, temperature=0.8))
    for x, y in zip(rows, plain, strict=True):
        assert x.token_ids.tolist() == y.token_ids.tolist()
        assert x.weights.tolist() == y.weights.tolist()
        assert (x.owners, x.group_id, x.sampling) == (y.owners, y.group_id, y.sampling)
        np.testing.assert_array_equal(x.behaviour_logprobs, y.behaviour_logprobs)


def test_the_samples_of_a_group_start_from_one_state():
    rows = walk(PrefixReset(4, probability=0.6, samples_per_prompt=5))
    prefixes: dict[str, list[list[int]]] = {}
    for made in rows:
        prefixes.setdefault(made.group_id, []).append(given(made))
    assert len(prefixes) == 40
    assert all(len(p) == 5 and p.count(p[0]) == 5 for p in prefixes.values())
    assert len({tuple(p[0]) for p in prefixes.values()}) > 3
    continued = {r.group_id: set() for r in rows}
    for made in rows:
        continued[made.group_id].add(tuple(made.completion_ids.tolist()))
    assert sum(len(c) > 1 for c in continued.values()) > 30, "the samples of a group are copies"


def test_resets_happen_as_often_as_the_probability_says():
    """Binomial, false alarm 1e-4."""
    source = PrefixReset(2, probability=Schedule(0.8, 0.2), low=0.5, high=0.5)
    for progress, p in ((0.0, 0.8), (0.5, 0.5)):
        rows = walk(source, [START] * 500, progress=progress)
        low, high = binom.interval(1 - 1e-4, 500, p)
        assert low <= sum(bool(given(r)) for r in rows) <= high


def test_a_reward_reads_prefix_and_continuation_together():
    rows = walk(PrefixReset(3, low=0.7, high=0.7, samples_per_prompt=2))
    assert all(r.completion.startswith("ab#### 1") for r in rows)
    assert {ExactAnswer()(r.prompt, r.completion) for r in rows} == {1.0}
    assert GroupAdvantage(ExactAnswer()).label(rows).figures["reward_mean"] == 1.0


def test_the_prefix_leaves_room_for_a_token_of_the_learners():
    full = prompt(*[A] * (CONTEXT - 3), reference="ab#### 1ba")
    rows = walk(PrefixReset(6, low=1.0, high=1.0), [full] * 4)
    assert all(len(r) == CONTEXT and given(r) == GOLD[:2] for r in rows)
    beyond = prompt(*[A] * CONTEXT, reference="ab")
    assert all(r.supervised_tokens == 0 for r in walk(PrefixReset(6), [beyond]))


def test_cuts_fall_where_fractions_are_uniform():
    """floor(6 U) is uniform on 0..5, before the stop with the others; false alarm 1e-4 shared by six."""
    counts = Counter(len(given(r)) for r in walk(PrefixReset(1), [START] * 1000))
    low, high = binom.interval(1 - 1e-4 / 6, 1000, 1 / 6)
    assert all(low <= counts[c] <= high for c in range(6))


def test_impossible_settings_and_missing_references_are_refused():
    for options in ({"probability": 1.2}, {"low": 0.7, "high": 0.2}, {"low": -0.1}, {"high": 1.1}):
        with pytest.raises(ConfigError):
            PrefixReset(4, **options)
    with pytest.raises(DataError, match="'lonely' has no reference"):
        walk(PrefixReset(4), [prompt(A, name="lonely")])
    assert walk(PrefixReset(4, probability=0.0), [prompt(A)])
    assert walk(PrefixReset(4, TEACHER), [prompt(A)])
