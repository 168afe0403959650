"""What stands in the tables of both forms of the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from statewise import formatting
from statewise.claims.claim import TARGET
from statewise.results.types import ArmResult, Quantity, Results

BUDGET_COLUMNS = (
    ("updates", "updates", formatting.amount),
    ("tokens_trained", "tokens trained", formatting.amount),
    ("tokens_sampled", "tokens sampled", formatting.amount),
    ("teacher_tokens", "teacher tokens", formatting.amount),
    ("prompts_dropped", "prompts dropped", formatting.amount),
    ("prompts_truncated", "prompts cut", formatting.amount),
    ("update_norm", "update norm", formatting.amount),
    ("kl_to_base_nats", "kl(student || base)", formatting.amount),
    ("kl_to_base_stderr_nats", "its standard error", formatting.amount),
    ("wall_seconds", "wall time", formatting.duration),
)
"""Field of a budget, heading, how it is written."""
BUDGET_NOTE = (
    "What each arm spent, mean over its seeds. Arms that differ here differ in more than their "
    "states. kl(student || base) is in nats per state, on the student's own states; its standard "
    "error is over the prompts that were sampled. Prompts dropped and cut were too long for the context."
)


MATCHED_NOTE = (
    "What each matched arm spent, or how far it moved, beside what it was matched to; means over seeds. "
    "Spent quantities stop an arm at the first step that reaches the target; of a measured one the nearest "
    "checkpoint is taken, and its figure is that of the checkpoint that was chosen for it."
)


def cell(quantity: Quantity | None, digits: int = 3) -> tuple[str, str]:
    """A value and its interval as the table shows them; a star where items alone are its error."""
    if quantity is None:
        return formatting.DASH, ""
    estimate = quantity.estimate
    bounds = "" if estimate.low is None else formatting.interval_words(estimate, digits)
    star = "*" if bounds and quantity.over == "items" else ""
    return formatting.number(estimate.value, digits), bounds + star


def form(results: Results, arm: ArmResult) -> tuple[str, str]:
    """Shares of an arm's target completions without an answer, and cut at the length limit."""
    target = next((task.name for task in results.tasks if task.role == TARGET), "")
    score = arm.score(target)
    if score is None:
        return formatting.DASH, formatting.DASH
    cut = None if score.stopped is None else 1 - score.stopped
    return formatting.percent(score.extraction_failed), formatting.percent(cut)


def failures(results: Results) -> list[tuple[ArmResult, str, str, str, str, int]]:
    """Arm, task, decoding, share without an answer, share cut, items: for generated answers."""
    return [
        (
            arm,
            score.task,
            "greedy" if score.decoding == "greedy" else "T = 1",
            formatting.percent(score.extraction_failed),
            formatting.percent(None if score.stopped is None else 1 - score.stopped),
            score.n_items,
        )
        for arm in results.arms
        for score in arm.scores
        if score.extraction_failed is not None or score.stopped is not None
    ]


def flat(value: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested plain data as dotted keys and text; mappings in a list by their place, from 1.

    >>> flat({"cpu": {"cores": 2}, "gpus": [], "calls": [{"torch": "2.13"}]})
    [('cpu.cores', '2'), ('gpus', 'none'), ('calls.1.torch', '2.13')]
    """
    rows: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, Mapping):
            rows += flat(item, f"{prefix}{key}.")
        elif isinstance(item, list) and all(isinstance(part, Mapping) for part in item) and item:
            rows += flat({str(i): part for i, part in enumerate(item, 1)}, f"{prefix}{key}.")
        elif isinstance(item, list):
            rows.append((f"{prefix}{key}", ", ".join(map(str, item)) or "none"))
        else:
            rows.append((f"{prefix}{key}", formatting.DASH if item is None else str(item)))
    return rows
