"""A run folder with planted effects: seven arms, three seeds, one target, two retention tasks.

Every number is drawn from a seeded generator; what is planted is written in `ARMS`, so a test knows
the right verdicts without computing them. With `probes` the folder also holds what probes said
(`synthetic_probes.py`), with `microscope` completions token by token (`synthetic_microscope.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from tests import synthetic_microscope, synthetic_probes

TARGET = "pocket_gsm"
RETENTION = ("pocket_truthfulqa_mc1", "pocket_mmlu")
STEPS = 200


@dataclass(frozen=True)
class Planted:
    """True accuracies of an arm: target, both retention tasks; and how its completions fail."""

    target: float
    truth: float
    facts: float
    no_answer: float = 0.02
    cut: float = 0.01
    mmd2: float = 0.0
    mean_loss: float = 0.0


ARMS = {
    "base": Planted(0.45, 0.60, 0.64, 0.06, 0.03),
    "mild_sft": Planted(0.56, 0.595, 0.65, 0.01, 0.00, 0.0096, 0.42),
    "stress_sft": Planted(0.22, 0.36, 0.40, 0.09, 0.05, 0.0414, 0.05),
    "opd_from_mild": Planted(0.565, 0.60, 0.64, 0.01, 0.01, 0.0147, 0.31),
    "opd_from_stress": Planted(0.55, 0.575, 0.63, 0.02, 0.01, 0.0109, 0.48),
    "one_step_opd_from_stress": Planted(0.05, 0.55, 0.60, 0.71, 0.88, 0.0871, 0.09),
    "grpo": Planted(0.48, 0.598, 0.642, 0.03, 0.01, 0.0021, -0.01),
}

NULLS = {
    "stress_in_part": Planted(0.36, 0.49, 0.53, 0.05, 0.03, 0.0119),
    "stress_early": Planted(0.38, 0.50, 0.55, 0.05, 0.03, 0.0105, 0.05),
}
"""What moving alone does: an interpolation and an early stop, in a run with `nulls`."""
EARLY_STEP = 60
PLANTED = ARMS | NULLS

CLAIMS: list[dict[str, Any]] = [
    {
        "kind": "forgets",
        "name": "stress_forgets",
        "text": "Off-policy stress destroys what the base knew.",
        "arm": "stress_sft",
        "margin": 0.03,
    },
    {
        "kind": "exceeds",
        "name": "student_exceeds_teacher",
        "text": "A student on its own states exceeds its degraded teacher, and the base.",
        "arm": "opd_from_stress",
        "over": ["stress_sft", "base"],
    },
    {
        "kind": "forgets_less",
        "name": "student_keeps_more",
        "text": "The student forgets less than its teacher did.",
        "arm": "opd_from_stress",
        "than": "stress_sft",
        "margin": 0.03,
    },
    {
        "kind": "retains",
        "name": "grpo_retains",
        "text": "On-policy reinforcement learning keeps both retention tasks.",
        "arm": "grpo",
        "margin": 0.03,
        "primary": False,
    },
    {
        "kind": "exceeds",
        "name": "one_step_learns",
        "text": "One-step distillation also exceeds the base.",
        "arm": "one_step_opd_from_stress",
        "over": ["base"],
        "primary": False,
    },
    {
        "kind": "exceeds",
        "name": "opd_beats_mild",
        "text": "Distillation from the mild teacher exceeds that teacher.",
        "arm": "opd_from_mild",
        "over": ["mild_sft"],
        "primary": False,
    },
]

VERDICTS = {
    "stress_forgets": "supported",
    "student_exceeds_teacher": "supported",
    "student_keeps_more": "supported",
    "one_step_learns": "contradicted",
    "opd_beats_mild": "undecided",
}
"""What was planted. `grpo_retains` is left open: three seeds may or may not show equivalence."""


TEACHERS = {
    "opd_from_mild": "mild_sft",
    "opd_from_stress": "stress_sft",
    "one_step_opd_from_stress": "stress_sft",
}


def _stream(source: Any, supervision: Any, objective: Any) -> list[dict[str, Any]]:
    return [{"source": source, "terms": [{"supervision": supervision, "objective": objective}]}]


STREAMS = {
    "mild_sft": _stream("dataset", "own_actions", "cross_entropy"),
    "stress_sft": _stream("dataset", "own_actions", "cross_entropy"),
    "opd_from_mild": _stream({"kind": "continuation"}, "own_actions", "cross_entropy"),
    "opd_from_stress": _stream({"kind": "continuation"}, "own_actions", "cross_entropy"),
    "one_step_opd_from_stress": _stream(
        {"kind": "learner"}, {"kind": "teacher_distribution"}, "kl_student_teacher"
    ),
    "grpo": _stream(
        {"kind": "learner", "samples_per_prompt": 8},
        {"kind": "group_advantage", "reward": "exact_answer"},
        {"kind": "clipped_surrogate", "clip_low": 0.2, "clip_high": 0.2},
    ),
}


def make_run(
    folder: Path,
    *,
    arms: tuple[str, ...] = tuple(ARMS),
    seeds: tuple[int, ...] = (0, 1, 2),
    items: int = 1000,
    notes: tuple[str, ...] = (),
    responses: dict[str, str] | None = None,
    probes: bool = False,
    microscope: int = 0,
    texts: tuple[str, ...] = (),
    nulls: bool = False,
) -> Path:
    """Write a run folder. `arms` and `seeds` say what has been run of the whole study, `nulls` adds both.

    `microscope` prompts are written token by token; `texts` are planted among their tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    study = {
        "name": "pocket",
        "question": "Does the state source decide what post-training destroys?",
        "notes": list(notes),
        "seeds": [0, 1, 2],
        "tasks": [
            {"name": TARGET, "role": "target", "metric": "exact_match", "label": None},
            {"name": RETENTION[0], "role": "retention", "metric": "acc"},
            {"name": RETENTION[1], "role": "retention", "metric": "acc"},
        ],
        "arms": [{"name": name, "streams": STREAMS[name]} for name in ARMS if name != "base"],
        "claims": CLAIMS,
        "drift": {"prompts": {"kind": "world_problems", "split": "dev"}},
    }
    matched_to = {"matched_to": "opd_from_stress"}
    between = {"kind": "interpolation", "name": "stress_in_part", "between": ["base", "stress_sft"]}
    early = {"kind": "early_stop", "name": "stress_early", "of": "stress_sft", "by": "kl_to_base"}
    study |= {"nulls": [between | matched_to, early | matched_to]} if nulls else {}
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    environment = {"statewise": "0.1.0", "torch": "2.13.0", "cpu": {"model": "x", "cores": 2}}
    (folder / "environment.json").write_text(json.dumps(environment))
    difficulty = np.random.default_rng(7).normal(size=(3, 2 * items))
    for name in (*arms, *(NULLS if nulls else ())):
        for seed in (0,) if name == "base" else seeds:
            where = folder / "arms" / name / f"seed-{seed}"
            where.mkdir(parents=True, exist_ok=True)
            rng = np.random.default_rng([list(PLANTED).index(name), seed])
            _write_items(where, name, seed, rng, items, difficulty, responses or {})
            _write_rest(where, name, rng)
            if probes and name != "base":
                synthetic_probes.write(where, name, seed, TEACHERS.get(name), PLANTED[name].mmd2)
            if name == "stress_in_part":  # nothing was probed while it trained, for it did not
                (where / "probes.jsonl").unlink(missing_ok=True)
            if microscope and seed == seeds[0]:
                synthetic_microscope.write(
                    where, name, seed, TEACHERS.get(name), microscope, PLANTED[name].target, texts
                )
    return folder


def _write_items(
    where: Path,
    arm: str,
    seed: int,
    rng: np.random.Generator,
    items: int,
    difficulty: np.ndarray,
    responses: dict[str, str],
) -> None:
    planted = PLANTED[arm]
    wobble = 0.0 if arm == "base" else rng.normal(0, 0.008)
    rows = []
    for task, (name, accuracy, n, decodings) in enumerate(
        (
            (TARGET, planted.target, items, ("greedy", "sampled")),
            (RETENTION[0], planted.truth, 2 * items, ("choices",)),
            (RETENTION[1], planted.facts, 2 * items, ("choices",)),
        )
    ):
        for decoding in decodings:
            # An item's own difficulty is shared by all arms, so pairing by item is worth something.
            ability = difficulty[task, :n] * 1.5 + rng.normal(size=n)
            true = accuracy + wobble - (0.04 if decoding == "sampled" else 0.0)
            score = (ability > np.quantile(ability, np.clip(1 - true, 0, 1))).astype(float)
            chosen = decoding == "choices"
            failed = (rng.random(n) < planted.no_answer / max(1 - true, 0.05)) & (score == 0)
            cut = rng.random(n) < planted.cut
            rows.append(
                pd.DataFrame(
                    {
                        "task": name,
                        "item_id": [f"{name}-{i:05d}" for i in range(n)],
                        "cluster": [f"{name}-{i:05d}" for i in range(n)],
                        "arm": arm,
                        "seed": seed,
                        "decoding": decoding,
                        "metric": "acc" if chosen else "exact_match",
                        "score": score,
                        "response": responses.get(arm, "3+4=<<3+4=7>>7 so so so so"),
                        "extraction_failed": pd.array([None] * n if chosen else failed, "boolean"),
                        "stopped": pd.array([None] * n if chosen else ~cut, "boolean"),
                    }
                )
            )
    pd.concat(rows, ignore_index=True).to_parquet(where / "items.parquet")


def _write_rest(where: Path, arm: str, rng: np.random.Generator) -> None:
    planted, base = PLANTED[arm], ARMS["base"]
    if arm in NULLS:
        found = {"quantity": "kl_to_base", "target_arm": "opd_from_stress", "target": 0.21}
        step = {"step": EARLY_STEP} if arm == "stress_early" else {"step": 0, "share": 0.44}
        found |= {"tolerance": 0.1, "spent": 0.205, **step}
        (where / "match.json").write_text(json.dumps(found))
    if arm not in ("base", "stress_in_part"):
        loss = planted.mean_loss + 0.8 * np.exp(-np.arange(STEPS) / 40) * (arm != "grpo")
        loss = loss + rng.normal(0, 0.05, STEPS)
        long = 45 + 10 * np.exp(-np.arange(STEPS) / 50) + rng.normal(0, 1.5, STEPS)
        rows = [
            {
                "step": s + 1,
                "loss": round(float(v), 6),
                "completion_tokens_mean": round(float(long[s]), 3),
            }
            for s, v in enumerate(loss)
        ]
        if arm == "grpo":
            noise = np.random.default_rng(11).normal(0, 0.04, (2, STEPS))
            paid = 0.35 + 0.2 * (1 - np.exp(-np.arange(STEPS) / 60)) + noise[0]
            dull = np.clip(0.1 + np.arange(STEPS) / 1000 + noise[1], 0, 1)
            for row, reward, silent in zip(rows, paid, dull, strict=True):
                row |= {"reward_mean": round(float(reward), 4)}
                row |= {"silent_group_share": round(float(silent), 4)}
        (where / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        dev = []
        for step in range(0, STEPS + 1, 20):
            gone = 1 - np.exp(-step / 60)
            score = base.target + (planted.target - base.target) * gone + rng.normal(0, 0.02)
            score = round(float(np.clip(score, 0, 1)), 4)
            dev.append({"step": step, "task": TARGET, "score": score, "n": 100, "stderr": 0.05})
        (where / "dev.jsonl").write_text("".join(json.dumps(r) + "\n" for r in dev))
    trained = 0 if arm == "base" else 1
    budget = {
        "tokens_sampled": trained * (0 if arm.endswith("sft") else 1_200_000),
        "tokens_trained": trained * 640_000,
        "teacher_tokens": 640_000 if "opd" in arm else 0,
        "updates": trained * STEPS,
        "update_norm": trained * (3.1 if arm == "stress_sft" else 1.2),
        "kl_to_base_nats": trained * (1.9 if arm == "stress_sft" else 0.21),
        "wall_seconds": trained * (41.0 if arm.endswith("sft") else 163.0),
    }
    (where / "budget.json").write_text(json.dumps(budget))
    features = {
        feature: {
            "mmd2": planted.mmd2 * scale
            + (0.0004 if arm == "base" else float(rng.normal(0, 8e-4))),
            "p_value": 0.001 if planted.mmd2 > 0.005 else 0.21,
            "mmd_biased": planted.mmd2 * scale + 0.006,
            "n": 400,
        }
        for feature, scale in (("hidden", 1.0), ("lexical", 0.6))
    }
    (where / "drift.json").write_text(json.dumps({"features": features}))
