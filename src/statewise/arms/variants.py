"""Arms made of other arms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from statewise.arms.anchor import anchor_term
from statewise.arms.arm import Arm, Stream, Term
from statewise.arms.pairing import gives
from statewise.data import Data, Prompts
from statewise.objectives import (
    CrossEntropy,
    Importance,
    KLStudentTeacher,
    Objective,
    SequenceRatio,
)
from statewise.policy import PolicyLike, PolicyRef
from statewise.signals import Advantages
from statewise.sources import Dataset, Replay, Scheduled
from statewise.supervision import OwnActions, TeacherDistribution


def with_replay(
    arm: Arm,
    *,
    share: Scheduled,
    age_limit: int | None = None,
    capacity: int | None = None,
    importance: Importance | Literal["default"] | None = "default",
) -> Arm:
    """The same arm on stale states: every stream of learner states replays `share` of its rollouts (1511.05952).

    A policy gradient holds for the policy's own samples, so by default its terms get weights
    `pi / behaviour` (`Importance()`: by token, at most 2; by sequence under `sequence_ratio`, which has
    one ratio a row); on fresh rows they are 1. Weights by token correct what was chosen at a state, and
    not how often the state is visited: that takes `level: sequence`, at more variance. Divergences and
    likelihoods stay as they are. An `Importance` weighs every term that speaks of the student's tokens,
    None weighs nothing. Of the paper it has the idea of weights for replayed data, not its priorities.
    """

    def replayed(stream: Stream) -> Stream:
        source = stream.source
        if "student" not in source.owners or isinstance(source, Replay):
            return stream
        if importance == "default":
            stream = replace(stream, terms=tuple(_corrected(term) for term in stream.terms))
        elif importance:
            stream = _weighed(stream, importance)
        return replace(stream, source=Replay(source, share, age_limit, capacity))

    return _each(arm, replayed)


def with_importance(arm: Arm, importance: Importance = Importance()) -> Arm:
    """The same arm with weights `pi / behaviour` on what the student sampled: sampler against trainer."""
    return _each(arm, lambda stream: _weighed(stream, importance))


def with_rehearsal(
    arm: Arm, prompts: Data | Prompts, *, prompts_per_step: int, share: float = 1.0
) -> Arm:
    """The same arm with a second stream: gold tokens of other data, so that they are not forgotten.

    `sft` with rehearsal is two streams of one shape; the loss of the second is multiplied by `share`.
    """
    term = Term(OwnActions(), CrossEntropy())
    rehearsal = Stream(prompts, Dataset(), (term,), prompts_per_step, share)
    return replace(arm, streams=(*arm.streams, rehearsal))


def with_anchor(
    arm: Arm,
    *,
    anchor: PolicyLike = PolicyRef("base"),
    coefficient: float = 0.04,
    objective: Objective = KLStudentTeacher(),
) -> Arm:
    """The same arm with a divergence from `anchor` at its own states (as in 2402.03300).

    In each stream the anchor has the normaliser and the owners of the first term, so that both are
    sums over the same states.
    """

    def anchored(stream: Stream) -> Stream:
        held = anchor_term(stream.terms[0], anchor, objective, coefficient)
        return replace(stream, terms=(*stream.terms, held))

    return _each(arm, anchored)


def with_retention_anchor(
    arm: Arm,
    prompts: Data | Prompts,
    *,
    prompts_per_step: int,
    anchor: PolicyLike = PolicyRef("base"),
    coefficient: float = 1.0,
    objective: Objective = KLStudentTeacher(),
) -> Arm:
    """The same arm with a second stream: a divergence from `anchor` at the gold states of other data."""
    term = Term(TeacherDistribution(anchor), objective, coefficient)
    held = Stream(prompts, Dataset(), (term,), prompts_per_step)
    return replace(arm, streams=(*arm.streams, held))


def _each(arm: Arm, change: Callable[[Stream], Stream]) -> Arm:
    return replace(arm, streams=tuple(change(stream) for stream in arm.streams))


def _corrected(term: Term) -> Term:
    """A policy gradient with weights for samples that are not the policy's own any more."""
    if term.importance or Advantages not in gives(term.supervision):
        return term
    level = "sequence" if isinstance(term.objective, SequenceRatio) else "token"
    return replace(term, importance=Importance(level=level))


def _weighed(stream: Stream, importance: Importance) -> Stream:
    """Weights on every term that speaks of tokens of the student and of no gold ones, which nobody sampled."""

    def sampled(term: Term) -> bool:
        spoken = set(stream.source.supervised) & {*(term.on or stream.source.supervised)}
        return "student" in spoken and "dataset" not in spoken

    terms = tuple(
        replace(term, importance=importance) if sampled(term) else term for term in stream.terms
    )
    return replace(stream, terms=terms)
