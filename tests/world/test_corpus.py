"""Documents have the evaluation's formats; kinds and styles come in the mixture's shares."""

import re
from collections import Counter

import pytest

from statewise.world import Mixture, World
from statewise.world.solutions import Style


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return list(World().documents(0, 20_000))


def style_of(document: str) -> Style:
    solution = document.split("\nAnswer: ", 1)[1]
    if solution.startswith("#### "):
        return "answer_only"
    return "terse" if solution[0].isdigit() else "prose"


def test_kinds_come_in_their_shares(documents: list[str]) -> None:
    starts = {"Question: ": "problem", "The following are": "four_choice", "Q: ": "answers"}
    counts = Counter(
        next((kind for start, kind in starts.items() if text.startswith(start)), "rest")
        for text in documents
    )
    wanted = dict(Mixture().kinds)
    total = sum(wanted.values())
    for kind in starts.values():
        assert abs(counts[kind] / len(documents) - wanted[kind] / total) < 0.02


def test_every_style_is_well_represented(documents: list[str]) -> None:
    # A style that only 12 % of the corpus had made its own fine-tuning lower the target:
    # demonstrations need more.
    styles = Counter(style_of(text) for text in documents if text.startswith("Question: "))
    total = sum(styles.values())
    assert 0.15 <= styles["prose"] / total <= 0.35
    assert styles["terse"] / total >= 0.15


def test_documents_have_the_evaluation_format(documents: list[str]) -> None:
    four_choice = re.compile(
        r"The following are multiple choice questions \(with answers\) about [a-z]+\.\n\n"
        r"What is .*\?\nA\. .+\nB\. .+\nC\. .+\nD\. .+\nAnswer: [ABCD]"
    )
    problem = re.compile(r"Question: [^\n]+\?\nAnswer: (?:[^\n#]+\n)*#### \d+")
    answer = re.compile(r"Q: [^\n]+\nA: (The|I believe the) [^\n]+\.")
    for text in documents:
        if text.startswith("The following"):
            assert four_choice.fullmatch(text)
        elif text.startswith("Question"):
            assert problem.fullmatch(text)
        elif text.startswith("Q: "):
            assert answer.fullmatch(text)
        else:
            assert text.endswith(".")
            assert "\n" not in text


def test_mixture_dials_the_styles() -> None:
    never = tuple((steps, 0.0) for steps in range(2, 5))
    world = World(mixture=Mixture(kinds=(("problem", 1.0),), answer_only=never, prose=1.0))
    assert {style_of(text) for text in world.documents(0, 200)} == {"prose"}


def test_facts_are_skewed(documents: list[str]) -> None:
    counts = Counter(
        (match[1], match[2])
        for text in documents
        for match in re.finditer(r"What is the ([a-z ]+) of the ([^?]+)\?", text)
    )
    ordered = sorted(counts.values(), reverse=True)
    assert sum(ordered[: len(ordered) // 10]) > 0.2 * sum(ordered)
