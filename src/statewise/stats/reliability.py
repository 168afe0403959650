"""How much of what differs between runs is more than the error that it was measured with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from statewise.errors import DataError
from statewise.stats.estimate import ROUNDING


def reliability(
    values: Float[np.ndarray, "M D S"],
    kept: Bool[np.ndarray, "M D S"] | None = None,
    *,
    item_variance: float = 0.0,
) -> float:
    """Share of the variance between single runs that differs between arms: 1 is no error, 0 nothing but error.

    `values` are [methods, doses, seeds]; an arm is a dose of a method, `kept` (all seeds of an arm or none) says which
    take part. With A the variance of the arms' means, W the mean variance between an arm's S seeds, and I
    `item_variance`, the error that all seeds of an arm share because they answer the same items
    (`shared_item_variance`),

        signal = max(0, A - W/S - I),  reliability = signal / (signal + W + I)

    That is the intraclass correlation ICC(1), with the items' error on the side of the error. 1 where nothing at all
    says of an error. `signal` before it is cut at 0 is unbiased; the quotient is biased by order 1 / arms.

    Source: Shrout and Fleiss (1979), case 1. By hand, arms (0, 2) and (4, 6): means 1 and 5, A = 8; W = 2; signal
    8 - 1 = 7; 7/9. With I = 1: 6/9.

    >>> y = np.array([[[0.0, 2.0], [4.0, 6.0]]])
    >>> round(reliability(y), 4), round(reliability(y, item_variance=1.0), 4)
    (0.7778, 0.6667)
    """
    if not (np.isfinite(item_variance) and item_variance >= 0):
        raise DataError(f"the variance of an error is a finite number >= 0, not {item_variance}")
    arms = values[kept.all(axis=2)] if kept is not None else values.reshape(-1, values.shape[2])
    if len(arms) < 2 or arms.shape[1] < 2:
        raise DataError(f"reliability needs two arms and two seeds or more, not {arms.shape}")
    within = float(arms.var(axis=1, ddof=1).mean())
    noise = within + item_variance
    between = float(arms.mean(axis=1).var(ddof=1))
    if noise <= ROUNDING * max(1.0, between):
        return 1.0
    signal = max(0.0, between - within / arms.shape[1] - item_variance)
    return signal / (signal + noise)


def shared_item_variance(tables: Sequence[Float[np.ndarray, "A S I"]]) -> float:
    """Variance of an arm's mean that comes from the items and is the same in all its seeds.

    One table [arms, seeds, items] for each task, of scores or losses on the same items; a run's value is the mean over
    tasks of the task means. What an item does to all arms alike makes no difference between them, so tables are taken
    about the arms' mean. With V(x) the variance over items divided by their number, averaged over runs (`run`) or over
    means of an arm's seeds (`arm`), V(run) = shared + own and V(arm) = shared + own / S, hence

        shared = (S V(arm) - V(run)) / (S - 1), summed over T tasks and divided by T^2, never below 0

    Unbiased before it is cut at 0. By hand, two arms whose two seeds agree, loss (0, 2) against (0, 0) on two items:
    about their mean (0, 1) and (0, -1), variances 1/2 over 2 items: V = 1/4 for both, times A/(A - 1) = 2: 1/2, all
    of it shared.

    >>> shared_item_variance([np.array([[[0.0, 2.0]] * 2, [[0.0, 0.0]] * 2])])
    0.5
    >>> shared_item_variance([np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0]]])])  # own luck alone
    0.0
    """
    total = 0.0
    for table in tables:
        arms, seeds, items = table.shape
        if arms < 2 or seeds < 2 or items < 2:
            raise DataError(f"needs two arms, seeds and items or more, found {table.shape}")
        about = table - table.mean(axis=0, keepdims=True)
        # The arms' mean takes 1/A of each arm's error with it.
        scale = arms / (arms - 1) / items
        of_run = float(about.var(axis=2, ddof=1).mean()) * scale
        of_arm = float(about.mean(axis=1).var(axis=1, ddof=1).mean()) * scale
        total += (seeds * of_arm - of_run) / (seeds - 1)
    return max(0.0, total) / len(tables) ** 2
