"""Small values for the examples of docstrings, and for trying an objective of one's own by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from statewise.trajectory import (
    Prompt,
    Sampling,
    Segment,
    States,
    Trajectory,
    assemble,
    gather_states,
)


def trajectory(
    *action_ids: int,
    owner: str = "student@0",
    logprobs: Sequence[float] | None = None,
    group: str = "g",
    completion: str = "",
    reference: str | None = None,
) -> Trajectory:
    """A prompt of the one token 9, and a completion of these tokens, sampled at temperature 1.

    `logprobs` are those that they were sampled with, nats; None = nobody knows.

    >>> made = trajectory(1, 2, logprobs=[-0.5, -1.0])
    >>> made.token_ids.tolist(), made.weights.tolist(), made.behaviour_logprobs.tolist()
    ([9, 1, 2], [0.0, 1.0, 1.0], [nan, -0.5, -1.0])
    """
    drawn = None if logprobs is None else np.array(logprobs, np.float32)
    return assemble(
        Prompt("p", "", np.array([9], np.int32), reference),
        group,
        [Segment(owner, np.array(action_ids, np.int32), drawn)],
        completion=completion,
        stopped=True,
        sampling=Sampling(),
    )


def states(
    *action_ids: int,
    logprobs: Sequence[float] | None = None,
    old: Sequence[float] | None = None,
) -> States:
    """The states at which these actions were taken, one after the other in one completion.

    `old` are the log-probs of the policy at the start of a rollout's updates, nats.

    >>> seen = states(1, 2, old=[-0.5, -1.0])
    >>> seen.action_ids.tolist(), seen.old_logprobs.tolist()
    ([1, 2], [-0.5, -1.0])
    """
    before = None if old is None else [np.array([np.nan, *old], np.float32)]
    return gather_states([trajectory(*action_ids, logprobs=logprobs)], old_logprobs=before)
