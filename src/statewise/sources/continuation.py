"""Learner roots with teacher branches: the paper's strongest on-policy distillation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from statewise.errors import ConfigError, at_least_one
from statewise.policy import Policy, PolicyLike
from statewise.seeding import seed_for, uniforms
from statewise.trajectory import Prompt, Sampling, Segment, Trajectory, assemble


@dataclass(frozen=True)
class Continuation:
    """The learner walks to a cut, the teacher branches off for at most `branch_tokens` tokens.

    The learner completes the prompt; the cut is a fraction of the completion's *realised* length,
    drawn from U[cut_low, cut_high], and never lies after the stop token. From there the teacher
    writes on at `teacher_temperature`. A branch that reaches its length has no stop token: none is
    added, for the teacher did not stop.

    `supervised` says whose tokens weigh: the branch's, the root's, or both (as two terms, each `on` its
    own owner).

    Only the root is on-policy (Nie, 2026, section 2; science of this project: cut 0 and an endless
    branch are sequence-level distillation, a branch of 1 is one-step distillation).

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
    branch_tokens: int
    max_new_tokens: int
    cut_low: float = 0.0
    cut_high: float = 1.0
    temperature: float = 1.0
    teacher_temperature: float = 1.0
    samples_per_prompt: int = 1
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
        """The transform that a supervised root is drawn under, as its branch is."""
        return Sampling(self.temperature)

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
                completion=student.to_text(
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
    """How many tokens of a completion lie before the cut: `floor(fraction * length)`.

    The length does not count the stop token, so that the prefix never contains it: nothing can
    follow a stop.

    >>> cut_position(9, stopped=True, fraction=1.0), cut_position(9, stopped=False, fraction=1.0)
    (8, 9)
    >>> cut_position(9, stopped=True, fraction=0.5), cut_position(1, stopped=True, fraction=0.9)
    (4, 0)
    """
    return int(fraction * (completion_tokens - 1 if stopped else completion_tokens))
