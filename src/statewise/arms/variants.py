"""Methods made from other methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal

from statewise.arms.anchor import anchor_term
from statewise.arms.arm import Method, Stream, Term
from statewise.arms.pairing import gives
from statewise.data import Data, Prompts
from statewise.limits import Number, PromptCount, Rows, Steps
from statewise.objectives import (
    CrossEntropy,
    Importance,
    KLStudentTeacher,
    Objective,
    SequenceRatio,
)
from statewise.policy import PolicyLike, PolicyRef
from statewise.signals import Advantages
from statewise.sources import Dataset, Replay, Scheduled, Source
from statewise.supervision import OwnActions, TeacherDistribution

Axes = tuple[Source, tuple[Term, ...]]


def with_replay(
    method: Method,
    *,
    share: Scheduled,
    age_limit: Steps | None = None,
    capacity: Rows | None = None,
    importance: Importance | Literal["default"] | None = "default",
) -> Method:
    """The same method at stale states: every source of learner states replays `share` of its rollouts (1511.05952).

    A policy gradient holds for the policy's own samples, so by default its terms get weights
    `pi / behaviour` (`Importance()`: by token, at most 2; by sequence under `sequence_ratio`, which has
    one ratio per row); on fresh rows they are 1. Weights by token correct what was chosen at a state, and
    not how often the state is visited: that needs `level: sequence`, at more variance. Divergences and
    likelihoods stay as they are. An `Importance` weights every term that applies to the student's tokens,
    None weights nothing. Of the paper this has the idea of weights for replayed data, not its priorities.
    """

    def replayed(source: Source, terms: tuple[Term, ...]) -> Axes:
        if "student" not in source.owners or isinstance(source, Replay):
            return source, terms
        if importance == "default":
            terms = tuple(_corrected(term) for term in terms)
        elif importance:
            terms = _weighted(source, terms, importance)
        return Replay(source, share, age_limit, capacity), terms

    return _each(method, replayed)


def with_importance(method: Method, importance: Importance = Importance()) -> Method:
    """The same method with weights `pi / behaviour` on what the student sampled: sampler against trainer."""
    return _each(method, lambda source, terms: (source, _weighted(source, terms, importance)))


def with_rehearsal(
    method: Method, prompts: Data | Prompts, *, prompts_per_step: PromptCount, share: Number = 1.0
) -> Method:
    """The same method and a further stream: gold tokens of other data, so that they are not forgotten.

    `sft` with rehearsal is two streams of one shape; the loss of the second is multiplied by `share`.
    """
    term = Term(OwnActions(), CrossEntropy())
    rehearsal = Stream(prompts, Dataset(), (term,), prompts_per_step, share)
    return replace(method, further=(*method.further, rehearsal))


def with_anchor(
    method: Method,
    *,
    anchor: PolicyLike = PolicyRef("base"),
    coefficient: Number = 0.04,
    objective: Objective = KLStudentTeacher(),
) -> Method:
    """The same method with a divergence from `anchor` at its own states (as in 2402.03300).

    In each stream the anchor has the normaliser and the owners of the first term, so that both are
    sums over the same states.
    """

    def anchored(source: Source, terms: tuple[Term, ...]) -> Axes:
        return source, (*terms, anchor_term(terms[0], anchor, objective, coefficient))

    return _each(method, anchored)


def with_retention_anchor(
    method: Method,
    prompts: Data | Prompts,
    *,
    prompts_per_step: PromptCount,
    anchor: PolicyLike = PolicyRef("base"),
    coefficient: Number = 1.0,
    objective: Objective = KLStudentTeacher(),
) -> Method:
    """The same method and a further stream: a divergence from `anchor` at the gold states of other data."""
    term = Term(TeacherDistribution(anchor), objective, coefficient)
    retention = Stream(prompts, Dataset(), (term,), prompts_per_step)
    return replace(method, further=(*method.further, retention))


def _each(method: Method, change: Callable[[Source, tuple[Term, ...]], Axes]) -> Method:
    """The method with `change` applied to its own source and terms, and to those of each further stream."""

    def changed(stream: Stream) -> Stream:
        source, terms = change(stream.source, stream.terms)
        return replace(stream, source=source, terms=terms)

    return Method(
        *change(method.source, method.terms), tuple(changed(stream) for stream in method.further)
    )


def _corrected(term: Term) -> Term:
    """A policy gradient gets importance weights, because replayed samples are no longer the policy's own."""
    if term.importance or Advantages not in gives(term.supervision):
        return term
    level = "sequence" if isinstance(term.objective, SequenceRatio) else "token"
    return replace(term, importance=Importance(level=level))


def _weighted(source: Source, terms: tuple[Term, ...], importance: Importance) -> tuple[Term, ...]:
    """Weights on every term that applies to the student's tokens alone; nobody sampled a gold token."""

    def sampled(term: Term) -> bool:
        owners = set(source.supervised) & {*(term.on or source.supervised)}
        return "student" in owners and "dataset" not in owners

    return tuple(replace(term, importance=importance) if sampled(term) else term for term in terms)
