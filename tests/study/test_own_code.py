"""New kinds in a study file: a live self-teacher and a reward of the user's own, trained for real."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statewise.arms import Budget, gspo, self_distillation
from statewise.code import source_hash
from statewise.errors import ConfigError, RunError
from statewise.plain import dump_yaml, from_plain, load_yaml, to_plain
from statewise.rewards import PythonReward
from statewise.store import RunFolder, read_json, read_rows
from statewise.study.executor import claim_folder
from statewise.study.jobs import train_arm
from statewise.study.spec import Study, read_study

CODE = "def score(prompt, completion):\n    return float(len(completion))\n"


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
    arm = self_distillation(
        "mirror",
        prompts,
        Budget(0.01, steps=2),
        context="{question} ({answer})",
        max_new_tokens=8,
        prompts_per_step=2,
    )
    study, run = with_arms(tiny_study, arm), RunFolder(tmp_path / "run")
    assert study.order() == ["mirror"]
    assert study.parents(arm) == []
    train_arm(study, run, "mirror", 0, quiet)
    folder = run.arm("mirror", 0)
    assert read_json(folder / "policy" / "statewise.json")["teachers"] == ["teacher:student"]
    assert all(row["loss"] > 0 for row in read_rows(folder / "metrics.jsonl"))


def test_the_live_policy_is_no_start_and_no_arm(tiny_study):
    arm = tiny_study.arm("mild_sft")
    with pytest.raises(ConfigError, match="what the start becomes"):
        with_arms(tiny_study, replace(arm, start=type(arm.start)("student")))
    with pytest.raises(ConfigError, match="'student' is taken"):
        with_arms(tiny_study, replace(arm, name="student"))


def test_a_users_reward_trains_and_changed_code_is_another_study(tiny_study, tmp_path, file):
    prompts = tiny_study.arm("grpo").streams[0].prompts
    arm = gspo(
        "mine",
        prompts,
        Budget(0.01, steps=1, minibatches=2),
        max_new_tokens=8,
        samples_per_prompt=4,
        prompts_per_step=2,
        reward=PythonReward(f"{file}:score"),
    )
    written = tmp_path / "study.yaml"
    written.write_text(dump_yaml(to_plain(with_arms(tiny_study, arm))))
    with pytest.raises(ConfigError, match=r"arms\[0\].*--trust-code"):
        read_study(str(written))
    study, run = read_study(str(written), trust_code=True), RunFolder(tmp_path / "run")
    claim_folder(study, run)
    # As a worker process does, from plain data.
    train_arm(from_plain(Study, load_yaml(run.study)), run, "mine", 0, quiet)
    (row,) = read_rows(run.arm("mine", 0) / "metrics.jsonl")
    assert row["reward_mean"] > 1
    stored = study.arm("mine").streams[0].terms[0].supervision.reward.sha256
    assert stored == source_hash(f"{file}:score")

    file.write_text(CODE + "\n")
    with pytest.raises(RunError, match="sha256"):
        claim_folder(read_study(str(written), trust_code=True), run)
    with pytest.raises(ConfigError, match="is not the one"):
        read_study(str(run.study), trust_code=True)
