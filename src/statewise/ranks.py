"""Data parallelism: several processes, each with its share of an update's trajectories, one gradient.

For a loop of your own around `accumulate_gradient`; `train` runs in one process. Sums, never means:
the denominators of `gradient.state_factors` are global already, so each rank holds its part of one
sum. Labels are made by each rank of its own rows: give a rank whole groups, and make a baseline that
is a mean over the rollout (`RewardBaseline`) before the rows are shared out.

Where torch.distributed is not initialised there is one rank, and both sums change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from statewise.lazy import distributed as dist
from statewise.lazy import nn, torch


def over_ranks(values: Sequence[float | int], device: torch.device | str = "cpu") -> list[float]:
    """Each value summed over all ranks, in float64; every rank must call this equally often.

    >>> over_ranks([1.0, 2.0])
    [1.0, 2.0]
    """
    if world_size() == 1:
        return [float(value) for value in values]
    total = torch.tensor(list(values), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all ranks; a rank without one counts as zero.

    Called once an update, after its last `accumulate_gradient` and before the clip of the norm.
    """
    if world_size() == 1:
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def world_size() -> int:
    """Number of processes; 1 where torch.distributed is not initialised.

    >>> world_size()
    1
    """
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1
