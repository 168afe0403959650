"""Repair curve: is the teacher's guidance useful at the states where it is asked for?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from statewise.errors import DataError
from statewise.policy import Policy
from statewise.probes.clusters import linear_mean
from statewise.probes.splice import Score, check_depths, continued, is_open
from statewise.seeding import seed_for
from statewise.stats import Estimate
from statewise.trajectory import Sampling, Trajectory


@dataclass(frozen=True, slots=True)
class Repair:
    """What each makes of the student's states at one depth."""

    depth_tokens: int
    teacher: Estimate
    """`V_T(s_c)`: mean reward where the teacher goes on."""
    student: Estimate
    """`V_S(s_c)`: mean reward where the student goes on."""
    gain: Estimate
    """`V_T(s_c) - V_S(s_c)`, paired by prompt."""


def repair_curve(
    student: Policy,
    teacher: Policy,
    rollouts: Sequence[Trajectory],
    reward: Score,
    *,
    depths_tokens: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> tuple[Repair, ...]:
    """`V_T(s_c) - V_S(s_c)` at the states that the student's rollouts visit at depth c.

    A state counts once for each rollout that reaches depth c without having ended, so deeper points
    of the curve speak about fewer and harder prompts. One continuation a state and policy, drawn
    anew (`sampling` None is temperature 1): unbiased, error clustered by prompt. Depths that no rollout
    reaches are left out. Cost: two continuations a state and depth.

    Source: the project's own; the value gap of an expert at the learner's states, as in AggreVaTe
    (Ross and Bagnell, 2014, arXiv 1406.5979).
    Raises ConfigError for a depth below 1 or beyond the limit, DataError where none is reached.
    """
    check_depths(depths_tokens, max_new_tokens)
    how = Sampling() if sampling is None else sampling
    curve = []
    for depth in depths_tokens:
        states = [t for t in rollouts if is_open(t, depth)]
        if not states:
            continue
        prompts = [t.prompt.id for t in states]
        seeds = seed_for(seed, "repair", depth)
        told, own = (
            linear_mean(
                continued(policy, states, reward, depth, how, max_new_tokens, seeds), prompts
            )
            for policy in (teacher, student)
        )
        curve.append(
            Repair(
                depth,
                told.estimate("reward"),
                own.estimate("reward"),
                (told - own).estimate("reward"),
            )
        )
    if not curve:
        raise DataError(f"no rollout reaches any of the depths {list(depths_tokens)}")
    return tuple(curve)
