"""Stored samples: the same states to the bit, under any loss and any seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from enumerable import ONE, A, B, ids, prompt, tiny

from statewise.arms import Arm, Budget, Stream, Term
from statewise.data import Prompts
from statewise.errors import DataError, RunError
from statewise.objectives import CrossEntropy, KLStudentTeacher, KLTeacherStudent
from statewise.sources import Continuation, Dataset, Learner, Stored
from statewise.supervision import OwnActions, TeacherDistribution
from statewise.train import make_optimizer, train
from statewise.trajectory import Prompt
from statewise.trajectory_store import read_states, write_states

STUDENT, TEACHER = tiny(0, version=7), tiny(1, name="teacher:mild", dtype=torch.float32)
PROMPTS = [prompt(t, A, name=f"p{t}", reference="ab") for t in (A, B, ONE)]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    branch = Continuation(TEACHER, branch_tokens=3, max_new_tokens=5, temperature=0.7)
    samples = {
        "learner": Learner(5, 2, temperature=0.7, top_p=0.9)(PROMPTS, student=STUDENT, seed=3),
        "branch": branch(PROMPTS, student=STUDENT, seed=3),
        "greedy": Learner(5, temperature=0.0)(PROMPTS, student=STUDENT, seed=3),
        "gold": Dataset()([Prompt("d", "", ids(), "abab")], student=STUDENT, seed=3),
    }
    file = tmp_path_factory.mktemp("stored") / "states.parquet"
    write_states(file, samples)
    return str(file)


def tokens(row):
    return (
        row.token_ids.tolist(),
        row.weights.tolist(),
        row.owners,
        row.owner_codes.tolist(),
        row.sampling,
        row.completion,
        row.stopped,
    )


@pytest.mark.parametrize(("sample", "each"), [("learner", 2), ("branch", 1)])
def test_what_was_written_comes_back_to_the_bit_twice_and_under_any_seed(path, sample, each):
    source = Stored(path, sample, samples_per_prompt=each)
    written = {(r.prompt.id, r.token_ids.tobytes()): r for r in read_states(Path(path), sample)}
    order = [PROMPTS[2], PROMPTS[0]]
    first, again = (source(order, student=STUDENT, seed=seed) for seed in (0, 1))
    assert [r.prompt.id for r in first] == [p.id for p in order for _ in range(each)]
    for x, y in zip(first, again, strict=True):
        assert tokens(x) == tokens(y) == tokens(written[x.prompt.id, x.token_ids.tobytes()])
        np.testing.assert_array_equal(x.behaviour_logprobs, y.behaviour_logprobs)
        assert x.group_id != y.group_id


def test_the_transform_survives_to_the_bit(path):
    (row, *_) = Stored(path, "learner", samples_per_prompt=2)(PROMPTS, student=STUDENT, seed=0)
    assert (row.sampling.temperature, row.sampling.top_p) == (0.7, 0.9)
    (row, *_) = Stored(path, "greedy")(PROMPTS, student=STUDENT, seed=0)
    assert row.sampling.temperature == 0
    (row, *_) = read_states(Path(path), "gold")
    assert row.sampling is None


def test_a_document_is_found_by_its_id_alone(path):
    (row,) = Stored(path, "gold")([Prompt("d", "", ids(), "abab")], student=STUDENT, seed=0)
    assert row.token_ids.tolist()[:4] == [A, B, A, B]


def test_two_losses_train_on_the_same_states_and_one_loss_on_two_samples(path, monkeypatch):
    seen: dict[str, list[list[int]]] = {}

    def run(name: str, sample: str, term: Term) -> float:
        source = Stored(path, sample, samples_per_prompt=2 if sample == "learner" else 1)
        stream = Stream(Prompts(PROMPTS), source, (term,), 2)
        policy = tiny(5, dtype=torch.float32)
        arm = Arm(name, (stream,), Budget(1e-3, steps=3))
        label = type(term.supervision).label

        def spy(self, trajectories):
            seen.setdefault(name, []).extend(t.token_ids.tolist() for t in trajectories)
            return label(self, trajectories)

        with monkeypatch.context() as patch:
            patch.setattr(type(term.supervision), "label", spy)
            rows = list(train(arm, policy, make_optimizer(policy, arm.budget), seed=0))
        assert all(r.figures["tokens_sampled"] == 0 for r in rows)
        return rows[-1].figures["loss"]

    told = TeacherDistribution(TEACHER)
    losses = [
        run("likelihood", "learner", Term(OwnActions(), CrossEntropy())),
        run("towards the teacher", "learner", Term(told, KLStudentTeacher())),
        run("from the teacher", "learner", Term(told, KLTeacherStudent())),
    ]
    run("other states", "branch", Term(told, KLStudentTeacher()))
    assert len(set(losses)) == 3
    assert seen["likelihood"] == seen["towards the teacher"] == seen["from the teacher"]
    assert seen["likelihood"] != seen["other states"]


def test_a_file_that_changed_is_read_again(path, tmp_path):
    file = tmp_path / "states.parquet"
    source = Stored(str(file), "one")
    for seed in (1, 2):
        rows = Learner(6)(PROMPTS, student=STUDENT, seed=seed)
        write_states(file, {"one": rows})
        found = source(PROMPTS, student=STUDENT, seed=0)
        assert [r.token_ids.tolist() for r in found] == [r.token_ids.tolist() for r in rows]


@pytest.mark.parametrize(
    ("sample", "asked", "error", "says"),
    [
        ("branch", prompt(A, A, name="missing"), DataError, "0 trajectories of prompt 'missing'"),
        ("learner", PROMPTS[0], DataError, "2 trajectories of prompt 'p0'"),
        ("branch", prompt(A, B, name="p0"), DataError, "other tokens for prompt 'p0'"),
        ("nothing", PROMPTS[0], RunError, "no sample 'nothing'"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_prompt_and_its_file(
    path, sample, asked, error, says
):
    with pytest.raises(error, match=says) as refusal:
        Stored(path, sample)([asked], student=STUDENT, seed=0)
    assert path in str(refusal.value)


def test_a_missing_file_and_a_row_beyond_the_context_are_refused(path):
    with pytest.raises(RunError, match="no state sample at"):
        Stored("nowhere.parquet", "learner")(PROMPTS, student=STUDENT, seed=0)
    small = tiny(0, context=4)
    with pytest.raises(DataError, match="the student reads 4"):
        Stored(path, "learner", samples_per_prompt=2)(PROMPTS, student=small, seed=0)
