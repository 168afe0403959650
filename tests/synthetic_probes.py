"""What probes say of a synthetic run: `probes.parquet`, `probes.jsonl`, and their means over seeds.

An arm that drifted far (`mmd2`) moved far on dataset and own states, and loses more of everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from statewise.probing.inputs import Row
from statewise.results.types import MatchRow, Results

BINS = ("0-3", "4-7", "8-15", "16-31", "32-63", "64-127")
CUTS = (8, 24, 48)
TYPICAL = ("3+4=<<3+4=7>>7 so so so so", "<b>bold</b> & \u202ebidi\x00")


def write(folder: Path, arm: str, seed: int, teacher: str | None, mmd2: float) -> None:
    """One arm's and seed's files."""
    rng = np.random.default_rng([len(arm), seed, round(mmd2 * 1e4)])
    rows = list(_rows(arm, teacher, 0.02 + 12 * mmd2, rng))
    pd.DataFrame([asdict(row) for row in rows]).to_parquet(folder / "probes.parquet")
    lines = [
        {
            "step": step,
            "probe": "locality",
            "measure": "kappa",
            "sample": sample,
            "at": "",
            "value": round(
                float((0.02 + 12 * mmd2) * scale * (1 - np.exp(-step / 70)) + rng.uniform(0, 0.01)),
                5,
            ),
            "stderr": 0.004,
            "n": 800,
            "unit": "nats",
        }
        for sample, scale in (("learner", 1.0), ("retention", 0.3))
        for step in range(0, 201, 20)
    ]
    (folder / "probes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def _rows(arm: str, teacher: str | None, far: float, rng: np.random.Generator) -> Iterator[Row]:
    def row(
        probe: str,
        reference: str,
        sample: str,
        measure: str,
        at: str,
        value: float,
        unit: str,
        text: str = "",
    ) -> Row:
        noise = 1 + 0.06 * rng.normal()
        spread = 0.05 * abs(value) + 1e-3
        v = float(value * noise)
        return Row(
            probe,
            policy if probe == "splice" else arm,
            reference,
            sample,
            measure,
            at,
            v,
            spread,
            v - 2 * spread,
            v + 2 * spread,
            900,
            unit,
            text,
        )

    policy = arm
    samples = {"dataset": 0.9, "base": 0.6, "learner": 1.0, "retention": 0.22}
    samples |= {f"teacher:{teacher}": 0.8} if teacher else {}
    for sample, scale in samples.items():
        yield row("locality", "base", sample, "kappa", "", far * scale, "nats")
    yield row("locality", "base", "dataset / retention", "index", "", 4.1, "ratio")
    for sample, percentile in {
        "dataset": 0.16,
        "base": 0.47,
        **({f"teacher:{teacher}": 0.31} if teacher else {}),
    }.items():
        yield row("reachability", "learner", sample, "percentile", "", percentile, "share")
        yield row(
            "reachability", "learner", sample, "hardly_visited", "", 0.4 - percentile / 2, "share"
        )
    for sample, scale in (("new task", 30.0), ("retention", 9.0)):
        yield row("forgetting", "base", sample, "base_policy", "", far * scale, "nats")
        yield row("forgetting", "base", sample, "policy_base", "", far * scale * 0.8, "nats")
    yield row("c2st", "base", "learner", "auc", "", 0.5 + min(0.45, far / 2), "share")
    for rank, text in enumerate(TYPICAL, start=1):
        yield row("c2st", "base", "learner", "typical of learner", "", float(rank), "", text)
    for measure, value in {"precision": 0.8, "recall": 0.72}.items():
        yield row("coverage", "base", "learner", measure, "", value - min(0.5, far / 2), "share")
    for gram, value in (("1", 0.2), ("2", 0.5), ("3", 0.7)):
        yield row("coverage", "", "learner", "distinct", gram, value, "share")
    for depth in CUTS:
        yield row("coverage", "", "learner", "prefix_entropy", str(depth), 0.3, "nats")
    for measure, value in {"gap": 2e-3, "k3": 1e-3, "ess_share": 0.97}.items():
        yield row("audit", "", "learner", measure, "", value, "nats")
    for measure, value in {"changed_share": 0.6, "top_mass": 0.12, "norm": 1.9}.items():
        yield row("geometry", "base", "", measure, "", value, "share")
    names = ["base", *([teacher] if teacher else []), arm]
    for depth in CUTS:
        for first in names:
            for second in names:
                policy = f"{first}>{second}"
                worth = {"base": 0.45, teacher: 0.3}.get(second, 0.56)
                bad = 0.12 * depth / 48 if first == teacher else 0.0
                yield row("splice", "", "", "score", str(depth), worth - bad, "share")
                if first != second:
                    yield row("splice", "", "", "states", str(depth), -bad - 0.01, "difference")
    policy = arm
    for k, value in ((1, 0.5), (4, 0.71), (16, 0.86)):
        yield row("behaviour", "", "learner", "pass_at_k", str(k), value - far / 8, "share")
    yield row("behaviour", "", "learner", "length_tokens", "", 46.0, "tokens")
    for pair, cosine in {
        "dataset~learner": 0.4,
        "dataset~retention": -0.21,
        "learner~retention": 0.08,
    }.items():
        yield row("gradients", "", "", "cosines", pair, cosine, "cosine")
    for source in ("dataset", "learner"):
        yield row("gradients", "", "", "interference", source, 0.02, "nats")
    if teacher is None:
        return
    for i, at in enumerate(BINS):
        yield row("fidelity", teacher, "learner", "entropy", at, 0.3 + 0.1 * i, "nats")
        yield row("fidelity", teacher, "learner", "logprob", at, -0.4 - 0.15 * i, "nats")
        yield row("fidelity", teacher, "learner", "agreement", at, 0.9 - 0.06 * i, "share")
        yield row("exposure", teacher, "learner", "by_depth.excess", at, 0.02 + 0.03 * i, "nats")
    for depth in CUTS:
        yield row(
            "repair", teacher, "learner", "gain", str(depth), -0.05 - depth / 800, "difference"
        )
    for measure, value in {"p50": 0.06, "p90": 0.9, "p99": 4.2, "largest": 11.0}.items():
        yield row("signal_tail", teacher, "learner", measure, "", value, "nats")
    yield row("signal_tail", teacher, "learner", "clipped", "", 0.08, "share")
    for entropy, a in (("<0.1", 0.1), ("0.1-1", 0.5), (">=1", 0.4)):
        for divergence, b in (("<0.01", 0.05), ("0.01-0.1", 0.25), (">=0.1", 0.7)):
            yield row(
                "signal_mass", teacher, "learner", "mass", f"{entropy} {divergence}", a * b, "share"
            )
            yield row(
                "signal_mass",
                teacher,
                "learner",
                "states",
                f"{entropy} {divergence}",
                1 / 9,
                "share",
            )
    for measure, value in {"ratio": 0.61, "student_mass": 0.97, "teacher_mass": 0.93}.items():
        yield row("overlap", teacher, "learner", measure, "16", value, "share")


def matched(results: Results) -> tuple[MatchRow, ...]:
    """A match that no arm hit exactly."""
    arms = [arm.name for arm in results.arms if arm.trained]
    missed = np.linspace(-0.09, 0.06, len(arms))
    return tuple(
        MatchRow(
            arm,
            "kl_to_base",
            0.2,
            0.2 * (1 + float(miss)),
            float(miss),
            20.0 * (1 + i),
            stderr=0.004,
        )
        for i, (arm, miss) in enumerate(zip(arms, missed, strict=True))
    )
