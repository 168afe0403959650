"""Data parallelism: several processes, each with its share of an update's trajectories, one gradient.

Sums, never means: the denominators of `gradient.state_factors` are global already, so each rank
holds its part of one sum. Where torch.distributed is not initialised there is one rank, and both
functions change nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import nn


def over_ranks(values: Sequence[float | int], device: torch.device | str = "cpu") -> list[float]:
    """Each value summed over all ranks, in float64; every rank must call this equally often.

    >>> over_ranks([1.0, 2.0])
    [1.0, 2.0]
    """
    if not _several():
        return [float(value) for value in values]
    total = torch.tensor(list(values), dtype=torch.float64, device=device)
    dist.all_reduce(total)
    return total.tolist()


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all ranks; a rank without one counts as zero.

    Called once an update, after its last `accumulate_gradient` and before the clip of the norm.
    """
    if not _several():
        return
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        dist.all_reduce(parameter.grad)


def _several() -> bool:
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
