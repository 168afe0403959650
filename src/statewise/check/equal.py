"""A student that equals its teacher has nothing to learn: loss 0, gradient 0."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from statewise.arms import Term
from statewise.check.gradients import EXACT, WHOLE, Gradient, gradient
from statewise.check.line import Found, Line, Skip, small
from statewise.check.models import in_float64, in_fp32, moved
from statewise.check.subject import Subject
from statewise.gradient import Rollout
from statewise.policy import Policy
from statewise.signals import Labels
from statewise.supervision import TeacherDistribution, TeacherMixture

NAME = "student = teacher"
LOSS = 1e-5
"""Largest loss that passes for 0, nats a state."""
SHARE = 1e-3
"""Largest gradient that passes for 0: its norm against that towards a teacher that differs."""


def equal_teacher(subject: Subject, rollouts: Sequence[Rollout]) -> Found:
    """Each divergence with the student in its teacher's place: at temperature 1, in its own context.

    The gradient is stated against that of the same terms with their own teachers, moved by a few
    percent: 0 of what is 0 anyway would say nothing. What float32 leaves is tried again in float64.
    """
    own = [part for r in rollouts if (part := _divergences(r))]
    if not own:
        return Skip(NAME, "no divergence from a teacher")
    student = subject.student
    policies = (student, *subject.teachers)
    # A view: it shares the weights, so that nothing is copied, and is read without gradient.
    twin = student.view("teacher:twin")
    same = [_taught_by(part, twin) for part in own]

    def towards(part: Sequence[Rollout]) -> Gradient:
        return gradient(student, part, tokens=WHOLE)

    with in_fp32((*policies, twin)):
        with moved(student, subject.teachers):
            scale = towards(own).norm()
        found = towards(same)
        share, exact = found.norm() / scale if scale else found.norm(), None
        if not (abs(found.loss) <= LOSS and share <= SHARE):
            with in_float64(policies):
                again = towards(same)
            exact = again.norm() / scale if scale else again.norm()
            well = abs(again.loss) <= EXACT and exact <= EXACT
        else:
            well = True
    values = {"loss_nats": found.loss, "gradient_share": share, "gradient_share_float64": exact}
    against = "of that towards a teacher that differs" if scale else "in norm"
    figure = (
        f"loss {small(found.loss)} nats (limit {small(LOSS)}), gradient {small(share)} {against} "
        f"(limit {small(SHARE)})"
    )
    if exact is not None:
        figure += f", {small(exact)} in float64"
    if well:
        return Line("pass", NAME, figure, values=values)
    if share <= SHARE or (exact is not None and exact <= EXACT):
        mend = "nothing, where a constant (the teacher's entropy) is meant: only the gradient moves the student"
        return Line("warn", NAME, f"{figure}: the loss has another zero", mend, values)
    return Line(
        "fail",
        NAME,
        figure,
        "a divergence is least where both distributions are equal: see whether the objective compares the right "
        "two, over one support, both normalised",
        values,
    )


def _is_divergence(term: Term) -> bool:
    return isinstance(term.supervision, TeacherDistribution | TeacherMixture)


def _divergences(rollout: Rollout) -> Rollout | None:
    """The rollout with its divergence terms alone; None where there is none."""
    kept = [k for k, term in enumerate(rollout.stream.terms) if _is_divergence(term)]
    if not kept:
        return None
    terms = tuple(rollout.stream.terms[k] for k in kept)
    labels = [rollout.labels[k] for k in kept]
    return replace(rollout, stream=replace(rollout.stream, terms=terms), labels=labels)


def _taught_by(rollout: Rollout, twin: Policy) -> Rollout:
    """The same divergences from `twin`."""
    terms = tuple(
        replace(term, supervision=_with_teacher(term.supervision, twin))
        for term in rollout.stream.terms
    )
    labels = [Labels.none(len(rollout.trajectories)) for _ in terms]
    return replace(rollout, stream=replace(rollout.stream, terms=terms), labels=labels)


def _with_teacher(supervision: object, twin: Policy) -> TeacherDistribution | TeacherMixture:
    if isinstance(supervision, TeacherMixture):
        teachers = tuple(_equal(one, twin) for one in supervision.teachers)
        return replace(supervision, teachers=teachers)
    assert isinstance(supervision, TeacherDistribution)
    return _equal(supervision, twin)


def _equal(supervision: TeacherDistribution, twin: Policy) -> TeacherDistribution:
    return replace(supervision, teacher=twin, temperature=1.0, context=None)
