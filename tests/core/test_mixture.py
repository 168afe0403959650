"""Mixtures: counts that are exact in expectation, which prompts go where, and one coin a step."""

from __future__ import annotations

from collections import Counter
from itertools import accumulate, pairwise
from math import floor

import numpy as np
import pytest
from enumerable import A, prompt, tiny
from scipy.stats import binom

from statewise.arms import Arm, Budget, gkd
from statewise.data import Prompts
from statewise.errors import ConfigError
from statewise.seeding import seed_for
from statewise.sources import Dataset, Learner, Mixture, Schedule, Teacher
from statewise.sources.mixture import split
from statewise.sources.shares import realised_shares
from statewise.train import make_optimizer, train
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
def test_lambda_m_prompts_go_to_the_learner_and_none_is_lost(share):
    for count in range(10):
        for seed in range(3):
            found = Counter(authors(Mixture(GKD, (share,)), count, seed=seed).values())
            hundredths = round(100 * share) * count
            assert hundredths // 100 <= found["student"] <= -(-hundredths // 100), (share, count)
            assert found["dataset"] == count - found["student"]


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_whole_counts_by_hand_are_those_at_every_step(draw, monkeypatch):
    """Whatever is drawn: the least and the greatest draw show what the rounding of sums and products does."""
    monkeypatch.setattr("statewise.sources.mixture.uniforms", lambda *_: np.array([draw]))
    table = {
        (4, (0.5,)): [2, 2],
        (10, (0.1,)): [1, 9],
        (10, (0.7, 0.2)): [7, 2, 1],  # 0.7 + 0.2 is a little less than 0.9
        (100, (0.29, 0.57)): [29, 57, 14],  # and so are 100 * 0.29 and 100 * 0.57
        (9, (1 / 3, 1 / 3)): [3, 3, 3],
        (0, (0.4,)): [0, 0],
        (7, (1.0, 0.0)): [7, 0, 0],
    }
    for (count, shares), counts in table.items():
        assert split(count, shares, seed=0) == counts


@pytest.mark.parametrize(
    ("count", "shares"),
    [(4, (0.1,)), (8, (0.05,)), (3, (0.5,)), (10, (1 / 3, 1 / 3)), (7, (0.3, 0.1))],
)
def test_the_expectation_of_every_count_is_its_share(count, shares):
    """Exactly: between the draws at which a bound steps up the counts do not change, so a sum lists them."""
    steps = sorted({0.0, 1.0, *((-count * total) % 1 for total in accumulate(shares))})
    mean = np.zeros(len(shares) + 1)
    for low, high in pairwise(steps):
        bounds = [0, *(floor(count * t + (low + high) / 2) for t in accumulate(shares)), count]
        mean += (high - low) * np.diff(bounds)
    wanted = [count * share for share in (*shares, 1 - sum(shares))]
    np.testing.assert_allclose(mean, wanted, rtol=0, atol=1e-12)
    # And the code draws by that rule: 4,000 steps, each count within 1 of its share, their mean near it.
    drawn = np.array([split(count, shares, seed=seed) for seed in range(4000)])
    assert (abs(drawn - wanted) < 1 + 1e-9).all()
    assert (drawn.sum(1) == count).all()
    spread = np.sqrt(
        0.25 / 4000
    )  # of a count that takes two neighbouring values; three at most here
    np.testing.assert_allclose(drawn.mean(0), wanted, rtol=0, atol=4 * 2 * spread)


def test_a_small_share_of_few_prompts_is_visited_and_said():
    """0.1 of 4 prompts, which rounded alike would be 0 at every step: 0.4 a step, and the log has each step's."""
    source = Mixture(GKD, (0.1,))
    arm = Arm.of(
        "g",
        gkd(teacher=TEACHER, max_new_tokens=3, learner_share=0.1),
        Prompts(prompts(8)),
        Budget(1e-3, steps=30),
        prompts_per_step=4,
    )
    student = tiny(0)
    rows = list(train(arm, student, make_optimizer(student, arm.budget), seed=0))
    found = [row.figures["mixture_share_0"] for row in rows]
    assert set(found) == {0.0, 0.25}
    assert all(r.figures["mixture_share_1"] == 1 - f for r, f in zip(rows, found, strict=True))
    low, high = binom.interval(1 - FALSE_ALARM, 30, 0.4)
    assert low <= sum(f > 0 for f in found) <= high
    again = [
        source.counts(4, seed=seed_for(0, "rollout", 0, step), progress=0.0) for step in range(30)
    ]
    assert [count[0] / 4 for count in again] == found, (
        "a step's count depends on more than its seed"
    )


@pytest.mark.parametrize("per", ["sequence", "step"])
def test_what_is_logged_is_who_answered(per):
    source = Mixture((Learner(3), Teacher(TEACHER, 3), Dataset()), (0.3, 0.4), per=per)
    for seed in range(5):
        rows = source(prompts(7), student=STUDENT, seed=seed)
        found = Counter(role(r.owners[1]) for r in rows)
        said = realised_shares(source, rows, prompts=7, version=7, seed=seed, progress=0.0)
        assert [said[f"mixture_share_{i}"] * 7 for i in range(3)] == pytest.approx(
            [found["student"], found["teacher"], found["dataset"]]
        )


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
    assert counts in ([0, 2, 4, 7], [0, 2, 4, 8])


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
