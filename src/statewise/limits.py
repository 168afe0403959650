"""The range of every number that a study may hold, written where the number is declared.

    prompts_per_step: PromptCount        is        Annotated[int, Within(1, 65_536)]

`from_plain` refuses what lies outside, with the path of the key. The upper ends are far beyond what
anybody trains, and below what no machine holds: a slip of a few zeros ends in one line and not in
the kernel's killer of processes. No range lets nan or an infinity in.
"""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass
from typing import Annotated

from statewise.errors import ConfigError

_COMPARED = {"gt": operator.gt, "ge": operator.ge, "lt": operator.lt, "le": operator.le}


@dataclass(frozen=True, slots=True)
class Within:
    """From `low` to `high`; an end that is `open` is itself left out.

    >>> Within(0, 1)(0.5), str(Within(1, 65_536)), str(Within(0, 1, open_low=True))
    (True, 'from 1 to 65,536', 'above 0 and at most 1')
    >>> Within(0, 1)(float("nan"))
    False
    """

    low: int | float
    high: int | float
    open_low: bool = False
    open_high: bool = False

    @property
    def bounds(self) -> dict[str, int | float]:
        """The two ends in pydantic's words.

        >>> Within(0, 1, open_low=True).bounds
        {'gt': 0, 'le': 1}
        """
        low = "gt" if self.open_low else "ge"
        return {low: self.low, "lt" if self.open_high else "le": self.high}

    def __call__(self, value: int | float) -> bool:
        low, high = (_COMPARED[name](value, end) for name, end in self.bounds.items())
        return low and high

    def __str__(self) -> str:
        low, high = _words(self.low), _words(self.high)
        if not (self.open_low or self.open_high):
            return f"from {low} to {high}"
        start = f"above {low}" if self.open_low else f"at least {low}"
        return f"{start} and {'below' if self.open_high else 'at most'} {high}"


def _words(end: int | float) -> str:
    return f"{end:,}" if isinstance(end, int) and abs(end) < 2**62 else f"{end:g}"


def check_range(value: int | float, within: Within | None, where: str) -> None:
    """Refuse a number outside its range, or, where it has none, beyond what a machine word holds.

    >>> check_range(10**9, Within(1, 65_536), "arms.a.streams[0].prompts_per_step")
    Traceback (most recent call last):
    statewise.errors.ConfigError: arms.a.streams[0].prompts_per_step: must be from 1 to 65,536, found 1000000000
    """
    if within is not None and not within(value):
        raise ConfigError(f"{where}: must be {within}, found {shown_number(value)}")
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: must be a finite number, found {value}")
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        raise ConfigError(f"{where}: must fit 64 bits, found {shown_number(value)}")


def shown_number(value: int | float) -> str:
    """A number in a message; of 4300 digits and more Python writes none.

    >>> shown_number(0.5), shown_number(10**30), shown_number(-(10**30))
    ('0.5', 'more than 2^99', 'less than -2^99')
    """
    if isinstance(value, int) and abs(value) >= 2**64:
        power = abs(value).bit_length() - 1
        return f"more than 2^{power}" if value > 0 else f"less than -2^{power}"
    return str(value)


ANY_INTEGER = Within(-(2**63), 2**64 - 1)
"""What a machine word holds, signed or unsigned: the range of an integer that has no other."""

# Counts

Steps = Annotated[int, Within(1, 100_000_000)]
"""Steps, or every how many of them."""
PromptCount = Annotated[int, Within(1, 65_536)]
"""Prompts of one step."""
Samples = Annotated[int, Within(1, 65_536)]
"""Completions of one prompt."""
Tokens = Annotated[int, Within(1, 1 << 20)]
"""Tokens of one row: 1,048,576 are more than any context holds."""
BatchTokens = Annotated[int, Within(1, 1 << 26)]
"""Tokens of many rows that are read at a time."""
Rows = Annotated[int, Within(1, 1_000_000_000)]
"""Rows of a file or items of a benchmark that are taken."""
CountOrZero = Annotated[int, Within(0, 1_000_000_000)]
"""Rows that are left out, or a count that may be 0."""
TopTokens = Annotated[int, Within(1, 1 << 24)]
"""Tokens of a vocabulary."""
FewTimes = Annotated[int, Within(1, 65_536)]
"""How often one thing is done to another: passes, mini-batches, permutations, ranks."""
Seed = Annotated[int, Within(0, 2**63 - 1)]
"""What random choices follow from."""
Seconds = Annotated[int, Within(1, 86_400)]

# Numbers

Share = Annotated[float, Within(0.0, 1.0)]
PositiveShare = Annotated[float, Within(0.0, 1.0, open_low=True)]
ProperShare = Annotated[float, Within(0.0, 1.0, open_low=True, open_high=True)]
ShareBelow1 = Annotated[float, Within(0.0, 1.0, open_high=True)]
Temperature = Annotated[float, Within(0.0, 1000.0)]
"""0 is greedy."""
PositiveTemperature = Annotated[float, Within(0.0, 1000.0, open_low=True)]
Positive = Annotated[float, Within(0.0, 1e9, open_low=True)]
NotNegative = Annotated[float, Within(0.0, 1e9)]
AtLeast1 = Annotated[float, Within(1.0, 1e9)]
Number = Annotated[float, Within(-1e9, 1e9)]
LearningRate = Annotated[float, Within(0.0, 1000.0, open_low=True)]

MOST_SEEDS = 1000
"""Seeds of a study."""
MOST_ROWS = 1 << 20
"""Rows of one step: prompts times samples."""
