"""A figure's table as CSV; `assets/tables.js` writes the same from the page."""

from __future__ import annotations

import re
from collections.abc import Sequence

from statewise.formatting import DASH, MINUS


def csv(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Plain numbers in place of the reader's: a hyphen for minus, nothing for a dash.

    A text that a spreadsheet would take for a formula gets an apostrophe in front.

    >>> print(csv(["arm", "effect"], [["a, b", "−0.041"], ["=1+1", "–"]]), end="")
    arm,effect
    "a, b",-0.041
    '=1+1,
    """
    return "".join(",".join(_cell(text) for text in row) + "\n" for row in (head, *rows))


def _cell(text: str) -> str:
    value = "" if text == DASH else text.replace(MINUS, "-")
    if value[:1] in ("=", "+", "-", "@", "\t") and not re.fullmatch(
        r"[-+]?[\d.]+(e[-+]?\d+)?", value
    ):
        value = f"'{value}"
    return f'"{value.replace(chr(34), chr(34) * 2)}"' if re.search(r'[",\n\r]', value) else value
