"""A Llama-like decoder as functions: many tokens of new rows (`prefill`), one token of each (`step`).

Shapes beside the legend: Q query heads, G key-value heads, W the width of a head; S and C as in
`slots.py`. Heads are kept rotated as pairs `(i, i + W/2)` side by side, queries and keys alike, which
leaves every dot product what it is and makes a rotation one complex product.
"""

from __future__ import annotations

import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor
from torch.nn import functional as F

from statewise.rollout.llama import Decoder, Layer
from statewise.rollout.slots import Slots


def step(
    decoder: Decoder,
    slots: Slots,
    tokens: Int[Tensor, " M"],
    lengths: Int[Tensor, " M"],
) -> Float[Tensor, "M D"]:
    """The last hidden states after one more token of the rows in places `0..M-1`.

    `lengths` is what each row has written before.
    """
    rows = len(tokens)
    groups, capacity, width = slots.keys[0].shape[1:]
    x = decoder.embedding[tokens].to(decoder.stream)
    rotation = decoder.rotary[lengths][:, None]
    lines = torch.arange(rows * groups, device=tokens.device).view(rows, groups)
    column = (lines * capacity + lengths[:, None]).view(-1)
    mask = _mask(lengths + 1, capacity, x.dtype)
    for number, layer in enumerate(decoder.layers):
        query, key, value = _project(decoder, layer, layer.input_norm(x), rotation)
        keys, values = slots.keys[number], slots.values[number]
        keys.view(-1, width).index_copy_(0, column, key.reshape(-1, width))
        values.view(-1, width).index_copy_(0, column, value.reshape(-1, width))
        mixed = attend(query, keys[:rows], values[:rows], mask, decoder.scale)
        _feed(layer, x, mixed)
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
    stop = start + width
    x = decoder.embedding[tokens.reshape(-1)].to(decoder.stream)
    rotation = decoder.rotary[start:stop].repeat(count, 1)[:, None]
    ending = (ends <= width).nonzero().squeeze(1)
    last = ending * width + ends[ending] - 1
    causal = None
    if start:
        columns = torch.arange(stop, device=tokens.device)
        causal = columns <= columns[start:, None]
    for number, layer in enumerate(decoder.layers):
        query, key, value = _project(decoder, layer, layer.input_norm(x), rotation)
        for buffer, new in ((slots.keys, key), (slots.values, value)):
            # [M * L, G, W] -> [M, G, L, W]
            buffer[number][places, :, start:stop] = new.unflatten(0, (count, width)).transpose(1, 2)
        if number == len(decoder.layers) - 1:
            x = x[last]
            if not len(last):
                return x
            mixed = attend(
                query[last],
                slots.keys[number][places[ending], :, :stop],
                slots.values[number][places[ending], :, :stop],
                _mask(start + ends[ending], stop, x.dtype),
                decoder.scale,
            )
        else:
            mixed = F.scaled_dot_product_attention(
                query.unflatten(0, (count, width)).transpose(1, 2),
                slots.keys[number][places, :, :stop],
                slots.values[number][places, :, :stop],
                attn_mask=causal,
                is_causal=causal is None,
                scale=decoder.scale,
                enable_gqa=decoder.heads != decoder.key_value_heads,
            )
            mixed = mixed.transpose(1, 2).reshape(count * width, -1)
        _feed(layer, x, mixed)
    return decoder.norm(x)


def attend(
    query: Float[Tensor, "M Q W"],
    keys: Float[Tensor, "M G T W"],
    values: Float[Tensor, "M G T W"],
    mask: Float[Tensor, "M T"],
    scale: float,
) -> Float[Tensor, "M E"]:
    """Attention of one position a row to what its row has written; E = Q * W.

    The queries that share a key-value head are the lines of one product.
    """
    rows, groups, seen, width = keys.shape
    query = query.reshape(rows * groups, -1, width)
    scores = torch.baddbmm(
        query.new_empty(1, 1, 1), query, keys.flatten(0, 1).transpose(1, 2), beta=0, alpha=scale
    )
    scores.view(rows, -1, seen).add_(mask[:, None])
    return torch.bmm(scores.softmax(-1), values.flatten(0, 1)).view(rows, -1)


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


def _feed(layer: Layer, x: Float[Tensor, "M D"], mixed: Float[Tensor, "M E"]) -> None:
    """Add a layer's attention output and its feed-forward part to the residual stream, in place."""
    layer.output.add_to(x, mixed)
    inner = layer.mlp_norm(x)
    layer.down.add_to(x, F.silu(layer.gate(inner)).mul_(layer.up(inner)))


def _mask(lengths: Int[Tensor, " M"], columns: int, dtype: torch.dtype) -> Float[Tensor, "M T"]:
    """0 where a row has written, -inf beyond."""
    beyond = torch.arange(columns, device=lengths.device) >= lengths[:, None]
    return torch.zeros(beyond.shape, dtype=dtype, device=lengths.device).masked_fill_(
        beyond, -torch.inf
    )
