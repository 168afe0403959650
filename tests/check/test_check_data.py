"""Context, overlap and reward: what is well passes, and each fault is told."""

from __future__ import annotations

from dataclasses import replace

import pytest
from one_arm import (
    BUDGET,
    LONG,
    PROMPTS,
    opened,
    rewarded,
    scored,
    supervised,
)

from statewise.arms import Arm, Term, self_distillation, sequence_kd
from statewise.check.data import context, reward
from statewise.check.finding import Line
from statewise.check.leakage import KEY_WORDS
from statewise.check.subject import load_subject, read_prompts
from statewise.objectives import Reinforce
from statewise.policy import PolicyRef
from statewise.rewards import PythonTokenReward
from statewise.study.arm_run import ArmRun
from statewise.supervision import ProcessReward
from statewise.world import World


def test_prompts_that_exceed_the_context_fail_are_counted_and_the_first_is_named(
    one, report, line, rows
):
    pairs = [("1+1?", "#### 2"), (LONG, "#### 2"), ("2+2?", "#### 4"), (LONG, "#### 4")]
    said = line(report(one(rewarded(rows(pairs)))), "context")
    assert said.status == "fail"
    assert said.figure.startswith("2 of 4 prompts exceed the context of 320: ")
    assert "row 2: " in said.figure
    assert said.values["dropped"] == 2
    assert "too_long: drop" in said.fix
    said = line(report(one(rewarded(rows(pairs, too_long="drop")))), "context")
    assert (said.status, said.figure) == (
        "warn",
        "2 prompts dropped and 0 cut of 4, at a context of 320",
    )
    short = [(f"{n}+1?", "#### 2") for n in range(19)]
    few = rows([*short, (LONG, "#### 4")], too_long="drop")
    assert line(report(one(rewarded(few))), "context").status == "pass"


def test_a_teacher_that_reads_less_than_the_longest_row_fails(one, report, line, copy_of):
    short = copy_of("short", "config.json", lambda c: c | {"max_position_embeddings": 40})
    said = line(
        report(
            one(
                Arm.of(
                    "arm",
                    sequence_kd(teacher=PolicyRef(short), max_new_tokens=8),
                    PROMPTS,
                    BUDGET,
                    prompts_per_step=4,
                )
            )
        ),
        "context",
    )
    assert said.status == "fail"
    assert "reads 40 tokens and the longest row has" in said.figure


def test_records_that_cannot_be_read_are_a_fail_and_stop_what_needs_them(one, report, line, rows):
    data = rows([("1+1?", "")])
    found = report(one(supervised(data)))
    assert line(found, "prompts").figure == f"{data.path}, row 1: the completion is empty"
    assert line(found, "chat template").status == "pass"
    assert {"context", "masks", "gradient"} <= {skip.name for skip in found.skipped}


@pytest.mark.parametrize(
    ("question", "where", "status"),
    [
        ("{}", "test", "fail"),
        ("hello there. {} please", "test", "fail"),
        ("{}", "dev", "warn"),
        ("{} not", "none", "pass"),
    ],
)
def test_a_held_out_item_in_the_training_set_is_found(
    tiny_study, one, report, line, rows, question, where, status
):
    item = World().gsm("dev" if where == "dev" else "test")[1]["question"]
    if where == "none":
        item = World().gsm("prompts")[0]["question"]
    # Case, punctuation and spaces do not hide it.
    shouted = item.upper().replace(".", " !").replace(" ", "  ")
    pairs = [("1+1?", "#### 2"), (question.format(shouted), "#### 2")]
    said = line(report(one(rewarded(rows(pairs)), dev=tiny_study.dev)), "train/test overlap")
    assert said.status == status
    assert said.values["test_items"] == 4
    assert said.values["dev_items"] == 2
    if status == "pass":
        assert said.figure == "none of 4 test and 2 dev items stands in 2 prompts"
    else:
        task = {"test": "pocket_gsm/1", "dev": "pocket_gsm_dev/1"}[where]
        assert f"first: {task} in jsonl/2" in said.figure
        assert said.values[f"{where}_items_in_prompts"] == 1


def test_a_prompt_that_begins_as_an_item_does_is_no_overlap(one, report, line, rows):
    begun = " ".join(World().gsm("test")[1]["question"].split()[: KEY_WORDS + 2])
    pairs = [
        ("1+1?", "#### 2"),
        (f"{begun} and goes on otherwise, for as long as it likes?", "#### 2"),
    ]
    assert line(report(one(rewarded(rows(pairs)))), "train/test overlap").status == "pass"


def test_an_item_that_is_not_measured_is_no_overlap(one, report, line, rows):
    item = World().gsm("test")[9]["question"]  # the tiny study measures the first 4
    pairs = [("1+1?", "#### 2"), (item, "#### 2")]
    assert line(report(one(rewarded(rows(pairs)))), "train/test overlap").status == "pass"


EXACT = "prompt.reference.strip() == completion.strip()"


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (
            "float(prompt.reference.strip() == completion.strip())",
            "pass",
            "1.0 for the gold answer of 40 prompts",
        ),
        (
            "float('Answer:' in completion)",
            "fail",
            "mine.py:score gives 0 to the gold answer of world_problems/1",
        ),
        ("1.0", "warn", "1.00 on average for another prompt's (40 pairs): it pays for any answer"),
        (
            f"1.0 if {EXACT} else 0.06",
            "warn",
            "0.06 on average for another prompt's (40 pairs): it pays for wrong",
        ),
        (f"1.0 if {EXACT} else 0.05", "pass", "0.05 on average for another prompt's"),
        (
            "2.0 * (prompt.reference.strip() == completion.strip())",
            "warn",
            "the scale is not 0 to 1",
        ),
    ],
)
def test_a_reward_that_rejects_the_gold_answer_or_pays_for_anything(
    one, tmp_path, body, status, words
):
    subject, fits = read_prompts(
        load_subject(
            ArmRun(s := one(rewarded(reward=scored(tmp_path, body))), None, s.arms[0].name, 0)
        )
    )
    said = reward(subject, fits)
    assert isinstance(said, Line)
    assert said.status == status
    assert words in said.figure


def test_a_reference_without_an_answer_is_a_fail_that_names_the_prompt(one, report, line, rows):
    data = rows([("1+1?", "#### 2"), ("2+2?", "four")])
    said = line(report(one(rewarded(data))), "reward")
    assert said.status == "fail"
    assert "'jsonl/2' has no '#### answer' in its reference" in said.figure


def judged(study):
    subject, fits = read_prompts(load_subject(ArmRun(study, None, study.arms[0].name, 0)))
    said = reward(subject, fits)
    assert isinstance(said, Line)
    return said


@pytest.mark.parametrize(("wrong", "status"), [(0.0, "pass"), (0.09, "pass"), (0.11, "warn")])
def test_a_reward_by_token_is_judged_on_the_gold_completion(one, rows, tmp_path, wrong, status):
    """A wrong answer's sum is held against a right one's, 2.0: up to 0.1 of it is 5 %."""
    path = tmp_path / "steps.py"
    path.write_text(
        "import numpy as np\n\n\ndef pay(trajectory):\n"
        "    paid = np.full(len(trajectory.completion_ids), 0.0)\n"
        f"    paid[-1] = {wrong}\n"
        "    if trajectory.completion.strip() == trajectory.prompt.reference.strip():\n        paid[-2:] = 1.5, 0.5\n"
        "    return paid\n"
    )
    arm = rewarded(rows([("1+1?", "#### 2"), ("2+2?", "#### 4")]))
    term = Term(ProcessReward(PythonTokenReward(f"{path}:pay")), Reinforce())
    said = judged(one(replace(arm, streams=(replace(arm.streams[0], terms=(term,)),))))
    assert said.status == status
    assert (said.values["judged"], said.values["gold"]) == (2, 2.0)
    assert said.values["other_answer_mean"] == pytest.approx(wrong)
    assert said.figure.startswith(
        "by token 2.00 in sum on average for the gold answer of 2 prompts"
    )


@pytest.mark.parametrize(
    ("answers", "pairs", "mean"),
    [(["#### 2"], 0, None), (["#### 2", "so\n#### 2"], 0, None), (["#### 2", "#### 2", "#### 4"], 3, 0.0)],
)  # fmt: skip
def test_the_control_of_a_reward_is_an_answer_that_differs(one, rows, answers, pairs, mean):
    said = judged(one(rewarded(rows([(f"{n}+1?", a) for n, a in enumerate(answers)]))))
    assert (said.status, said.values["other_answer_mean"]) == ("pass", mean)
    assert ("another prompt" in said.figure) == (pairs > 0)
    assert pairs == 0 or f"({pairs} pairs)" in said.figure


def test_a_row_is_as_long_as_its_prompt_and_what_stands_behind_it(one, rows):
    pairs = [("1+1?", "so it is #### 2"), ("2+2?", "#### 4")]
    _, fits, rollouts = opened(one(supervised(rows(pairs))))
    subject = load_subject(
        ArmRun(study := one(supervised(rows(pairs))), None, study.arms[0].name, 0)
    )
    subject, fits = read_prompts(subject)
    longest = max(len(t) for r in rollouts for t in r.trajectories)
    assert context(subject, fits, study).values["longest"] == longest
    subject, fits = read_prompts(
        load_subject(ArmRun(study := one(rewarded(rows(pairs))), None, study.arms[0].name, 0))
    )
    prompt = max(len(p.token_ids) for p in fits[0].prompts.items)
    assert context(subject, fits, study).values["longest"] == prompt + 8


def test_a_teachers_own_prompt_that_leaves_no_room_fails(one, report, line, rows):
    data = rows([("1+1?", "#### 2"), ("2+2?", "#### 4")])
    sizes = {"max_new_tokens": 8}
    said = line(
        report(
            one(
                Arm.of(
                    "arm",
                    self_distillation(context=f"{{question}} {LONG}", **sizes),
                    data,
                    BUDGET,
                    prompts_per_step=2,
                )
            )
        ),
        "context",
    )
    assert said.status == "fail"
    assert said.figure.startswith("2 of 2 rows with the privileged context exceed the 320 tokens")
    assert "shorten the template" in said.fix
