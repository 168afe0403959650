"""A student that equals its teacher has nothing to learn, and an objective that says otherwise is told."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from one_arm import (
    objective,
    opened,
    supervised,
    taught,
    weighted,
    with_objective,
)

from statewise.arms import Term
from statewise.check.equal import equal_teacher
from statewise.check.finding import Line, Skip
from statewise.check.gradients import few_rows, gradient
from statewise.check.models import moved
from statewise.objectives import KLStudentTeacher
from statewise.policy import PolicyRef
from statewise.supervision import Context, PythonSupervision, TeacherLogRatio


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("s, t = signal.compare(logp); return (s.exp() * (s - t)).sum(-1)", "pass", "loss 0 and"),
        ("s, t = signal.compare(logp); return (s.exp() * (s - 2 * t)).sum(-1)", "fail", "gradient"),
        ("s, t = signal.compare(logits); return (t.exp() * (t - s)).sum(-1)", "fail", "gradient"),
        ("s, t = signal.compare(logp); return -(t.exp() * s).sum(-1)", "warn", "the loss has another zero"),
    ],
)  # fmt: skip
def test_a_divergence_that_is_not_least_at_the_teacher(one, tmp_path, body, status, words):
    study = one(with_objective(taught(), objective(tmp_path, body, "distribution")))
    subject, _, rollouts = opened(study)
    said = equal_teacher(subject, few_rows(rollouts, 4))
    assert isinstance(said, Line)
    assert (said.status, words in said.figure) == (status, True), said


def test_the_scale_of_student_equals_teacher_is_no_zero(one):
    subject, _, rollouts = opened(one(taught("base")))
    rows = few_rows(rollouts, 4)
    assert gradient(subject.student, rows, tokens=1).norm() < 1e-5  # the teacher is the student
    with moved(subject.student, subject.teachers):
        assert gradient(subject.student, rows, tokens=1).norm() > 1e-3
    assert isinstance(equal_teacher(*opened(one(supervised()))[::2]), Skip)


TOLD = """
from statewise.signals import Advantages, Labels
from statewise.supervision import read_teacher


class Told:
    def __init__(self, teacher):
        self.teacher = teacher

    def label(self, trajectories):
        return Labels.none(len(trajectories))

    def signal(self, states, labels):
        return read_teacher(self.teacher, states, labels)
"""


def with_terms(arm, *terms):
    (stream,) = arm.streams
    return replace(arm, streams=(replace(stream, terms=terms),))


def of_equals(study):
    subject, _, rollouts = opened(study)
    return equal_teacher(subject, few_rows(rollouts, 4))


@pytest.mark.parametrize(
    ("body", "status"),
    [("return -signal.values * logp.gather(-1, states.action_ids[:, None])[:, 0]", "pass"),
     ("return -(signal.values + 1) * logp.gather(-1, states.action_ids[:, None])[:, 0]", "fail")],
)  # fmt: skip
def test_a_teachers_log_ratio_is_0_where_it_is_the_student(one, tmp_path, body, status):
    ratio = TeacherLogRatio(PolicyRef("base"), clip=1.0, context=Context("{question} {answer}"))
    term = Term(ratio, objective(tmp_path, body, "advantages"))
    said = of_equals(one(with_terms(taught(), term)))
    assert isinstance(said, Line)
    assert said.status == status, said


def test_a_supervision_of_the_users_own_is_asked_of_the_student(one, tmp_path):
    path = tmp_path / "told.py"
    path.write_text(TOLD)
    own = PythonSupervision(f"{path}:Told", "distribution", teacher=PolicyRef("base"))
    said = of_equals(one(with_terms(taught(), Term(own, KLStudentTeacher()))))
    assert isinstance(said, Line)
    assert said.status == "pass", said


def test_a_small_coefficient_hides_no_loss(one, tmp_path):
    body = "s, t = signal.compare(logp); return (s.exp() * (s - t)).sum(-1) + 1"
    arm = with_objective(taught(), objective(tmp_path, body, "distribution"))
    (term,) = arm.streams[0].terms
    said = of_equals(one(with_terms(arm, replace(term, coefficient=1e-6))))
    assert isinstance(said, Line)
    assert abs(said.values["loss_nats"]) < 1e-5  # 1 nat a state, weighed by a millionth
    assert (said.status, "another zero" in said.figure) == ("warn", True)


def test_what_has_nothing_to_compare_says_why(one, tmp_path):
    subject, _, rollouts = opened(one(taught()))
    untaught = weighted(rollouts, lambda t: np.zeros_like(t.weights))
    for found, reason in (
        (of_equals(one(supervised())), "no term asks a teacher"),
        (equal_teacher(subject, []), "no row teaches anything"),
        (equal_teacher(subject, untaught), "no state of these rows is taught by a teacher"),
    ):
        assert found == Skip("student = teacher", reason)
