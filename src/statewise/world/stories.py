"""The parts of which pocket_gsm's stories are built: openings, events, closings, distractors.

A story is one opening, some events and one closing around a *running quantity* `v`. Each part
draws numbers `a`, `b` and adds arithmetic steps; in a step `s` is the result of the step before
it in the same part. The number of steps is therefore known from the parts alone, and a structure
is the tuple of their names.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One step of a part, `left op right`, and the words before it in a prose solution."""

    left: str
    op: str
    right: str
    words: str


@dataclass(frozen=True)
class Part:
    """A sentence of a story with the kinds of numbers it draws and the steps it adds.

    Kinds: `few` (2-9), `many` (up to the difficulty's largest number), `part` (less than v),
    `divisor` (of v), `beyond` (more than v), `daily` and `days` (their product is less than v).
    """

    name: str
    text: str
    draws: tuple[str, ...]
    lines: tuple[Line, ...] = ()


OPENINGS = (
    Part("has", "{name} has {a} {things}.", ("many",)),
    Part(
        "bags",
        "{name} has {a} bags with {b} {things} in each.",
        ("few", "many"),
        (Line("a", "*", "b", "the bags hold"),),
    ),
    Part(
        "days",
        "{name} finds {a} {things} a day for {b} days.",
        ("many", "few"),
        (Line("a", "*", "b", "{he} finds"),),
    ),
    Part(
        "times",
        "{friend} has {a} {things} and {name} has {b} times as many.",
        ("many", "few"),
        (Line("a", "*", "b", "{name} has"),),
    ),
    Part(
        "pair",
        "{friend} has {a} {things}. {name} has {b} more than {friend} and they put all in one box.",
        ("many", "many"),
        (Line("a", "+", "b", "{name} has"), Line("a", "+", "s", "the box has")),
    ),
    Part(
        "two",
        "{name} has {a} red {things} and {b} blue {things}.",
        ("many", "many"),
        (Line("a", "+", "b", "{name} has"),),
    ),
)

EVENTS = (
    Part("gain", "{He} gets {a} more.", ("many",), (Line("v", "+", "a", "now {he} has"),)),
    Part("lose", "{He} gives {a} to {friend}.", ("part",), (Line("v", "-", "a", "{he} keeps"),)),
    Part(
        "boxes",
        "{He} buys {a} boxes of {b}.",
        ("few", "few"),
        (Line("a", "*", "b", "{he} buys"), Line("v", "+", "s", "now {he} has")),
    ),
    Part(
        "uses",
        "{He} uses {a} a day for {b} days.",
        ("daily", "days"),
        (Line("a", "*", "b", "{he} uses"), Line("v", "-", "s", "{he} keeps")),
    ),
    Part(
        "grow",
        "Soon {he} has {a} times as many.",
        ("few",),
        (Line("v", "*", "a", "soon {he} has"),),
    ),
    Part(
        "heaps",
        "{He} makes {a} equal heaps and keeps one heap.",
        ("divisor",),
        (Line("v", "/", "a", "a heap has"),),
    ),
)

CLOSINGS = (
    Part("left", "How many {things} does {name} have in the end?", ()),
    Part(
        "sell",
        "{He} sells all for ${a} each. How many dollars does {name} get?",
        ("few",),
        (Line("v", "*", "a", "{he} gets"),),
    ),
    Part(
        "pack",
        "{He} packs all in bags of {a}. How many bags does {name} fill?",
        ("divisor",),
        (Line("v", "/", "a", "{he} fills"),),
    ),
    Part(
        "wish",
        "{He} wants {a} {things}. How many more does {name} need?",
        ("beyond",),
        (Line("a", "-", "v", "{he} needs"),),
    ),
    Part(
        "both",
        "{other} has {a} {things}. How many do {name} and {other} have together?",
        ("many",),
        (Line("v", "+", "a", "both have"),),
    ),
    Part(
        "more",
        "{other} has {a} {things}. How many more does {name} have than {other}?",
        ("part",),
        (Line("v", "-", "a", "{name} has more by"),),
    ),
)

DISTRACTORS = (
    "{other} is {d} years old.",
    "The walk to the {place} takes {d} minutes.",
    "The {place} has {d} chairs.",
    "It is day {d} of the month.",
)
"""Sentences with a number that the solution must not use."""

PEOPLE = (
    ("Tom", "he"), ("Anna", "she"), ("Ben", "he"), ("Mia", "she"), ("Sam", "he"), ("Lily", "she"),
    ("Max", "he"), ("Eva", "she"), ("Leo", "he"), ("Nora", "she"), ("Paul", "he"), ("Ruth", "she"),
)  # fmt: skip
THINGS = (
    "apples",
    "books",
    "coins",
    "pens",
    "cards",
    "eggs",
    "shells",
    "stamps",
    "beads",
    "cups",
    "nuts",
    "toys",
)
PLACES = ("market", "school", "farm", "shop", "park", "port")
