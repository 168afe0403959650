"""pocket_gsm: right solutions evaluate right, slips are wrong somewhere, stories are varied."""

import random
import re

import pytest

from statewise.world.gsm import (
    Difficulty,
    Problem,
    Ref,
    Scene,
    Step,
    draw_problem,
    draw_scene,
    question,
)
from statewise.world.solutions import Style, draw_slip, solve
from statewise.world.world import World

MARK = re.compile(r"(\d+)([-+*/])(\d+)=<<(\d+)([-+*/])(\d+)=(\d+)>>(\d+)")


def wrong_marks(solution: str) -> int:
    """Marks whose equation is false, evaluated independently of the generator."""
    wrong = 0
    for left, op, right, *again, result, shown in MARK.findall(solution):
        assert [left, op, right] == again
        assert result == shown
        # eval of digits and one operator: a second implementation of arithmetic would only copy
        # the first.
        wrong += eval(f"{left}{op}{right}") != int(result)
    return wrong


def final(solution: str) -> int:
    return int(solution.rsplit("#### ", 1)[1])


def last_mark(solution: str) -> int:
    return int(MARK.findall(solution)[-1][-1])


@pytest.fixture(scope="module")
def problems() -> list[tuple[Problem, Scene]]:
    rng = random.Random(0)
    drawn = [draw_problem(rng, Difficulty()) for _ in range(2000)]
    return [(problem, draw_scene(rng, problem, Difficulty())) for problem in drawn]


@pytest.mark.parametrize("style", ["prose", "terse"])
def test_worked_solutions_are_right(problems: list[tuple[Problem, Scene]], style: Style) -> None:
    for problem, scene in problems:
        solution = solve(problem, scene, style)
        assert len(MARK.findall(solution)) == len(problem.steps)
        assert wrong_marks(solution) == 0
        assert final(solution) == last_mark(solution) == problem.answer
        assert "{" not in solution
        assert "{" not in question(problem, scene)


def test_the_demonstrations_are_right() -> None:
    for record in World().gsm("demonstrations"):
        assert wrong_marks(record["answer"]) == 0
        assert final(record["answer"]) == last_mark(record["answer"])


def test_slips_are_wrong_once_and_carried_through(problems: list[tuple[Problem, Scene]]) -> None:
    rng = random.Random(1)
    rounded = 0
    for problem, scene in problems:
        solution = solve(problem, scene, "terse", draw_slip(rng, problem))
        assert final(solution) == last_mark(solution) != problem.answer
        assert wrong_marks(solution) >= 1
        # A division of a slipped value need not come out even; it is then written rounded and is
        # a second wrong mark.
        rounded += wrong_marks(solution) > 1
    assert rounded < len(problems) / 4


def test_answer_only_says_nothing_else(problems: list[tuple[Problem, Scene]]) -> None:
    problem, scene = problems[0]
    assert solve(problem, scene, "answer_only") == f"#### {problem.answer}"


def test_a_slip_by_hand() -> None:
    problem = Problem(
        ("has", "gain", "sell"),
        (12, 7, 3),
        (),
        (Step(12, "+", 7, "a"), Step(Ref(0), "*", 3, "b")),
        57,
    )
    assert (
        solve(problem, Scene(()), "terse", slip=(0, -10))
        == "12+7=<<12+7=9>>9\n9*3=<<9*3=27>>27\n#### 27"
    )


def test_difficulty_bounds_steps_and_values(problems: list[tuple[Problem, Scene]]) -> None:
    difficulty = Difficulty(
        steps=((2, 1.0), (4, 1.0)), largest_number=20, largest_value=90, distractor_share=0.0
    )
    rng = random.Random(2)
    for _ in range(300):
        problem = draw_problem(rng, difficulty)
        assert len(problem.steps) in (2, 4)
        values = [int(mark[-1]) for mark in MARK.findall(solve(problem, Scene(()), "terse"))]
        assert all(0 < value <= 90 for value in values)
        assert draw_scene(rng, problem, difficulty).distractor is None


def test_stories_are_varied(problems: list[tuple[Problem, Scene]]) -> None:
    assert len({problem.parts for problem, _ in problems}) > 100
    with_distractor = sum(scene.distractor is not None for _, scene in problems) / len(problems)
    assert 0.3 < with_distractor < 0.4


def test_words_do_not_enter_the_key(problems: list[tuple[Problem, Scene]]) -> None:
    problem, scene = problems[0]
    other = draw_scene(random.Random(9), problem, Difficulty())
    assert question(problem, scene) != question(problem, other)
    assert not any(word in problem.key for _, word in (*scene.words, *other.words))
