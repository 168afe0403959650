"""pocket_gsm: generated arithmetic word problems in GSM8K's record format.

A problem is drawn as structure and numbers first; that alone is its key (see `splits`), so a
problem under other names, objects or with another distractor is still the same problem. Words
come afterwards.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from statewise.world.splits import rng_for, split_of
from statewise.world.stories import (
    CLOSINGS,
    DISTRACTORS,
    EVENTS,
    OPENINGS,
    PEOPLE,
    PLACES,
    THINGS,
    Part,
)


@dataclass(frozen=True)
class Difficulty:
    """The knobs of pocket_gsm.

    Attributes:
        steps: how many arithmetic steps a problem has, with weights.
        largest_number: largest number that a story states for a quantity.
        largest_value: largest value of any step.
        distractor_share: share of problems with a number that is not needed.
    """

    steps: tuple[tuple[int, float], ...] = ((2, 0.35), (3, 0.40), (4, 0.25))
    largest_number: int = 40
    largest_value: int = 99
    distractor_share: float = 0.35


@dataclass(frozen=True)
class Ref:
    """An operand that is the result of an earlier step, by its index."""

    step: int


@dataclass(frozen=True)
class Step:
    """One arithmetic step; operands are numbers of the story or results of earlier steps."""

    left: int | Ref
    op: str
    right: int | Ref
    words: str


@dataclass(frozen=True)
class Problem:
    """Structure and numbers of a problem: everything but names and objects."""

    parts: tuple[str, ...]
    numbers: tuple[int, ...]
    sentences: tuple[str, ...]
    steps: tuple[Step, ...]
    answer: int

    @property
    def key(self) -> str:
        """The canonical key that decides the split."""
        return "gsm/" + "-".join(self.parts) + "/" + "/".join(map(str, self.numbers))


def calculate(left: int, op: str, right: int) -> int:
    """The result of a step; division rounds down, which only a slipped solution ever needs.

    >>> calculate(12, "+", 7), calculate(9, "/", 2)
    (19, 4)
    """
    return {
        "+": left + right,
        "-": left - right,
        "*": left * right,
        "/": left // right if right else 0,
    }[op]


def draw_problem(rng: random.Random, difficulty: Difficulty) -> Problem:
    """Draw a problem with the wanted number of steps, all values positive integers.

    >>> problem = draw_problem(rng_for("example"), Difficulty(steps=((3, 1.0),)))
    >>> len(problem.steps)
    3
    """
    counts, weights = zip(*difficulty.steps, strict=True)
    wanted = rng.choices(counts, weights)[0]
    while True:
        parts = _draw_parts(rng, wanted)
        problem = None if parts is None else _fill(rng, parts, difficulty)
        if problem is not None:
            return problem


def _draw_parts(rng: random.Random, wanted: int) -> list[Part] | None:
    opening, closing = rng.choice(OPENINGS), rng.choice(CLOSINGS)
    missing = wanted - len(opening.lines) - len(closing.lines)
    events: list[Part] = []
    while missing > 0:
        event = rng.choice(EVENTS)
        # The same event twice in a row reads badly and makes two structures one.
        if len(event.lines) <= missing and not (events and events[-1] is event):
            events.append(event)
            missing -= len(event.lines)
        elif missing == 1 and rng.random() < 0.5:
            return None
    return [opening, *events, closing] if missing == 0 else None


def _fill(rng: random.Random, parts: list[Part], difficulty: Difficulty) -> Problem | None:
    """Draw the numbers of the parts; None when a value leaves its range."""
    numbers: list[int] = []
    steps: list[Step] = []
    values: list[int] = []
    sentences: list[str] = []
    running: int | Ref = 0
    value = 0
    for part in parts:
        drawn = _draw_numbers(rng, part, value, difficulty)
        if drawn is None:
            return None
        operands: dict[str, int | Ref] = dict(zip("ab", drawn, strict=False))
        operands["v"] = running
        for line in part.lines:
            left, right = operands[line.left], operands[line.right]
            steps.append(Step(left, line.op, right, line.words))
            result = calculate(_look_up(left, values), line.op, _look_up(right, values))
            if not 0 < result <= difficulty.largest_value:
                return None
            values.append(result)
            operands["s"] = Ref(len(steps) - 1)
        if part.lines:
            running, value = Ref(len(steps) - 1), values[-1]
        elif drawn:
            running = value = drawn[0]
        numbers.extend(drawn)
        sentences.append(_put_numbers(part.text, drawn))
    return Problem(
        tuple(part.name for part in parts), tuple(numbers), tuple(sentences), tuple(steps), value
    )


def _look_up(operand: int | Ref, values: list[int]) -> int:
    return values[operand.step] if isinstance(operand, Ref) else operand


def _put_numbers(text: str, drawn: list[int]) -> str:
    for name, number in zip("ab", drawn, strict=False):
        text = text.replace("{" + name + "}", str(number))
    return text


def _draw_numbers(
    rng: random.Random, part: Part, value: int, difficulty: Difficulty
) -> list[int] | None:
    drawn: list[int] = []
    for kind in part.draws:
        match kind:
            case "few":
                number = rng.randint(2, 9)
            case "many":
                number = rng.randint(3, difficulty.largest_number)
            case "part":
                number = (
                    rng.randint(1, min(value - 1, difficulty.largest_number)) if value > 1 else 0
                )
            case "daily":
                number = rng.randint(2, min(9, value // 3)) if value >= 6 else 0
            case "days":
                number = rng.randint(2, max(2, min(9, (value - 1) // drawn[0]))) if drawn[0] else 0
            case "beyond":
                number = value + rng.randint(1, difficulty.largest_number)
            case "divisor":
                divisors = [k for k in range(2, 10) if value % k == 0 and value > k]
                number = rng.choice(divisors) if divisors else 0
            case _:
                raise AssertionError(f"unknown kind of number: {kind}")
        if number == 0:
            return None
        drawn.append(number)
    return drawn


@dataclass(frozen=True)
class Scene:
    """The words of a problem: who and what. It never enters the key."""

    words: tuple[tuple[str, str], ...]
    distractor: str | None = None
    distractor_place: int = 0

    def render(self, text: str) -> str:
        """Fill in the words.

        >>> Scene((("{name}", "Tom"), ("{he}", "he"))).render("{name} says {he} is 3.")
        'Tom says he is 3.'
        """
        # str.replace and not str.format: this runs for every document of the corpus and is three
        # times as fast.
        for blank, word in self.words:
            text = text.replace(blank, word)
        return text


def draw_scene(rng: random.Random, problem: Problem, difficulty: Difficulty) -> Scene:
    """Draw names, objects and perhaps a distractor sentence for a problem."""
    (name, he), (friend, _), (other, _) = rng.sample(PEOPLE, 3)
    words = (
        ("{name}", name),
        ("{friend}", friend),
        ("{other}", other),
        ("{he}", he),
        ("{He}", he.capitalize()),
        ("{things}", rng.choice(THINGS)),
        ("{place}", rng.choice(PLACES)),
    )
    if rng.random() >= difficulty.distractor_share:
        return Scene(words)
    distractor = rng.choice(DISTRACTORS).replace("{d}", str(rng.randint(3, 30)))
    return Scene(words, distractor, rng.randint(1, len(problem.sentences) - 1))


def question(problem: Problem, scene: Scene) -> str:
    """The text of the problem.

    >>> part = Problem(("has", "left"), (4,), ("{name} has 4 eggs.", "How many?"), (), 4)
    >>> question(part, Scene((("{name}", "Tom"),), "It is day 3 of the month.", 1))
    'Tom has 4 eggs. It is day 3 of the month. How many?'
    """
    sentences = list(problem.sentences)
    if scene.distractor is not None:
        sentences.insert(scene.distractor_place, scene.distractor)
    return scene.render(" ".join(sentences))


@cache
def split_problems(
    seed: int, split: str, count: int, difficulty: Difficulty
) -> tuple[tuple[Problem, Scene], ...]:
    """The first `count` distinct problems of a held-out split, with their scenes."""
    rng = rng_for(seed, "gsm", split)
    found: dict[str, tuple[Problem, Scene]] = {}
    while len(found) < count:
        problem = draw_problem(rng, difficulty)
        if problem.key not in found and split_of(problem.key) == split:
            found[problem.key] = (problem, draw_scene(rng, problem, difficulty))
    return tuple(found.values())
