"""What a report says, as values: one row an arm, and what stands in it.

Which 95 % interval stands where is written beside it (`over`):

- `seeds`       t over training seeds with the items' error inside (`stats.crossed_effect`): another
                run of the same recipe, on other items of the same kind
- `items`       over items, Wilson for a share: this checkpoint, on other items of the same kind
- `seeds only`  plain t over training seeds: another run of the same recipe, on the same sample
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal

import numpy as np

from statewise.claims.claim import TARGET
from statewise.claims.paired import DECODINGS
from statewise.claims.verdicts import Verdict
from statewise.stats import Estimate

CURVE_POINTS = 200
Over = Literal["seeds", "items", "seeds only"]


@dataclass(frozen=True, slots=True)
class TaskRow:
    """A task of the study: `role` is `target` or `retention`, `metric` the one that is reported.

    `name` is what its rows are filed under: the study's label for it, else the harness's name.
    """

    name: str
    role: str
    metric: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """An estimate and what its interval ranges over."""

    estimate: Estimate
    over: Over


@dataclass(frozen=True, slots=True)
class Score:
    """One arm on one task under one decoding. Shares are None where the notion does not apply."""

    task: str
    decoding: str
    quantity: Quantity
    n_items: int
    n_clusters: int
    per_seed: tuple[float, ...]
    extraction_failed: float | None
    stopped: float | None


@dataclass(frozen=True, slots=True)
class DriftRow:
    """MMD^2 (a U-statistic) of visited states against the base, with one draw of base against base.

    All seeds are compared with one sample of the base's states, whose luck the interval over seeds
    does not hold: `seeds only`.
    """

    feature: str
    mmd2: Quantity
    null_mmd2: float | None
    p_values: tuple[float, ...]
    mmd_biased: float | None


@dataclass(frozen=True, slots=True)
class BudgetRow:
    """What an arm spent, mean over seeds. None where it was not recorded."""

    tokens_sampled: float | None
    tokens_trained: float | None
    teacher_tokens: float | None
    updates: float | None
    update_norm: float | None
    kl_to_base_nats: float | None
    """kl(student || base), nats a state, on the student's own states."""
    wall_seconds: float | None
    prompts_dropped: float | None
    prompts_truncated: float | None
    kl_to_base_stderr_nats: float | None
    """Of the mean over these checkpoints: `sqrt(sum of squares) / seeds`."""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One row of Table 2: an arm, a null, or the base. `seeds` are those with results.

    `kind` says which: `base`, `arm`, or what a null is made of (`interpolation of base and stress_sft`, `early
    stop of mild_sft`). `trained` is True for what differs from seed to seed: arms that train, and nulls, also an
    interpolation, which does not train itself and lies between policies that do. A fixed policy has one seed.
    """

    name: str
    trained: bool
    seeds: tuple[int, ...]
    scores: tuple[Score, ...]
    retention: Quantity | None
    forgetting: Quantity | None
    retention_ratio: Quantity | None
    drift: tuple[DriftRow, ...]
    budget: BudgetRow | None
    kind: str = "arm"

    @property
    def made_of(self) -> str:
        """What a null is made of; empty for an arm and the base."""
        return "" if self.kind in ("arm", "base") else self.kind

    def score(self, task: str, decoding: str | None = None) -> Score | None:
        """The score on `task`; without `decoding` the one that claims speak of."""
        found = {s.decoding: s for s in self.scores if s.task == task}
        wanted = DECODINGS if decoding is None else (decoding,)
        return next((found[d] for d in wanted if d in found), None)


@dataclass(frozen=True, slots=True)
class Curve:
    """One number over training, at most `CURVE_POINTS` points: `quantity` is `loss` or a task.

    `n` stand behind each value: items of a dev task, states of a probe; None for the loss.
    """

    arm: str
    seed: int
    quantity: str
    steps: tuple[float, ...]
    values: tuple[float, ...]
    n: int | None = None


def thinned(
    points: Iterable[tuple[float, float]], most: int = CURVE_POINTS
) -> list[tuple[float, float]]:
    """Means of at most so many equal runs of (step, value), each at its last step; only what is finite.

    A thinned curve keeps its level, every k-th point would not.

    >>> thinned([(1.0, 0.0), (2.0, 1.0), (3.0, float("nan")), (4.0, 4.0)], most=2)
    [(2.0, 0.5), (4.0, 4.0)]
    """
    known = [(float(step), float(value)) for step, value in points if isfinite(value)]
    if not known:
        return []
    blocks = np.array_split(np.array(known), min(most, len(known)))
    return [(float(block[-1, 0]), float(block[:, 1].mean())) for block in blocks]


def curve(
    arm: str, seed: int, quantity: str, rows: Sequence[Mapping[str, Any]], key: str
) -> list[Curve]:
    """The curve of what stands under `key` in rows with a `step`, thinned; none where no row has it."""
    points = thinned((row["step"], row[key]) for row in rows if row.get(key) is not None)
    if not points:
        return []
    steps, values = zip(*points, strict=True)
    items = [int(row["n"]) for row in rows if row.get("n") is not None]
    return [Curve(arm, seed, quantity, steps, values, max(items, default=None))]


@dataclass(frozen=True, slots=True)
class Example:
    """A response from which no answer could be extracted."""

    arm: str
    seed: int
    task: str
    item_id: str
    response: str


@dataclass(frozen=True, slots=True)
class ProbeFigure:
    """One number of a probe, over the seeds that have it.

    `policy` against `reference` on the states of `sample`, by their roles: `dataset`, `base`, `learner` (the
    policy's own), `teacher:<arm>`, `retention`. `at` says where: a depth, a cell, a pair. `text` stands in for a
    number where a state itself is shown (of the first seed).
    """

    probe: str
    policy: str
    reference: str
    sample: str
    measure: str
    at: str
    quantity: Quantity
    unit: str
    text: str = ""


@dataclass(frozen=True, slots=True)
class MatchRow:
    """What an arm spent of the quantity that the study matches, beside what it was meant to spend.

    `step` is the step whose weights are measured, mean over seeds; `missed` is `spent / target - 1`, None
    where the target is 0. An interpolation has no step: `share` says how far it went instead. `stderr` is
    of `spent` where that is measured on a few rollouts or dev items: over them, not over seeds; None where it
    is counted, or unknown. The error of the target itself is in none of these.
    """

    arm: str
    quantity: str
    target: float
    spent: float
    missed: float | None
    step: float
    share: float | None = None
    stderr: float | None = None


@dataclass(frozen=True, slots=True)
class Results:
    """All that a report says. `complete` is False where something of the study is missing."""

    study: str
    question: str
    seeds: tuple[int, ...]
    complete: bool
    notes: tuple[str, ...]
    tasks: tuple[TaskRow, ...]
    arms: tuple[ArmResult, ...]
    verdicts: tuple[Verdict, ...]
    curves: tuple[Curve, ...]
    examples: tuple[Example, ...]
    environment: Mapping[str, Any]
    probes: tuple[ProbeFigure, ...] = ()
    matched: tuple[MatchRow, ...] = ()

    def columns(self) -> list[tuple[TaskRow, str]]:
        """Every task and decoding that some arm has, the target first."""
        return [
            (task, decoding)
            for task in sorted(self.tasks, key=lambda task: task.role != TARGET)
            for decoding in DECODINGS
            if any(arm.score(task.name, decoding) for arm in self.arms)
        ]
