"""A static cache: one place for each row that is decoded, written in place.

`keys` and `values` are `[T, S, G, C, W]`: T layers, S places, G key-value heads, C tokens, W the width
of a head. A row has written its first tokens; what lies beyond is zero or stale, and masked. It is
never uninitialised memory, whose nan would survive a mask.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from statewise.rollout.llama import Decoder


@dataclass(frozen=True, slots=True, eq=False)
class Slots:
    """Keys and values of S rows."""

    keys: Float[Tensor, "T S G C W"]
    values: Float[Tensor, "T S G C W"]

    @classmethod
    def reserve(cls, decoder: Decoder, places: int, capacity_tokens: int) -> Slots:
        """Room for `places` rows of at most `capacity_tokens`."""
        like = decoder.embedding
        heads, width = decoder.key_value_heads, decoder.head_width
        shape = (len(decoder.layers), places, heads, capacity_tokens, width)
        return cls(like.new_zeros(shape), like.new_zeros(shape))

    def copy(self, sources: Int[Tensor, " K"], targets: Int[Tensor, " K"], tokens: int) -> None:
        """The first `tokens` of some places into others."""
        for buffer in (self.keys, self.values):
            buffer[:, targets, :, :tokens] = buffer[:, sources, :, :tokens]
