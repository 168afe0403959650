"""What a study refuses, and with which words; everything a user can get wrong in a file."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from statewise.arms import Arm, bind, negative_advantage
from statewise.config import to_plain
from statewise.errors import ConfigError, PairingError
from statewise.policy import PolicyRef
from statewise.reading import read_plain_study
from statewise.sources import Dataset
from statewise.study.spec import Dose, Study, axis_differences, read_study
from statewise.yaml12 import dump_yaml


@pytest.mark.parametrize("name", ["pocket", "controls", "paper"])
def test_shipped_studies_read_and_their_resolved_form_is_the_same_study(name, tmp_path):
    study = read_study(name)
    resolved = tmp_path / "study.yaml"
    resolved.write_text(dump_yaml(to_plain(study)), encoding="utf-8")
    assert read_study(str(resolved)) == study


def test_the_paper_states_the_stress_dose():
    budget = read_study("paper").arm("stress_sft").budget
    assert (budget.learning_rate, budget.epochs) == (5e-4, 5)
    assert budget.adapter is not None
    assert (budget.adapter.rank, budget.adapter.alpha) == (64, 128)


def test_the_controls_are_held_against_the_pocket_studys_own_student():
    controls, pocket = read_study("controls"), read_study("pocket")
    for name in ("mild_sft", "stress_sft", "opd_from_stress"):
        assert controls.arm(name) == pocket.arm(name)
    rates = {arm.name: arm.budget.learning_rate for arm in (*pocket.arms, *controls.arms)}
    assert rates["kd_from_stress"] == rates["opd_from_stress"]
    assert rates["negative_advantage"] == rates["grpo"]
    (walked,) = controls.arm("negative_advantage").streams
    made = Arm.of(
        "negative_advantage",
        negative_advantage(max_new_tokens=walked.source.max_new_tokens),
        walked.prompts,
        controls.arm("negative_advantage").budget,
        prompts_per_step=walked.prompts_per_step,
    )
    assert controls.arm("negative_advantage") == made, "the null is not the method of its name"
    union, kept, *parts = controls.claims
    assert [claim.primary for claim in controls.claims] == [True, True, False, False, False]
    three = ("interpolation", "kd_from_stress", "negative_advantage")
    assert union.over == ("stress_sft", "base", *three)
    assert tuple(part.over for part in parts) == tuple((name,) for name in three)
    stopped = controls.null(kept.than)
    assert (stopped.of, stopped.matched_to, stopped.by) == (
        "mild_sft",
        "opd_from_stress",
        "target_gain",
    )
    # What stands in `over` at equal tokens is matched.
    assert controls.matched() == ["kd_from_stress", "negative_advantage"]
    # The paper's arms allow both nulls, and ask as much of them.
    paper = read_study("paper")
    assert [
        replace(null, every_steps=5) if null.kind == "early_stop" else null for null in paper.nulls
    ] == list(controls.nulls)


def test_the_papers_predictions_ship_as_claims():
    for name in ("pocket", "paper"):
        said = [claim.text[:2] for claim in read_study(name).claims if claim.text.startswith("P")]
        assert said == ["P1", "P2", "P2", "P2", "P3", "P4"]


def test_teachers_come_before_their_students():
    order = read_study("pocket").order()
    assert order.index("mild_sft") < order.index("opd_from_mild")
    assert order.index("stress_sft") < order.index("opd_from_stress")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("arms.grpo.budget.lerning_rate=1", "arms.grpo.budget.lerning_rate: unknown key; did you mean 'learning_rate'"),
        ("arms.grpo.start=mild_stf", "no arm or model directory 'mild_stf'; did you mean 'mild_sft'"),
        ("arms.opd_from_mild.streams.0.source.teacher=opd_from_mild", "circular teachers"),
        ("arms.mild_sft.streams.0.source=lerner", "unknown kind 'lerner'"),
        ("claims.opd_retains.arm=opd", "no arm 'opd'"),
        ("claims.opd_retains.unit=seed", "claims.opd_retains.unit: expected one of 'seeds', 'items'"),
        ("claims.opd_retains.margin=0", "claims.opd_retains.margin: an equivalence test needs a margin above 0"),
        ("claims.stress_forgets.margin=-0.1", "claims.stress_forgets.margin: must be from 0 to 1, found -0.1"),
        ("claims.student_exceeds_teacher.over=[]", "claims.student_exceeds_teacher.over: names no arm"),
        ("claims.student_exceeds_teacher.task=pocket_mmul", "did you mean 'pocket_mmlu'"),
        ("tasks.pocket_mmlu.label=pocket_gsm", "tasks listed twice: pocket_gsm"),
        ("checkpoint_every_steps=0", "checkpoint_every_steps: must be from 1 to 100,000,000, found 0"),
        ("arms.grpo.budget.adapter={rank: 0}", "arms.grpo.budget.adapter.rank: must be from 1 to 65,536, found 0"),
        ("seeds=[0, 0]", "seeds must be given and distinct"),
        ("arms.mild_sft.budget.learning_rate=0.5", "doses.stress_sft: budget.learning_rate is declared as 5 times"),
        ("search.trials.grpo=[{budget.learning_rate: 1.0}]", "the same number of trials"),
        ("varies=[source]", "differ in prompts"),
        ("name=../../x", "study name '../../x': a name begins with a letter"),
        ("name=/tmp/x", "study name '/tmp/x': a name begins with a letter"),
        ("name=a/b", "study name 'a/b': '/' cannot stand in it"),
        ('name="a\\nb"', "study name 'a\\nb': '\\n' cannot stand in it"),
        ('name="a\\0b"', "cannot "),
        (f"name={'n' * 300}", "300 bytes are too long for a file"),
        ("name=''", "study name: a name is a word, found ''"),
        ("arms.mild_sft.name=.x", "arm name '.x': a name begins with a letter"),
        ("arms.mild_sft.name=GRPO", "arm names 'GRPO' and 'grpo' differ in case or spelling"),
        ("arms.mild_sft.name=Base", "arm names 'base' and 'Base' differ in case or spelling"),
        ("nulls=[{kind: early_stop, name: a/b, of: grpo, matched_to: grpo}]", "arm name 'a/b': '/' cannot"),
        ("tasks.pocket_mmlu.label=POCKET_GSM", "tasks 'pocket_gsm' and 'POCKET_GSM' differ in case"),
        ("tasks.pocket_mmlu.label=../x", "tasks.pocket_mmlu: task label '../x': a name begins"),
        ("tasks.pocket_mmlu.name=../../x", "task name '../../x': a name begins with a letter"),
        ("claims.opd_retains.name=rl_retains", "claims: 'rl_retains' is there twice; rename one"),
        ("claims.opd_retains.name=a/b", "claim name 'a/b': '/' cannot stand in it"),
        ("tasks.pocket_mmlu.prompt='{{ a'", "tasks.pocket_mmlu: task 'pocket_mmlu': prompt, line 1: unexpected"),
        ("arms.mild_sft.name=base", "arm name 'base' is taken"),
        ("arms.mild_sft.name=student", "arm name 'student' is taken"),
        ("arms.grpo.start=student", "'student' is what the start becomes"),
        ("arms.opd_from_mild.streams.0.source.teacher={decay: 1.0}", "teacher.decay: must be above 0 and below 1"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_study_is_named(assignment, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        read_study("pocket", [assignment])


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("one_step_opd_from_stress.streams.0.terms.0.supervision", "live student"),
        ("opd_from_mild.streams.0.source", "that is the learner source"),
    ],
)
def test_the_student_as_its_own_teacher_is_refused(place, says):
    with pytest.raises(PairingError, match=says):
        read_study("pocket", [f"arms.{place}.teacher=student"])


def test_a_signal_that_does_not_fit_the_objective_is_refused_with_its_path():
    wrong = "arms.one_step_opd_from_stress.streams.0.terms.0.objective=cross_entropy"
    message = (
        "objective 'cross_entropy' takes Actions, but supervision 'teacher_distribution' gives"
    )
    with pytest.raises(PairingError, match=message) as caught:
        read_study("pocket", [wrong])
    assert str(caught.value).startswith("arms.one_step_opd_from_stress.streams[0].terms[0]")


def test_a_study_that_varies_its_source_alone_is_refused_when_anything_else_differs():
    study = read_study("pocket")
    learner = study.arm("one_step_opd_from_stress")
    on_data = replace(
        learner, name="on_data", streams=(replace(learner.streams[0], source=Dataset()),)
    )
    taught_by_base = [from_base(arm) for arm in (learner, on_data)]
    bare = {"claims": (), "search": None, "doses": {}, "varies": ("source",)}
    swapped = replace(study, arms=tuple(taught_by_base), **bare)
    assert {axis for axis, _ in axis_differences(*swapped.arms)} == {"source"}
    with pytest.raises(ConfigError, match=r"vary in nothing only.*differ in source"):
        replace(swapped, varies=())
    harder = replace(taught_by_base[1], budget=replace(learner.budget, learning_rate=1.0))
    with pytest.raises(ConfigError, match=r"vary in source only.*differ in budget"):
        replace(swapped, arms=(taught_by_base[0], harder))


def from_base(arm: Arm) -> Arm:
    """The same arm, taught by the base, so that it needs no other arm."""
    return bind_names(arm, "stress_sft", "base")


def bind_names(arm: Arm, old: str, new: str) -> Arm:
    """The arm with one policy's name for another's."""
    return bind(
        arm,
        policy=lambda ref: PolicyRef(new if ref.name == old else ref.name),  # pyright: ignore[reportArgumentType]
        prompts=lambda stream: stream.prompts,  # pyright: ignore[reportArgumentType]
    )


def test_a_dose_is_the_multiple_that_it_declares():
    study = read_study("pocket")
    stress, mild = study.arm("stress_sft").budget, study.arm("mild_sft").budget
    assert stress.learning_rate == pytest.approx(5 * mild.learning_rate)
    with pytest.raises(ConfigError, match="declared as 6 times"):
        replace(study, doses={"stress_sft": Dose("mild_sft", {"budget.learning_rate": 6.0})})


def test_local_data_reaches_every_benchmark_of_the_paper(tmp_path):
    study = read_study("paper", data=str(tmp_path))
    assert {task.data for task in study.tasks} == {str(tmp_path)}
    folders = [arm.streams[0].prompts.folder for arm in study.arms]  # pyright: ignore[reportAttributeAccessIssue]
    assert set(folders) == {str(tmp_path)}


def test_local_data_reaches_a_bare_kind_and_leaves_other_mistakes_to_the_reader(tmp_path):
    prompts = "arms.mild_sft.streams.0.prompts=gsm8k"
    study = read_study("paper", [prompts], data=str(tmp_path))
    assert study.arm("mild_sft").streams[0].prompts.folder == str(tmp_path)  # pyright: ignore[reportAttributeAccessIssue]
    for value, found in (("null", "null"), ("3", "3 (int)")):
        with pytest.raises(
            ConfigError,
            match=re.escape(f"tasks: expected a list of a mapping (Task), found {found}"),
        ):
            read_study("paper", [f"tasks={value}"], data=str(tmp_path))


def test_an_unknown_study_names_those_that_ship():
    with pytest.raises(ConfigError, match="shipped studies: controls, paper, pocket"):
        read_plain_study("pockt")


def test_seeds_are_counted_from_zero():
    assert read_study("pocket", seeds=2).seeds == (0, 1)
    with pytest.raises(ConfigError, match="--seeds: must be from 1 to 1,000, found 0"):
        read_study("pocket", seeds=0)


def test_a_study_is_a_value():
    assert isinstance(read_study("pocket"), Study)
    assert read_study("pocket") == read_study("pocket")
