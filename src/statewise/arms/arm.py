"""One choice on each axis, and a budget: Term, Stream, Method, Budget, Arm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from statewise.arms.pairing import check_signal, check_source
from statewise.data import Data, Prompts
from statewise.errors import ConfigError, PairingError
from statewise.limits import (
    MOST_ROWS,
    BatchTokens,
    CountOrZero,
    FewTimes,
    LearningRate,
    NotNegative,
    Number,
    Positive,
    PromptCount,
    ShareBelow1,
    Steps,
)
from statewise.objectives import Importance, Objective, SequenceRatio
from statewise.policy import Lora, PolicyRef, Precision
from statewise.sources import Source
from statewise.supervision import Supervision


@dataclass(frozen=True)
class Term:
    """What is said at a state, how it moves the student, and what the sum is divided by.

    `normaliser` is global: over every micro-batch of an update.
        token      the sum of weights of all states (each token counts the same)
        sequence   each trajectory's states by their own weight, then the number of trajectories
        constant   the number of trajectories times `constant_tokens` (Dr.GRPO)
    `on` limits the term to states whose action one of these roles chose; empty = all. `importance`
    weights states that another policy sampled.

    Raises PairingError if the objective does not take the signal that the supervision gives.

    >>> from statewise.objectives import JSD
    >>> from statewise.supervision import OwnActions
    >>> Term(OwnActions(), JSD())
    Traceback (most recent call last):
    statewise.errors.PairingError: objective 'jsd' takes TeacherHidden or Mixture or TopK, but supervision \
'own_actions' gives Actions
    """

    supervision: Supervision
    objective: Objective
    coefficient: Number = 1.0
    normaliser: Literal["token", "sequence", "constant"] = "token"
    constant_tokens: Positive | None = None
    on: tuple[Literal["dataset", "student", "teacher", "blend"], ...] = ()
    importance: Importance | None = None

    def __post_init__(self) -> None:
        check_signal(self.supervision, self.objective)
        token_level = self.importance is not None and self.importance.level == "token"
        if token_level and isinstance(self.objective, SequenceRatio):
            raise PairingError(
                "sequence_ratio has one ratio per row: weights by token would give its states unequal shares of "
                "the row's gradient; set importance.level to sequence"
            )
        if (self.normaliser == "constant") != (self.constant_tokens is not None):
            raise ConfigError(
                "normaliser 'constant' and `constant_tokens` go together: give both or neither"
            )
        if self.constant_tokens is not None and not self.constant_tokens > 0:
            raise ConfigError(f"constant_tokens must be positive, found {self.constant_tokens}")


@dataclass(frozen=True)
class Stream:
    """Prompts, the source that turns them into trajectories, and the terms of the loss at their states.

    Raises ConfigError without terms or prompts, and PairingError if source and term mean nothing together.

    >>> from statewise.data import JsonLines
    >>> from statewise.objectives import CrossEntropy
    >>> from statewise.sources import Dataset
    >>> from statewise.supervision import OwnActions
    >>> term = Term(OwnActions(), CrossEntropy(), on=("teacher",))
    >>> Stream(JsonLines("train.jsonl"), Dataset(), (term,), prompts_per_step=4)
    Traceback (most recent call last):
    statewise.errors.PairingError: `on` names teacher, but the tokens of source 'dataset' are \
chosen by dataset: the term would apply to no token
    """

    prompts: Data | Prompts
    source: Source
    terms: tuple[Term, ...]
    prompts_per_step: PromptCount
    share: Number = 1.0
    """Factor on the loss of this stream."""

    def __post_init__(self) -> None:
        if self.prompts_per_step < 1:
            raise ConfigError(f"prompts_per_step must be 1 or more, found {self.prompts_per_step}")
        if (rows := self.prompts_per_step * self.source.samples_per_prompt) > MOST_ROWS:
            raise ConfigError(
                f"prompts_per_step times samples_per_prompt are {rows:,} rows per step; "
                f"at most {MOST_ROWS:,} are allowed"
            )
        _check_terms(self.source, self.terms, "a stream")


@dataclass(frozen=True)
class Method:
    """A choice on each axis: a source, and the terms of the loss at its states.

    Prompts and budget are other choices (`Arm.of`). `further` holds streams over data of their own, which
    a rehearsal or a retention anchor adds.

    Raises ConfigError without terms, and PairingError if source and term mean nothing together.

    >>> from statewise.arms import dft, sft
    >>> sft().source == dft().source, [term.objective.kind for term in dft().terms]
    (True, ['dft'])
    """

    source: Source
    terms: tuple[Term, ...]
    further: tuple[Stream, ...] = ()

    def __post_init__(self) -> None:
        _check_terms(self.source, self.terms, "a method")

    def streams(
        self, prompts: Data | Prompts, prompts_per_step: PromptCount, share: Number = 1.0
    ) -> tuple[Stream, ...]:
        """The method's own stream over `prompts`, then the further ones."""
        own = Stream(prompts, self.source, self.terms, prompts_per_step, share)
        return (own, *self.further)


def _check_terms(source: Source, terms: tuple[Term, ...], whose: str) -> None:
    if not terms:
        raise ConfigError(f"{whose} needs at least one term: nothing would be said at its states")
    for term in terms:
        check_source(source, term.supervision, term.importance, term.on)


@dataclass(frozen=True)
class Budget:
    """How far the student may move, and in what steps.

    Give exactly one of `steps` (rollouts) and `epochs` (over the first stream's prompts). A rollout is
    used for `passes` passes of `minibatches` updates each.
    """

    learning_rate: LearningRate
    steps: Steps | None = None
    epochs: Positive | None = None
    passes: FewTimes = 1
    minibatches: FewTimes = 1
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: CountOrZero = 0
    max_grad_norm: Positive = 1.0
    weight_decay: NotNegative = 0.0
    adam_beta1: ShareBelow1 = 0.9
    adam_beta2: ShareBelow1 = 0.999
    tokens_per_microbatch: BatchTokens = 16384
    precision: Precision = "fp32"
    adapter: Lora | None = None

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError("a budget has either `steps` or `epochs`, exactly one of them")
        for name in ("steps", "passes", "minibatches", "tokens_per_microbatch"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be 1 or more, found {value}")
        for name in ("learning_rate", "max_grad_norm", "epochs"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError(f"{name} must be positive and finite, found {value}")
        for name in ("warmup_steps", "weight_decay"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"{name} must be 0 or more, found {getattr(self, name)}")

    def rollouts(self, prompts: int, prompts_per_step: int) -> int:
        """Number of steps, for a stream of `prompts` prompts.

        >>> Budget(1e-3, epochs=5.0).rollouts(prompts=150, prompts_per_step=32)
        24
        """
        if self.steps is not None:
            return self.steps
        assert self.epochs is not None
        return math.ceil(self.epochs * prompts / prompts_per_step)


@dataclass(frozen=True)
class Arm:
    """A name, streams and a budget. `start` is the policy that the student begins as.

    Raises ConfigError without streams, and for dropout under an objective with a ratio.
    """

    name: str
    streams: tuple[Stream, ...]
    budget: Budget
    start: PolicyRef = PolicyRef("base")

    @staticmethod
    def of(
        name: str,
        method: Method,
        prompts: Data | Prompts,
        budget: Budget,
        *,
        prompts_per_step: PromptCount,
        start: PolicyRef = PolicyRef("base"),
    ) -> Arm:
        """The arm that trains by `method` on `prompts`. Raises as Arm and Stream do.

        >>> from statewise.arms import sft
        >>> from statewise.data import JsonLines
        >>> budget = Budget(1e-3, steps=7)
        >>> Arm.of("mild", sft(), JsonLines("train.jsonl"), budget, prompts_per_step=4).steps
        7
        """
        return Arm(name, method.streams(prompts, prompts_per_step), budget, start)

    def __post_init__(self) -> None:
        if not self.streams:
            raise ConfigError(f"arm {self.name!r} has no streams: it would train on nothing")
        terms = [term for stream in self.streams for term in stream.terms]
        ratios = any("old_logprobs" in t.objective.reads or t.importance for t in terms)
        if ratios and self.budget.adapter and self.budget.adapter.dropout > 0:
            raise ConfigError(
                f"arm {self.name!r}: dropout makes the ratio of an unmoved policy differ from 1; "
                "set budget.adapter.dropout to 0 for objectives with a ratio"
            )

    @property
    def steps(self) -> int:
        """Number of rollouts. Raises ConfigError for epochs over prompts that are not loaded."""
        first = self.streams[0]
        if self.budget.steps is not None:
            return self.budget.steps
        if not isinstance(first.prompts, Prompts):
            raise ConfigError(
                f"arm {self.name!r} counts epochs over prompts that are not loaded: bind it first"
            )
        return self.budget.rollouts(len(first.prompts), first.prompts_per_step)
