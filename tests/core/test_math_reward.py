"""math-verify in its worker process; skipped where it is not installed."""

from __future__ import annotations

import time
from functools import cache

import pytest
from enumerable import A, prompt

from statewise.errors import DataError
from statewise.rewards import MathVerify, math

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


@pytest.mark.slow
def test_after_a_fault_the_next_one_is_judged_by_a_fresh_worker():
    with pytest.raises(DataError):
        REWARD(prompt(A, reference="####"), "1")
    assert REWARD(prompt(A, reference="#### 7"), "7") == 1.0


class Slow:
    """The real pool, but whatever it is asked takes a minute."""

    def __init__(self):
        self.pool = math._pool.__wrapped__()
        self.shutdown = self.pool.shutdown
        self.workers = []

    @property
    def _processes(self):
        self.workers = list(self.pool._processes.values())
        return self.pool._processes

    def submit(self, *_):
        return self.pool.submit(time.sleep, 60)


@pytest.mark.slow
def test_a_worker_that_hangs_is_ended_and_named(monkeypatch):
    """As if the library's own limit had failed: the wait is cut to seconds."""
    slow = Slow()
    monkeypatch.setattr(math, "_pool", cache(lambda: slow))
    monkeypatch.setattr(math, "LAST_RESORT_SECONDS", -10)
    with pytest.raises(DataError, match=r"'slow' \(TimeoutError"):
        REWARD(prompt(A, name="slow", reference="#### 7"), "7")
    assert slow.workers
    for process in slow.workers:
        process.join(timeout=10)
        assert not process.is_alive()
