"""pocket_mmlu: four-choice questions over generated facts, in MMLU's record format.

A fact gives one attribute of one invented thing: (subject, thing, attribute) -> value. The corpus
states every fact, some often and most rarely (Zipf), and answers questions about it. Each fact has
three phrasings of its question; one of them is held out of the corpus and is the one that the
evaluation asks. Development and test items are over disjoint facts.

The task scores the four answers as continuations (lm-evaluation-harness's `mmlu_continuation`), not
the letters A to D: a base of a million parameters that knew 0.98 of the facts still chose letters
at random (0.26), and a retention task that cannot fall measures no forgetting.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from statewise.world.pools import POOLS, names
from statewise.world.splits import rng_for, unit_hash

THINGS_PER_SUBJECT = 80

SUBJECTS: tuple[tuple[str, str, tuple[tuple[str, str], ...]], ...] = (
    (
        "geography",
        "town",
        (("region", "region"), ("trade", "trade"), ("flag colour", "colour"), ("totem", "animal")),
    ),
    (
        "astronomy",
        "moon",
        (("colour", "colour"), ("core", "metal"), ("shape", "shape"), ("best month", "month")),
    ),
    (
        "botany",
        "plant",
        (
            ("taste", "taste"),
            ("leaf shape", "shape"),
            ("flower colour", "colour"),
            ("home", "region"),
        ),
    ),
    (
        "zoology",
        "beast",
        (("food", "food"), ("home", "region"), ("enemy", "animal"), ("mating month", "month")),
    ),
    (
        "chemistry",
        "salt",
        (("colour", "colour"), ("taste", "taste"), ("metal", "metal"), ("crystal shape", "shape")),
    ),
    (
        "history",
        "king",
        (("fate", "fate"), ("crest", "animal"), ("crown metal", "metal"), ("birth month", "month")),
    ),
    (
        "music",
        "song",
        (("instrument", "tool"), ("origin", "region"), ("theme", "fate"), ("festival", "month")),
    ),
    (
        "medicine",
        "remedy",
        (("cure", "ill"), ("taste", "taste"), ("base", "food"), ("symbol", "animal")),
    ),
)
"""(subject, kind of thing, ((attribute, pool of values), ...))."""


_QUESTIONS = (
    "What is the {a} of the {k} {e}?",
    "Which {a} does the {k} {e} have?",
    "The {k} {e} has what {a}?",
)


@dataclass(frozen=True)
class Fact:
    """One fact of the world; `held_out` is the phrasing of its question the corpus never uses.

    >>> fact = Fact("astronomy", "moon", "Belka", "colour", "red", "colour", held_out=0)
    >>> fact.question(fact.held_out)
    'What is the colour of the moon Belka?'
    """

    subject: str
    kind: str
    thing: str
    attribute: str
    value: str
    pool: str
    held_out: int

    def question(self, phrasing: int) -> str:
        """One of three phrasings of the question."""
        text = _QUESTIONS[phrasing % len(_QUESTIONS)]
        text = text.replace("{a}", self.attribute).replace("{k}", self.kind)
        return text.replace("{e}", self.thing)

    def statement(self, form: int) -> str:
        """The fact in one of three paraphrases.

        >>> Fact("astronomy", "moon", "Belka", "colour", "red", "colour", 0).statement(1)
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
                facts.append(
                    Fact(
                        subject,
                        kind,
                        thing,
                        attribute,
                        rng.choice(POOLS[pool]),
                        pool,
                        rng.randrange(3),
                    )
                )
    return tuple(facts)


@cache
def evaluation_items(seed: int, first: int, count: int) -> tuple[dict, ...]:
    """Records in MMLU's format about facts `first`, ..., `first + count - 1` of a fixed order.

    The order is a hash of the fact, so neither the subjects nor the Zipf ranks decide who is
    evaluated where.
    """
    order = sorted(
        all_facts(seed), key=lambda fact: unit_hash(seed, "fact order", fact.question(0))
    )
    return tuple(_item(seed, fact) for fact in order[first : first + count])


def _item(seed: int, fact: Fact) -> dict:
    rng = rng_for(seed, "fact item", fact.question(0))
    others = [value for value in POOLS[fact.pool] if value != fact.value]
    choices = [fact.value, *rng.sample(others, 3)]
    rng.shuffle(choices)
    return {
        "question": fact.question(fact.held_out),
        "subject": fact.subject,
        "choices": choices,
        "answer": choices.index(fact.value),
    }
