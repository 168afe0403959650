"""Learner roots with teacher branches: the paper's strongest on-policy distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from statewise.errors import ConfigError, at_least_one
from statewise.limits import Samples, Share, Temperature, Tokens
from statewise.policy import Policy, PolicyLike
from statewise.seeding import seed_for, uniforms
from statewise.trajectory import Prompt, Sampling, Segment, Trajectory, assemble


@dataclass(frozen=True)
class Continuation:
    """The learner walks to a cut, the teacher branches off for at most `branch_tokens` tokens.

    The learner completes the prompt in T tokens, the stop token counted; the cut is `floor(u T)`, u
    drawn from U[cut_low, cut_high], so that over the whole range each of the T states at which the
    learner chose a token is the root with probability 1/T: the visitation of equation 4, with the
    state where it chose to stop. The cut never lies after the stop token. From there the teacher writes
    on at `teacher_temperature`. A branch that reaches its length has no stop token: none is added, for
    the teacher did not stop.

    `supervised` says whose tokens weigh: the branch's, the root's, or both (as two terms, each `on` its
    own owner).

    Only the root is on-policy (Nie, 2026, section 2). Cut 0 and an endless branch are sequence-level
    distillation. A branch of 1, cut anywhere, is one-step distillation by samples: the expected gradient
    is that of `kl(teacher||student)` at the learner's states, each completion's states by 1/T.

    Raises ConfigError for cuts that are no fractions, for `supervised` that names nobody, and where the
    root is supervised and was drawn at another temperature than the branch: a trajectory states one.

    >>> from statewise.policy import PolicyRef
    >>> both = Continuation(PolicyRef("mild"), 2, 8, supervised=("student", "teacher"))
    >>> both.owners, both.supervised, both.room_tokens
    (('student', 'teacher'), ('student', 'teacher'), 10)
    """

    kind: ClassVar[str] = "continuation"
    owners: ClassVar[tuple[str, ...]] = ("student", "teacher")
    reads_gold: ClassVar[bool] = False
    teacher: PolicyLike
    branch_tokens: Tokens
    max_new_tokens: Tokens
    cut_low: Share = 0.0
    cut_high: Share = 1.0
    temperature: Temperature = 1.0
    teacher_temperature: Temperature = 1.0
    samples_per_prompt: Samples = 1
    supervised: tuple[Literal["student", "teacher"], ...] = ("teacher",)

    def __post_init__(self) -> None:
        at_least_one(self, "branch_tokens", "max_new_tokens", "samples_per_prompt")
        if not 0 <= self.cut_low <= self.cut_high <= 1:
            raise ConfigError(
                f"cuts are fractions with 0 <= cut_low <= cut_high <= 1, found {self.cut_low} and {self.cut_high}"
            )
        for temperature in (self.temperature, self.teacher_temperature):
            Sampling(temperature)  # refuses one that is none
        if not self.supervised:
            raise ConfigError("`supervised` names nobody: neither root nor branch would be taught")
        if "student" in self.supervised and self.temperature != self.teacher_temperature:
            raise ConfigError(
                "a root that is supervised needs the branch's temperature, for a trajectory states one: "
                f"found {self.temperature} and {self.teacher_temperature}"
            )

    @property
    def room_tokens(self) -> int:
        """Tokens of context that it needs beyond the prompt: a whole root and a whole branch."""
        return self.max_new_tokens + self.branch_tokens

    @property
    def sampling(self) -> Sampling:
        """The transform that its rows state: the branch's, and a supervised root's, which is the same."""
        return Sampling(self.teacher_temperature)

    def __call__(
        self, prompts: Sequence[Prompt], *, student: Policy, seed: int, progress: float = 0.0
    ) -> list[Trajectory]:
        """`samples_per_prompt` trajectories a prompt: root by the student, branch by the teacher."""
        assert isinstance(self.teacher, Policy)
        roots = student.sample(
            prompts,
            samples_per_prompt=self.samples_per_prompt,
            sampling=Sampling(self.temperature),
            max_new_tokens=self.max_new_tokens,
            seed=seed_for(seed, "root"),
        )
        cuts = [
            cut_position(len(root.completion_ids), root.stopped, float(fraction))
            for root, fraction in zip(roots, self._fractions(len(roots), seed), strict=True)
        ]
        prefixes = [
            root.token_ids[: root.prompt_tokens + cut]
            for root, cut in zip(roots, cuts, strict=True)
        ]
        branches = self.teacher.complete(
            prefixes,
            sampling=Sampling(self.teacher_temperature),
            # A teacher may read longer rows than the student that will be trained on them.
            max_new_tokens=[
                min(self.branch_tokens, student.context_tokens - len(p)) for p in prefixes
            ],
            seeds=[seed_for(seed, "branch", i) for i in range(len(roots))],
        )
        return [
            assemble(
                root.prompt,
                root.group_id,
                [
                    Segment(
                        student.owner,
                        root.completion_ids[:cut],
                        # A trajectory states one transform, the branch's.
                        root.behaviour_logprobs[root.prompt_tokens :][:cut]
                        if self.temperature == self.teacher_temperature
                        else None,
                        weight=float("student" in self.supervised),
                    ),
                    Segment(
                        self.teacher.owner,
                        branch.token_ids,
                        branch.logprobs,
                        weight=float("teacher" in self.supervised),
                    ),
                ],
                completion=student.completion_text(
                    np.concatenate([root.completion_ids[:cut], branch.token_ids])
                ),
                stopped=branch.stopped,
                sampling=Sampling(self.teacher_temperature),
            )
            for root, cut, branch in zip(roots, cuts, branches, strict=True)
        ]

    def _fractions(self, count: int, seed: int) -> np.ndarray:
        return self.cut_low + (self.cut_high - self.cut_low) * uniforms(count, seed, "cut")


def cut_position(completion_tokens: int, stopped: bool, fraction: float) -> int:
    """How many tokens of a completion of T lie before the cut: `floor(fraction * T)`.

    The stop token counts, for it was chosen at a state as well: with a fraction from U[0, 1) depths 0
    to T - 1 are equally likely, and T - 1 is where a completion stopped. The prefix never contains the
    stop, which nothing can follow. Fraction 1 is everything before the stop; of a completion that was
    cut at its limit it is all of it, a state at which its author chose no token any more.

    >>> [cut_position(4, stopped=True, fraction=f) for f in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0, 1, 2, 3, 3]
    >>> [cut_position(4, stopped=False, fraction=f) for f in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0, 1, 2, 3, 4]
    """
    return min(int(fraction * completion_tokens), completion_tokens - stopped)
