"""A key-value cache that is written in place.

transformers' dynamic layer concatenates the whole cache at every token, and its static layer
attends to every slot that was ever reserved. This one reserves once, writes in place and shows
attention only what has been written. It is a layer of transformers' own `Cache`, so every
model that takes a `Cache` takes it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer


class InPlaceLayer(DynamicLayer):
    """Keys and values of one layer, `[rows, heads, capacity, width]`, the first `written` in use."""

    def __init__(self, capacity_tokens: int) -> None:
        super().__init__()
        self.capacity_tokens = capacity_tokens
        self.written = 0

    def lazy_initialization(self, key_states: Tensor, value_states: Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.key_buffer = self._reserve(key_states)
        self.value_buffer = self._reserve(value_states)
        self.is_initialized = True

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        end = self.written + key_states.shape[2]
        self.key_buffer[:, :, self.written : end] = key_states
        self.value_buffer[:, :, self.written : end] = value_states
        self.written = end
        self.keys, self.values = self.key_buffer[:, :, :end], self.value_buffer[:, :, :end]
        return self.keys, self.values

    def get_seq_length(self) -> int:
        return self.written

    def batch_select_indices(self, indices: Tensor) -> None:
        self.key_buffer, self.value_buffer = self.key_buffer[indices], self.value_buffer[indices]

    def _reserve(self, like: Tensor) -> Tensor:
        rows, heads, _, width = like.shape
        return like.new_empty((rows, heads, self.capacity_tokens, width))


def reserve_cache(config: PreTrainedConfig, capacity_tokens: int) -> DynamicCache:
    """A cache for `config` in which every full-attention layer is written in place.

    Sliding, indexed or recurrent layers keep transformers' own implementation.
    """
    cache = DynamicCache(config=config)
    layers = [
        InPlaceLayer(capacity_tokens) if type(layer) is DynamicLayer else layer
        for layer in cache.layers
    ]
    cache.layers = layers
    return cache


def rows_can_go(cache: DynamicCache) -> bool:
    """Whether every layer keeps tokens, and nothing but tokens, which can be cut to some rows."""
    return all(type(layer) in (InPlaceLayer, DynamicSlidingWindowLayer) for layer in cache.layers)


def keep_rows(cache: DynamicCache, rows: Sequence[int]) -> None:
    """Drop every row of the cache but `rows`, in that order."""
    index = torch.tensor(rows)
    for layer in cache.layers:
        layer.batch_select_indices(index.to(layer.device))  # pyright: ignore[reportAttributeAccessIssue]
