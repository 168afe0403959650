"""All checks of an arm: a study that is well, a run folder, models that are not there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from one_arm import (
    rewarded,
    supervised,
    taught,
)

from statewise.check import check_study
from statewise.check.finding import failed
from statewise.check.study import READ
from statewise.errors import ConfigError, DataError


@pytest.mark.slow
def test_every_arm_of_the_pocket_study_passes(report):
    from statewise.study.spec import read_study

    study = read_study("pocket")
    for arm in study.arms:
        found = report(study, arm.name)
        assert {line.status for line in found.lines} == {"pass"}, found.lines
        assert all(line.fix == "" for line in found.lines)
        names = {x.name for x in found.found}
        assert len(names) == len(found.found) == 19


def test_what_cannot_be_checked_is_refused(one, report):
    with pytest.raises(ConfigError, match=r"--arm: no arm 'arn'; did you mean 'arm'"):
        report(one(supervised()), "arn")
    with pytest.raises(ConfigError, match=r"--items must be 1 or more, found 0"):
        report(one(supervised()), items=0)


def test_a_model_that_is_not_there_fails_its_arm_and_no_other(one, report, line):
    whole = replace(supervised(), name="whole")
    study = one(taught("./nowhere"), arms=(taught("./nowhere"), whole))
    found = report(study, "arm")
    said = line(found, "model")
    assert said.status == "fail"
    assert "arms.arm: no model at nowhere" in said.figure
    assert len(found.skipped) == 19
    assert line(report(study, "whole"), "masks").status == "pass"


def test_teachers_of_a_study_that_has_changed_since_warn(tiny_study, tiny_run, report, line):
    arm = "one_step_opd_from_stress"
    changed = replace(tiny_study, question="Another one?")
    said = line(report(changed, arm, run=tiny_run), "run folder")
    assert said.status == "warn"
    assert said.figure.startswith("stress_sft as trained in ")
    assert said.figure.endswith("by a study that differs in question")
    same = report(replace(tiny_study, seeds=tiny_study.seeds), arm, run=tiny_run)
    assert "run folder" not in {x.name for x in same.found}


def test_an_error_that_names_no_fix_gets_none():
    assert failed("prompts", DataError("a.jsonl, row 1: the completion is empty")).fix == ""


def test_only_the_checks_that_are_asked_for_run_and_each_is_said(one):
    said = []
    (found,) = check_study(one(rewarded()), only=["reward", "masks"], watch=said.append)
    assert [line.name for line in found.found] == ["reward", "masks"]
    head = "checking arm (arm 1 of 1): "
    assert said == [
        f"{head}loading its models",
        f"{head}reward",
        f"{head}rolling out 4 prompts of each stream",
        f"{head}masks",
    ]


def test_a_quick_check_samples_nothing(one):
    (found,) = check_study(one(rewarded()), quick=True)
    assert {line.name for line in found.found} == set(READ)
    assert (found.items, found.cost.rows, found.cost.tokens_sampled) == ((), 0, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"only": ["rewrd"]}, "--only: no check 'rewrd'; did you mean 'reward'"),
        ({"only": ["masks"], "quick": True}, "--quick leaves out 'masks'"),
    ],
)
def test_a_check_that_is_not_there_or_left_out_is_refused_at_once(one, options, words):
    with pytest.raises(ConfigError, match=words):
        check_study(one(supervised()), **options)
