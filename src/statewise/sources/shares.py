"""What came of the shares that a step's prompts were dealt by."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from statewise.sources.filtered import Filtered
from statewise.sources.mixture import Mixture
from statewise.sources.replay import Replay
from statewise.sources.single import SingleSource
from statewise.trajectory import Trajectory, student_version


def realised_shares(
    source: SingleSource | Filtered | Mixture | Replay,
    rows: Sequence[Trajectory],
    *,
    prompts: int,
    version: int,
    seed: int,
    progress: float,
) -> dict[str, float]:
    """Shares of a step's prompts by who answered: stored rollouts, and each source of a mixture.

    `replayed_share` is of all prompts, `mixture_share_<i>` (one a source, in their order) of those that
    were answered afresh. A share that `prompts` cannot hold is met on average over steps, never at one.
    Empty for a source that deals nothing.

    >>> from statewise.sources import Dataset, Learner
    >>> half = Mixture((Learner(max_new_tokens=8), Dataset()), (0.5,))
    >>> realised_shares(half, [], prompts=4, version=0, seed=0, progress=0.0)
    {'mixture_share_0': 0.5, 'mixture_share_1': 0.5}
    """
    figures: dict[str, float] = {}
    if isinstance(source, Replay):
        groups = [list(group) for _, group in groupby(rows, key=lambda row: row.group_id)]
        replayed = sum(_is_older(group, version) for group in groups)
        figures["replayed_share"] = replayed / prompts
        source, prompts = source.source, prompts - replayed
    if isinstance(source, Mixture) and prompts:
        counts = source.counts(prompts, seed=seed, progress=progress)
        figures |= {f"mixture_share_{i}": count / prompts for i, count in enumerate(counts)}
    return figures


def _is_older(group: Sequence[Trajectory], version: int) -> bool:
    """True for what an earlier student wrote: in a replay nothing else carries an older version."""
    versions = [student_version(owner) for row in group for owner in row.owners]
    return any(v is not None and v < version for v in versions)
