"""The rows of a probe for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from statewise.formatting import number
from statewise.probing.inputs import Row
from statewise.terminal import console
from statewise.visible import visible

NUMBERS = ("value", "95 %", "n")


def rows_text(rows: Sequence[Row], *, width: int = 140, colour: bool = False) -> str:
    r"""One line a row; columns that say nothing are left out.

    >>> row = Row("locality", "sft", "base", "dataset", "kappa", "", 0.25, 0.1, 0.0, 0.5, 12, "nats")
    >>> for line in rows_text([row]).splitlines(): print(line.rstrip())
    policy  against  sample   measure   value              95 %   n  unit
    sft     base     dataset  kappa    0.2500  [0.0000, 0.5000]  12  nats
    >>> shown = Row("c2st", "a", "", "", "typical", "", 1.0, None, None, None, None, "", "\x1b[2J")
    >>> "\x1b" in rows_text([shown]), "⟨ESC⟩[2J" in rows_text([shown])
    (False, True)
    """
    cells = [_cells(row) for row in rows]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    shown = [name for name in (cells[0] if cells else ()) if any(cell[name] for cell in cells)]
    for name in shown:
        table.add_column(name, justify="right" if name in NUMBERS else "left", overflow="fold")
    for cell in cells:
        # Model text is data: it must not be read as markup, and no escape sequence may reach the terminal.
        table.add_row(*(Text(visible(cell[name])) for name in shown))
    out = console(width=width, colour=colour)
    with out.capture() as capture:
        out.print(table)
    return capture.get()


def _cells(row: Row) -> dict[str, str]:
    """What each column shows."""
    return {
        "policy": row.policy,
        "against": row.reference,
        "sample": row.sample,
        "measure": row.measure,
        "at": row.at,
        "value": number(row.value, 4),
        "95 %": ""
        if row.low is None or row.high is None
        else f"[{number(row.low, 4)}, {number(row.high, 4)}]",
        "n": "" if row.n is None else str(row.n),
        "unit": row.unit,
        "text": row.text,
    }
