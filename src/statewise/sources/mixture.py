"""States of several sources in exact proportions."""

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


@dataclass(frozen=True)
class Mixture:
    """Each prompt goes to one of `sources`; `shares` says how many to each, exactly.

    `shares` has one number (or schedule) a source but the last, which takes what is left: GKD's
    lambda is `sources: [learner, dataset], shares: [lambda]` (Agarwal et al., 2023, arXiv 2306.13649,
    algorithm 1).

        per: sequence   round(lambda M) of the M prompts, and so of the step's sequences, go to the
                        first source (halves up); which ones is a permutation drawn from the seed
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
        shares = [value_at(share, progress) for share in self.shares]
        if self.per == "step":
            (coin,) = uniforms(1, seed, "coin")
            chosen = sum(coin >= bound for bound in accumulate(shares))
            counts = [len(prompts) * (i == chosen) for i in range(len(self.sources))]
        else:
            counts = split(len(prompts), shares)
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


def split(count: int, shares: Sequence[float]) -> list[int]:
    """How many of `count` go to each share and to what is left: exact in sum, each within 1 of its share.

    The bounds are the rounded partial sums (halves up), so the first share gets `round(share * count)`.

    >>> split(8, [0.5]), split(5, [0.5]), split(10, [0.25, 0.25])
    ([4, 4], [3, 2], [3, 2, 5])
    """
    # The addend forgives the rounding of sums such as 0.7 + 0.2, never a whole unit.
    bounds = [min(count, math.floor(count * s + 0.5 + 1e-9)) for s in accumulate(shares)]
    return [high - low for low, high in pairwise([0, *bounds, count])]
