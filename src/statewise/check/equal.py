"""A student that equals its teacher has nothing to learn: loss 0, gradient 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from statewise.arms import Term, parts
from statewise.check.finding import Found, Line, Skip, small
from statewise.check.gradients import EXACT, Gradient, gradient, two_rows
from statewise.check.models import in_float64, in_fp32, moved
from statewise.check.subject import Subject
from statewise.gradient import Rollout
from statewise.policy import Policy
from statewise.supervision import (
    Context,
    PythonSupervision,
    Supervision,
    TeacherDistribution,
    TeacherLogRatio,
    TeacherMixture,
)

NAME = "student = teacher"
SHARE = 1e-3
"""Largest loss and gradient that pass for 0, as shares of those towards a teacher that differs."""


def equal_teacher(subject: Subject, rollouts: Sequence[Rollout]) -> Found:
    """Each term that a teacher teaches, with the student in its place: at temperature 1, in its own context.

    Loss and gradient are stated against those of the same terms with their own teachers, moved by a few
    percent: 0 of what is 0 anyway would say nothing. What float32 leaves is tried again in float64.
    """
    if not any(_vanishes(term) for stream in subject.arm.streams for term in stream.terms):
        mine = parts(subject.arm, PythonSupervision)
        own = "a supervision of your own makes what its teacher says into something else"
        asked = any(one.teacher is not None for one in mine)
        return Skip(NAME, own if asked else "no term asks a teacher")
    if not rollouts:
        return Skip(NAME, "no row teaches anything")
    student, unseen = subject.student, Skip(NAME, "no state of these rows is taught by a teacher")
    involved = (student, *subject.teachers)
    # A view: it shares the weights, so that nothing is copied, and is read without gradient.
    twin = student.view("teacher:twin")
    with in_fp32((*involved, twin)):
        kept = [part for r in rollouts if (part := _taught(r))]
        if not kept:
            return unseen
        same = [_taught_by(part, twin) for part in kept]

        def towards(part: Sequence[Rollout]) -> Gradient:
            return gradient(student, part, tokens=two_rows(part))

        with moved(student, subject.teachers):
            other = towards(kept)
        if other.states == 0 or other.norm() == 0:
            return unseen
        found = towards(same)
        loss, share, exact = _part(found.loss, other.loss), found.norm() / other.norm(), None
        no_loss, no_gradient = loss <= SHARE, share <= SHARE
        if not (no_loss and no_gradient):
            with in_float64(involved):
                again = towards(same)
            exact = again.norm() / other.norm()
            no_loss = no_loss or _part(again.loss, other.loss) <= EXACT
            no_gradient = no_gradient or exact <= EXACT
    values = {"loss_nats": found.loss, "gradient_share": share, "gradient_share_float64": exact}
    figure = (
        f"loss {small(loss)} and gradient {small(share)} of those towards a teacher that differs "
        f"(limit {small(SHARE)})"
    )
    if exact is not None:
        figure += f", gradient {small(exact)} in float64"
    if no_loss and no_gradient:
        return Line("pass", NAME, figure, values=values)
    if no_gradient:
        fix = "nothing, where a constant (the teacher's entropy) is meant: only the gradient moves the student"
        return Line("warn", NAME, f"{figure}: the loss has another zero", fix, values)
    return Line(
        "fail",
        NAME,
        figure,
        "a divergence is least where both distributions are equal: see whether the objective compares the right "
        "two, over one support, both normalised, and whether a supervision of your own gives what its teacher says",
        values,
    )


def _part(loss: float, other: float) -> float:
    """A loss as a share of another."""
    if loss == 0:
        return 0.0
    return abs(loss / other) if other else float("inf")


def _vanishes(term: Term) -> bool:
    """True where the term has nothing to say once the student is its own teacher."""
    taught = term.supervision
    if isinstance(taught, PythonSupervision):
        return taught.gives == "distribution" and taught.teacher is not None
    return isinstance(taught, TeacherDistribution | TeacherMixture | TeacherLogRatio)


def _taught(rollout: Rollout) -> Rollout | None:
    """The rollout with the terms of its teachers alone; None where there is none."""
    kept = [k for k, term in enumerate(rollout.stream.terms) if _vanishes(term)]
    if not kept:
        return None
    terms = tuple(rollout.stream.terms[k] for k in kept)
    labels = [rollout.labels[k] for k in kept]
    return replace(rollout, stream=replace(rollout.stream, terms=terms), labels=labels)


def _taught_by(rollout: Rollout, twin: Policy) -> Rollout:
    """The same terms with `twin` for a teacher."""
    terms = tuple(
        replace(term, supervision=_with_teacher(term.supervision, twin))
        for term in rollout.stream.terms
    )
    labels = [term.supervision.label(rollout.trajectories) for term in terms]
    return replace(rollout, stream=replace(rollout.stream, terms=terms), labels=labels)


def _with_teacher(supervision: Supervision, twin: Policy) -> Supervision:
    match supervision:
        case TeacherMixture():
            teachers = tuple(_equal(one, twin) for one in supervision.teachers)
            return replace(supervision, teachers=teachers)
        case TeacherLogRatio():
            return replace(supervision, teacher=twin, context=None)
        case PythonSupervision():
            # A function that takes a context is given one: the student's own prompt.
            own = Context("{question}") if supervision.context else None
            return replace(supervision, teacher=twin, context=own)
    assert isinstance(supervision, TeacherDistribution)
    return _equal(supervision, twin)


def _equal(supervision: TeacherDistribution, twin: Policy) -> TeacherDistribution:
    return replace(supervision, teacher=twin, temperature=1.0, context=None)
