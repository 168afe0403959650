"""What a check says: one line, with a figure and, where it is not well, the fix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from statewise.errors import StatewiseError

Status = Literal["pass", "warn", "fail"]
ORDER: tuple[Status, ...] = ("pass", "warn", "fail")
Value = float | int | str | None


@dataclass(frozen=True, slots=True)
class Line:
    """One check's verdict. `figure` is for reading, `values` holds the same numbers for a program.

    `fix` says what to do where the check did not pass.
    """

    status: Status
    name: str
    figure: str
    fix: str = ""
    values: Mapping[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skip:
    """A check that has nothing to look at here, and why."""

    name: str
    reason: str


Found = Line | Skip


def guarded(name: str, check: Callable[[], Found]) -> Found:
    """What a check says; an error that it raises on purpose is a fail. Any other stays an error.

    >>> def check() -> Line:
    ...     raise StatewiseError("row 3 has no answer; add one")
    >>> guarded("reward", check)
    Line(status='fail', name='reward', figure='row 3 has no answer', fix='add one', values={})
    """
    try:
        return check()
    except StatewiseError as error:
        return failed(name, error)


def failed(name: str, error: StatewiseError) -> Line:
    """An error as a line: a message says what is wrong and then, where it does, behind a semicolon the fix."""
    figure, _, fix = str(error).partition("; ")
    return Line("fail", name, figure, fix)


def graded(value: float, *, warn_above: float, fail_above: float) -> Status:
    """Pass, warn or fail of a figure that should be small; nan fails.

    >>> [graded(x, warn_above=1.0, fail_above=2.0) for x in (1.0, 1.5, 3.0, float("nan"))]
    ['pass', 'warn', 'fail', 'fail']
    """
    if value <= warn_above:
        return "pass"
    return "warn" if value <= fail_above else "fail"


def worse(first: Status, second: Status) -> Status:
    """The worse of two.

    >>> worse("pass", "warn"), worse("fail", "warn")
    ('warn', 'fail')
    """
    return first if ORDER.index(first) >= ORDER.index(second) else second


def small(value: float) -> str:
    """A small number as a line shows it.

    >>> small(0.0), small(2.345e-7), small(1e-4), small(0.0123), small(0.5)
    ('0', '2.3e-07', '1e-04', '0.012', '0.5')
    """
    if 0 < value < 1e-3:
        digits, exponent = f"{value:.1e}".split("e")
        return f"{digits.removesuffix('.0')}e{exponent}"
    return f"{value:.2g}"
