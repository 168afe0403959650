"""A small model on a CPU: one thread per core, each with a shard of the rows.

No operation of such a model is large enough to be split over cores; whole rows are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from statewise.lazy import nn, torch

MOST_THREADS = 4
"""Beyond this, threads wait for Python's lock."""
SMALL_WEIGHT_BYTES = 64 << 20
"""Weights larger than this are better read from memory by all cores together than by each core separately."""

Shard = TypeVar("Shard")
Result = TypeVar("Result")


def is_small(module: nn.Module) -> bool:
    """True for weights on a CPU that are small enough for every core to read them separately."""
    parameters = list(module.parameters())
    on_cpu = all(p.device.type == "cpu" for p in parameters)
    return on_cpu and sum(p.nbytes for p in parameters) <= SMALL_WEIGHT_BYTES


def one_per_core(shards: Sequence[Shard], work: Callable[[Shard], Result]) -> list[Result]:
    """`work(shard)` of every shard, each in its own thread with its share of the cores.

    A single shard runs in this thread, with all cores. Exceptions propagate.

    >>> one_per_core([1, 2, 3], lambda n: n * n)
    [1, 4, 9]
    """
    if len(shards) <= 1:
        return [work(shard) for shard in shards]
    threads = torch.get_num_threads()

    def alone(shard: Shard) -> Result:
        torch.set_num_threads(max(1, threads // len(shards)))
        return work(shard)

    try:
        with ThreadPoolExecutor(len(shards)) as pool:
            return list(pool.map(alone, shards))
    finally:
        # torch keeps a count per thread, but new threads take over the count that was set last.
        torch.set_num_threads(threads)


def partition_groups(
    groups: Sequence[Sequence[int]], loads: Sequence[int], count: int
) -> list[list[int]]:
    """Rows in `count` parts of near-equal load: group by group, each to the lightest part so far.

    `loads` has one entry per row. A group larger than its share of the rows is split; a part may stay
    empty. The same groups always give the same parts, so that the order of every sum repeats.

    >>> partition_groups([[1], [2, 3], [0]], [1, 5, 3, 3], 2)
    [[1, 0], [2, 3]]
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    totals = [0] * count
    most = -(-sum(map(len, groups)) // count)
    for group in groups:
        for start in range(0, len(group), most):
            rows = group[start : start + most]
            lightest = totals.index(min(totals))
            parts[lightest] += rows
            totals[lightest] += sum(loads[i] for i in rows)
    return parts
