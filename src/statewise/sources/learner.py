"""States that the learner visits: where reinforcement learning and on-policy distillation stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from statewise.errors import at_least_one
from statewise.limits import CountOrZero, PositiveShare, Samples, Temperature, Tokens
from statewise.policy import Policy
from statewise.trajectory import Prompt, Sampling, Trajectory


@dataclass(frozen=True)
class Learner:
    """The current policy completes each prompt `samples_per_prompt` times (d^student of eq. 4, 7).

    >>> source = Learner(max_new_tokens=8, temperature=0.5)
    >>> source.owners, source.sampling.is_full, Learner(8, top_p=0.9).sampling.is_full
    (('student',), True, False)
    """

    kind: ClassVar[str] = "learner"
    owners: ClassVar[tuple[str, ...]] = ("student",)
    supervised: ClassVar[tuple[str, ...]] = ("student",)
    reads_gold: ClassVar[bool] = False
    max_new_tokens: Tokens
    samples_per_prompt: Samples = 1
    temperature: Temperature = 1.0
    top_p: PositiveShare = 1.0
    top_k: CountOrZero = 0
    stop_strings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least_one(self, "max_new_tokens", "samples_per_prompt")
        Sampling(self.temperature, self.top_p, self.top_k)  # refuses a transform that is none

    @property
    def room_tokens(self) -> int:
        """Tokens of context that it needs beyond the prompt."""
        return self.max_new_tokens

    @property
    def sampling(self) -> Sampling:
        """The transform that its tokens are drawn under."""
        return Sampling(self.temperature, self.top_p, self.top_k)

    def __call__(
        self, prompts: Sequence[Prompt], *, student: Policy, seed: int, progress: float = 0.0
    ) -> list[Trajectory]:
        """`samples_per_prompt` trajectories a prompt, one group each."""
        return student.sample(
            prompts,
            samples_per_prompt=self.samples_per_prompt,
            sampling=self.sampling,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
            stop_strings=self.stop_strings,
        )
