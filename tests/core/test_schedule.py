"""Numbers that change over a run, by hand and from a study file."""

from __future__ import annotations

import math

import pytest

from statewise.config import from_plain, to_plain
from statewise.errors import ConfigError
from statewise.sources import Learner, Mixture, PrefixReset, Schedule, Source
from statewise.sources.schedule import value_at


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (0.3, [0.3] * 5),
        (Schedule(0.2, 1.0), [0.2, 0.4, 0.6, 0.8, 1.0]),
        (Schedule(1.0, 0.2), [1.0, 0.8, 0.6, 0.4, 0.2]),
        (
            Schedule(0.0, 1.0, "cosine"),
            [0.0, (1 - math.sqrt(0.5)) / 2, 0.5, (1 + math.sqrt(0.5)) / 2, 1.0],
        ),
        (Schedule(3.0, 5.0, "step"), [3.0, 3.0, 5.0, 5.0, 5.0]),
        (Schedule(3.0, 5.0, "step", switch_at=0.8), [3.0, 3.0, 3.0, 3.0, 5.0]),
    ],
    ids=str,
)
def test_schedules_by_hand(schedule, values):
    assert [value_at(schedule, p) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx(values)


def test_a_plain_number_is_constant_and_a_mapping_a_schedule_in_a_study_file():
    plain = {"kind": "mixture", "sources": [{"kind": "learner", "max_new_tokens": 3}, "dataset"]}
    constant = from_plain(Source, plain | {"shares": [0.25]})
    assert constant.shares == (0.25,)
    falling = from_plain(Source, plain | {"shares": [{"start": 1, "end": 0, "shape": "cosine"}]})
    assert falling.shares == (Schedule(1.0, 0.0, "cosine"),)
    for source in (constant, falling):
        assert from_plain(Source, to_plain(source)) == source


@pytest.mark.parametrize(
    "make",
    [
        lambda: Schedule(0.0, math.inf),
        lambda: Schedule(math.nan, 1.0),
        lambda: Schedule(0.0, 1.0, "step", switch_at=1.5),
        lambda: Mixture((Learner(3), Learner(3)), (Schedule(0.0, 1.2),)),
        lambda: Mixture((Learner(3), Learner(3)), (math.nan,)),
        lambda: PrefixReset(3, probability=Schedule(0.0, 1.2)),
        lambda: PrefixReset(3, probability=Schedule(1.0, -0.2, "step")),
    ],
)
def test_a_schedule_that_leaves_its_range_is_refused(make):
    with pytest.raises(ConfigError):
        make()
