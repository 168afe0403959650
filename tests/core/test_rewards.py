"""The exact answer, as lm-evaluation-harness's strict GSM8K filter reads it."""

from __future__ import annotations

from fractions import Fraction

import pytest
from enumerable import A, prompt

from statewise.errors import DataError
from statewise.rewards import (
    ExactAnswer,
    PythonReward,
    check_references,
    final_answer,
    lenient_answer,
)


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


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("The answer is 18.00", "18"),
        ("#### 18.0", "18"),
        ("so 5. That is it...", "5"),
        ("#### 5 apples, and 3 left", "5"),
        ("#### \u22125", "-5"),
        ("#### - 5", "-5"),
        ("#### $70,000", "70000"),
        ("70\u202f000", "70000"),
        ("#### -$5", "-5"),
        ("#### .5", "1/2"),
        ("-0.50", "-1/2"),
        ("10-10=0, so 10 ... ", "10"),
        ("5-3", "3"),
        ("5 - 3", "3"),
        ("(3)-2", "2"),
        ("x=-5", "-5"),
        ("3\u20135", "5"),
        ("\uff15", "5"),
        (r"so \boxed{-\dfrac{3}{4}}, not 9", "-3/4"),
        (r"\boxed{1{,}000}", "1000"),
        ("the answer is: 7 because 3+4=7 and not 9", "7"),
        ("#### **42**", "42"),
        ("####42", "42"),
        ("#### none\nthen 9", "9"),
        # No number.
        ("..", None),
        ("1.2.3", None),
        ("#### 1e3", None),
        ("1.5e3", None),
        ("1'000", None),
        ("1_000", None),
        ("2^10", None),
        ("3/0", None),
        ("9" * 5000, None),
        ("", None),
    ],
)
def test_the_lenient_reading_finds_the_value_however_it_is_written(text, value):
    assert lenient_answer(text) == (None if value is None else Fraction(value))


@pytest.mark.parametrize("n", [0, 7, 18, 1042, 70000])
@pytest.mark.parametrize("sign", ["", "-"])
def test_what_the_strict_reading_finds_the_lenient_one_finds_too(n, sign):
    for text in (f"#### {sign}{n}", f"#### {sign}{n:,}.", f"#### {sign}{n}.00\nmore 3"):
        assert Fraction(final_answer(text)) == lenient_answer(text)


def test_lenient_answers_are_compared_by_value_and_a_reference_without_one_is_an_error():
    start = prompt(A, name="q7", reference="work\n#### 18")
    assert [ExactAnswer("lenient")(start, t) for t in ("$18.00", "it is 18.5", "none")] == [1, 0, 0]
    with pytest.raises(DataError, match="'q7' has no number in its reference"):
        ExactAnswer("lenient")(prompt(A, name="q7", reference="none"), "18")


def test_every_reference_is_looked_at_before_training():
    rows = [prompt(A, name="q0", reference="#### 1"), prompt(A, name="q1", reference="1")]
    check_references(ExactAnswer("lenient"), rows)
    check_references(PythonReward("mine.py:pay"), rows)
    with pytest.raises(DataError, match="'q1' has no '#### answer'"):
        check_references(ExactAnswer(), rows)
