"""The embedded world as one value: a seed and its knobs give documents and records."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass

from statewise.errors import DataError
from statewise.world import beliefs, facts, gsm
from statewise.world.beliefs import Credulity
from statewise.world.corpus import Mixture, document
from statewise.world.gsm import Difficulty
from statewise.world.solutions import solve

WORLD_VERSION = 1
"""Raised, from the first release on, whenever the same seed would give other text; also the version
of the lm-eval tasks."""

GSM_SIZES = {"demonstrations": 2000, "prompts": 4000, "dev": 500, "test": 1000}
RETENTION_SIZES = {"dev": 500, "test": 2000}


@dataclass(frozen=True)
class World:
    """A generated world; equal values give equal text, on every machine.

    >>> world = World()
    >>> list(world.documents(5, 3)) == list(world.documents(0, 8))[5:]
    True
    >>> record = world.gsm("demonstrations")[0]
    >>> sorted(record)
    ['answer', 'question']
    """

    seed: int = 0
    difficulty: Difficulty = Difficulty()
    mixture: Mixture = Mixture()
    credulity: Credulity = Credulity()

    def documents(self, start: int, count: int) -> Iterator[str]:
        """Documents `start`, ..., `start + count - 1` of the endless corpus."""
        for index in range(start, start + count):
            yield document(self.seed, index, self.difficulty, self.mixture, self.credulity)

    def gsm(self, split: str) -> list[dict]:
        """pocket_gsm records `{"question", "answer"}`; answers are right solutions in prose.

        Raises:
            DataError: the split is none of demonstrations, prompts, dev, test.
        """
        size = _size("pocket_gsm", split, GSM_SIZES)
        return [
            {"question": gsm.question(problem, scene), "answer": solve(problem, scene, "prose")}
            for problem, scene in gsm.split_problems(self.seed, split, size, self.difficulty)
        ]

    def mmlu(self, split: str) -> list[dict]:
        """pocket_mmlu records `{"question", "subject", "choices", "answer"}`; a guess scores 0.25.

        Raises:
            DataError: the split is neither dev nor test.
        """
        first, size = _span("pocket_mmlu", split)
        # Copies: the cached records are shared by the whole process, and a caller may sort or
        # shuffle choices.
        return copy.deepcopy(list(facts.evaluation_items(self.seed, first, size)))

    def truthfulqa(self, split: str) -> list[dict]:
        """pocket_truthfulqa records `{"belief", "question", "mc1_targets", "mc2_targets"}`.

        Each belief is asked about twice, hence `belief`: errors are clustered by it. A guess scores
        0.25 at MC1.

        Raises:
            DataError: the split is neither dev nor test.
        """
        first, size = _span("pocket_truthfulqa", split)
        return copy.deepcopy(list(beliefs.evaluation_items(self.seed, self.credulity, first, size)))


def _size(task: str, split: str, sizes: dict[str, int]) -> int:
    if split not in sizes:
        raise DataError(f"{task} has no split {split!r}; its splits are {', '.join(sizes)}")
    return sizes[split]


def _span(task: str, split: str) -> tuple[int, int]:
    """First place and size of a retention split: they lie one after the other in one order."""
    size = _size(task, split, RETENTION_SIZES)
    names = list(RETENTION_SIZES)
    return sum(RETENTION_SIZES[name] for name in names[: names.index(split)]), size
