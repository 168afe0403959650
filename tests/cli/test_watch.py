"""Progress without a terminal: what begins and finishes, where each job is, and no early estimates."""

from __future__ import annotations

import time

import pytest

from statewise.cli.watch import beating, counting, lines, watching
from statewise.jobs.executor import Event, Job

TRAIN, MEASURE = Job("train", "grpo", 0), Job("measure", "base", 0)


@pytest.fixture
def told():
    """Lines said so far, and a clock to move by hand."""

    class Told:
        now = 0.0

        def __init__(self):
            self.lines = []
            self.watch, self.beat = lines(self.lines.append, lambda: self.now)

        def move(self, **fields):
            self.watch(Event(TRAIN, "moved", "training", jobs=20, **fields))

    return Told()


def test_a_job_is_said_to_begin_and_to_finish(told):
    told.watch(Event(MEASURE, "began", jobs=20))
    told.now = 90.0
    told.watch(Event(MEASURE, "ended", jobs=20))
    assert told.lines == [
        "[  0.0 min] began measuring base",
        "[  1.5 min] finished measuring base (1 of 20 jobs)",
    ]


def test_a_job_whose_arm_failed_is_not_said_to_finish(told):
    told.watch(Event(TRAIN, "began", jobs=20))
    told.watch(Event(TRAIN, "ended", jobs=20, failed="it diverged (step 3)"))
    assert told.lines[-1] == (
        "[  0.0 min] failed training grpo, seed 0: it diverged (step 3) (1 of 20 jobs)"
    )


def test_a_line_says_arm_step_loss_speed_and_time_left_of_each_running_job(told):
    told.watch(Event(TRAIN, "began", jobs=20))
    told.now = 10.0
    told.move(done=0, total=40)
    told.now = 22.0
    told.move(done=12, total=40, tokens_per_second=3210.4, loss=0.5321)
    told.beat()
    # 12 steps in 12 s since the first, 28 to go; loading took the 10 s before.
    assert told.lines[-1] == (
        "[  0.4 min] training grpo, seed 0: step 12 of 40, loss 0.532, 3,210 tokens/s, 22 s so far, about 28 s left"
    )
    told.watch(Event(TRAIN, "ended", jobs=20))
    count = len(told.lines)
    told.beat()
    assert len(told.lines) == count


def test_nothing_is_estimated_from_fewer_than_three_steps_or_jobs(told):
    told.watch(Event(TRAIN, "began", jobs=20))
    told.move(done=0, total=40)
    told.now = 8.0
    told.move(done=2, total=40)
    told.beat()
    assert "left" not in told.lines[-1]
    for n in range(3):
        told.watch(Event(Job("train", f"arm{n}", 0), "began", jobs=20))
        told.watch(Event(Job("train", f"arm{n}", 0), "ended", jobs=20))
        assert ("left" in told.lines[-1]) == (n == 2)
    assert told.lines[-1].endswith("(3 of 20 jobs, about 45 s left)")  # 8 s for 3, 17 to go


def test_a_job_that_continues_is_timed_from_where_it_went_on(told):
    told.watch(Event(TRAIN, "began", jobs=1))
    told.move(done=30, total=40)
    told.now = 5.0
    told.move(done=35, total=40)
    told.beat()
    assert "about 5 s left" in told.lines[-1]


def test_a_long_step_is_reported_without_any_event():
    heard = []
    with beating(lambda: heard.append(1), 0.01):
        time.sleep(0.2)
    count = len(heard)
    assert count >= 2
    time.sleep(0.05)
    assert len(heard) == count


def test_without_a_terminal_lines_go_to_standard_error(capsys):
    with watching("study", every_seconds=60.0) as watch:
        watch(Event(MEASURE, "began", jobs=1))
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "[  0.0 min] began measuring base\n")


def test_an_evaluation_counts_its_items_first_and_last(capsys):
    with counting(every_seconds=60.0) as count:
        for done in (0, 64, 128, 192):
            count("pocket_gsm", done, 192)
    assert capsys.readouterr().err.splitlines() == [
        "pocket_gsm: 0 of 192 items",
        "pocket_gsm: 192 of 192 items",
    ]
