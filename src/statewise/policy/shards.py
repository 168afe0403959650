"""Rows of an update partitioned over CPU cores: one thread per core, each with a view of the student.

Only a small model on a CPU is worth it (`Policy.splits`). The shards' gradients are added in a fixed
order, so that the same number of threads gives the same bits.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from statewise.cpu_shards import MOST_THREADS, partition_groups
from statewise.lazy import torch
from statewise.policy.policy import Policy
from statewise.trajectory import Trajectory

ROWS_PER_THREAD = 16
"""Fewest rows for which one more core pays: with fewer, waiting for Python's lock costs what it gains."""
ONE_AT_A_TIME = threading.Lock()
"""Held while supervisions run: a teacher counts the tokens it reads, and users' code need not be reentrant."""


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A policy with the student's weights, and the indices of its rows in each rollout."""

    policy: Policy
    rows: list[list[int]]


def shards_of(student: Policy, rollouts: Sequence[Sequence[Trajectory]]) -> list[Shard]:
    """The rows of each rollout in one shard per thread; samples of one prompt stay together.

    The first shard is the student itself. The others are twins: they share its weights and have gradients
    of their own, because threads that add to one gradient would race.
    """
    count = _threads(student, max(map(len, rollouts), default=0))
    if count == 1:
        return [Shard(student, [list(range(len(rollout))) for rollout in rollouts])]
    by_rollout = [partition(rollout, count) for rollout in rollouts]
    policies = [student, *(student.twin() for _ in range(count - 1))]
    return [Shard(policy, [part[i] for part in by_rollout]) for i, policy in enumerate(policies)]


def views_of(student: Policy, trajectories: Sequence[Trajectory]) -> list[Shard]:
    """The same for reading alone: views of the student, which need no gradients of their own."""
    parts = partition(trajectories, _threads(student, len(trajectories)))
    return [Shard(student.view(student.name), [rows]) for rows in parts]


def add_gradients(student: Policy, shards: Sequence[Shard]) -> None:
    """Add the gradients and token counts of the other shards to the student's, in their order."""
    for shard in shards[1:]:
        student.tokens_read += shard.policy.tokens_read
        theirs = dict(shard.policy.trainable_parameters())
        for name, mine in student.trainable_parameters():
            grad = theirs[name].grad
            if grad is not None:
                mine.grad = grad if mine.grad is None else mine.grad.add_(grad)


def partition(trajectories: Sequence[Trajectory], count: int) -> list[list[int]]:
    """Row indices in `count` parts of near-equal tokens, the largest groups first."""
    loads = [len(trajectory) for trajectory in trajectories]
    groups: dict[str, list[int]] = {}
    for i, trajectory in enumerate(trajectories):
        groups.setdefault(trajectory.group_id, []).append(i)
    largest = sorted(groups.values(), key=lambda group: -sum(loads[i] for i in group))
    return partition_groups(largest, loads, count)


def _threads(student: Policy, rows: int) -> int:
    """How many threads share the rows."""
    count = min(torch.get_num_threads(), MOST_THREADS, rows // ROWS_PER_THREAD)
    return count if count > 1 and student.splits else 1
