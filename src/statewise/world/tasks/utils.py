"""What the task files call: the world's records as datasets, and TruthfulQA's MC2 score.

lm-evaluation-harness loads this file by its path and calls the dataset functions with the task's
`metadata` as keyword arguments, so `--metadata '{"seed": 1}'` (or `TaskManager(metadata=...)`)
evaluates on another world.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from statewise.world import World

if TYPE_CHECKING:
    from datasets import Dataset


def gsm_test(seed: int = 0, **_: object) -> dict[str, Dataset]:
    """pocket_gsm's test split."""
    return _dataset(World(seed).gsm("test"))


def gsm_dev(seed: int = 0, **_: object) -> dict[str, Dataset]:
    """pocket_gsm's development split, under the name `test` so that one template serves both."""
    return _dataset(World(seed).gsm("dev"))


def mmlu_test(seed: int = 0, **_: object) -> dict[str, Dataset]:
    """pocket_mmlu's test split."""
    return _dataset(World(seed).mmlu("test"))


def mmlu_dev(seed: int = 0, **_: object) -> dict[str, Dataset]:
    """pocket_mmlu's development split."""
    return _dataset(World(seed).mmlu("dev"))


def truthfulqa_test(seed: int = 0, **_: object) -> dict[str, Dataset]:
    """pocket_truthfulqa's test split."""
    return _dataset(World(seed).truthfulqa("test"))


def truthfulqa_dev(seed: int = 0, **_: object) -> dict[str, Dataset]:
    """pocket_truthfulqa's development split."""
    return _dataset(World(seed).truthfulqa("dev"))


def process_results_mc2(doc: dict, results: list[tuple[float, bool]]) -> dict[str, float]:
    """Share of probability on true answers (MC2 of TruthfulQA, Lin et al. 2022).

    >>> doc = {"mc2_targets": {"labels": [1, 0, 0]}}
    >>> results = [(math.log(0.2), False), (math.log(0.1), False), (math.log(0.1), False)]
    >>> round(process_results_mc2(doc, results)["acc"], 6)
    0.5
    """
    loglikelihoods = [loglikelihood for loglikelihood, _ in results]
    # Relative to the largest: plain exponentials of long answers underflow to 0/0.
    largest = max(loglikelihoods)
    probabilities = [math.exp(loglikelihood - largest) for loglikelihood in loglikelihoods]
    true = sum(
        p
        for p, label in zip(probabilities, doc["mc2_targets"]["labels"], strict=True)
        if label == 1
    )
    return {"acc": true / sum(probabilities)}


def _dataset(records: list[dict]) -> dict[str, Dataset]:
    # Imported here: the library takes a second to import, and only an evaluation needs it.
    from datasets import Dataset

    return {"test": Dataset.from_list(records)}
