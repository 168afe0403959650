"""Right answers that are written another way: what the reward gives them."""

from __future__ import annotations

import pytest
from one_arm import rewarded, scored, supervised

from statewise.check.forms import FORMS, answer_forms
from statewise.check.subject import load_subject, read_prompts
from statewise.rewards import ExactAnswer, lenient_answer
from statewise.study.arm_run import ArmRun


def forms(study):
    subject, fits = read_prompts(load_subject(ArmRun(study, None, study.arms[0].name, 0)))
    return answer_forms(subject, fits)


@pytest.fixture
def numbers(rows):
    return rows([("6*3?", "#### 18"), ("0-5?", "#### -5"), ("1/2?", "#### 0.5"), ("9*9?", "none")])


def test_every_form_is_the_number_that_it_is_named_for():
    assert {str(lenient_answer(written("18"))) for written in FORMS.values()} == {"18"}
    assert [lenient_answer(name) for name in ("18.00", "$18", "\u221218")] == [18, 18, -18]


@pytest.mark.parametrize(
    ("extract", "status", "refused"),
    [
        ("lenient", "pass", 0),
        # Commas, a full stop behind the number and a unit are all that the strict filter forgives.
        ("strict", "pass", 8),
        ("flexible", "pass", 3),
    ],
)
def test_the_harness_readings_are_reported_and_the_lenient_one_refuses_nothing(
    one, numbers, extract, status, refused
):
    said = forms(one(rewarded(numbers, reward=ExactAnswer(extract))))
    assert (said.status, said.values["tried"], said.values["refused"]) == (status, 10, refused)
    assert ("extract: lenient pays" in said.figure) == (refused > 0)


def test_a_function_that_compares_text_is_a_warning_that_names_the_forms(one, numbers, tmp_path):
    body = "float(completion.strip() in (prompt.reference.strip(), prompt.reference.strip() + '.'))"
    said = forms(one(rewarded(numbers, reward=scored(tmp_path, body))))
    assert said.status == "warn"
    assert "mine.py:score gives less than 1.0 to 9 of 10 ways" in said.figure
    assert "18.00" in said.figure
    assert "  18.  " not in said.figure


def test_without_a_reward_or_a_number_there_is_nothing_to_try(one, rows):
    assert forms(one(supervised())).reason == "no reward of whole completions"
    assert forms(one(rewarded(rows([("a?", "yes")])))).reason == "no reference holds a number"
