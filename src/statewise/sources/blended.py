"""States between learner and teacher: a behaviour that stays within a distance of the learner."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from jaxtyping import Float

from statewise.errors import ConfigError, ModelError, at_least_one
from statewise.lazy import torch
from statewise.limits import PositiveTemperature, Samples, Tokens
from statewise.policy import Policy, PolicyLike
from statewise.seeding import seed_for
from statewise.sources.schedule import Scheduled, check_within, value_at
from statewise.trajectory import Prompt, Sampling, Segment, Trajectory, assemble

BISECTIONS = 40
"""Halvings of [0, 1]: the exponent is found to 1e-12."""


@dataclass(frozen=True)
class Blended:
    """Tokens are drawn from `mu ~ pi_S^(1-b) pi_T^b`, as near the teacher as `KL(mu || pi_S) <= epsilon` lets.

    `b` in [0, 1] is found at every prefix by bisection: the divergence grows with `b`, so the largest
    `b` that keeps the bound is one number. Both policies are read in lockstep and both distributions
    are taken at `temperature`; every token may be drawn, so ratios to mu are defined. `epsilon` is
    in nats a token and may follow a schedule; 0 is the learner source, infinity the teacher source
    (trust-region blending, arXiv 2605.31159: epsilon goes to 0 over a run).

    mu is neither policy, so its tokens have an owner of their own, `blend:<student>+<teacher>`, and
    their behaviour log-probs are mu's: a term that speaks of `student` never takes them for on-policy.

    Raises ConfigError where `epsilon` is negative or the temperature 0 (a point has no exponent), and
    ModelError where student and teacher have heads of different width.

    >>> from statewise.policy import PolicyRef
    >>> source = Blended(PolicyRef("mild"), 0.1, max_new_tokens=8)
    >>> source.owners, source.supervised, source.room_tokens
    (('blend',), ('blend',), 8)
    """

    kind: ClassVar[str] = "blended"
    owners: ClassVar[tuple[str, ...]] = ("blend",)
    supervised: ClassVar[tuple[str, ...]] = ("blend",)
    reads_gold: ClassVar[bool] = False
    teacher: PolicyLike
    epsilon: Scheduled
    max_new_tokens: Tokens
    samples_per_prompt: Samples = 1
    temperature: PositiveTemperature = 1.0

    def __post_init__(self) -> None:
        at_least_one(self, "max_new_tokens", "samples_per_prompt")
        check_within("epsilon", self.epsilon, 0.0, math.inf)
        if not 0 < self.temperature < math.inf:
            raise ConfigError(f"a blend needs a temperature above 0, found {self.temperature}")

    @property
    def room_tokens(self) -> int:
        """Tokens of context that it needs beyond the prompt."""
        return self.max_new_tokens

    @property
    def sampling(self) -> Sampling:
        """The transform that both policies are taken under."""
        return Sampling(self.temperature)

    def __call__(
        self, prompts: Sequence[Prompt], *, student: Policy, seed: int, progress: float = 0.0
    ) -> list[Trajectory]:
        """`samples_per_prompt` trajectories a prompt, one group each, every token mu's."""
        assert isinstance(self.teacher, Policy)
        widths = [policy.head_weight()[0].shape[0] for policy in (student, self.teacher)]
        if len(set(widths)) > 1:
            raise ModelError(
                f"a blend needs heads of one width, found {widths[0]} for the student and {widths[1]} "
                "for the teacher"
            )
        places = [(i, k) for i in range(len(prompts)) for k in range(self.samples_per_prompt)]
        completions = student.complete(
            [prompts[i].token_ids for i, _ in places],
            sampling=self.sampling,
            max_new_tokens=self.max_new_tokens,
            seeds=[seed_for(seed, i, k) for i, k in places],
            guide=self.teacher,
            bend=partial(
                blend, epsilon=value_at(self.epsilon, progress), temperature=self.temperature
            ),
        )
        owner = f"blend:{student.owner}+{self.teacher.owner}"
        return [
            assemble(
                prompts[i],
                f"{seed}/{i}",
                [Segment(owner, completion.token_ids, completion.logprobs)],
                completion=student.completion_text(completion.token_ids),
                stopped=completion.stopped,
                sampling=self.sampling,
            )
            for (i, _), completion in zip(places, completions, strict=True)
        ]


def blend(
    student_logits: Float[torch.Tensor, "M V"],
    teacher_logits: Float[torch.Tensor, "M V"],
    *,
    epsilon: float,
    temperature: float = 1.0,
) -> Float[torch.Tensor, "M V"]:
    """Logits `(1 - b) student + b teacher` with the largest b in [0, 1] that keeps `KL(mu || pi_S) <= epsilon`.

    Both distributions and the bound are taken at `temperature`; the logits that come back are not
    divided by it yet. float64, for a bound near 0 is a difference of near-equal numbers.

    >>> student, teacher = torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[0.9, 0.1]]).log()
    >>> round(blend(student, teacher, epsilon=9.0).softmax(-1)[0, 0].item(), 4)    # the teacher
    0.9
    >>> mu = blend(student, teacher, epsilon=0.0823).softmax(-1)    # 0.7 log 1.4 + 0.3 log 0.6
    >>> round(mu[0, 0].item(), 3)
    0.7
    """
    student, teacher = student_logits.double(), teacher_logits.double()
    own = (student / temperature).log_softmax(-1)
    direction = (teacher - student) / temperature

    def within(b: Float[torch.Tensor, "M 1"]) -> torch.Tensor:
        mu = (own + b * direction).log_softmax(-1)
        return (mu.exp() * (mu - own)).sum(-1, keepdim=True) <= epsilon

    low = torch.zeros_like(student[:, :1])
    high = torch.ones_like(low)
    low = torch.where(within(high), high, low)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        kept = within(middle)
        # `low` always keeps the bound, so what is returned does.
        low, high = torch.where(kept, middle, low), torch.where(kept, high, middle)
    return student + low * (teacher - student)
