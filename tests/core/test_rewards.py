"""The exact answer, as lm-evaluation-harness's strict GSM8K filter reads it."""

from __future__ import annotations

import pytest
from enumerable import A, prompt

from statewise.errors import DataError
from statewise.rewards import ExactAnswer, final_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("so\n#### 42", "42"),
        ("#### 1,042", "1042"),
        ("#### -7", "-7"),
        ("#### 42.", "42"),
        ("#### 3.50", "3.50"),
        ("#### 42$", "42"),
        ("#### 1,042,000.\nmore", "1042000"),
        ("#### 1\n#### 2", "1"),
        ("#### x #### 5", "5"),
        # The strict filter wants the digits right after the mark.
        ("#### $42", None),
        ("####42", None),
        ("the answer is 42", None),
        ("", None),
    ],
)
def test_final_answer(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("#### 1,042", 1.0),
        ("#### 1042.", 1.0),
        ("#### 1043", 0.0),
        ("#### -1042", 0.0),
        ("1042", 0.0),
        ("#### 1042\n#### 7", 1.0),
        ("#### 7\n#### 1042", 0.0),
    ],
)
def test_exact_answer_compares_the_first_mark_with_the_reference(completion, reward):
    start = prompt(A, reference="work <<1000+42=1042>>\n#### 1,042")
    assert ExactAnswer()(start, completion) == reward


@pytest.mark.parametrize(
    ("completion", "reward"),
    [
        ("so it is $1,042.", 1.0),
        ("#### 1042", 1.0),
        ("1042 or 7", 0.0),
        ("7, then 1042", 1.0),
        ("nothing", 0.0),
    ],
)
def test_flexible_extraction_reads_the_last_number(completion, reward):
    start = prompt(A, reference="work <<1000+42=1042>>\n#### 1,042")
    assert ExactAnswer(extract="flexible")(start, completion) == reward


@pytest.mark.parametrize("reference", [None, "no mark here"])
def test_a_reference_without_an_answer_is_a_fault_and_no_score(reference):
    with pytest.raises(DataError, match=r"'q7' has no '#### answer'"):
        ExactAnswer()(prompt(A, name="q7", reference=reference), "#### 1")
