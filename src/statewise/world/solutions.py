"""Solutions of pocket_gsm problems in GSM8K's answer format, right ones and slipped ones.

Three styles: `prose` (words and an equation a line), `terse` (equations alone), `answer_only`
(the final line alone). Calculator marks `<<a+b=c>>` and the final line `#### answer` are GSM8K's.
A *slip* is one wrong result that is carried through to the answer: the later lines are right
about wrong values, as in a person's homework.
"""

from __future__ import annotations

import random
from typing import Literal

from statewise.world.gsm import Problem, Ref, Scene, calculate

Style = Literal["prose", "terse", "answer_only"]

_SLIPS = (-10, -2, -1, 1, 2, 10)
"""What a slip adds to a result: a forgotten or doubled carry, or a miscount."""


def solve(problem: Problem, scene: Scene, style: Style, slip: tuple[int, int] | None = None) -> str:
    """Write out a solution; `slip = (step, error)` adds `error` to the result of that step.

    >>> from statewise.world.gsm import Step
    >>> steps = (Step(12, "+", 7, "now {he} has"), Step(Ref(0), "*", 2, "so"))
    >>> problem = Problem(("has", "gain"), (12, 7), (), steps, 38)
    >>> print(solve(problem, Scene((("{he}", "he"),)), "prose"))
    Now he has 12+7=<<12+7=19>>19.
    So 19*2=<<19*2=38>>38.
    #### 38
    >>> print(solve(problem, Scene(()), "terse", slip=(0, 1)))
    12+7=<<12+7=20>>20
    20*2=<<20*2=40>>40
    #### 40
    """
    lines: list[str] = []
    values: list[int] = []
    for index, step in enumerate(problem.steps):
        left = values[step.left.step] if isinstance(step.left, Ref) else step.left
        right = values[step.right.step] if isinstance(step.right, Ref) else step.right
        result = calculate(left, step.op, right)
        if slip is not None and slip[0] == index:
            result += slip[1]
        values.append(result)
        equation = f"{left}{step.op}{right}=<<{left}{step.op}{right}={result}>>{result}"
        if style == "prose":
            words = scene.render(step.words)
            lines.append(f"{words[:1].upper()}{words[1:]} {equation}.")
        else:
            lines.append(equation)
    answer = f"#### {values[-1] if values else problem.answer}"
    return answer if style == "answer_only" else "\n".join([*lines, answer])


def draw_slip(rng: random.Random, problem: Problem) -> tuple[int, int]:
    """A slip after which every value is still positive and the answer is wrong.

    >>> from statewise.world.gsm import Difficulty, draw_problem
    >>> rng = random.Random(0)
    >>> problem = draw_problem(rng, Difficulty())
    >>> solution = solve(problem, Scene(()), "answer_only", draw_slip(rng, problem))
    >>> solution == f"#### {problem.answer}"
    False
    """
    while True:
        slip = rng.randrange(len(problem.steps)), rng.choice(_SLIPS)
        values = _values(problem, slip)
        if min(values) > 0 and values[-1] != problem.answer:
            return slip


def _values(problem: Problem, slip: tuple[int, int]) -> list[int]:
    values: list[int] = []
    for index, step in enumerate(problem.steps):
        left = values[step.left.step] if isinstance(step.left, Ref) else step.left
        right = values[step.right.step] if isinstance(step.right, Ref) else step.right
        values.append(calculate(left, step.op, right) + (slip[1] if slip[0] == index else 0))
    return values
