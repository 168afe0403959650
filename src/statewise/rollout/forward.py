"""A Llama-like decoder as functions: many tokens of new rows (`prefill`), one token of each (`step`).

Shapes beside the legend: S places, G key-value heads, R queries to a key-value head, W the width of
a head, C the capacity in tokens. Heads are kept rotated as pairs `(i, i + W/2)` side by side, queries
and keys alike, which leaves every dot product what it is and makes a rotation one complex product.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor
from torch.nn import functional as F

from statewise.rollout.llama import Decoder, Layer
from statewise.rollout.slots import Slots


def step(
    decoder: Decoder, slots: Slots, tokens: Int[Tensor, " M"], lengths: Int[Tensor, " M"], longest: int
) -> Float[Tensor, "M D"]:
    """The last hidden states after one more token of the rows in places `0..M-1`.

    `lengths` is what each row has written before, `longest` their maximum.
    """
    rows, seen = len(tokens), longest + 1
    groups, capacity = slots.keys.shape[2:4]
    x = decoder.embedding[tokens]
    rotation = decoder.rotary[lengths][:, None]
    heads = torch.arange(rows * groups, device=tokens.device)
    column = (heads.view(rows, groups) * capacity + lengths[:, None]).view(-1)
    mask = _mask(lengths + 1, seen, x.dtype)
    for number, layer in enumerate(decoder.layers):
        query, key, value = _project(decoder, layer, layer.input_norm(x), rotation)
        keys, values = slots.keys[number], slots.values[number]
        keys.view(-1, keys.shape[-1]).index_copy_(0, column, key.reshape(rows * groups, -1))
        values.view(-1, keys.shape[-1]).index_copy_(0, column, value.reshape(rows * groups, -1))
        _attend_and_feed(decoder, layer, x, query, keys[:rows, :, :seen], values[:rows, :, :seen], mask)
    return decoder.norm(x)


def prefill(
    decoder: Decoder,
    slots: Slots,
    places: Int[Tensor, " M"],
    tokens: Int[Tensor, "M L"],
    start: int,
    ends: Int[Tensor, " M"],
) -> Float[Tensor, "K D"]:
    """Write tokens `start..start+L-1` of the rows in `places`; the last hidden state of those that end.

    Rows are padded on the right: under causal attention a token never sees what is to its right, and
    what padding writes is masked until it is overwritten. `ends` is the number of tokens to write
    of each row, at least 1; a row with more than L is read further by a later call, and only
    the others, K of them, give a hidden state. The last layer computes nothing for other positions.
    """
    count, width = tokens.shape
    x = decoder.embedding[tokens.reshape(-1)]
    rotation = decoder.rotary[start : start + width].repeat(count, 1)[:, None]
    ending = (ends <= width).nonzero().squeeze(1)
    last = ending * width + ends[ending] - 1
    causal = None
    if start:
        columns = torch.arange(start + width, device=tokens.device)
        causal = columns <= columns[start:, None]
    for number, layer in enumerate(decoder.layers):
        query, key, value = _project(decoder, layer, layer.input_norm(x), rotation)
        # [M * L, heads, W] -> [M, heads, L, W]
        query, key, value = (
            t.view(count, width, -1, decoder.head_width).transpose(1, 2) for t in (query, key, value)
        )
        slots.keys[number, places, :, start : start + width] = key
        slots.values[number, places, :, start : start + width] = value
        keys, values = key, value
        if start:
            keys = slots.keys[number, places, :, : start + width]
            values = slots.values[number, places, :, : start + width]
        if number == len(decoder.layers) - 1:
            x = x[last]
            query = query[ending, :, ends[ending] - 1]
            mask = _mask(start + ends[ending], start + width, x.dtype)
            _attend_and_feed(decoder, layer, x, query, keys[ending], values[ending], mask)
        else:
            mixed = F.scaled_dot_product_attention(
                query,
                keys,
                values,
                attn_mask=causal,
                is_causal=causal is None,
                scale=decoder.scale,
                enable_gqa=decoder.heads != decoder.key_value_heads,
            )
            _feed(layer, x, mixed.transpose(1, 2).reshape(count * width, -1))
    return decoder.norm(x)


def _project(
    decoder: Decoder,
    layer: Layer,
    x: Float[Tensor, "M D"],
    rotation: Complex[Tensor, "M 1 H"],
) -> tuple[Float[Tensor, "M Q W"], Float[Tensor, "M G W"], Float[Tensor, "M G W"]]:
    """Rotated queries and keys, and values."""
    width, split = decoder.head_width, decoder.heads * decoder.head_width
    both = x.new_empty(len(x), split + decoder.key_value_heads * width)
    layer.query.write(both[:, :split], x)
    layer.key.write(both[:, split:], x)
    both = both.view(len(x), -1, width)
    if layer.head_norms is not None:
        both = layer.head_norms(both)
    pairs = torch.complex(both[..., : width // 2], both[..., width // 2 :]).mul_(rotation)
    both = torch.view_as_real(pairs).flatten(-2)
    value = layer.value(x).to(x.dtype).view(len(x), -1, width)
    return both[:, : decoder.heads], both[:, decoder.heads :], value


def _attend_and_feed(
    decoder: Decoder,
    layer: Layer,
    x: Float[Tensor, "M D"],
    query: Float[Tensor, "M Q W"],
    keys: Float[Tensor, "M G T W"],
    values: Float[Tensor, "M G T W"],
    mask: Float[Tensor, "M T"],
) -> None:
    """One position a row: attention to what the row has written, then the rest of the layer."""
    rows, groups, _, width = keys.shape
    mixed = attend(decoder, query, keys, values, mask)
    _feed(layer, x, mixed.reshape(rows, -1))

import os
MODE=os.environ.get("ATT","sdpa")
def attend(decoder,query,keys,values,mask):
    rows, groups, T, width = keys.shape
    if MODE=="sdpa":
        query = query.reshape(rows, groups, -1, width)
        return F.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask[:, None, None], scale=decoder.scale
        )
    query = query.reshape(rows * groups, -1, width)
    k=keys.flatten(0,1); v=values.flatten(0,1)
    scores = torch.baddbmm(mask.new_empty(1,1,1), query, k.transpose(1,2), beta=0, alpha=decoder.scale)
    scores.view(rows,-1,T).add_(mask[:,None])
    return torch.bmm(scores.softmax(-1), v)


def _feed(layer: Layer, x: Float[Tensor, "M D"], mixed: Float[Tensor, "M E"]) -> None:
    """Add a layer's attention output and its feed-forward part to the residual stream, in place."""
    layer.output.add_to(x, mixed)
    inner = layer.mlp_norm(x)
    layer.down.add_to(x, F.silu(layer.gate(inner)).mul_(layer.up(inner)))


def _mask(
    lengths: Int[Tensor, " M"], columns: int, dtype: torch.dtype
) -> Float[Tensor, "M T"]:
    """0 where a row has written, -inf beyond."""
    beyond = torch.arange(columns, device=lengths.device) >= lengths[:, None]
    return torch.zeros(beyond.shape, dtype=dtype, device=lengths.device).masked_fill_(
        beyond, -torch.inf
    )
