"""New kinds in a study file: a live self-teacher and a reward of the user's own, trained for real."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statewise.arms import Arm, Budget, Stream, Term, gspo, opd, self_distillation
from statewise.config import from_plain, to_plain
from statewise.data import JsonLines
from statewise.errors import ConfigError, DataError, ModelError, PairingError, RunError
from statewise.jobs.folder import claim_folder
from statewise.jobs.preflight import preflight
from statewise.jobs.train import train_arm
from statewise.objectives import KLStudentTeacher, PythonObjective
from statewise.policy import Ema, Policy, PolicyRef
from statewise.rewards import PythonReward
from statewise.sources import Dataset, Learner, PythonSource
from statewise.store import RunFolder, read_json, read_rows
from statewise.study.arm_run import ArmRun
from statewise.study.spec import Study, read_study
from statewise.supervision import Context, PythonSupervision, TeacherDistribution
from statewise.user_code import source_hash
from statewise.yaml12 import dump_yaml, load_yaml

CODE = """
import torch

from statewise.signals import Advantages, Labels
from statewise.sources import Learner
from statewise.supervision import read_teacher


def score(prompt, completion):
    return float(len(completion))


def walk(prompts, *, student, seed, progress, tokens):
    return Learner(tokens)(prompts, student=student, seed=seed, progress=progress)


def nats(logits, states, signal):
    student, teacher = signal.compare(logits.log_softmax(-1))
    return (student.exp() * (student - teacher)).sum(-1)


class Told:
    def __init__(self, teacher, context=None):
        self.teacher, self.context = teacher, context

    def label(self, trajectories):
        if self.context is None:
            return Labels.none(len(trajectories))
        return self.context.labels(trajectories, self.teacher)

    def signal(self, states, labels):
        return read_teacher(self.teacher, states, labels)
"""


def quiet(*_) -> None:
    pass


def with_arms(study: Study, *arms) -> Study:
    return replace(study, arms=arms, claims=(), doses={}, dev=None)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(CODE)
    return path


def test_a_live_self_teacher_is_bound_to_the_student(tiny_study, tmp_path):
    prompts = tiny_study.arm("grpo").streams[0].prompts
    arm = Arm.of(
        "mirror",
        self_distillation(context="{question} ({answer})", max_new_tokens=8),
        prompts,
        Budget(0.01, steps=2),
        prompts_per_step=2,
    )
    study, run = with_arms(tiny_study, arm), RunFolder(tmp_path / "run")
    assert study.order() == ["mirror"]
    assert study.parents(arm) == []
    train_arm(ArmRun(study, run, "mirror", 0), quiet)
    folder = run.arm("mirror", 0)
    assert read_json(folder / "policy" / "statewise.json")["teachers"] == ["teacher:student"]
    assert all(row["loss"] > 0 for row in read_rows(folder / "metrics.jsonl"))


@pytest.mark.parametrize("words", [1, 400])
def test_preflight_reads_the_teachers_own_prompts(tiny_study, tmp_path, words):
    prompts = tiny_study.arm("grpo").streams[0].prompts
    arm = Arm.of(
        "mirror",
        self_distillation(context="{question} ({answer})" + " more" * words, max_new_tokens=8),
        prompts,
        Budget(0.01, steps=2),
        prompts_per_step=2,
    )
    study, run = with_arms(tiny_study, arm), RunFolder(tmp_path / "run")
    if words == 1:
        preflight(study, run)
        return
    with pytest.raises(DataError, match=r"terms\[0\].supervision.context: .* rows .* exceed the"):
        preflight(study, run)


@pytest.mark.parametrize("teacher", [PolicyRef("base"), Ema(0.5)], ids=["a policy", "an average"])
def test_preflight_counts_gold_tokens_behind_the_teachers_own_prompt(
    tiny_study, tiny_base, tmp_path, teacher
):
    """Gold rows: the prompt alone fits into the 320 tokens, and with the gold answer it does not."""
    data = tmp_path / "data.jsonl"
    data.write_text('{"question": "1+1?", "answer": "so it is two, that is #### 2"}\n')
    tokens = Policy.load(tiny_base, name="base").to_ids
    gold = len(tokens(" so it is two, that is #### 2")) + 1
    asked = "Question: 1+1?\nAnswer: (2)"
    words = next(n for n in range(400) if len(tokens(asked + " more" * n)) + gold > 320)
    assert len(tokens(asked + " more" * words)) <= 320
    run = RunFolder(tmp_path / "run")
    for count in (words - 1, words):
        told = TeacherDistribution(
            teacher, context=Context("{question} ({answer})" + " more" * count)
        )
        stream = Stream(JsonLines(str(data)), Dataset(), (Term(told, KLStudentTeacher()),), 1)
        study = with_arms(tiny_study, Arm("mirror", (stream,), Budget(0.01, steps=1)))
        if count < words:
            preflight(study, run)
            continue
        with pytest.raises(DataError, match=r"context: 1 of 1 rows .* exceed the 320 .* has 32\d"):
            preflight(study, run)


def test_the_live_policy_is_no_start_and_no_arm(tiny_study):
    arm = tiny_study.arm("mild_sft")
    with pytest.raises(ConfigError, match="what the start becomes"):
        with_arms(tiny_study, replace(arm, start=type(arm.start)("student")))
    with pytest.raises(ConfigError, match="'student' is taken"):
        with_arms(tiny_study, replace(arm, name="student"))


def test_a_users_reward_trains_and_changed_code_is_another_study(tiny_study, tmp_path, file):
    prompts = tiny_study.arm("grpo").streams[0].prompts
    arm = Arm.of(
        "mine",
        gspo(max_new_tokens=8, samples_per_prompt=4, reward=PythonReward(f"{file}:score")),
        prompts,
        Budget(0.01, steps=1, minibatches=2),
        prompts_per_step=2,
    )
    written = tmp_path / "study.yaml"
    written.write_text(dump_yaml(to_plain(with_arms(tiny_study, arm))))
    with pytest.raises(ConfigError, match=r"arms\[0\].*--trust-code"):
        read_study(str(written))
    study, run = read_study(str(written), trust_code=True), RunFolder(tmp_path / "run")
    claim_folder(study, run)
    # As a worker process does, from plain data.
    train_arm(ArmRun(from_plain(Study, load_yaml(run.study)), run, "mine", 0), quiet)
    (row,) = read_rows(run.arm("mine", 0) / "metrics.jsonl")
    assert row["reward_mean"] > 1
    stored = study.arm("mine").streams[0].terms[0].supervision.reward.sha256
    assert stored == source_hash(f"{file}:score")

    file.write_text(CODE + "\n")
    with pytest.raises(RunError, match="sha256"):
        claim_folder(read_study(str(written), trust_code=True), run)
    with pytest.raises(ConfigError, match="is not the one"):
        read_study(str(run.study), trust_code=True)


# ---- a supervision that asks a teacher ----------------------------------------------------------


def told_by(study: Study, file, teacher, *, context=None, name: str = "mine", budget=None) -> Arm:
    """Distillation whose supervision is the user's, and names its teacher in the study file."""
    supervision = PythonSupervision(f"{file}:Told", "distribution", teacher, context)
    stream = Stream(
        study.arm("grpo").streams[0].prompts,
        Learner(8),
        (Term(supervision, KLStudentTeacher()),),
        prompts_per_step=2,
    )
    return Arm(name, (stream,), budget or Budget(0.01, steps=3))


def as_file(study: Study, path) -> Study:
    """The study as somebody reads it from disk, and trusts it."""
    path.write_text(dump_yaml(to_plain(study)))
    return read_study(str(path), trust_code=True)


def trained(study: Study, run: RunFolder, name: str) -> tuple[list[dict], dict]:
    train_arm(ArmRun(study, run, name, 0), quiet)
    folder = run.arm(name, 0)
    return read_rows(folder / "metrics.jsonl"), read_json(folder / "policy" / "statewise.json")


@pytest.mark.parametrize(
    ("teacher", "context", "called"),
    [
        (PolicyRef("mild_sft"), None, "teacher:mild_sft"),
        (Ema(0.5), None, "teacher:ema"),
        (PolicyRef("student"), Context("{question} ({answer})"), "teacher:student"),
    ],
    ids=["an arm", "an average", "the live student"],
)
def test_a_users_supervision_is_given_the_teacher_that_it_names(
    tiny_study, tmp_path, file, teacher, context, called
):
    """To the bit what our own kind does, tokens of the teacher included; and a study like any other."""
    prompts = tiny_study.arm("grpo").streams[0].prompts
    spend = Budget(0.01, steps=3)
    walk = {"max_new_tokens": 8}
    if context:
        ours = Arm.of(
            "ours",
            self_distillation(context=context.template, **walk),
            prompts,
            spend,
            prompts_per_step=2,
        )
    else:
        ours = Arm.of("ours", opd(teacher=teacher, **walk), prompts, spend, prompts_per_step=2)
    mild = tiny_study.arm("mild_sft")
    mine = told_by(tiny_study, file, teacher, context=context)
    study = as_file(with_arms(tiny_study, mild, ours, mine), tmp_path / "study.yaml")
    assert study.arm("mine").streams[0].terms[0].supervision.teacher == teacher
    assert study.parents(study.arm("mine")) == (
        ["mild_sft"] if called == "teacher:mild_sft" else []
    )
    run = RunFolder(tmp_path / "run")
    preflight(study, run)
    train_arm(ArmRun(study, run, "mild_sft", 0), quiet)
    (theirs, _), (rows, card) = (trained(study, run, name) for name in ("ours", "mine"))
    assert card["teachers"] == [called]
    assert rows == theirs
    assert all(row["teacher_tokens"] > 0 for row in rows)


def test_a_users_teacher_must_read_the_students_tokens(tiny_study, tmp_path, file):
    from statewise.study.models import world_base

    run = RunFolder(tmp_path / "run")
    arm = told_by(tiny_study, file, PolicyRef(world_base()))
    with pytest.raises(ModelError, match=r"arms\.mine: .* encodes text differently"):
        preflight(as_file(with_arms(tiny_study, arm), tmp_path / "study.yaml"), run)
    long = Context("{question} ({answer})" + " more" * 400)
    arm = told_by(tiny_study, file, PolicyRef("student"), context=long)
    with pytest.raises(DataError, match=r"terms\[0\].supervision.context: .* rows .* exceed the"):
        preflight(as_file(with_arms(tiny_study, arm), tmp_path / "study.yaml"), run)


def test_a_users_live_teacher_needs_a_context_and_an_unknown_one_has_no_arm(
    tiny_study, tmp_path, file
):
    with pytest.raises(PairingError, match="live student"):
        told_by(tiny_study, file, PolicyRef("student"))
    with pytest.raises(ConfigError, match=r"arms\.mine: no arm or model directory 'milde_sft'"):
        with_arms(
            tiny_study,
            tiny_study.arm("mild_sft"),
            told_by(tiny_study, file, PolicyRef("milde_sft")),
        )


def test_every_axis_may_be_the_users_own(tiny_study, tmp_path, file):
    """Source, supervision and objective from one file; the loss is that of the kinds that they imitate."""
    prompts = tiny_study.arm("grpo").streams[0].prompts
    spend = Budget(0.01, steps=2)
    ours = Arm.of(
        "ours",
        opd(teacher=PolicyRef("mild_sft"), max_new_tokens=8),
        prompts,
        spend,
        prompts_per_step=2,
    )
    stream = Stream(
        prompts,
        PythonSource(f"{file}:walk", ("student",), room_tokens=8, arguments={"tokens": 8}),
        (
            Term(
                PythonSupervision(f"{file}:Told", "distribution", PolicyRef("mild_sft")),
                PythonObjective(f"{file}:nats", "distribution"),
            ),
        ),
        prompts_per_step=2,
    )
    mine = Arm("mine", (stream,), spend)
    mild = tiny_study.arm("mild_sft")
    study = as_file(with_arms(tiny_study, mild, ours, mine), tmp_path / "study.yaml")
    (term,) = study.arm("mine").streams[0].terms
    parts = (study.arm("mine").streams[0].source, term.supervision, term.objective)
    assert {part.sha256 for part in parts} == {source_hash(f"{file}:walk")}
    run = RunFolder(tmp_path / "run")
    preflight(study, run)
    train_arm(ArmRun(study, run, "mild_sft", 0), quiet)
    (theirs, _), (rows, _) = (trained(study, run, name) for name in ("ours", "mine"))
    assert [r["tokens_sampled"] for r in rows] == [r["tokens_sampled"] for r in theirs]
    for one, other in zip(rows, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["loss"] != 0
