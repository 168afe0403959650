"""math-verify in its worker process; skipped where it is not installed."""

from __future__ import annotations

import os
import time

import pytest
from enumerable import A, prompt

from statewise.errors import ConfigError, DataError
from statewise.rewards import MathVerify, math
from statewise.supervision.advantage import score
from statewise.testing import trajectory

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
def test_a_reference_that_cannot_be_read_is_an_error_that_names_its_prompt():
    with pytest.raises(DataError, match="'q7' has no reference"):
        REWARD(prompt(A, name="q7"), "1")
    with pytest.raises(
        DataError, match=r"reference of prompt 'q7'.*it holds no answer.*fix the row"
    ):
        REWARD(prompt(A, name="q7", reference="so\n####"), "1")
    rows = [prompt(A, name=f"q{n}", reference=f"#### {n}") for n in range(300)]
    REWARD.check_references(rows)
    rows[270] = prompt(A, name="q270", reference="#### ")
    with pytest.raises(DataError, match=r"reference of prompt 'q270'"):
        REWARD.check_references(rows)


ODD = (
    "1" * 5000,
    "$" + "9" * 5000 + "$",
    r"\boxed{9^{9^{9^{9}}}}",
    r"\boxed{" + "{" * 400 + "1" + "}" * 400 + "}",
    r"\boxed{42!!!!!!}",
)


@pytest.mark.slow
@pytest.mark.parametrize("completion", ODD, ids=range(len(ODD)))
def test_a_completion_that_cannot_be_read_is_no_answer_and_is_counted(completion):
    """Three raise what is no Exception, or what pickles badly: nothing of it leaves the worker."""
    quick = MathVerify(timeout_seconds=1)
    judged = quick.judge(prompt(A, reference="#### 42"), completion)
    assert (judged.value, judged.fault is None) == (0.0, False)
    row = trajectory(1, completion=completion, reference="#### 42")
    fine = trajectory(1, completion="42", reference="#### 42")
    figures = score(quick, [row, fine, fine, fine]).figures
    assert figures == {"reward_mean": 0.75, "reward_fault_share": 0.25}


@pytest.mark.parametrize(
    "raised", [SystemExit(3), MemoryError(), RecursionError("deep"), GeneratorExit()]
)
def test_whatever_is_raised_in_a_worker_becomes_a_fault_in_words(raised):
    def work():
        raise raised

    assert math._contained(work).fault.startswith(type(raised).__name__)


def test_a_users_interrupt_leaves_a_worker():
    def work():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        math._contained(work)


@pytest.mark.slow
def test_a_worker_that_dies_or_hangs_is_ended_counted_and_replaced(monkeypatch):
    monkeypatch.setattr(math, "GRACE_SECONDS", 0)
    assert "its process ended" in math._ask(os._exit, 1, limit=20).fault
    assert "longer than 1 s" in math._ask(time.sleep, 60, limit=1).fault
    monkeypatch.undo()
    assert REWARD(prompt(A, reference="#### 7"), "7") == 1.0


def test_without_the_library_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(math, "find_spec", lambda name: None)
    monkeypatch.setattr(math, "_pool", math._pool.__wrapped__)
    with pytest.raises(ConfigError, match=r"pip install 'statewise\[math\]'"):
        REWARD(prompt(A, reference="#### 7"), "7")
