"""Mixtures: exact counts, which prompts go where, and one coin a step."""

from __future__ import annotations

from collections import Counter

import pytest
from enumerable import A, prompt, tiny
from scipy.stats import binom

from statewise.errors import ConfigError
from statewise.sources import Dataset, Learner, Mixture, Schedule, Teacher
from statewise.sources.mixture import split
from statewise.trajectory import role

STUDENT, TEACHER = tiny(0, version=7), tiny(1, name="teacher:mild")
FALSE_ALARM = 1e-4  # of one test; the seeds are fixed
GKD = (Learner(3), Dataset())


def prompts(count: int):
    return [prompt(A, name=f"p{i}", reference="ab") for i in range(count)]


def authors(source, count: int, *, seed: int = 0, progress: float = 0.0) -> dict[str, str]:
    """Who answers each prompt."""
    rows = source(prompts(count), student=STUDENT, seed=seed, progress=progress)
    return {r.prompt.id: role(r.owners[1]) for r in rows}


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.7, 0.95, 1.0])
def test_round_lambda_m_prompts_go_to_the_learner_and_none_is_lost(share):
    for count in range(10):
        found = Counter(authors(Mixture(GKD, (share,)), count).values())
        exact = int(100 * share * count + 50.0001) // 100  # halves up, in whole numbers
        assert found["student"] == exact, (share, count)
        assert found["dataset"] == count - exact


def test_counts_by_hand():
    table = {
        (5, (0.5,)): [3, 2],
        (3, (0.5,)): [2, 1],
        (10, (0.7, 0.2)): [7, 2, 1],
        (15, (0.7, 0.2)): [11, 3, 1],  # the sum is a little less than 0.9, and 13.5 is 14
        (10, (0.25, 0.25)): [3, 2, 5],
        (4, (1 / 3, 1 / 3)): [1, 2, 1],
        (0, (0.4,)): [0, 0],
        (7, (1.0, 0.0)): [7, 0, 0],
    }
    for (count, shares), counts in table.items():
        assert split(count, shares) == counts


def test_several_samples_a_prompt_stay_together_and_exact():
    source = Mixture((Learner(3, 4), Teacher(TEACHER, 3, 4)), (0.25,))
    rows = source(prompts(8), student=STUDENT, seed=0)
    assert Counter(role(r.owners[1]) for r in rows) == {"student": 8, "teacher": 24}
    groups = Counter(r.group_id for r in rows)
    assert set(groups.values()) == {4}
    assert len(groups) == 8


def test_each_prompt_is_as_often_the_learners_as_any_other():
    """400 seeds; each prompt's count is binomial, its bounds at 1e-4 shared by eight prompts."""
    source, seeds = Mixture(GKD, (0.25,)), 400
    found = Counter(
        name
        for seed in range(seeds)
        for name, author in authors(source, 8, seed=seed).items()
        if author == "student"
    )
    low, high = binom.interval(1 - FALSE_ALARM / 8, seeds, 0.25)
    assert len(found) == 8
    assert all(low <= n <= high for n in found.values()), found


def test_which_prompts_is_a_function_of_the_seed():
    source = Mixture(GKD, (0.5,))
    assert authors(source, 8) == authors(source, 8)
    assert len({tuple(sorted(authors(source, 8, seed=seed).items())) for seed in range(6)}) > 3


def test_one_coin_a_step_sends_the_whole_batch():
    source, seeds, share = Mixture(GKD, (0.3,), per="step"), 400, 0.3
    steps = [set(authors(source, 4, seed=seed).values()) for seed in range(seeds)]
    assert all(len(step) == 1 for step in steps)
    learner = sum(step == {"student"} for step in steps)
    low, high = binom.interval(1 - FALSE_ALARM, seeds, share)
    assert low <= learner <= high
    for share, author in ((0.0, "dataset"), (1.0, "student")):
        whole = Mixture(GKD, (share,), per="step")
        assert {a for seed in range(20) for a in authors(whole, 2, seed=seed).values()} == {author}


def test_lambda_follows_its_schedule():
    source = Mixture(GKD, (Schedule(0.0, 1.0),))
    counts = [
        Counter(authors(source, 8, progress=p).values())["student"] for p in (0.0, 0.25, 0.5, 0.9)
    ]
    assert counts == [0, 2, 4, 7]


def test_what_a_mixture_says_of_itself():
    source = Mixture((Learner(5), Teacher(TEACHER, 9), Dataset()), (0.2, 0.3))
    assert source.owners == source.supervised == ("student", "teacher", "dataset")
    assert (source.samples_per_prompt, source.room_tokens, source.reads_gold) == (1, 9, True)
    assert Mixture((Dataset(), Dataset()), (0.5,)).room_tokens is None


@pytest.mark.parametrize(
    ("sources", "shares", "says"),
    [
        (GKD[:1], (), "two sources"),
        (GKD, (0.5, 0.5), "one share fewer"),
        (GKD, (1.5,), "share must lie"),
        ((*GKD, Dataset()), (0.7, 0.7), "sum to more than 1"),
        ((*GKD, Dataset()), (Schedule(0.1, 1.0), Schedule(0.1, 1.0)), "sum to more than 1"),
        ((Learner(3, 4), Dataset()), (0.5,), "equal samples_per_prompt"),
    ],
)
def test_a_mixture_that_has_no_exact_counts_is_refused(sources, shares, says):
    with pytest.raises(ConfigError, match=says):
        Mixture(sources, shares)


def test_crossing_schedules_that_sum_to_1_are_accepted():
    crossing = (Schedule(1.0, 0.0), Schedule(0.0, 1.0))
    assert Mixture((*GKD, Dataset()), crossing).shares == crossing
