"""An arm under one seed: whose weights its names mean, and what is put in place when it is loaded."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statewise.policy import PolicyRef
from statewise.store import RunFolder
from statewise.study.arm_run import ArmRun
from statewise.study.models import world_base


def test_an_arm_is_read_from_the_folder_of_its_seed(tiny_study, tmp_path):
    study, run = replace(tiny_study, seeds=(0, 1)), RunFolder(tmp_path)
    runs = [ArmRun(study, run, "opd_from_mild", seed) for seed in (0, 1)]
    places = [arm_run.location(PolicyRef("mild_sft")) for arm_run in runs]
    assert places == [str(run.arm("mild_sft", seed) / "policy") for seed in (0, 1)]
    assert runs[1].location() == str(run.arm("opd_from_mild", 1) / "policy")
    assert runs[1].location(PolicyRef("base")) == study.base
    assert runs[1].location(PolicyRef("./mine")) == "./mine"
    embedded = replace(runs[1], study=replace(study, base="world"))
    assert embedded.location(PolicyRef("base")) == world_base()


def test_the_base_of_every_seed_is_one_and_other_arms_keep_the_seed(tiny_study, tmp_path):
    run = RunFolder(tmp_path)
    arm_run = ArmRun(tiny_study, run, "opd_from_mild", 1)
    assert arm_run.base == arm_run.other("base") == ArmRun(tiny_study, run, "base", 0)
    assert arm_run.other("mild_sft") == ArmRun(tiny_study, run, "mild_sft", 1)
    assert (arm_run.is_base, arm_run.base.is_base) == (False, True)
    assert arm_run.folder == tmp_path / "arms" / "opd_from_mild" / "seed-1"
    assert arm_run.teachers == ("mild_sft",)
    assert (arm_run.base.arm, arm_run.base.teachers) == (None, ())


def test_without_a_folder_an_arm_is_its_initial_checkpoint(tiny_study):
    arm_run = ArmRun(tiny_study, None, "opd_from_mild", 0)
    assert arm_run.location(PolicyRef("mild_sft")) == tiny_study.base
    assert not arm_run.other("mild_sft").is_trained
    assert arm_run.failure is None
    student, bound = arm_run.loaded()
    assert (student.version, student.name) == (0, "student")
    # The teacher keeps its name: it is the arm that is replaced, by weights of its own.
    teacher = bound.streams[0].source.teacher
    assert (teacher.name, teacher.module is student.module) == ("teacher:mild_sft", False)
    assert bound.budget == tiny_study.arm("opd_from_mild").budget
    with pytest.raises(AssertionError, match="no run folder"):
        arm_run.folder  # noqa: B018


def test_what_a_run_has_finished(tiny_study, tiny_run, tmp_path):
    done = ArmRun(tiny_study, tiny_run, "mild_sft", 0)
    assert (done.is_trained, done.is_measured, done.is_probed) == (True, True, False)
    assert done.policy().version == tiny_study.arm("mild_sft").budget.steps
    new = replace(done, run=RunFolder(tmp_path))
    assert (new.is_trained, new.is_measured, new.is_probed) == (False, False, False)
