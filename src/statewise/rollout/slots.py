"""A static cache: one place for each row that is decoded, written in place.

`keys` and `values` are `[layers, S, G, C, W]`: S places, G key-value heads, C tokens, W the width of
a head. Row `s` has written its first `lengths[s]` tokens. What lies beyond is zero or stale, and
masked; it is never uninitialised memory, whose nan would survive a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from statewise.rollout.llama import Decoder


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """Keys and values of S rows. `start` of a place in a flat view is `s * G * C`."""

    keys: Float[Tensor, "T S G C W"]
    values: Float[Tensor, "T S G C W"]

    @classmethod
    def reserve(cls, decoder: Decoder, places: int, capacity_tokens: int) -> Slots:
        """Room for `places` rows of at most `capacity_tokens`."""
        like = decoder.embedding
        shape = (
            len(decoder.layers),
            places,
            decoder.key_value_heads,
            capacity_tokens,
            decoder.head_width,
        )
        return cls(like.new_zeros(shape), like.new_zeros(shape))

    def copy(self, source: int, targets: Int[Tensor, " K"], tokens: int) -> None:
        """The first `tokens` of one place into others."""
        for buffer in (self.keys, self.values):
            buffer[:, targets, :, :tokens] = buffer[:, source : source + 1, :, :tokens].clone()

    def move(
        self, sources: Int[Tensor, " K"], targets: Int[Tensor, " K"], tokens: int
    ) -> None:
        """Rows to other places, their first `tokens`."""
        for buffer in (self.keys, self.values):
            buffer[:, targets, :, :tokens] = buffer[:, sources, :, :tokens]
