"""What a command line's arguments may be, checked as they are read: before any import, file or model.

parser = Parser(...)                               # raises ConfigError in place of printing its usage
parser.add_argument("--seeds", type=whole(1, 1000))
parser.add_argument("--out", type=path)
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from statewise.errors import ConfigError, one_line
from statewise.files import short
from statewise.limits import Within, shown_number

MOST_NAME_BYTES, MOST_PATH_BYTES = 255, 4095
"""What file systems take for one name and for a path."""
_WHOLE = re.compile(r"[-+]?\d{1,40}")
_HALF = re.compile("[\ud800-\udfff]")


class Parser(argparse.ArgumentParser):
    """An argument parser that takes no abbreviations and says what is wrong as a ConfigError."""

    def __init__(self, **options: object) -> None:
        # With abbreviations `run --seed 3` would be read as `--seeds 3`: three seeds, not seed 3.
        super().__init__(**(options | {"allow_abbrev": False}))  # pyright: ignore[reportArgumentType]

    def error(self, message: str) -> NoReturn:
        """What argparse calls for bad arguments; it would print several lines and exit."""
        raise ConfigError(f"{message.removeprefix('argument ')}; {self.prog} --help lists all")


def check_arguments(arguments: Sequence[str]) -> None:
    """Refuse arguments that no file, page or message can repeat: a NUL, and bytes that are not UTF-8."""
    for argument in arguments:
        if _HALF.search(argument):
            raise ConfigError(f"the argument {short(argument)} is not UTF-8; rename or retype it")
        if "\0" in argument:
            raise ConfigError(f"the argument {short(argument)} holds a NUL character; take it out")


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from `low` to `high`.

    >>> whole(0, 8)("3")
    3
    """
    within = Within(low, high)

    def convert(text: str) -> int:
        if not _WHOLE.fullmatch(text):
            raise argparse.ArgumentTypeError(
                f"must be a whole number {within}, found {short(text)}"
            )
        if not within(value := int(text)):
            raise argparse.ArgumentTypeError(f"must be {within}, found {shown_number(value)}")
        return value

    return convert


def real(low: int | float, high: int | float, *, open_low: bool = False) -> Callable[[str], float]:
    """A number from `low` to `high`, or above `low`."""
    within = Within(low, high, open_low=open_low)

    def convert(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"must be a number {within}, found {short(text)}"
            ) from None
        if not within(value):
            raise argparse.ArgumentTypeError(f"must be {within}, found {value}")
        return value

    return convert


def path(text: str) -> Path:
    """A path that a file system can take; whether something is there is for the command to see.

    >>> path("runs/pocket")
    PosixPath('runs/pocket')
    """
    if not text.strip():
        raise argparse.ArgumentTypeError(f"must be a path, found {text!r}")
    data = os.fsencode(text)
    longest = max(len(name) for name in data.split(b"/"))
    if longest > MOST_NAME_BYTES or len(data) > MOST_PATH_BYTES:
        raise argparse.ArgumentTypeError(
            f"the path {one_line(text, 60)} is too long: a name takes {MOST_NAME_BYTES} bytes, "
            f"a path {MOST_PATH_BYTES}"
        )
    return Path(text)


def words(text: str) -> str:
    """A text that is not empty."""
    if not text.strip():
        raise argparse.ArgumentTypeError("must not be empty")
    return text


def place(text: str) -> str:
    """A file, a folder or a name of the hub, as text: not empty, and not too long for either."""
    return str(text) if path(text) else text


def rising(text: str) -> tuple[int, ...]:
    """Whole numbers above 0 with commas between them.

    >>> rising("8,24,48")
    (8, 24, 48)
    """
    convert = whole(1, 1 << 20)
    try:
        return tuple(convert(part.strip()) for part in text.split(","))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"expected numbers such as 8,24,48: {error}") from None
