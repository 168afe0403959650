"""States that a frozen policy visits: where sequence-level and offline distillation stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from statewise.errors import at_least_one
from statewise.limits import CountOrZero, PositiveShare, Samples, Temperature, Tokens
from statewise.policy import Policy, PolicyLike
from statewise.trajectory import Prompt, Sampling, Trajectory


@dataclass(frozen=True)
class Teacher:
    """The teacher completes each prompt `samples_per_prompt` times (d^teacher of eq. 4).

    With the teacher's own tokens as labels this is sequence-level distillation (Kim and Rush, 2016,
    arXiv 1606.07947, eq. 5, by samples in place of a beam); with its distribution, offline
    distillation. A frozen copy of the policy that a run starts from is a teacher as well: its kept
    samples are those of rejection fine-tuning. A row ends where the teacher's context does.

    >>> from statewise.policy import PolicyRef
    >>> source = Teacher(PolicyRef("mild"), max_new_tokens=8)
    >>> source.owners, source.supervised, source.room_tokens
    (('teacher',), ('teacher',), 8)
    """

    kind: ClassVar[str] = "teacher"
    owners: ClassVar[tuple[str, ...]] = ("teacher",)
    supervised: ClassVar[tuple[str, ...]] = ("teacher",)
    reads_gold: ClassVar[bool] = False
    teacher: PolicyLike
    max_new_tokens: Tokens
    samples_per_prompt: Samples = 1
    temperature: Temperature = 1.0
    top_p: PositiveShare = 1.0
    top_k: CountOrZero = 0

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
        """`samples_per_prompt` trajectories a prompt, one group each, every token the teacher's."""
        assert isinstance(self.teacher, Policy)
        return self.teacher.sample(
            prompts,
            samples_per_prompt=self.samples_per_prompt,
            sampling=self.sampling,
            max_new_tokens=self.max_new_tokens,
            seed=seed,
        )
