"""Every random choice is a pure function of names and numbers, so that nothing need be stored to resume.

A run that is killed at step 40 and continued draws at step 41 what it would have drawn anyway:
there is no generator whose state must survive.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_for(*parts: str | int) -> int:
    """A 63-bit seed from names and numbers; different parts give unrelated seeds.

    >>> seed_for("train", 0, 1) == seed_for("train", 0, 1), seed_for("train", 0, 1) == seed_for("train", 1, 0)
    (True, False)
    """
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def permutation(length: int, *parts: str | int) -> np.ndarray:
    """A permutation of `range(length)` drawn from `seed_for(*parts)`.

    >>> sorted(permutation(4, "epoch", 0).tolist())
    [0, 1, 2, 3]
    """
    return np.random.Generator(np.random.Philox(seed_for(*parts))).permutation(length)


def uniforms(count: int, *parts: str | int) -> np.ndarray:
    """`count` draws from U[0, 1), float64."""
    return np.random.Generator(np.random.Philox(seed_for(*parts))).random(count)
