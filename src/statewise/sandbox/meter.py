"""How much a template may do: every step and every value that it makes is paid for beforehand.

A bound on time would make a result depend on how busy the machine is. Steps are counted instead: the same
template on the same row always passes or is always refused.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from jinja2.utils import Namespace

STEPS = 2_000_000
"""Steps of one rendering: items looped over, calls, items of values that are made or compared."""
MAX_CHARACTERS = 4_000_000
"""Longest text that a template may make, as a value or as its output."""
CHARACTERS_PER_STEP = 16
"""Characters that cost as much as a step: copying and comparing text is fast, item by item is not."""
MAX_BITS = 1024
"""Largest integer."""
MAX_LEVELS = 50
"""Deepest nesting of lists and mappings."""
MAX_WIDTH = 1_000
"""Widest padding, indent and precision that a format may ask for."""


class Refused(Exception):  # noqa: N818  an answer, not a fault
    """A template asked for what templates do not get; the message says what."""


@dataclass(slots=True)
class Meter:
    """Steps that are left to one rendering."""

    left: int


METER: ContextVar[Meter] = ContextVar("statewise_template_meter")
"""The meter of the rendering in this thread."""


def spend(steps: int) -> bool:
    """Pay for some steps; True, so that it can stand in a condition. Raises Refused without credit."""
    meter = METER.get()
    meter.left -= steps
    if meter.left < 0:
        raise Refused(f"it takes more than {STEPS:,} steps; shorten its loops or its texts")
    return True


def steps_of(value: Any, levels: int = 0) -> int:
    """What a value costs to make, copy or compare, all that is nested in it included.

    A list may hold the same list twice, and that one another twice: counted as often as it stands there,
    since that is how often it is written out. Raises Refused for what is larger than a template may make.

    >>> steps_of("word"), steps_of([1, [2, 3]]), steps_of({"a": 1})
    (1, 5, 3)
    """
    if isinstance(value, str):
        fits(len(value))
        return 1 + len(value) // CHARACTERS_PER_STEP
    if isinstance(value, int) and value.bit_length() > MAX_BITS:
        raise Refused(f"a number has more than {MAX_BITS} bits")
    if isinstance(value, Namespace):
        raise Refused("a namespace cannot be a value; use its attributes")
    if isinstance(value, dict):
        items = [item for pair in value.items() for item in pair]
    elif isinstance(value, list | tuple):
        items = value
    else:
        return 1 + len(value) if isinstance(value, range) else 1
    if levels == MAX_LEVELS:
        raise Refused(f"a value is nested deeper than {MAX_LEVELS} levels")
    total = 1
    for item in items:
        total += steps_of(item, levels + 1)
        if total > STEPS:
            raise Refused(f"a value has more than {STEPS:,} items")
    return total


def made(value: Any) -> Any:
    """Pay for a value that a template made, and give it."""
    spend(steps_of(value))
    return value


def fits(characters: int) -> None:
    """Refuse to make a text before it is made."""
    if characters > MAX_CHARACTERS:
        raise Refused(f"a text would be longer than {MAX_CHARACTERS:,} characters")


def narrow(width: Any, what: str) -> int:
    """A width, an indent or a precision; refused if nobody needs it that wide."""
    if not isinstance(width, int) or abs(width) > MAX_WIDTH:
        raise Refused(f"{what} must be a number up to {MAX_WIDTH:,}")
    return width
