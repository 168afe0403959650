"""Token trees: many texts in one row, each token that several of them begin with in it once.

The four choices of a question share the question, and the questions of a task their first words or
their few-shot examples. A row is a forest in depth-first order: a node sees itself and its ancestors,
at the positions that they would have in a text of their own, so its hidden state is the one that
it has there. For depth-first order an ancestor is an interval: node `i` is above node `j` (or is `j`)
exactly if `i <= j < end[i]`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

FOREST_TOKENS = 96
"""Texts share a row up to this length, related or not: attention is cheap there, padding is not."""
TREE_TOKENS = 4096
"""The longest row of several texts: its mask has that many entries squared."""

Text = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """A row of L tokens and the places in it where texts end.

    `depth` is a token's position in its text, `end` the place behind its last descendant (the mask).
    `tails` holds, for each text of the row, its index and the places of its last tokens.
    """

    token_ids: Int[np.ndarray, " L"]
    depth: Int[np.ndarray, " L"]
    end: Int[np.ndarray, " L"]
    tails: tuple[tuple[int, Int[np.ndarray, " _"]], ...]

    @property
    def is_chain(self) -> bool:
        """True if every token sees all before it: plain causal attention."""
        return int(self.depth[-1]) == len(self.depth) - 1


def plant(texts: Sequence[Text], tails: Sequence[int], *, share: bool = True) -> list[Tree]:
    """Rows over texts in ascending order; `tails` says how many last places of each are wanted.

    A text joins the row of the one before it up to `FOREST_TOKENS`; beyond that where at least half of
    it is in the row already, up to twice its own length. Without `share` each text has its own row.

    >>> (tree,) = plant([(1, 2, 3), (1, 2, 4, 5), (1, 6)], tails=[1, 2, 1])
    >>> tree.token_ids.tolist(), tree.depth.tolist(), tree.end.tolist()
    ([1, 2, 3, 4, 5, 6], [0, 1, 2, 2, 3, 1], [6, 5, 3, 5, 5, 6])
    >>> [(text, places.tolist()) for text, places in tree.tails]
    [(0, [2]), (1, [3, 4]), (2, [5])]
    >>> [tree.token_ids.tolist() for tree in plant([(1, 2), (1, 3)], tails=[1, 1], share=False)]
    [[1, 2], [1, 3]]
    """
    return [_grow(texts, tails, group) for group in _groups(texts, share=share)]


def _groups(texts: Sequence[Text], *, share: bool) -> Iterator[list[tuple[int, int]]]:
    """Runs of texts that share a row: (index, how many of its tokens the text before it has too)."""
    group: list[tuple[int, int]] = []
    length = 0
    for index, text in enumerate(texts):
        common = common_prefix(texts[index - 1], text) if group else 0
        whole = length + len(text) - common
        related = 2 * common >= len(text) and whole <= min(2 * len(text), TREE_TOKENS)
        if group and not (share and (whole <= FOREST_TOKENS or related)):
            yield group
            group, common, whole = [], 0, len(text)
        group.append((index, common))
        length = whole
    if group:
        yield group


def _grow(texts: Sequence[Text], tails: Sequence[int], group: Sequence[tuple[int, int]]) -> Tree:
    """One row: each text adds what lies behind its prefix, and closes the branch that it leaves."""
    ids: list[int] = []
    depth: list[int] = []
    end: list[int] = []
    path: list[int] = []
    places: list[tuple[int, np.ndarray]] = []
    for index, common in group:
        text, length = texts[index], len(ids)
        for node in path[common:]:
            end[node] = length
        path[common:] = range(length, length + len(text) - common)
        ids += text[common:]
        depth += range(common, len(text))
        end += [0] * (len(text) - common)
        places.append((index, np.array(path[len(path) - tails[index] :])))
    for node in path:
        end[node] = len(ids)
    return Tree(np.array(ids), np.array(depth), np.array(end), tuple(places))


def common_prefix(first: Text, second: Text) -> int:
    """How many tokens two texts begin with alike.

    >>> common_prefix((1, 2, 3), (1, 2)), common_prefix((1, 2), (3, 2))
    (2, 0)
    """
    count = 0
    for a, b in zip(first, second, strict=False):
        if a != b:
            break
        count += 1
    return count
