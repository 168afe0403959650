"""Text for a terminal of a known width: the same on every machine, and legible without colour."""

from __future__ import annotations

from io import StringIO

from rich.console import Console


def console(*, width: int, colour: bool) -> Console:
    r"""A console whose output is captured, not printed; `colour` by escape codes, or none at all.

    >>> quiet = console(width=20, colour=False)
    >>> with quiet.capture() as capture:
    ...     quiet.print("[bold red]1 fail[/]")
    >>> capture.get()
    '1 fail\n'
    """
    return Console(
        file=StringIO(),
        width=width,
        force_terminal=colour,
        color_system="standard" if colour else None,
        highlight=False,
    )
