"""States of completions that earned it: rejection and iterative supervised fine-tuning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from statewise.limits import Number
from statewise.policy import Policy
from statewise.rewards import Reward
from statewise.sources.single import SingleSource
from statewise.trajectory import Prompt, Trajectory


@dataclass(frozen=True)
class Filtered:
    """The trajectories of `source`; those whose reward is below `threshold` weigh 0.

    With own actions as labels this is rejection fine-tuning where the source is a frozen policy
    (Yuan et al., 2023, arXiv 2308.01825), and iterative fine-tuning where it is the learner (Zelikman
    et al., 2022, arXiv 2203.14465): the weight is `1[r >= threshold]`.

    A dropped completion stays in the rollout with weight 0: its tokens are counted as sampled, the
    figure `taught_share` says how many were kept, a `constant` normaliser still divides by all of
    them, and a step that keeps none is a step without states (`updates` 0) and not an error. Under
    one seed it samples what `source` samples.

    >>> from statewise.rewards import ExactAnswer
    >>> from statewise.sources import Learner
    >>> kept = Filtered(Learner(max_new_tokens=8, samples_per_prompt=4), ExactAnswer())
    >>> kept.supervised, kept.samples_per_prompt, kept.room_tokens
    (('student',), 4, 8)
    """

    kind: ClassVar[str] = "filtered"
    source: SingleSource
    reward: Reward
    threshold: Number = 1.0

    @property
    def owners(self) -> tuple[str, ...]:
        """Those of the filtered source."""
        return self.source.owners

    @property
    def supervised(self) -> tuple[str, ...]:
        """Those of the filtered source."""
        return self.source.supervised

    @property
    def samples_per_prompt(self) -> int:
        """That of the filtered source."""
        return self.source.samples_per_prompt

    @property
    def room_tokens(self) -> int | None:
        """That of the filtered source."""
        return self.source.room_tokens

    @property
    def reads_gold(self) -> bool:
        """True where the filtered source does."""
        return self.source.reads_gold

    def __call__(
        self, prompts: Sequence[Prompt], *, student: Policy, seed: int, progress: float = 0.0
    ) -> list[Trajectory]:
        """Every trajectory of the source, the dropped ones without weight."""
        rows = self.source(prompts, student=student, seed=seed, progress=progress)
        return [
            row
            if self.reward(row.prompt, row.completion) >= self.threshold
            else row.with_weights(np.zeros_like(row.weights))
            for row in rows
        ]
