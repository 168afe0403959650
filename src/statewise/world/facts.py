"""pocket_mmlu: four-choice questions over generated facts, in MMLU's record format.

A fact gives one attribute of one invented thing: (subject, thing, attribute) -> value. The corpus states every fact,
some often and most rarely (Zipf), and asks some of them with four choices. An evaluation item is a fact with a set of
choices that never enters the corpus; development and test items are over disjoint facts.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache

from statewise.world.pools import POOLS, names
from statewise.world.splits import CHOICE_SHARES, item_key, rng_for, split_of, unit_hash

THINGS_PER_SUBJECT = 80

SUBJECTS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    ("geography", "town", (("region", "region"), ("trade", "trade"), ("flag colour", "colour"), ("totem", "animal"))),
    ("astronomy", "moon", (("colour", "colour"), ("core", "metal"), ("shape", "shape"), ("best month", "month"))),
    ("botany", "plant", (("taste", "taste"), ("leaf shape", "shape"), ("flower colour", "colour"), ("home", "region"))),
    ("zoology", "beast", (("food", "food"), ("home", "region"), ("enemy", "animal"), ("mating month", "month"))),
    ("chemistry", "salt", (("colour", "colour"), ("taste", "taste"), ("metal", "metal"), ("crystal shape", "shape"))),
    ("history", "king", (("fate", "fate"), ("crest", "animal"), ("crown metal", "metal"), ("birth month", "month"))),
    ("music", "song", (("instrument", "tool"), ("origin", "region"), ("theme", "fate"), ("festival", "month"))),
    ("medicine", "remedy", (("cure", "ill"), ("taste", "taste"), ("base", "food"), ("symbol", "animal"))),
)
"""(subject, kind of thing, ((attribute, pool of values), ...))."""


@dataclass(frozen=True)
class Fact:
    """One fact of the world.

    >>> fact = Fact("astronomy", "moon", "Belka", "colour", "red", "colour")
    >>> fact.question
    'What is the colour of the moon Belka?'
    """

    subject: str
    kind: str
    thing: str
    attribute: str
    value: str
    pool: str

    @property
    def question(self) -> str:
        """The question of every four-choice item about this fact."""
        return f"What is the {self.attribute} of the {self.kind} {self.thing}?"

    def statement(self, form: int) -> str:
        """The fact in one of three paraphrases.

        >>> Fact("astronomy", "moon", "Belka", "colour", "red", "colour").statement(1)
        'Belka is a moon with the colour red.'
        """
        match form % 3:
            case 0:
                return f"The {self.attribute} of the {self.kind} {self.thing} is {self.value}."
            case 1:
                return f"{self.thing} is a {self.kind} with the {self.attribute} {self.value}."
            case _:
                return f"For the {self.kind} {self.thing}, the {self.attribute} is {self.value}."


@cache
def all_facts(seed: int) -> tuple[Fact, ...]:
    """Every fact of a world.

    >>> len(all_facts(0))
    2560
    """
    rng = rng_for(seed, "facts")
    things = names(seed, "facts", THINGS_PER_SUBJECT * len(SUBJECTS))
    facts: list[Fact] = []
    for index, (subject, kind, attributes) in enumerate(SUBJECTS):
        for thing in things[index * THINGS_PER_SUBJECT : (index + 1) * THINGS_PER_SUBJECT]:
            for attribute, pool in attributes:
                facts.append(Fact(subject, kind, thing, attribute, rng.choice(POOLS[pool]), pool))
    return tuple(facts)


def draw_item(rng: random.Random, fact: Fact, split: str) -> dict:
    """A record in MMLU's format about a fact, whose set of choices belongs to `split` (`pretrain` or `evaluation`)."""
    others = [value for value in POOLS[fact.pool] if value != fact.value]
    while True:
        choices = [fact.value, *rng.sample(others, 3)]
        if split_of(item_key(fact.question, choices), CHOICE_SHARES) == split:
            rng.shuffle(choices)
            return {
                "question": fact.question,
                "subject": fact.subject,
                "choices": choices,
                "answer": choices.index(fact.value),
            }


@cache
def evaluation_items(seed: int, first: int, count: int) -> tuple[dict, ...]:
    """Items about `count` facts, from place `first` of a fixed order of the facts on; one item a fact.

    The order is a hash of the fact, so neither the subjects nor the Zipf ranks decide who is evaluated where.
    """
    order = sorted(all_facts(seed), key=lambda fact: unit_hash(seed, "fact order", fact.question))
    return tuple(
        draw_item(rng_for(seed, "fact item", fact.question), fact, "evaluation") for fact in order[first : first + count]
    )


def four_choice_text(item: dict, with_answer: bool) -> str:
    """An item in lm-evaluation-harness's MMLU format.

    >>> item = {"question": "Which?", "choices": ["w", "x", "y", "z"], "answer": 2}
    >>> four_choice_text(item, with_answer=True)
    'Which?\\nA. w\\nB. x\\nC. y\\nD. z\\nAnswer: C'
    """
    choices = "".join(f"\n{letter}. {choice}" for letter, choice in zip("ABCD", item["choices"], strict=True))
    return f"{item['question']}{choices}\nAnswer:" + (f" {'ABCD'[item['answer']]}" if with_answer else "")
