"""Numbers as characters that need no escape in JSON or HTML: 64 digits, fixed width."""

from __future__ import annotations

from collections.abc import Iterable

DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def width_of(largest: int) -> int:
    """Digits that numbers from 0 to `largest` need.

    >>> width_of(63), width_of(64), width_of(4095), width_of(4096)
    (1, 2, 2, 3)
    """
    width = 1
    while 64**width <= largest:
        width += 1
    return width


def packed(numbers: Iterable[int], width: int) -> str:
    """Numbers one after the other, the highest digit first.

    >>> packed([0, 63, 64], 2)
    'AAA_BA'
    """
    return "".join(
        DIGITS[(n >> (6 * place)) & 63] for n in numbers for place in range(width - 1, -1, -1)
    )
