"""What the programs of this folder share: a Markdown table, and the beginning of a docstring."""

from __future__ import annotations

import inspect
from collections.abc import Sequence


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, numbers: bool = False) -> str:
    """A Markdown table; a bar in a cell is a character of it. `numbers` stand at the right, behind a first text."""
    rule = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    return "".join(
        "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |\n"
        for cells in (head, rule, *rows)
    )


def first_paragraph(kind: type) -> str:
    """A docstring up to its first empty line, on one line."""
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
