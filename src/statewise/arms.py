"""A method is one choice on each axis, and a budget: Term, Stream, Budget, Arm.

There is no `if method ==` anywhere in the package. The functions at the end of this file are the
methods: each is a line or two that says which value stands on which axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, get_type_hints

from statewise.data import Data, Prompts
from statewise.errors import ConfigError, PairingError
from statewise.objectives import ClippedSurrogate, CrossEntropy, KLStudentTeacher, Objective
from statewise.policy import LIVE, Ema, Lora, Policy, PolicyLike, PolicyRef, Precision
from statewise.rewards import ExactAnswer, Reward
from statewise.sources import (
    Continuation,
    Dataset,
    Filtered,
    Learner,
    Mixture,
    Replay,
    Source,
    Stored,
)
from statewise.supervision import GroupAdvantage, OwnActions, Supervision, TeacherDistribution


@dataclass(frozen=True)
class Term:
    """What is said, how it moves the student, and what the sum is divided by.

    `normaliser` is global: over every micro-batch of an update.
        token      the sum of weights of all states (each token counts the same)
        sequence   each trajectory's states by their own weight, then the number of trajectories
        constant   the number of trajectories times `constant_tokens` (Dr.GRPO)
    `on` limits the term to states whose action one of these roles chose; empty = all.

    Raises PairingError where the objective does not take the signal that the supervision gives.
    """

    supervision: Supervision
    objective: Objective
    coefficient: float = 1.0
    normaliser: Literal["token", "sequence", "constant"] = "token"
    constant_tokens: float | None = None
    on: tuple[Literal["dataset", "student", "teacher", "blend"], ...] = ()

    def __post_init__(self) -> None:
        gives = get_type_hints(type(self.supervision).signal)["return"]
        wants = get_type_hints(type(self.objective).__call__)["signal"]
        if gives is not wants:
            raise PairingError(
                f"objective {self.objective.kind!r} takes {wants.__name__}, but supervision "
                f"{self.supervision.kind!r} gives {gives.__name__}"
            )
        if (self.normaliser == "constant") != (self.constant_tokens is not None):
            raise ConfigError(
                "normaliser 'constant' and `constant_tokens` go together: give both or neither"
            )
        if self.constant_tokens is not None and not self.constant_tokens > 0:
            raise ConfigError(f"constant_tokens must be positive, found {self.constant_tokens}")


@dataclass(frozen=True)
class Stream:
    """Prompts, the source that turns them into trajectories, and what is said at their states."""

    prompts: Data | Prompts
    source: Source
    terms: tuple[Term, ...]
    prompts_per_step: int
    share: float = 1.0
    """Factor on the loss of this stream beside the others."""

    def __post_init__(self) -> None:
        if self.prompts_per_step < 1:
            raise ConfigError(f"prompts_per_step must be 1 or more, found {self.prompts_per_step}")
        if not self.terms:
            raise ConfigError(
                "a stream needs at least one term: nothing would be said at its states"
            )
        for term in self.terms:
            _check_pair(self.source, term)


@dataclass(frozen=True)
class Budget:
    """How far the student may move, and in what steps.

    Exactly one of `steps` (rollouts) and `epochs` (over the first stream's prompts) is given. A
    rollout is used for `passes` passes of `minibatches` updates each.
    """

    learning_rate: float
    steps: int | None = None
    epochs: float | None = None
    passes: int = 1
    minibatches: int = 1
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    max_grad_norm: float = 1.0
    weight_decay: float = 0.0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    tokens_per_microbatch: int = 16384
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
    """A name, streams and a budget. `start` is the policy that the student begins as."""

    name: str
    streams: tuple[Stream, ...]
    budget: Budget
    start: PolicyRef = PolicyRef("base")

    def __post_init__(self) -> None:
        if not self.streams:
            raise ConfigError(f"arm {self.name!r} has no streams: it would train on nothing")
        ratios = any(t.objective.uses_old_logprobs for s in self.streams for t in s.terms)
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


def _check_pair(source: Source, term: Term) -> None:
    """Refuse a source and a term that mean nothing together."""
    if strangers := [owner for owner in term.on if owner not in source.owners]:
        raise PairingError(
            f"`on` names {', '.join(strangers)}, but the tokens of source {source.kind!r} are "
            f"chosen by {' and '.join(source.owners)}: the term would speak of no state"
        )
    if is_live(getattr(term.supervision, "teacher", None)):
        raise PairingError(
            "the student as its own teacher in the same context says what it does already: the divergence "
            "and its gradient are 0; give another policy or an average of its past (kind: ema)"
        )
    for part in _parts(source):
        _check_part(part, term)


def _parts(source: Source) -> Iterator[Source]:
    """The sources that a composed one passes its prompts to; a filter makes another source of its own."""
    if isinstance(source, Mixture):
        for part in source.sources:
            yield from _parts(part)
    elif isinstance(source, Replay):
        yield from _parts(source.source)
    else:
        yield source


def _check_part(source: Source, term: Term) -> None:
    """Refuse what a source's states and a term mean nothing to each other at."""
    inner = source.source if isinstance(source, Filtered) else source
    if is_live(getattr(inner, "teacher", None)):
        raise PairingError(
            f"the teacher of source {inner.kind!r} is the student itself: that is the learner source; "
            "give another policy or an average of its past (kind: ema)"
        )
    sampling = getattr(inner, "sampling", None)
    if isinstance(term.objective, ClippedSurrogate) and sampling and not sampling.is_full:
        raise PairingError(
            "a policy gradient needs ratios of the sampled distribution: sample with temperature > 0, "
            "top_p 1 and top_k 0"
        )
    # A stored sample is a data set by now, and a filter says more than the learner does already.
    own = "student" in source.supervised and (not term.on or "student" in term.on)
    if (
        isinstance(term.supervision, OwnActions)
        and own
        and source is inner
        and not isinstance(source, Stored)
    ):
        raise PairingError(
            f"own_actions at the learner's own states (source {source.kind!r}) would teach the learner what "
            "it does already; give a teacher, a reward, a filter or the dataset source"
        )
    if isinstance(term.supervision, GroupAdvantage):
        if source.supervised != ("student",) and not isinstance(source, Stored):
            raise PairingError(
                f"group_advantage needs the learner's own samples, found source {source.kind!r}"
            )
        if source.samples_per_prompt < 2:
            raise PairingError(
                "group_advantage compares the samples of a prompt: samples_per_prompt must be 2 or more"
            )


def is_live(teacher: object) -> bool:
    """True for the student itself as a teacher, named or bound."""
    return isinstance(teacher, Policy | PolicyRef) and teacher.name in (LIVE, f"teacher:{LIVE}")


# ---- references: an arm as written names policies and data, an arm that runs holds them ---------


def references(value: object) -> Iterator[PolicyRef]:
    """Every policy that a value names, in order."""
    if isinstance(value, PolicyRef):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from references(item)
    elif is_dataclass(value):
        for field in fields(value):
            yield from references(getattr(value, field.name))


def policies(value: object) -> Iterator[Policy]:
    """Every policy that a bound value holds, each once, in order."""
    seen: list[Policy] = []

    def walk(item: object) -> None:
        if isinstance(item, Policy) and not any(item is other for other in seen):
            seen.append(item)
        elif isinstance(item, tuple):
            for part in item:
                walk(part)
        elif is_dataclass(item) and not isinstance(item, Prompts):
            for field in fields(item):
                walk(getattr(item, field.name))

    walk(value)
    yield from seen


def bind(
    value: Any,
    policy: Callable[[PolicyRef | Ema], Policy],
    prompts: Callable[[Stream], Prompts],
) -> Any:
    """The same value with every named policy and every named data set in place, remembering nothing."""
    if isinstance(value, PolicyRef | Ema):
        return policy(value)
    if isinstance(value, Stream) and not isinstance(value.prompts, Prompts):
        value = replace(value, prompts=prompts(value))
    if isinstance(value, tuple):
        return tuple(bind(item, policy, prompts) for item in value)
    if is_dataclass(value) and not isinstance(value, (type, Prompts)):
        changed = {
            field.name: bind(getattr(value, field.name), policy, prompts)
            for field in fields(value)
            if field.init and not (isinstance(value, Arm) and field.name == "start")
        }
        return replace(value, **changed)
    return value


# ---- the methods ----------------------------------------------------------------------------


def sft(name: str, prompts: Data | Prompts, budget: Budget, *, prompts_per_step: int) -> Arm:
    """Supervised fine-tuning: dataset states, gold tokens, cross-entropy (eq. 5)."""
    term = Term(OwnActions(), CrossEntropy())
    return Arm(name, (Stream(prompts, Dataset(), (term,), prompts_per_step),), budget)


def opd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    prompts_per_step: int,
    objective: Objective = KLStudentTeacher(),
) -> Arm:
    """One-step on-policy distillation: learner states, teacher distribution, a divergence (eq. 7)."""
    source = Learner(max_new_tokens=max_new_tokens)
    term = Term(TeacherDistribution(teacher), objective)
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def continuation_opd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    branch_tokens: int,
    prompts_per_step: int,
) -> Arm:
    """Continuation distillation: learner roots, teacher branches, cross-entropy on the branch."""
    source = Continuation(
        teacher=teacher, branch_tokens=branch_tokens, max_new_tokens=max_new_tokens
    )
    term = Term(OwnActions(), CrossEntropy(), on=("teacher",))
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def grpo(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
    clip: float = 0.2,
) -> Arm:
    """GRPO: learner states, group advantage of a reward, clipped surrogate (arXiv 2402.03300, eq. 3).

    Without the KL term to a reference; add one as a second term.
    """
    source = Learner(max_new_tokens=max_new_tokens, samples_per_prompt=samples_per_prompt)
    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip, clip), normaliser="sequence")
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def pretraining(
    name: str, documents: Data | Prompts, budget: Budget, *, prompts_per_step: int
) -> Arm:
    """Pretraining is supervised fine-tuning over documents."""
    return sft(name, documents, budget, prompts_per_step=prompts_per_step)
