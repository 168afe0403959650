"""One thread a core: the same gradient, the same counts, whoever holds which rows."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from enumerable import A, B, assert_same, gradient, ids, prompt, rollout, row, tiny
from test_gradient import CASES, LEARNER, cases, sampled_rows, stream

import statewise.gradient
import statewise.policy.shards
from statewise.arms import Term
from statewise.cpu_shards import one_per_core, partition_groups
from statewise.errors import DataError
from statewise.gradient import student_logprobs
from statewise.objectives import CrossEntropy, KLStudentTeacher
from statewise.policy import Policy
from statewise.sources import Dataset
from statewise.supervision import OwnActions, TeacherDistribution
from statewise.trajectory import Segment, Trajectory

OWN = stream(Dataset(), Term(OwnActions(), CrossEntropy()))


@pytest.fixture(params=[2, 3])
def threads(request, monkeypatch):
    """That many threads for all, however few the rows are."""
    monkeypatch.setattr(statewise.policy.shards, "ROWS_PER_THREAD", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture
def twins(monkeypatch):
    """Every twin that was made."""
    made, make = [], Policy.twin

    def twin(self):
        made.append(make(self))
        return made[-1]

    monkeypatch.setattr(Policy, "twin", twin)
    return made


@pytest.mark.parametrize("name", CASES)
def test_gradient_and_loss_do_not_depend_on_the_number_of_threads(
    name, threads, twins, monkeypatch
):
    student, minibatch = cases()[name]
    loss, found = gradient(student, *minibatch)
    assert len(twins) == threads - 1
    monkeypatch.setattr(statewise.policy.shards, "MOST_THREADS", 1)
    alone, expected = gradient(student, *minibatch)
    assert len(twins) == threads - 1
    assert loss == pytest.approx(alone, abs=1e-12)
    assert_same(found, expected)


def test_the_same_number_of_threads_gives_the_same_bits(threads):
    student = tiny(1, dtype=torch.float32)
    part = rollout(OWN, sampled_rows(student))
    (loss, first), (again, second) = gradient(student, part), gradient(student, part)
    assert loss == again
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_gradients_add_up_and_the_weights_stay_one(threads):
    student = tiny(1)
    part = rollout(OWN, sampled_rows(student))
    _, once = gradient(student, part)
    twin = student.twin()
    for _ in range(2):
        statewise.gradient.accumulate_gradient(student, [part], tokens_per_microbatch=1 << 20)
    found = {n: p.grad for n, p in student.trainable_parameters() if p.grad is not None}
    assert_same(found, {name: 2 * grad for name, grad in once.items()})
    with torch.no_grad():
        for _, p in student.trainable_parameters():
            p.add_(1.0)
    for mine, theirs in zip(student.module.parameters(), twin.module.parameters(), strict=True):
        assert mine.data_ptr() == theirs.data_ptr()
        assert theirs.grad is None
    head = twin.head_weight()[0]
    assert head.data_ptr() == twin.module.get_input_embeddings().weight.data_ptr()


def test_tokens_are_counted_as_by_one_thread(threads, monkeypatch):
    def counted() -> tuple[float, float]:
        """Tokens that student and teacher read, over those of the rows."""
        student, teacher = tiny(1), tiny(2, name="teacher:t")
        rows = sampled_rows(student)
        student.tokens_read = 0
        term = Term(TeacherDistribution(teacher), KLStudentTeacher())
        gradient(student, rollout(stream(LEARNER, term), rows))
        student_logprobs(student, rows, tokens_per_microbatch=64)
        tokens = sum(len(t) for t in rows)
        return student.tokens_read / tokens, teacher.tokens_read / tokens

    assert counted() == (2, 1)
    monkeypatch.setattr(statewise.policy.shards, "MOST_THREADS", 1)
    assert counted() == (2, 1)


def test_logprobs_do_not_depend_on_the_number_of_threads(threads, monkeypatch):
    student = tiny(1)
    rows = sampled_rows(student)
    found = student_logprobs(student, rows, tokens_per_microbatch=64)
    monkeypatch.setattr(statewise.policy.shards, "MOST_THREADS", 1)
    for mine, theirs in zip(
        found, student_logprobs(student, rows, tokens_per_microbatch=64), strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-6)
    assert not student.module.training


def test_what_transformers_runs_itself_is_not_split(threads, twins):
    student = tiny(1, architecture="gpt2")
    gradient(student, rollout(OWN, sampled_rows(student)))
    assert twins == []


def test_groups_stay_together_and_shards_are_even():
    def rows(*sizes: tuple[str, int]) -> list[Trajectory]:
        return [
            row(prompt(A, B), Segment("dataset", ids(*[A] * n)), group=group) for group, n in sizes
        ]

    # Tokens 2 + n: groups a 3 + 3, b 6, c 3 + 3 + 3.
    mixed = rows(("a", 1), ("b", 4), ("a", 1), ("c", 1), ("c", 1), ("c", 1))
    assert statewise.policy.shards.partition(mixed, 2) == [[3, 4, 5], [0, 2, 1]]
    # One group of four, more than either's share of two.
    assert statewise.policy.shards.partition(rows(*[("a", 1)] * 4), 2) == [[0, 1], [2, 3]]
    assert statewise.policy.shards.partition(rows(("a", 1)), 2) == [[0], []]


def test_threads_are_given_back_and_faults_are_raised(threads):
    seen = one_per_core([0, 1], lambda _: torch.get_num_threads())
    assert seen == [max(1, threads // 2)] * 2
    assert torch.get_num_threads() == threads

    def fails(hand: int) -> int:
        if hand:
            raise DataError("no such row")
        return hand

    with pytest.raises(DataError, match="no such row"):
        one_per_core([0, 1], fails)
    assert torch.get_num_threads() == threads
    assert partition_groups([], [], 3) == [[], [], []]
