"""States of several sources in given proportions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import ClassVar, Literal

from statewise.errors import ConfigError
from statewise.policy import Policy
from statewise.seeding import permutation, seed_for, uniforms
from statewise.sources.filtered import Filtered
from statewise.sources.schedule import Scheduled, check_within, value_at
from statewise.sources.single import SingleSource
from statewise.trajectory import Prompt, Trajectory

WHOLE = 1e-9
"""A number of prompts so near a whole one is that one: shares are written in decimals."""


@dataclass(frozen=True)
class Mixture:
    """Each prompt goes to one of `sources`; `shares` says how many to each, exactly in expectation.

    `shares` has one number (or schedule) a source but the last, which takes what is left: GKD's
    lambda is `sources: [learner, dataset], shares: [lambda]` (Agarwal et al., 2023, arXiv 2306.13649,
    algorithm 1).

        per: sequence   lambda M of the M prompts, and so of the step's sequences, go to the first
                        source, exactly where that is a whole number; else rounded down or up by a draw
                        from the step's seed whose mean is lambda M (0.1 of 4 prompts: one of them in two
                        steps of five). Which ones is a permutation drawn from the seed
        per: step       one coin a step sends the whole batch to one source, as TRL's GKDTrainer does:
                        the same expectation, and more variance from step to step

    Raises ConfigError for fewer than two sources, for shares that are not one fewer or sum to more
    than 1, and for sources with unequal samples a prompt: lambda would be no share of sequences.

    >>> from statewise.sources import Dataset, Learner
    >>> half = Mixture((Learner(max_new_tokens=8), Dataset()), (0.5,))
    >>> half.owners, half.room_tokens, half.reads_gold
    (('student', 'dataset'), 8, True)
    """

    kind: ClassVar[str] = "mixture"
    sources: tuple[SingleSource | Filtered, ...]
    shares: tuple[Scheduled, ...]
    per: Literal["sequence", "step"] = "sequence"

    def __post_init__(self) -> None:
        if len(self.sources) < 2 or len(self.shares) != len(self.sources) - 1:
            raise ConfigError(
                "a mixture needs two sources or more and one share fewer (the last source takes the "
                f"rest), found {len(self.sources)} sources and {len(self.shares)} shares"
            )
        for share in self.shares:
            check_within("a share", share, 0.0, 1.0)
        # On a grid: schedules of different shapes may cross 1 between the ends of the run.
        for progress in (k / 100 for k in range(101)):
            if sum(value_at(share, progress) for share in self.shares) > 1 + 1e-9:
                raise ConfigError(
                    f"the shares of a mixture sum to more than 1 after {progress:.0%} of the run"
                )
        counts = {source.samples_per_prompt for source in self.sources}
        if len(counts) > 1:
            raise ConfigError(
                "the sources of a mixture need equal samples_per_prompt, or a share of prompts would be "
                f"no share of sequences; found {sorted(map(str, counts))}"
            )

    @property
    def owners(self) -> tuple[str, ...]:
        """Those of every source."""
        return tuple(dict.fromkeys(owner for s in self.sources for owner in s.owners))

    @property
    def supervised(self) -> tuple[str, ...]:
        """Those of every source."""
        return tuple(dict.fromkeys(owner for s in self.sources for owner in s.supervised))

    @property
    def samples_per_prompt(self) -> int:
        """That of every source."""
        return self.sources[0].samples_per_prompt

    @property
    def room_tokens(self) -> int | None:
        """The most that any source needs; None where every source needs that of its own completion."""
        return max((s.room_tokens for s in self.sources if s.room_tokens is not None), default=None)

    @property
    def reads_gold(self) -> bool:
        """True where any source does."""
        return any(source.reads_gold for source in self.sources)

    def __call__(
        self, prompts: Sequence[Prompt], *, student: Policy, seed: int, progress: float = 0.0
    ) -> list[Trajectory]:
        """The trajectories of all prompts: source by source, each in the order of its prompts."""
        counts = self.counts(len(prompts), seed=seed, progress=progress)
        order = permutation(len(prompts), seed, "mixture")
        bounds = pairwise([0, *accumulate(counts)])
        rows: list[Trajectory] = []
        for part, (source, (low, high)) in enumerate(zip(self.sources, bounds, strict=True)):
            rows += source(
                [prompts[i] for i in sorted(order[low:high])],
                student=student,
                seed=seed_for(seed, "part", part),
                progress=progress,
            )
        return rows

    def counts(self, prompts: int, *, seed: int, progress: float) -> list[int]:
        """How many of `prompts` each source gets at a step: a function of its seed, so that a log can say it.

        >>> from statewise.sources import Dataset, Learner
        >>> few = Mixture((Learner(max_new_tokens=8), Dataset()), (0.1,))
        >>> [few.counts(4, seed=seed, progress=0.0)[0] for seed in range(10)]
        [0, 0, 0, 0, 0, 1, 0, 0, 0, 1]
        """
        shares = [value_at(share, progress) for share in self.shares]
        if self.per == "step":
            (coin,) = uniforms(1, seed, "coin")
            chosen = sum(bool(coin >= bound) for bound in accumulate(shares))
            return [prompts if i == chosen else 0 for i in range(len(self.sources))]
        return split(prompts, shares, seed=seed)


def split(count: int, shares: Sequence[float], *, seed: int) -> list[int]:
    """How many of `count` go to each share and to what is left, drawn from `seed`.

    With one draw u from U[0, 1) the bound behind share k is `floor(count * (s_1 + ... + s_k) + u)`
    (systematic sampling): the expectation of every count is `count` times its share, each lies within
    1 of that, and where it is a whole number it is that number, always.

    >>> split(8, [0.5], seed=0), split(10, [0.7, 0.2], seed=0)
    ([4, 4], [7, 2, 1])
    >>> [split(5, [0.5], seed=seed) for seed in (3, 4, 5, 6)]    # 2.5: two or three
    [[2, 3], [2, 3], [3, 2], [2, 3]]
    """
    (draw,) = uniforms(1, seed, "rounding")
    bounds, total = [0], 0.0
    for share in shares:
        total = _whole(total + _whole(count * share))
        down = math.floor(total)
        # Not the floor of a sum, which a draw just below 1 would round up beyond a whole number.
        bounds.append(min(count, down + int(total - down + draw >= 1)))
    return [high - low for low, high in pairwise([*bounds, count])]


def _whole(number: float) -> float:
    """A whole number that a product or a sum of decimals has missed, such as `10 * 0.7 + 10 * 0.2`."""
    nearest = float(round(number))
    return nearest if abs(number - nearest) < WHOLE else number
