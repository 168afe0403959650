"""Numbers that change over a run: mixture shares, blend bounds, reset probabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from statewise.errors import ConfigError
from statewise.limits import Number, Share


@dataclass(frozen=True)
class Schedule:
    """A number that goes from `start` to `end` as the run's progress `p` goes from 0 to 1.

    linear: `start + (end - start) p`
    cosine: `start + (end - start) (1 - cos(pi p)) / 2`, flat at both ends
    step:   `start` before `switch_at`, `end` from there on

    Progress is `step / steps`, so the last step of a run stands just short of `end`. A number that
    stays is written as a plain number.

    >>> [Schedule(1.0, 0.0, shape)(0.25) for shape in ("linear", "step")]
    [0.75, 1.0]
    >>> round(Schedule(1.0, 0.0, "cosine")(0.25), 4)    # (1 + cos(pi / 4)) / 2
    0.8536

    Raises ConfigError where an end is not finite or `switch_at` lies outside [0, 1].
    """

    start: Number
    end: Number
    shape: Literal["linear", "cosine", "step"] = "linear"
    switch_at: Share = 0.5

    def __post_init__(self) -> None:
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise ConfigError(f"a schedule needs finite ends, found {self.start} and {self.end}")
        if not 0 <= self.switch_at <= 1:
            raise ConfigError(f"switch_at is a progress in [0, 1], found {self.switch_at}")

    def __call__(self, progress: float) -> float:
        match self.shape:
            case "linear":
                done = progress
            case "cosine":
                done = (1 - math.cos(math.pi * progress)) / 2
            case "step":
                done = float(progress >= self.switch_at)
        return self.start + (self.end - self.start) * done


Scheduled = Number | Schedule
"""A plain number is constant."""


def value_at(scheduled: Scheduled, progress: float) -> float:
    """The number that holds at `progress` in [0, 1] of a run.

    >>> value_at(0.5, 0.9), value_at(Schedule(0.0, 1.0), 0.9)
    (0.5, 0.9)
    """
    return scheduled(progress) if isinstance(scheduled, Schedule) else scheduled


def check_within(name: str, scheduled: Scheduled, low: float, high: float) -> None:
    """Raise ConfigError where a scheduled number leaves `[low, high]` anywhere in a run.

    >>> check_within("shares", Schedule(0.0, 2.0), 0.0, 1.0)
    Traceback (most recent call last):
    statewise.errors.ConfigError: shares must lie in [0, 1], found 2.0
    """
    ends = (scheduled.start, scheduled.end) if isinstance(scheduled, Schedule) else (scheduled,)
    for value in ends:
        if not low <= value <= high:
            raise ConfigError(f"{name} must lie in [{low:g}, {high:g}], found {value}")
