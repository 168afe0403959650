"""Documents have the evaluation's formats; kinds and styles come in the mixture's shares."""

import re
from collections import Counter

import pytest

from statewise.world import Mixture, World
from statewise.world.facts import Fact, all_facts
from statewise.world.solutions import Style


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return list(World().documents(0, 20_000))


def kind_of(document: str) -> str:
    if document.startswith("Q: "):
        return "answers"
    if document.startswith("Question: "):
        return "problem" if "#### " in document else "questions"
    return "tales" if ": " in document else "facts"


def style_of(document: str) -> Style:
    solution = document.split("\nAnswer: ", 1)[1]
    if solution.startswith("#### "):
        return "answer_only"
    return "terse" if solution[0].isdigit() else "prose"


def test_kinds_come_in_their_shares(documents: list[str]) -> None:
    counts = Counter(kind_of(text) for text in documents)
    wanted = dict(Mixture().kinds)
    total = sum(wanted.values())
    assert set(counts) == set(wanted)
    for kind, weight in wanted.items():
        assert abs(counts[kind] / len(documents) - weight / total) < 0.02


def test_every_style_is_well_represented(documents: list[str]) -> None:
    # A style that only 12 % of the corpus had made its own fine-tuning lower the target:
    # demonstrations need more.
    styles = Counter(style_of(text) for text in documents if kind_of(text) == "problem")
    total = sum(styles.values())
    assert 0.15 <= styles["prose"] / total <= 0.35
    assert styles["terse"] / total >= 0.15


def test_documents_have_the_evaluation_format(documents: list[str]) -> None:
    patterns = {
        "problem": r"Question: [^\n]+\?\nAnswer: (?:[^\n#]+\n)*#### \d+",
        "questions": r"Question: [^\n]+\?\nAnswer: [A-Za-z]+",
        "answers": r"Q: [^\n]+\nA: (The|I believe the) [^\n]+\.",
        "facts": r"([^\n.:]+\. ?){4}",
        "tales": r"([^\n.:]+: [^\n.:]+\. ?){4}",
    }
    for text in documents:
        assert re.fullmatch(patterns[kind_of(text)], text)


def test_mixture_dials_the_styles() -> None:
    never = tuple((steps, 0.0) for steps in range(2, 5))
    world = World(mixture=Mixture(kinds=(("problem", 1.0),), answer_only=never, prose=1.0))
    assert {style_of(text) for text in world.documents(0, 200)} == {"prose"}


def test_facts_are_skewed(documents: list[str]) -> None:
    counts = Counter(fact.question(0) for fact in asked_facts(documents))
    ordered = sorted(counts.values(), reverse=True)
    assert sum(ordered[:256]) > 0.5 * sum(ordered)


def asked_facts(documents: list[str]) -> list[Fact]:
    facts = {fact.question(form): fact for fact in all_facts(0) for form in range(3)}
    asked = [text[10:].split("\n")[0] for text in documents if kind_of(text) == "questions"]
    return [facts[text] for text in asked]
