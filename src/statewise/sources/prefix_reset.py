"""States that lie behind a given prefix: reinforcement learning with resets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from statewise.errors import ConfigError, DataError, at_least_one
from statewise.limits import Samples, Share, Temperature, Tokens
from statewise.policy import Policy, PolicyLike
from statewise.seeding import seed_for, uniforms
from statewise.sources.continuation import cut_position
from statewise.sources.schedule import Scheduled, check_within, value_at
from statewise.trajectory import DATASET, Prompt, Sampling, Segment, Trajectory, assemble


@dataclass(frozen=True)
class PrefixReset:
    """The start of a good completion is given; the learner writes the rest and answers for it alone.

    With `probability` (which may follow a schedule) a prompt is reset: `floor(u T)` tokens of its gold
    completion, or of one rollout by `teacher`, stand before the learner's first token, T its length
    with the stop token and u drawn from U[low, high]; over the whole range each state of that
    completion is as likely as any other, the one where it stops with them. Otherwise the learner starts
    at the prompt. The prefix never holds a stop token, weighs 0 and leaves room for a token of the learner's, whose
    continuation ends where the context does; a reward reads prefix and continuation together. Coin
    and prefix are drawn once a prompt, so that the samples of a group start from one state and
    their rewards compare like with like.

    Resets to states of a guide distribution: Chang et al., 2023 (arXiv 2306.11816, algorithm 1);
    along a demonstration: Salimans and Chen, 2018 (arXiv 1812.03381). With `probability` 0 the
    trajectories are those of the learner source under the same seed.

    Raises DataError where a prompt that is reset to its gold completion has none.

    >>> gold = PrefixReset(max_new_tokens=8)
    >>> gold.owners, gold.supervised, gold.room_tokens
    (('dataset', 'student'), ('student',), 8)
    """

    kind: ClassVar[str] = "prefix_reset"
    supervised: ClassVar[tuple[str, ...]] = ("student",)
    max_new_tokens: Tokens
    """Limit on the learner's tokens, and on those of a teacher's rollout."""
    teacher: PolicyLike | None = None
    """Whose rollouts the prefixes are cut from; None = the gold completions."""
    probability: Scheduled = 1.0
    low: Share = 0.0
    high: Share = 1.0
    samples_per_prompt: Samples = 1
    temperature: Temperature = 1.0
    teacher_temperature: Temperature = 1.0

    def __post_init__(self) -> None:
        at_least_one(self, "max_new_tokens", "samples_per_prompt")
        check_within("probability", self.probability, 0.0, 1.0)
        for temperature in (self.temperature, self.teacher_temperature):
            Sampling(temperature)  # refuses one that is none
        if not 0 <= self.low <= self.high <= 1:
            raise ConfigError(
                f"fractions of a length need 0 <= low <= high <= 1, found {self.low} and {self.high}"
            )

    @property
    def owners(self) -> tuple[str, ...]:
        """The author of the prefixes, and the learner."""
        return (DATASET if self.teacher is None else "teacher", "student")

    @property
    def reads_gold(self) -> bool:
        """True where the prefixes are cut from the gold completions."""
        return self.teacher is None

    @property
    def room_tokens(self) -> int:
        """Tokens of context that it needs beyond the prompt: a whole continuation after a teacher's prefix."""
        return self.max_new_tokens * (1 if self.teacher is None else 2)

    @property
    def sampling(self) -> Sampling:
        """The transform that the learner's tokens are drawn under."""
        return Sampling(self.temperature)

    def __call__(
        self, prompts: Sequence[Prompt], *, student: Policy, seed: int, progress: float = 0.0
    ) -> list[Trajectory]:
        """`samples_per_prompt` trajectories a prompt, one group each, from one prefix each."""
        given = self._prefixes(prompts, student, seed, value_at(self.probability, progress))
        places = [(i, k) for i in range(len(prompts)) for k in range(self.samples_per_prompt)]
        starts = [
            np.concatenate([prompt.token_ids, prefix.token_ids])
            for prompt, prefix in zip(prompts, given, strict=True)
        ]
        completions = student.complete(
            [starts[i] for i, _ in places],
            sampling=self.sampling,
            max_new_tokens=self.max_new_tokens,
            seeds=[seed_for(seed, i, k) for i, k in places],
        )
        return [
            assemble(
                prompts[i],
                f"{seed}/{i}",
                [
                    *([given[i]] if len(given[i].token_ids) else []),
                    Segment(student.owner, completion.token_ids, completion.logprobs),
                ],
                completion=student.completion_text(
                    np.concatenate([given[i].token_ids, completion.token_ids])
                ),
                stopped=completion.stopped,
                sampling=self.sampling,
            )
            for (i, _), completion in zip(places, completions, strict=True)
        ]

    def _prefixes(
        self, prompts: Sequence[Prompt], student: Policy, seed: int, probability: float
    ) -> list[Segment]:
        """What stands before the learner's first token of each prompt; empty where nothing does."""
        reset = [i for i, u in enumerate(uniforms(len(prompts), seed, "coin")) if u < probability]
        fractions = self.low + (self.high - self.low) * uniforms(len(prompts), seed, "fraction")
        given = [Segment(DATASET, np.empty(0, np.int32), weight=0.0)] * len(prompts)
        completions = self._completions(prompts, reset, student, seed)
        for i, (whole, stopped) in zip(reset, completions, strict=True):
            room = student.context_tokens - len(prompts[i].token_ids) - 1
            cut = cut_position(len(whole.token_ids), stopped, float(fractions[i]))
            cut = max(0, min(cut, room))
            logprobs = None if whole.logprobs is None else whole.logprobs[:cut]
            given[i] = Segment(whole.owner, whole.token_ids[:cut], logprobs, weight=0.0)
        return given

    def _completions(
        self, prompts: Sequence[Prompt], reset: Sequence[int], student: Policy, seed: int
    ) -> list[tuple[Segment, bool]]:
        """The completions that the prefixes are cut from, and whether they end in a stop token."""
        if self.teacher is None:
            return [(Segment(DATASET, _gold(prompts[i], student)), True) for i in reset]
        assert isinstance(self.teacher, Policy)
        written = self.teacher.complete(
            [prompts[i].token_ids for i in reset],
            sampling=Sampling(self.teacher_temperature),
            max_new_tokens=self.max_new_tokens,
            seeds=[seed_for(seed, "prefix", i) for i in reset],
        )
        # A trajectory states one transform, the learner's.
        same = self.teacher_temperature == self.temperature
        return [
            (Segment(self.teacher.owner, w.token_ids, w.logprobs if same else None), w.stopped)
            for w in written
        ]


def _gold(prompt: Prompt, student: Policy) -> np.ndarray:
    """The gold completion, which ends in a stop token as the dataset source has it."""
    if prompt.reference is None:
        raise DataError(f"prompt {prompt.id!r} has no reference to reset to")
    return student.ending(student.reference_ids(prompt))
