"""Checks of the gradient, through the real `accumulate_gradient`, on a few real rows.

What may not change it: padding, the split into micro-batches, what was accumulated before. Rounding
does: sums in another order differ in the last digits. So a difference is stated relative to the
gradient's norm, and one above `TOLERANCE` is taken again in float64, where rounding all but vanishes
and a fault stays. All of it runs without autocast: in bf16 rounding would hide what is looked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from statewise.check.finding import Found, Line, Skip, small
from statewise.check.models import NOISE, in_float64, in_fp32, moved, padded
from statewise.check.subject import Subject
from statewise.gradient import Rollout, accumulate_gradient, state_factors
from statewise.policy import Policy

TOLERANCE = 1e-4
"""Largest difference between two float32 gradients, relative to their norm, that passes."""
EXACT = 1e-6
"""The same in float64; a user's own objective may compute in float32 inside."""
PADDING_TOKENS = 16

INVARIANCES = ("padding", "micro-batch", "accumulation", "dropout")


@dataclass(frozen=True, slots=True, eq=False)
class Gradient:
    """One gradient of the student's trainable weights, and the loss that it is of."""

    parts: tuple[Tensor, ...]
    loss: float
    states: int

    def norm(self) -> float:
        """Euclidean norm over all weights."""
        return math.sqrt(sum(float(p.double().pow(2).sum()) for p in self.parts))

    def distance(self, other: Gradient) -> float:
        """Norm of the difference, relative to the norm of `other`."""
        pairs = zip(self.parts, other.parts, strict=True)
        apart = math.sqrt(sum(float((a - b).double().pow(2).sum()) for a, b in pairs))
        return apart / other.norm()


def gradient(
    student: Policy, rollouts: Sequence[Rollout], *, tokens: int, after: Gradient | None = None
) -> Gradient:
    """The gradient as training makes it, on top of `after` where that is given."""
    weights = [p for _, p in student.trainable_parameters()]
    start = after.parts if after else (None,) * len(weights)
    for weight, given in zip(weights, start, strict=True):
        weight.grad = None if given is None else given.clone()
    figures = accumulate_gradient(student, rollouts, tokens_per_microbatch=tokens)
    parts = tuple(torch.zeros_like(w) if w.grad is None else w.grad for w in weights)
    for weight in weights:
        weight.grad = None
    return Gradient(parts, figures["loss"], int(figures["states"]))


def few_rows(rollouts: Sequence[Rollout], count: int) -> list[Rollout]:
    """At most `count` rows a stream that teach something, from the shortest to the longest."""
    few = []
    for rollout in rollouts:
        factors = [state_factors(term, rollout.trajectories) for term in rollout.stream.terms]
        taught = [i for i in range(len(rollout.trajectories)) if any(f[i].any() for f in factors)]
        # A group whose rewards are equal has advantage 0 everywhere, and a gradient of 0.
        telling = [i for i in taught if any(label.values[i] for label in rollout.labels)]
        order = sorted(telling or taught, key=lambda i: len(rollout.trajectories[i]))
        places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
        if order:
            few.append(rollout.select([order[p] for p in dict.fromkeys(places.tolist())]))
    return few


def invariances(subject: Subject, rollouts: Sequence[Rollout]) -> list[Found]:
    """The gradient itself, then what may not change it, one line each."""
    student, policies = subject.student, (subject.student, *subject.teachers)
    rows = sum(len(r.trajectories) for r in rollouts)
    if rows == 0:
        return [Skip(name, "no row teaches anything") for name in ("gradient", *INVARIANCES)]
    with in_fp32(policies), moved(student, subject.teachers):
        alone = gradient(student, rollouts, tokens=1)
        norm = alone.norm()
        values = {"norm": norm, "loss": alone.loss, "states": alone.states, "rows": rows}
        figure = f"norm {small(norm)}, loss {alone.loss:.3g}; {alone.states} states of {rows} rows"
        if any(teacher.module is not student.module for teacher in subject.teachers):
            figure += f"; teachers moved by {NOISE:.0%}"
        if not (math.isfinite(norm) and math.isfinite(alone.loss)):
            fix = "look for a log of 0, a division by 0, or a weight that is nan"
            return [
                Line("fail", "gradient", figure, fix, values),
                *(Skip(name, "the gradient is not finite") for name in INVARIANCES),
            ]
        if norm == 0:
            fix = (
                "equal rewards in a group teach nothing: take more prompts (--items), or see whether the "
                "reward is ever earned"
            )
            return [
                Line("warn", "gradient", figure, fix, values),
                *(Skip(name, "the gradient is 0") for name in INVARIANCES),
            ]

        def one_by_one() -> Gradient:
            return gradient(student, rollouts, tokens=1)

        def beside_padding() -> Gradient:
            with padded(policies, PADDING_TOKENS):
                return gradient(student, rollouts, tokens=1)

        def twice() -> Gradient:
            """Half of what two passes in opposite order add up to."""
            first = one_by_one()
            backwards = [r.select(range(len(r.trajectories))[::-1]) for r in rollouts]
            both = gradient(student, backwards, tokens=two_rows(rollouts), after=first)
            return replace(both, parts=tuple(p / 2 for p in both.parts))

        def compare(name: str, other: Callable[[], Gradient], what: str, fix: str) -> Line:
            return _compare(name, policies, alone, one_by_one, other, what, fix)

        found: list[Found] = [
            Line("pass", "gradient", figure, values=values),
            compare(
                "padding",
                beside_padding,
                f"{PADDING_TOKENS} more tokens of padding",
                "the model lets a token see what is to its right, or counts positions from the end: use a causal "
                "model that needs no attention mask for padding on the right",
            ),
        ]
        if rows > 1:
            found.append(
                compare(
                    "micro-batch",
                    lambda: gradient(student, rollouts, tokens=two_rows(rollouts)),
                    "two rows at once, not one by one",
                    "a row sees its neighbours, or a loss is divided inside: an objective or supervision of your "
                    "own must return one value a state, of that state alone",
                )
            )
        else:
            found.append(Skip("micro-batch", "one row alone; --items for more"))
        found.append(
            compare(
                "accumulation",
                twice,
                "two passes add up in any order",
                "something remembers between two passes, or sets gradients to 0: a model, objective or "
                "supervision may keep no state",
            )
        )
        found.append(_dropout(subject, rollouts, alone))
    return found


def _compare(
    name: str,
    policies: Sequence[Policy],
    alone: Gradient,
    one_by_one: Callable[[], Gradient],
    other: Callable[[], Gradient],
    what: str,
    fix: str,
) -> Line:
    gap = other().distance(alone)
    values: dict[str, Any] = {"relative_difference": gap, "relative_difference_float64": None}
    figure = f"{what}: the gradient moves by {small(gap)} (limit {small(TOLERANCE)})"
    if gap <= TOLERANCE:
        return Line("pass", name, figure, values=values)
    with in_float64(policies):
        exact = other().distance(one_by_one())
    values["relative_difference_float64"] = exact
    if exact <= EXACT:
        return Line("pass", name, f"{figure}, {small(exact)} in float64: rounding", values=values)
    return Line("fail", name, f"{figure}, {small(exact)} in float64", fix, values)


def _dropout(subject: Subject, rollouts: Sequence[Rollout], alone: Gradient) -> Line:
    """Training mode against evaluation mode: what differs is chance, and breaks ratios."""
    student = subject.student
    devices = [student.device] if student.device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(0)
        student.module.train()
        try:
            gap = gradient(student, rollouts, tokens=1).distance(alone)
        finally:
            student.module.eval()
    values = {"relative_difference": gap}
    figure = f"in training mode the gradient moves by {small(gap)} (limit {small(TOLERANCE)})"
    if gap <= TOLERANCE:
        return Line("pass", "dropout", f"off: {figure}", values=values)
    adapter = subject.arm.budget.adapter
    if adapter and adapter.dropout > 0:
        return Line(
            "pass",
            "dropout",
            f"{figure}, with dropout {adapter.dropout:g} of the adapter",
            values=values,
        )
    terms = [term for rollout in rollouts for term in rollout.stream.terms]
    ratios = any("old_logprobs" in term.objective.reads or term.importance for term in terms)
    return Line(
        "fail" if ratios else "warn",
        "dropout",
        f"{figure}{': the ratio of an unmoved policy is not 1' if ratios else ''}",
        "set the dropouts in the model's config.json to 0 (attention_dropout, resid_pdrop, embd_pdrop, ...)",
        values,
    )


def two_rows(rollouts: Sequence[Rollout]) -> int:
    """A micro-batch of two of the longest rows: enough to see neighbours, and no more memory than that."""
    return 2 * max(len(t) for r in rollouts for t in r.trajectories)
