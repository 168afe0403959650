"""A small model on a CPU: one thread a core, each with a share of the rows.

No operation of such a model is large enough to be worth splitting over cores; whole rows are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from statewise.lazy import nn, torch

MOST_THREADS = 4
"""Beyond this, threads wait for Python's lock."""
SMALL_WEIGHT_BYTES = 64 << 20
"""Weights larger than this are better read from memory by all cores together than by each for itself."""

Hand = TypeVar("Hand")
Result = TypeVar("Result")


def is_small(module: nn.Module) -> bool:
    """True for weights on a CPU that are small enough to be read by every core for itself."""
    parameters = list(module.parameters())
    on_cpu = all(p.device.type == "cpu" for p in parameters)
    return on_cpu and sum(p.nbytes for p in parameters) <= SMALL_WEIGHT_BYTES


def one_a_core(hands: Sequence[Hand], work: Callable[[Hand], Result]) -> list[Result]:
    """`work(hand)` of every hand, each in a thread of its own with its share of the cores.

    A single hand is worked on here, with all of them. What a hand raises is raised.

    >>> one_a_core([1, 2, 3], lambda n: n * n)
    [1, 4, 9]
    """
    if len(hands) <= 1:
        return [work(hand) for hand in hands]
    threads = torch.get_num_threads()

    def alone(hand: Hand) -> Result:
        torch.set_num_threads(max(1, threads // len(hands)))
        return work(hand)

    try:
        with ThreadPoolExecutor(len(hands)) as pool:
            return list(pool.map(alone, hands))
    finally:
        # Each thread has a count of its own, but the last one set is that of threads to come.
        torch.set_num_threads(threads)


def deal_groups(
    groups: Sequence[Sequence[int]], loads: Sequence[int], hands: int
) -> list[list[int]]:
    """Rows in `hands` hands of near-equal load: group by group, each to the lightest hand so far.

    `loads` has one entry a row. A group that is more than its share of the rows is split; a hand may stay
    empty. The same groups always give the same hands, so that the order of every sum repeats.

    >>> deal_groups([[1], [2, 3], [0]], [1, 5, 3, 3], 2)
    [[1, 0], [2, 3]]
    """
    dealt: list[list[int]] = [[] for _ in range(hands)]
    totals = [0] * hands
    most = -(-sum(map(len, groups)) // hands)
    for group in groups:
        for start in range(0, len(group), most):
            part = group[start : start + most]
            hand = totals.index(min(totals))
            dealt[hand] += part
            totals[hand] += sum(loads[i] for i in part)
    return dealt
