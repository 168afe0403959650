"""Stop strings: where a completion's text first holds one.

The completion's own text alone is searched, as lm-evaluation-harness does. A stop string in the prompt ends
nothing, nor does one that begins in the prompt and ends in the completion.
"""

from __future__ import annotations

from collections.abc import Sequence

from statewise.rollout.request import Request

STOP_STRING_EVERY = 8
"""Decode text and look for stop strings once in so many tokens: decoding costs more than a step."""


def first_stop(token_ids: Sequence[int], request: Request) -> int | None:
    """The number of tokens whose text first holds a stop string; None where there is none."""
    to_text = request.to_text
    if not request.stop_strings or to_text is None or not _stops(to_text(token_ids), request):
        return None
    low, high = 1, len(token_ids)
    while low < high:
        middle = (low + high) // 2
        found = _stops(to_text(token_ids[:middle]), request)
        low, high = (low, middle) if found else (middle + 1, high)
    return low


def _stops(text: str, request: Request) -> bool:
    return any(string in text for string in request.stop_strings)
