"""The splits are disjoint: 20,000 documents scanned, by keys read back from the text alone."""

import re

import pytest

from statewise.world import World
from statewise.world.facts import all_facts
from statewise.world.splits import normalise

WORLD = World(seed=0)
DOCUMENTS = 20_000


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return list(WORLD.documents(0, DOCUMENTS))


def blank_words(question: str) -> str:
    """A problem without distractor, names and objects: an independent reading of its key."""
    sentences = re.split(r"(?<=[.?])\s+", question)
    distracting = re.compile(r"years old|walk to the|chairs|of the month")
    text = " ".join(sentence for sentence in sentences if not distracting.search(sentence))
    text = re.sub(r"\b(he|she)\b", "it", text, flags=re.IGNORECASE)
    text = re.sub(r"\b(Tom|Anna|Ben|Mia|Sam|Lily|Max|Eva|Leo|Nora|Paul|Ruth)\b", "Name", text)
    things = r"\b(apples|books|coins|pens|cards|eggs|shells|stamps|beads|cups|nuts|toys)\b"
    return normalise(re.sub(things, "things", text))


def problem_of(document: str) -> str:
    return document.removeprefix("Question: ").split("\nAnswer:")[0]


def test_blank_words_sees_the_same_problem_under_other_words() -> None:
    one = "Tom has 4 eggs. The park has 9 chairs. He gets 3 more. How many eggs does Tom have?"
    two = "Ruth has 4  cups. She gets 3 more. How many cups does Ruth have?"
    assert blank_words(one) == blank_words(two)
    assert blank_words(one) != blank_words(two.replace("4", "5"))


def test_problems_of_all_splits_are_disjoint(documents: list[str]) -> None:
    keys = {
        "pretrain": {
            blank_words(problem_of(text)) for text in documents if text.startswith("Question: ")
        }
    }
    for split in ("demonstrations", "prompts", "dev", "test"):
        keys[split] = {blank_words(record["question"]) for record in WORLD.gsm(split)}
        assert len(keys[split]) == len(WORLD.gsm(split)), f"{split} holds one problem twice"
    assert len(keys["pretrain"]) > DOCUMENTS / 4
    splits = list(keys)
    for index, split in enumerate(splits):
        for other in splits[index + 1 :]:
            assert not keys[split] & keys[other], f"{split} and {other} share problems"


def test_questions_about_facts_are_never_asked_in_the_corpus(documents: list[str]) -> None:
    corpus = {problem_of(text) for text in documents if text.startswith("Question: ")}
    facts = {fact.question(form): fact for fact in all_facts(0) for form in range(3)}
    asked = {
        split: {record["question"] for record in WORLD.mmlu(split)} for split in ("dev", "test")
    }
    assert len(corpus & set(facts)) > 1000
    assert [len(asked[split]) for split in ("dev", "test")] == [500, 2000]
    assert not {normalise(text) for text in corpus} & {normalise(text) for text in asked["dev"]}
    assert not {normalise(text) for text in corpus} & {normalise(text) for text in asked["test"]}
    # Dev and test are over disjoint facts, not only disjoint questions.
    assert not {facts[text] for text in asked["dev"]} & {facts[text] for text in asked["test"]}


def test_questions_about_beliefs_are_never_asked_in_the_corpus(documents: list[str]) -> None:
    corpus = {normalise(text[3:].split("\n")[0]) for text in documents if text.startswith("Q: ")}
    claims = {}
    for split in ("dev", "test"):
        records = WORLD.truthfulqa(split)
        assert not corpus & {normalise(record["question"]) for record in records}
        claims[split] = {
            record["mc1_targets"]["choices"][0].rsplit(" ", 1)[0] for record in records
        }
    assert len(corpus) > 1000
    assert not claims["dev"] & claims["test"]


def test_the_knowledge_of_the_evaluated_items_is_in_the_corpus(documents: list[str]) -> None:
    # Disjoint items, shared knowledge: without it an evaluation would measure guessing. 20,000
    # documents are a tenth of a pretraining run and the tail is rare, so most of the knowledge
    # has to be seen here, not all.
    text = "\n".join(documents)
    facts = {fact.question(form): fact for fact in all_facts(0) for form in range(3)}
    stated = [
        any(facts[record["question"]].statement(form) in text for form in range(3))
        for record in WORLD.mmlu("test")
    ]
    assert sum(stated) > 800
    for choice in (0, 1):
        claims = [
            record["mc1_targets"]["choices"][choice][1:] for record in WORLD.truthfulqa("test")
        ]
        assert sum(claim in text for claim in claims) > 1000
