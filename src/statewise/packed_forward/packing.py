"""Rows without padding, and each shared prefix once.

A decoder maps a prefix to a hidden state, so equal prefixes of one micro-batch have equal hidden states:
the samples of one prompt share its tokens. Everything but attention runs on *places*, the different
prefixes of the micro-batch; attention reads whole rows, in groups of like length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

SPREAD = 0.875
"""A group of rows for attention holds none shorter than this share of its longest."""
FEWEST_ROWS = 4
"""Nor is a group smaller than this, as long as there are rows: a call costs too."""


@dataclass(frozen=True, slots=True, eq=False)
class Packing:
    """`P` places stand for every token of the rows.

        token_ids  [P]  the last token of each place's prefix
        depth      [P]  its position in the row
        groups     for attention: [m, l] the place of each token of `m` rows of at most `l` tokens
        slots      [P]  where a place is first found in the groups, laid flat one after the other
        states     [N]  the place of each state that is asked for

    What stands in a group beyond a row's end is the row's last place; nothing reads it.
    """

    token_ids: Int[Tensor, " P"]
    depth: Int[Tensor, " P"]
    groups: tuple[Int[Tensor, "_ _"], ...]
    slots: Int[Tensor, " P"]
    states: Int[Tensor, " N"]


def pack(
    token_ids: Int[Tensor, "M L"],
    lengths: Int[Tensor, " M"],
    row: Int[Tensor, " N"],
    position: Int[Tensor, " N"],
) -> Packing:
    """Lay the rows out as a tree of prefixes, and find `(row, position)` in it.

    >>> made = pack(torch.tensor([[5, 6, 7], [5, 6, 8], [4, 0, 0]]), torch.tensor([3, 3, 1]),
    ...             torch.tensor([0, 1]), torch.tensor([2, 2]))
    >>> made.token_ids.tolist(), made.depth.tolist(), made.states.tolist()
    ([4, 5, 6, 7, 8], [0, 0, 1, 2, 2], [3, 4])
    """
    ids, ends = token_ids.cpu().numpy(), lengths.cpu().numpy()
    columns = np.arange(ids.shape[1])
    real = columns < ends[:, None]
    # Sorted, rows that share a prefix are neighbours: a token is new from the first difference on.
    filled = np.where(real, ids, -1)
    order = np.lexsort(filled.T[::-1])
    filled, real = filled[order], real[order]
    differs = np.ones(filled.shape, bool)
    differs[1:] = np.logical_or.accumulate(filled[1:] != filled[:-1], axis=1)
    new = differs & real
    places = np.cumsum(new.ravel()).reshape(new.shape) - 1
    # Where a token is not new, it is what the nearest row above holds in its column.
    owner = np.maximum.accumulate(np.where(new, np.arange(len(new))[:, None], 0), axis=0)
    places = places[owner, columns]
    at = np.empty_like(order)
    at[order] = np.arange(len(order))
    found = places[at[row.cpu().numpy()], position.cpu().numpy()]

    groups, slots, laid = [], np.full(int(new.sum()), -1), 0
    for rows in _alike(ends[order]):
        longest = int(ends[order][rows].max())
        last = places[rows, ends[order][rows] - 1]
        group = np.where(real[rows, :longest], places[rows, :longest], last[:, None])
        groups.append(group)
        flat, first = np.unique(group, return_index=True)
        unset = slots[flat] < 0
        slots[flat[unset]] = laid + first[unset]
        laid += group.size

    def tensor(array: np.ndarray) -> Tensor:
        return torch.as_tensor(array, dtype=torch.long).to(token_ids.device)

    return Packing(
        token_ids=tensor(filled[new]),
        depth=tensor(np.broadcast_to(columns, new.shape)[new]),
        groups=tuple(tensor(group) for group in groups),
        slots=tensor(slots),
        states=tensor(found),
    )


def _alike(lengths: np.ndarray) -> list[np.ndarray]:
    """Row numbers in groups of like length, the longest first."""
    order = np.argsort(-lengths, kind="stable")
    groups, start = [], 0
    for i in range(len(order)):
        short = lengths[order[i]] < SPREAD * lengths[order[start]]
        if short and i - start >= FEWEST_ROWS:
            groups.append(order[start:i])
            start = i
    return [*groups, order[start:]]
