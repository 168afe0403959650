"""A cache with one place for each row that is decoded, written in place.

There is a tensor of keys and one of values for each layer, `[S, G, C, W]`: S places, G key-value heads,
C tokens, W the width of a head. A row has written its first tokens; what lies beyond is zero or
stale, and masked. It is never uninitialised memory, whose nan would survive a mask.

Attention reads all C columns of the rows in use, which is one stretch of memory. The columns that nobody
has written yet cost less than the gaps that leaving them out would make: a batched product over
slices took twice as long. So C follows the longest row, in steps, and the layers are copied now and then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from statewise.rollout.llama import Decoder

STEP_TOKENS = 32
"""C is a multiple of this, or the most that any row may need."""


@dataclass(slots=True, eq=False)
class Slots:
    """Keys and values of S rows by layer; `most_tokens` is what the longest may come to."""

    keys: list[Float[Tensor, "S G C W"]]
    values: list[Float[Tensor, "S G C W"]]
    most_tokens: int

    @classmethod
    def reserve(cls, decoder: Decoder, places: int, most_tokens: int) -> Slots:
        """Places for rows that have written nothing."""
        shape = (places, decoder.key_value_heads, 0, decoder.head_width)
        like = {"dtype": decoder.stream, "device": decoder.embedding.device}
        layers = range(len(decoder.layers))
        keys, values = ([torch.zeros(shape, **like) for _ in layers] for _ in range(2))
        return cls(keys, values, most_tokens)

    @property
    def capacity_tokens(self) -> int:
        """C."""
        return self.keys[0].shape[2]

    def fit(self, rows: int, tokens: int) -> None:
        """Bring C to what rows of `tokens` need; what the first `rows` places hold is kept.

        A layer at a time, so that no more than one stands twice in memory.
        """
        capacity = min(-(-tokens // STEP_TOKENS) * STEP_TOKENS, self.most_tokens)
        if capacity <= self.capacity_tokens <= capacity + STEP_TOKENS:
            return
        kept = min(capacity, self.capacity_tokens)
        for buffers in (self.keys, self.values):
            for number, old in enumerate(buffers):
                places, heads, _, width = old.shape
                new = old.new_empty(places, heads, capacity, width)
                new[:rows, :, :kept] = old[:rows, :, :kept]
                new[:rows, :, kept:] = 0
                new[rows:] = 0
                buffers[number] = new

    def copy(self, sources: Int[Tensor, " K"], targets: Int[Tensor, " K"], tokens: int) -> None:
        """The first `tokens` of some places into others."""
        for buffer in (*self.keys, *self.values):
            buffer[targets, :, :tokens] = buffer[sources, :, :tokens]

    def opening(self, place: int, tokens: int) -> list[Float[Tensor, "1 G L W"]]:
        """A copy of the first `tokens` of a place: keys of every layer, then values."""
        return [b[place : place + 1, :, :tokens].clone() for b in (*self.keys, *self.values)]

    def begin(self, places: Int[Tensor, " K"], opening: Sequence[Float[Tensor, "1 G L W"]]) -> None:
        """Write what `opening` gave into other places."""
        for buffer, first in zip((*self.keys, *self.values), opening, strict=True):
            buffer[places, :, : first.shape[2]] = first
