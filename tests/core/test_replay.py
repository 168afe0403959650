"""Replay: the age that is never exceeded, exact shares, what is stored and what is forgotten."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from enumerable import A, prompt, tiny
from kinds import named
from scipy.stats import binom

from statewise.config import from_plain, to_plain
from statewise.errors import ConfigError
from statewise.rewards import ExactAnswer
from statewise.sources import (
    Blended,
    Dataset,
    Filtered,
    Learner,
    Mixture,
    Replay,
    Schedule,
    Source,
    Stored,
    Teacher,
)
from statewise.sources.shares import realised_shares
from statewise.trajectory import student_version

TEACHER = tiny(1, name="teacher:mild", version=300)
PROMPTS = [prompt(A, name=f"p{i}", reference="ab#### 1") for i in range(8)]


def steps(source: Replay, count: int, *, samples: int = 1, prompts=PROMPTS):
    """A run with a student that signs each step with its version: (version, fresh, replayed)."""
    student, made = tiny(0), []
    for version in range(count):
        student.version = version
        rows = source(prompts, student=student, seed=1000 + version, progress=version / count)
        fresh = [r for r in rows if r.group_id.startswith(f"{1000 + version}/")]
        made.append((version, fresh, rows[len(fresh) :]))
        assert len(rows) == samples * len(prompts)
    return made


def ages(version: int, rows) -> list[int]:
    return [version - v for r in rows for o in r.owners if (v := student_version(o)) is not None]


@pytest.mark.parametrize("limit", [1, 2, 5])
@pytest.mark.parametrize("share", [0.25, 0.5, 1.0])
def test_nothing_older_than_the_limit_is_replayed_and_the_limit_is_reached(limit, share):
    seen = Counter()
    for version, fresh, replayed in steps(Replay(Learner(3), share, age_limit=limit), 40):
        assert set(ages(version, fresh)) <= {0}
        seen.update(ages(version, replayed))
    assert set(seen) == set(range(1, limit + 1))


def test_the_share_is_exact_once_enough_is_stored():
    for share, replayed_each in ((0.0, {0}), (0.25, {2}), (0.5, {4}), (0.7, {5, 6})):
        made = steps(Replay(Learner(3), share, age_limit=50), 12)
        assert made[0][2] == [], "nothing is stored before the first step"
        assert {len(replayed) for _, _, replayed in made[2:]} == replayed_each


def test_a_share_of_few_prompts_is_met_over_steps_and_each_step_says_its_own():
    """0.3 of 2 prompts are 0.6: one group in 60 % of 300 steps; a mixture within rounds by a draw of its own."""
    inner = Mixture((Learner(1), Dataset()), (0.5,))
    source, student = Replay(inner, 0.3, capacity=4), tiny(0)
    replayed, mine = [], []
    for version in range(300):
        student.version = version
        rows = source(PROMPTS[:2], student=student, seed=version)
        said = realised_shares(source, rows, prompts=2, version=version, seed=version, progress=0.0)
        old = [r for r in rows if not r.group_id.startswith(f"{version}/") and ages(version, [r])]
        old = [r for r in old if ages(version, [r]) != [0]]
        assert said["replayed_share"] == len(old) / 2
        fresh = [r for r in rows if r not in old]
        learners = sum(r.owners[1].startswith("student") for r in fresh)
        assert said["mixture_share_0"] == learners / len(fresh)
        replayed.append(len(old))
        if len(fresh) == 1:
            mine.append(learners)
    low, high = binom.interval(1 - 1e-4, 299, 0.6)
    assert low <= sum(replayed) <= high
    low, high = binom.interval(1 - 1e-4, len(mine), 0.5)
    assert low <= sum(mine) <= high
    # With everything replayed, the store runs dry whenever its one rollout is too old.
    stale = [len(r) for _, _, r in steps(Replay(Learner(3), 1.0, age_limit=2), 7)]
    assert stale == [0, 8, 8, 0, 8, 8, 0]
    rising = steps(Replay(Learner(3), Schedule(0.0, 1.0, "step"), age_limit=50), 8)
    assert [len(r) for _, _, r in rising] == [0] * 4 + [8] * 4


def test_what_is_replayed_is_what_was_walked_and_never_twice_in_a_step():
    source, walked = Replay(Learner(4, 3), 0.5, age_limit=4), []
    for _, fresh, replayed in steps(source, 12, samples=3):
        groups = Counter(r.group_id for r in replayed)
        assert set(groups.values()) <= {3}, "a group was torn or drawn twice"
        assert all(any(row is first for first in walked) for row in replayed)
        walked += fresh


def test_which_prompts_make_way_and_what_is_drawn_are_functions_of_the_seed():
    def trace(source):
        return [
            ([r.prompt.id for r in fresh], [r.group_id for r in replayed])
            for _, fresh, replayed in steps(source, 6)
        ]

    source = Replay(Learner(3), 0.5, age_limit=9)
    first = trace(replace(source))
    assert trace(replace(source)) == first
    assert len({tuple(ids) for ids, _ in first[1:]}) > 2, "the same prompts always make way"
    assert len({tuple(groups) for _, groups in first[1:]}) > 2


def test_every_stored_group_is_drawn_as_often_as_any_other():
    """4 of 8 groups, 400 times; hypergeometric draws of one group are binomial(400, 1/2)."""
    source, student, drawn = Replay(Learner(3), 0.5, age_limit=9), tiny(0), Counter()
    stored = list(source(PROMPTS, student=student, seed=0))
    for seed in range(400):
        source.stored[:] = [[row] for row in stored]
        rows = source(PROMPTS, student=student, seed=1 + seed)
        drawn.update(r.group_id for r in rows[4:])
    low, high = binom.interval(1 - 1e-4 / 8, 400, 0.5)
    assert len(drawn) == 8
    assert all(low <= n <= high for n in drawn.values()), drawn


def test_beyond_its_capacity_the_oldest_is_forgotten():
    source = Replay(Learner(3), 0.25, capacity=10)
    steps(source, 6)
    assert len(source.stored) == 10
    versions = [student_version(group[0].owners[1]) for group in source.stored]
    assert versions == [4] * 4 + [5] * 6
    assert set(ages(5, [g[0] for g in source.stored])) == {0, 1}


def test_only_groups_that_teach_and_in_which_the_student_wrote_are_stored():
    source = Replay(Filtered(Learner(1, 3), ExactAnswer()), 0.5, age_limit=9)
    _, fresh, _ = steps(source, 1, samples=3)[0]
    taught = {r.group_id for r in fresh if r.supervised_tokens}
    assert {g[0].group_id for g in source.stored} == taught
    assert 0 < len(taught) < 8
    assert all(len(g) == 3 for g in source.stored), "the dropped of a group went missing"
    mixed = Replay(Mixture((Learner(3), Dataset()), (0.5,)), 0.5, age_limit=9)
    steps(mixed, 1)
    assert [g[0].owners[1] for g in mixed.stored] == ["student@0"] * 4


def test_the_blends_tokens_age_with_the_student():
    source = Replay(Blended(TEACHER, 0.1, 3), 1.0, age_limit=1)
    assert [len(r) for _, _, r in steps(source, 5)] == [0, 8, 0, 8, 0]


def test_a_run_begins_with_an_empty_store_and_a_copy_shares_none():
    source = Replay(Learner(3), 0.5, age_limit=3)
    steps(source, 2)
    assert source.stored
    assert replace(source).stored == []
    assert replace(source) == source
    source.begin(tiny(0))
    assert source.stored == []


def test_a_store_comes_back_from_disk_to_the_bit(tmp_path):
    def walk(source, version, student):
        student.version = version
        return source(PROMPTS, student=student, seed=version)

    learner = Learner(4, 2, temperature=0.7, top_p=0.9)
    whole, begun = (Replay(learner, 0.5, age_limit=3, capacity=20) for _ in range(2))
    student = tiny(0)
    for version in range(4):
        walk(whole, version, student)
        walk(begun, version, student)
    begun.save_state(tmp_path / "state-0")
    resumed = replace(begun)
    resumed.restore_state(tmp_path / "state-0")
    for version in range(4, 9):
        for x, y in zip(
            walk(whole, version, student), walk(resumed, version, student), strict=True
        ):
            assert x.token_ids.tolist() == y.token_ids.tolist()
            assert x.weights.tolist() == y.weights.tolist()
            assert (x.group_id, x.owners, x.sampling) == (y.group_id, y.owners, y.sampling)
            assert (x.completion, x.stopped, x.prompt.id) == (y.completion, y.stopped, y.prompt.id)
            np.testing.assert_array_equal(x.behaviour_logprobs, y.behaviour_logprobs)
            assert x.behaviour_logprobs.dtype == y.behaviour_logprobs.dtype


def test_an_empty_store_makes_no_folder_and_restores_as_empty(tmp_path):
    source = Replay(Learner(3), 0.5, age_limit=3)
    source.save_state(tmp_path / "state-0")
    assert not (tmp_path / "state-0").exists()
    steps(source, 1)
    source.restore_state(tmp_path / "state-0")
    assert source.stored == []


def test_a_replay_is_a_value_in_a_study_file_and_its_store_is_not():
    plain = {
        "kind": "replay",
        "share": 0.5,
        "age_limit": 4,
        "source": {"kind": "learner", "max_new_tokens": 3},
    }
    source = from_plain(Source, plain)
    steps(source, 1)
    assert source == Replay(Learner(3), 0.5, age_limit=4)
    assert "stored" not in to_plain(source)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({}, "age_limit or a capacity"),
        ({"age_limit": 0}, "age_limit must be 1"),
        ({"capacity": 0}, "capacity must be 1"),
        ({"age_limit": 1, "share": 1.1}, "share must lie"),
        ({"age_limit": 1, "source": Dataset()}, "no tokens of the student"),
        ({"age_limit": 1, "source": Teacher(TEACHER, 3)}, "no tokens of the student"),
        ({"age_limit": 1, "source": Stored("x", "y")}, "frozen already"),
    ],
    ids=named,
)
def test_a_replay_that_cannot_age_or_would_grow_for_ever_is_refused(options, says):
    with pytest.raises(ConfigError, match=says):
        Replay(**({"source": Learner(3), "share": 0.5} | options))
