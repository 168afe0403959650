"""Arms made of other arms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from statewise.arms.anchor import anchor_term
from statewise.arms.arm import Arm, Stream, Term
from statewise.data import Data, Prompts
from statewise.objectives import CrossEntropy, Importance, KLStudentTeacher, Objective
from statewise.policy import PolicyLike, PolicyRef
from statewise.sources import Dataset, Replay, Scheduled
from statewise.supervision import OwnActions, TeacherDistribution


def with_replay(
    arm: Arm,
    *,
    share: Scheduled,
    age_limit: int | None = None,
    capacity: int | None = None,
    importance: Importance | None = None,
) -> Arm:
    """The same arm on stale states: every stream of learner states replays `share` of its rollouts (1511.05952).

    `importance` weighs what the student sampled by `pi / behaviour`, replayed or fresh. Of the paper it
    has the idea of weights for replayed data, not its priorities.
    """

    def replayed(stream: Stream) -> Stream:
        if "student" not in stream.source.owners or isinstance(stream.source, Replay):
            return stream
        weighed = _weighed(stream, importance) if importance else stream
        return replace(weighed, source=Replay(stream.source, share, age_limit, capacity))

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


def _weighed(stream: Stream, importance: Importance) -> Stream:
    """Weights on every term that speaks of tokens of the student and of no gold ones, which nobody sampled."""

    def sampled(term: Term) -> bool:
        spoken = set(stream.source.supervised) & {*(term.on or stream.source.supervised)}
        return "student" in spoken and "dataset" not in spoken

    terms = tuple(
        replace(term, importance=importance) if sampled(term) else term for term in stream.terms
    )
    return replace(stream, terms=terms)
