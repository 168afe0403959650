"""How our own tokens a second grow with batch, length, vocabulary and size of the model: rollouts and training.

Random models of the embedded base's shape, one size varied at a time. Nothing stops before its limit, and every
token after the first is supervised, so that a point is exactly as large as it says. Slopes are those of least
squares through log tokens/s against log size: 0 is a cost per token that stays, -1 one that grows as the size.
"""

from __future__ import annotations

import gc
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Options, now, say, spread
from statewise.arms import Budget, Stream, Term
from statewise.data import Prompts
from statewise.gradient import Rollout, accumulate_gradient
from statewise.objectives import CrossEntropy
from statewise.policy import Policy
from statewise.random_model import Shape, make_random_model
from statewise.sources import Dataset
from statewise.study.models import world_base
from statewise.supervision import OwnActions
from statewise.train import make_optimizer
from statewise.trajectory import Prompt, Sampling, Segment, Trajectory, assemble

PROMPT_TOKENS = 16


@dataclass(frozen=True)
class Point:
    """One measurement: a model, rows, and tokens of a row beside its prompt."""

    x: int
    shape: Shape
    rows: int
    tokens: int


def points(quick: bool) -> dict[str, list[Point]]:
    """What is varied, and in what steps."""
    shape = Shape(context_tokens=2112)
    rows, tokens = (2, 4) if quick else (64, 64)

    def cut(values: Sequence[int]) -> Sequence[int]:
        return values[:2] if quick else values

    def wider(width: int) -> Shape:
        # Layers grow with the width, as published families do.
        return replace(
            shape,
            width=width,
            layers=max(2, width // 32),
            heads=width // 32,
            key_value_heads=max(1, width // 64),
            feed_forward=3 * width,
        )

    sizes = {width: wider(width) for width in cut((32, 64, 128, 256, 512))}
    return {
        "batch": [Point(n, shape, n, tokens) for n in cut((1, 4, 16, 64, 256, 1024))],
        "length": [
            Point(n, shape, 16 if not quick else rows, n)
            for n in cut((32, 64, 128, 256, 512, 1024, 2048))
        ],
        "vocabulary": [
            Point(v, replace(shape, vocabulary=v), rows, tokens)
            for v in cut((1024, 4096, 16_384, 65_536, 151_936))
        ],
        "parameters": [Point(_weights(s), s, rows, tokens) for s in sizes.values()],
    }


def _weights(shape: Shape) -> int:
    from benchmarks.cost import Cost

    cost = Cost(
        shape.layers,
        shape.width,
        shape.vocabulary,
        shape.heads,
        shape.key_value_heads,
        shape.head_width,
        shape.feed_forward,
    )
    return cost.trunk_weights + cost.head_weights


def measure(options: Options, peaks: dict[str, float]) -> dict[str, Any]:
    """Tokens a second at every point, and the slopes."""
    curves = []
    for name, line in points(options.quick).items():
        found: dict[str, list[dict[str, float]]] = {"rollouts": [], "training": []}
        for point in line:
            policy = _model(point.shape, options)
            for what, call in (("rollouts", _sample), ("training", _train)):
                run = call(policy, point, options)
                run(0)
                rates = [run(i) for i in range(1, options.rounds + 1)]
                found[what].append({"x": point.x, **spread(rates)})
                say(f"  {name} {point.x:,}: {what} {found[what][-1]['median']:,.0f} tokens/s")
            del policy
            gc.collect()
        curves.append(
            {
                "against": name,
                "lines": [
                    {
                        "what": what,
                        "points": p,
                        "slope": slope([q["x"] for q in p], [q["median"] for q in p]),
                    }
                    for what, p in found.items()
                ],
            }
        )
    return {"curves": curves}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of the line of least squares through `(log x, log y)`.

    >>> round(slope([1, 2, 4], [8, 4, 2]), 6)
    -1.0
    """
    a, b = [math.log(v) for v in x], [math.log(v) for v in y]
    mean_a, mean_b = sum(a) / len(a), sum(b) / len(b)
    over = sum((p - mean_a) * (q - mean_b) for p, q in zip(a, b, strict=True))
    return over / sum((p - mean_a) ** 2 for p in a)


def _model(shape: Shape, options: Options) -> Policy:
    with tempfile.TemporaryDirectory() as folder:
        make_random_model(Path(folder), shape, tokenizer=Path(world_base()), seed=0)
        policy = Policy.load(folder, name="student", device=options.device)
    policy.stop_token_ids = frozenset()
    return policy


def _sample(policy: Policy, point: Point, options: Options) -> Callable[[int], float]:
    prompts = [
        Prompt(
            str(i), "", np.random.default_rng(i).integers(3, 1000, PROMPT_TOKENS).astype(np.int32)
        )
        for i in range(point.rows)
    ]

    def run(seed: int) -> float:
        began = now(options.device)
        rows = policy.sample(prompts, sampling=Sampling(), max_new_tokens=point.tokens, seed=seed)
        seconds = now(options.device) - began
        written = sum(len(row) - row.prompt_tokens for row in rows)
        assert written == point.rows * point.tokens
        return written / seconds

    return run


def _train(policy: Policy, point: Point, options: Options) -> Callable[[int], float]:
    term = Term(OwnActions(), CrossEntropy())
    first = Prompt("0", "", np.zeros(1, np.int32))
    stream = Stream(Prompts([first]), Dataset(), (term,), 1)
    budget = Budget(1e-6, steps=1)
    optimizer = make_optimizer(policy, budget)

    def row(i: int) -> Trajectory:
        ids = np.random.default_rng(i).integers(3, 1000, point.tokens).astype(np.int32)
        return assemble(first, str(i), [Segment("dataset", ids)], completion="", stopped=True)

    rows = [row(i) for i in range(point.rows)]
    labels = [term.supervision.label(rows)]

    def run(seed: int) -> float:
        began = now(options.device)
        accumulate_gradient(
            policy,
            [Rollout(stream, rows, labels)],
            tokens_per_microbatch=budget.tokens_per_microbatch,
        )
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return point.rows * point.tokens / (now(options.device) - began)

    return run
