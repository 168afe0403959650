"""Splits that cannot overlap: a canonical key decides, never the order of generation.

A problem has a *key*: its structure and numbers, without names, letter case, white space or
distractors. The hash of the key picks the split. A problem that is generated again by another
stream, under other names, therefore lands in the same split again, and two splits are disjoint by
construction. Facts and beliefs hold out a phrasing of each question instead (see `facts`,
`beliefs`): the knowledge must be in the corpus, the item must not.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence

GSM_SHARES: tuple[tuple[str, float], ...] = (
    ("pretrain", 0.60),
    ("demonstrations", 0.12),
    ("prompts", 0.16),
    ("dev", 0.06),
    ("test", 0.06),
)
"""Held-out shares are generous: filling a split by rejection takes a second, not a minute."""


def normalise(text: str) -> str:
    """Lower case, single spaces, no punctuation at the ends.

    >>> normalise("  What is   THIS? ")
    'what is this'
    """
    return re.sub(r"\s+", " ", text).strip(" .?!\n").lower()


def unit_hash(*parts: object) -> float:
    """A hash of the parts as a number in [0, 1): the same on every machine and in every process.

    >>> unit_hash("a", 1) == unit_hash("a", 1), 0 <= unit_hash("b") < 1
    (True, True)
    """
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    # 53 bits: dividing all 64 by 2**64 in float64 can round up to exactly 1.
    return (int.from_bytes(digest, "big") >> 11) / 2**53


def split_of(key: str, shares: Sequence[tuple[str, float]] = GSM_SHARES) -> str:
    """The split that owns a key.

    >>> split_of("gain-left/3/4") == split_of("gain-left/3/4")
    True
    >>> split_of("anything", (("only", 1.0),))
    'only'
    """
    place = unit_hash("split", key)
    for name, share in shares:
        if place < share:
            return name
        place -= share
    return shares[-1][0]


def rng_for(*parts: object) -> random.Random:
    """An independent generator per purpose and index: any item without those before it.

    >>> rng_for(0, "documents", 7).random() == rng_for(0, "documents", 7).random()
    True
    """
    # A string seed goes through SHA-512: neighbouring indices give unrelated streams, which
    # integer seeds do not promise.
    return random.Random("/".join(map(str, parts)))
