"""The result table for a terminal: 100 columns, and legible without colour."""

from __future__ import annotations

import re

from rich import box
from rich.markup import escape
from rich.table import Table

from statewise.formatting import DASH, value_and_error
from statewise.results.matched import HEAD, cells
from statewise.results.types import ArmResult, Quantity, Results, TaskRow
from statewise.terminal import console

MARKS = {"supported": "✓", "contradicted": "✗", "undecided": "?"}
COLOURS = {"supported": "green", "contradicted": "red", "undecided": "yellow"}


def table_text(results: Results, *, width: int = 100, colour: bool = False) -> str:
    """Table 2 and the verdicts as text. A value stands above half its 95 % interval, or above both
    ends of one that is not symmetrical.
    """
    out = console(width=width, colour=colour)
    with out.capture() as capture:
        for part in _tables(results, width):
            out.print(part)
        out.print(
            "± half a 95 % interval over seeds and items, or its two ends; * over items alone, one "
            "checkpoint. MMD² of hidden states against base, interval over seeds only, ° = p ≤ 0.05 "
            "for every seed. no ans, cut: greedy target completions without an answer, and cut at "
            "the length limit. n: seeds.",
            style="dim",
        )
        if results.matched:
            out.print(_matched(results))
        for verdict in results.verdicts:
            mark, tint = MARKS[verdict.verdict], COLOURS[verdict.verdict]
            out.print(f"\n[bold {tint}]{mark} {verdict.verdict.upper()}[/]  {escape(verdict.text)}")
            asked = f"Asked for: {verdict.asked}."
            out.print(f"  {escape(f'{asked} {verdict.sentence}')}", style="dim")
        for note in results.notes:
            out.print(f"\n[bold]Note[/] {escape(note)}")
    return capture.get()


def _tables(results: Results, width: int) -> list[Table]:
    """One table where it fits, else several with the arms in each: a name or number is never broken inside."""
    found = results.columns()
    columns = []
    for task, decoding in found:
        name = task.name.replace("_", "\n")
        head = f"{name}\nT=1" if decoding == "sampled" else name
        scores = [arm.score(task.name, decoding) for arm in results.arms]
        columns.append([head, *(quantity_text(s.quantity if s else None) for s in scores)])
    failed = [_failure_text(arm, found) for arm in results.arms]
    columns += [
        ["forget", *(quantity_text(arm.forgetting) for arm in results.arms)],
        ["ratio", *(quantity_text(arm.retention_ratio, digits=2) for arm in results.arms)],
        ["MMD²", *(_drift_text(arm) for arm in results.arms)],
        ["no\nans", *(answer for answer, _ in failed)],
        ["cut", *(cut for _, cut in failed)],
        ["n", *(str(len(arm.seeds)) for arm in results.arms)],
    ]
    names = ["arm", *(_broken(arm.name, width // 2) for arm in results.arms)]
    parts: list[list[list[str]]] = [[names]]
    for column in columns:
        if sum(map(_wide, [*parts[-1], column])) >= width and len(parts[-1]) > 1:
            parts.append([names])
        parts[-1].append(column)
    return [_drawn(part, results.study if i == 0 else "") for i, part in enumerate(parts)]


def _wide(column: list[str]) -> int:
    """Characters of a column, its padding and what stands between columns."""
    return 2 + max(len(line) for cell in column for line in cell.split("\n"))


def _broken(name: str, width: int) -> str:
    r"""A name on as many lines as it needs, broken behind underscores alone.

    >>> _broken("one_step_opd_from_stress", 14)
    'one_step_opd_\nfrom_stress'
    """
    lines = [""]
    for part in re.findall(r"[^_]*_+|[^_]+", name):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _drawn(columns: list[list[str]], title: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=escape(title) or None)
    for i, (head, *_) in enumerate(columns):
        table.add_column(escape(head), justify="right" if i else "left", no_wrap=True)
    for row in zip(*(below for _, *below in columns), strict=True):
        table.add_row(*map(escape, row))
    return table


def _matched(results: Results) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title="matched")
    table.add_column(HEAD[0], no_wrap=True)
    for head in HEAD[1:]:
        table.add_column(head, justify="left" if head == "quantity" else "right")
    for row in results.matched:
        table.add_row(*map(escape, cells(row)))
    return table


def quantity_text(quantity: Quantity | None, digits: int = 3) -> str:
    """A value above its interval, as the terminal shows it."""
    if quantity is None:
        return DASH
    text = value_and_error(quantity.estimate, digits)
    return f"{text}*" if quantity.over == "items" and "\n" in text else text


def _drift_text(arm: ArmResult) -> str:
    hidden = next((d for d in arm.drift if d.feature == "hidden"), None)
    if hidden is None:
        return DASH
    value, *interval = quantity_text(hidden.mmd2, digits=4).split("\n")
    mark = "°" if hidden.p_values and max(hidden.p_values) <= 0.05 else ""
    return "\n".join((f"{value}{mark}", *interval))


def _failure_text(arm: ArmResult, columns: list[tuple[TaskRow, str]]) -> tuple[str, str]:
    score = next((s for t, d in columns if d == "greedy" and (s := arm.score(t.name, d))), None)
    if score is None:
        return DASH, DASH
    failed, stopped = score.extraction_failed, score.stopped
    return (
        DASH if failed is None else f"{100 * failed:.0f}%",
        DASH if stopped is None else f"{100 * (1 - stopped):.0f}%",
    )
