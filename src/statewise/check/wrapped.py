"""Texts and tokens as lines of a terminal: nothing in them steers it, and no token is divided."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size

from statewise.check.item import Token

BREAK = "⏎"
"""A line break of the text."""
BORDER = "│"
"""Between two tokens."""


def token_lines(tokens: Sequence[Token], width: int) -> list[tuple[str, str]]:
    r"""Tokens as lines of at most `width` cells, each with the ids of its tokens.

    No token is divided, and one with a line break ends its line. A token that is wider than a line is
    shortened: the document for programs has it whole.

    >>> def token(id, text):
    ...     return Token(id, text, None, "prompt", 0.0, None, stop=False)
    >>> token_lines([token(5, "Three"), token(17, " nuts"), token(3, ".\n"), token(9, "A")], 14)
    [('Three│ nuts│.⏎', '5 17 3'), ('A', '9')]
    >>> token_lines([token(500000, "1"), token(500001, "2")], 12)
    [('1', '500000'), ('2', '500001')]
    """
    lines: list[tuple[str, str]] = []
    ended = True
    for token in tokens:
        text, ids = shortened(_standing(token.text), width), str(token.id)
        if not ended:
            more = f"{lines[-1][0]}{BORDER}{text}", f"{lines[-1][1]} {ids}"
            if max(map(cell_len, more)) <= width:
                text, ids = more
                lines.pop()
        lines.append((text, ids))
        ended = "\n" in token.text
    return lines


def _standing(text: str) -> str:
    r"""A token's text for a terminal; a combining mark at its start stands on a circle of its own.

    >>> _standing("\n\n"), _standing("\x1b[2J"), _standing("\u0301")
    ('⏎⏎', '\\x1b[2J', '◌́')
    """
    alone = "◌" + text if unicodedata.category(text[:1] or " ").startswith("M") else text
    return BREAK.join(printable(part) for part in alone.split("\n"))


def shortened(text: str, width: int) -> str:
    """A text of at most `width` cells, its middle left out.

    >>> shortened("abcdefghij", 7), shortened("abc", 7)
    ('abc…hij', 'abc')
    """
    if cell_len(text) <= width:
        return text
    half = (width - 1) // 2
    return f"{set_cell_size(text, half)}…{set_cell_size(text[::-1], half)[::-1]}"


def printable(text: str) -> str:
    r"""A text that cannot steer a terminal: control characters by their code.

    >>> printable("a\x1b[2Jb"), printable("tab\there")
    ('a\\x1b[2Jb', 'tab\\there')
    """
    return "".join(
        c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co") else _coded(c) for c in text
    )


def _coded(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
