"""math-verify in its worker process; skipped where it is not installed."""

from __future__ import annotations

import pytest
from enumerable import A, prompt

from statewise.errors import DataError
from statewise.rewards import MathVerify

pytest.importorskip("math_verify", reason="math-verify is an extra: pip install 'statewise[math]'")

REWARD = MathVerify()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reference", "completion", "value"),
    [
        ("so\n#### 1,042", "the answer is 1042", 1.0),
        ("so\n#### 42", "the answer is 43", 0.0),
        ("#### 1/2", r"hence $\boxed{\frac{1}{2}}$", 1.0),
        (r"#### \frac{1}{2}", "0.5", 1.0),
        ("#### 42", "I do not know", 0.0),
        ("#### 42", "", 0.0),
    ],
)
def test_equality_is_that_of_mathematics(reference, completion, value):
    assert REWARD(prompt(A, reference=reference), completion) == value


@pytest.mark.slow
def test_a_fault_is_no_score():
    with pytest.raises(DataError, match="'q7' has no reference"):
        REWARD(prompt(A, name="q7"), "1")
    with pytest.raises(DataError, match="math-verify failed on prompt 'q7'"):
        REWARD(prompt(A, name="q7", reference="so\n####"), "1")
