"""Which files stand behind the policies that a study names."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from statewise.errors import ModelError
from statewise.policy import Policy, PolicyRef, Precision
from statewise.store import RunFolder, read_json
from statewise.study.spec import BASE, Study

WORLD_BASE = "world"
SMALL_BYTES = 1 << 26
MARKER = "statewise.json"
"""Beside a policy's weights: what its config does not say (arm, steps, random initialisation)."""


def world_base() -> str:
    """Directory of the embedded base."""
    return str(files("statewise.world") / "base")


def base_location(study: Study) -> str:
    """Directory or hub name of the study's base."""
    return world_base() if study.base == WORLD_BASE else study.base


def is_small(study: Study) -> bool:
    """True where the base has so few weights that one core a model is faster than all cores for one."""
    weights = list(Path(base_location(study)).glob("*.safetensors"))
    return best_device() == "cpu" and 0 < sum(file.stat().st_size for file in weights) < SMALL_BYTES


def location_of(ref: PolicyRef, study: Study, run: RunFolder, seed: int) -> str:
    """Where the weights of a named policy lie: an arm's are those of the same seed."""
    if ref.name == BASE:
        return base_location(study)
    if any(arm.name == ref.name for arm in study.arms):
        return str(run.arm(ref.name, seed) / "policy")
    return ref.name


def load_role(
    role: str,
    ref: PolicyRef,
    study: Study,
    run: RunFolder,
    *,
    seed: int,
    trainable: bool = False,
    precision: Precision = "fp32",
) -> Policy:
    """Load a named policy for a role: `student`, or `teacher:<name>`."""
    location = location_of(ref, study, run, seed)
    policy = Policy.load(
        location, name=role, precision=precision, device=best_device(), trainable=trainable
    )
    policy.version = int(marker(location).get("steps", 0))
    return policy


def best_device() -> str:
    """The accelerator if there is one."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def marker(location: str) -> dict[str, Any]:
    """What statewise wrote beside the weights; empty for models that it did not write."""
    path = Path(location) / MARKER
    return read_json(path) if path.is_file() else {}


def check_same_encoding(student: Policy, teacher: Policy) -> None:
    """Refuse a teacher that reads other tokens. Equal width proves nothing; equal encodings do.

    Heads of different width over one tokenizer (padding of the vocabulary) are refused too.
    """
    mine, theirs = student.tokenizer.get_vocab(), teacher.tokenizer.get_vocab()
    text = "Question: 12 + 30 = 42?\nAnswer: it's 42, naturally."
    if mine != theirs or student.to_ids(text).tolist() != teacher.to_ids(text).tolist():
        odd = sorted(set(mine.items()) ^ set(theirs.items()))[:3]
        raise ModelError(
            f"{teacher.name} encodes text differently from the student (for example {odd}); "
            "a teacher must share the student's tokenizer"
        )
    widths = student.head_weight()[0].shape[0], teacher.head_weight()[0].shape[0]
    if widths[0] != widths[1]:
        raise ModelError(
            f"{teacher.name} scores {widths[1]:,} tokens and the student {widths[0]:,}: their heads are "
            "padded differently; resize the teacher's embeddings to the student's width"
        )
