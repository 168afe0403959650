"""What a check looks like in a terminal, with colour and without, and as plain data for a program."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from statewise.check.finding import Line, Status
from statewise.check.item import Item, Run
from statewise.check.study import ArmReport
from statewise.check.wrapped import BORDER, BREAK, printable, shortened, token_lines
from statewise.terminal import console
from statewise.trajectory import role

MARKS: dict[Status, str] = {"pass": "✓", "warn": "!", "fail": "✗"}
TINTS: dict[Status, str] = {"pass": "green", "warn": "yellow", "fail": "red"}
OWNERS = {
    "prompt": "bright_black",
    "dataset": "cyan",
    "student": "green",
    "teacher": "magenta",
    "blend": "yellow",
}
TAUGHT, GIVEN = "┃", "┆"
MOST_LINES = 14
"""Of a longer run the first and last lines are shown."""
LEAST_ROOM = 24
"""Columns beside the names of the checks that a reason needs to be legible."""

LEGEND = (
    f"{TAUGHT} taught (weight above 0)   {GIVEN} given (weight 0)   {BREAK} a line break of the text\n"
    f"{BORDER} between tokens, their ids below   ⟨F0 9F⟩ bytes of a part of a character\n"
    "owner@n chose these tokens after n steps; a gradient's moves are shares of its norm"
)


AS_IT_IS: dict[str, Any] = {"no_wrap": True, "overflow": "ignore", "crop": False}


def arm_text(report: ArmReport, *, width: int = 100, colour: bool = False) -> str:
    """One arm: its item, its lines, and what had nothing to look at."""
    out = console(width=width, colour=colour)
    with out.capture() as capture:
        out.rule(f"[bold]{escape(report.arm)}[/]", align="left", characters="─")
        for note in report.notes:
            _print_dim(out, f"note: {note}")
        for item in report.items:
            _print_item(out, item, several=len(report.items) > 1)
        out.print()
        _print_lines(out, report.lines)
        if report.skipped:
            reasons: dict[str, list[str]] = {}
            for skip in report.skipped:
                reasons.setdefault(skip.reason, []).append(skip.name)
            told = "; ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
            _print_dim(out, f"nothing to check: {told}")
        cost = report.cost
        out.print(
            f"[dim]{cost.rows} rows, {cost.tokens_sampled:,} tokens sampled, {cost.seconds:.1f} s[/]\n"
        )
    return "\n".join(line.rstrip() for line in capture.get().split("\n"))


def _print_lines(out: Console, lines: Sequence[Line]) -> None:
    """Every line beside its name, or below it where a word would not fit: no word is ever broken inside.

    A word that is wider than the terminal runs over its edge, so that it can be copied as it is.
    """
    heads = [Text(f"{MARKS[line.status]} {line.status}  {line.name}") for line in lines]
    texts = [_told(line) for line in lines]
    indent = max((head.cell_len for head in heads), default=0) + 2
    widest = max((cell_len(word) for text in texts for word in text.split()), default=0)
    beside = out.width - indent >= max(widest, LEAST_ROOM)
    if not beside:
        indent = 4
    for line, head, text in zip(lines, heads, texts, strict=True):
        head.stylize(f"bold {TINTS[line.status]}", 0, len(f"{MARKS[line.status]} {line.status}"))
        rows = [Text(row) for row in _wrapped(text, out.width - indent)]
        if line.fix:
            for row in rows:
                if row.plain.startswith("fix: "):
                    row.stylize("bold", 0, len("fix:"))
        if beside:
            head.append(" " * (indent - head.cell_len))
            head.append_text(rows.pop(0))
        for row in (head, *(Text(" " * indent).append_text(row) for row in rows)):
            out.print(row, no_wrap=True, overflow="ignore", crop=False)


def _told(line: Line) -> str:
    figure = printable(line.figure)
    return f"{figure}\nfix: {printable(line.fix)}" if line.fix else figure


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of a text, broken between words alone; at least one."""
    return [
        row
        for part in text.split("\n")
        for row in textwrap.wrap(
            part, max(width, 1), break_long_words=False, break_on_hyphens=False
        )
        or [""]
    ]


def _print_dim(out: Console, text: str) -> None:
    for row in _wrapped(text, out.width):
        out.print(Text(row, "dim"), no_wrap=True, overflow="ignore", crop=False)


def head_text(study: str, arms: int, items: int) -> str:
    """What is about to be done."""
    many = "1 arm" if arms == 1 else f"{arms} arms"
    return f"{study}: {many}, {items} prompts each; nothing is trained or written\n{LEGEND}\n"


def summary_text(reports: Sequence[ArmReport]) -> str:
    """The last line: how many checks passed, and which arms fail.

    >>> summary_text([])
    '0 arms: 0 pass, 0 warn, 0 fail'
    """
    counts = {status: sum(r.count(status) for r in reports) for status in MARKS}
    told = ", ".join(f"{count} {status}" for status, count in counts.items())
    failing = [r.arm for r in reports if r.count("fail")]
    arms = "1 arm" if len(reports) == 1 else f"{len(reports)} arms"
    return f"{arms}: {told}" + (f"; failing: {', '.join(failing)}" if failing else "")


def _print_item(console: Console, item: Item, *, several: bool) -> None:
    where = f"stream {item.stream}, " if several else ""
    console.print(f"\n[bold]one training item[/] [dim]({where}{escape(item.prompt)})[/]")
    for run in item.runs:
        tint = OWNERS.get(role(run.owner), "white")
        style = f"bold {tint}" if run.taught else tint
        mark = TAUGHT if run.taught else GIVEN
        if run.stop:
            fate = (
                f"the stop token, {'taught' if run.taught else 'not taught'}, id {run.tokens[0].id}"
            )
            console.print(_row(mark, style, f"{printable(run.text)}   ← {fate}"), **AS_IT_IS)
            continue
        count = f"{len(run.tokens)} token" + ("s" if len(run.tokens) > 1 else "")
        head = f"{run.owner}, {count}, weight {_weight(run)}"
        console.print(f"[{style}]{mark}[/] [dim]{escape(head)}[/]")
        lines = token_lines(run.tokens, console.width - 4)
        half = MOST_LINES // 2
        shown = lines if len(lines) <= MOST_LINES else [*lines[:half], *lines[-half:]]
        for number, (text, ids) in enumerate(shown):
            if number == half and len(lines) > MOST_LINES:
                console.print(_row(mark, style, f"... {len(lines) - 2 * half} more lines ..."))
            console.print(_row(mark, style, text), **AS_IT_IS)
            console.print(f"[{style}]{mark}[/]   [dim]{ids}[/]", **AS_IT_IS)
        if any(token.part for token in run.tokens):
            whole = shortened(printable(run.text.replace("\n", BREAK)), console.width - 15)
            console.print(f"[{style}]{mark}[/]   [dim]as a text: {escape(whole)}[/]", **AS_IT_IS)
    if not item.stopped:
        console.print("[dim]    (cut before a stop token)[/]")
    if item.advantages:
        numbers = ", ".join(f"{value:+.3f}" for value in item.advantages)
        mean = (
            ""
            if item.reward_mean is None
            else f"; mean reward of these rows {item.reward_mean:.3f}"
        )
        console.print(f"[dim]    advantage of this row {numbers}{mean}[/]")


def _weight(run: Run) -> str:
    low, high = min(run.weights), max(run.weights)
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"


def _row(mark: str, style: str, text: str) -> str:
    return f"[{style}]{mark}   {escape(text)}[/]"


# ---- for a program ------------------------------------------------------------------------------


def plain(study: str, reports: Sequence[ArmReport]) -> dict[str, Any]:
    """The same content as plain data; a number that is not finite is null.

    Keys: `study`, `exit_code`, `counts`, and `arms`, each with `arm`, `notes`, `items`, `lines`
    (`status`, `name`, `figure`, `fix`, `values`), `skipped` and `cost`.
    """
    return {
        "study": study,
        "exit_code": exit_code(reports),
        "counts": {status: sum(r.count(status) for r in reports) for status in MARKS},
        "arms": [
            {
                "arm": report.arm,
                "notes": list(report.notes),
                "items": [_plain_item(item) for item in report.items],
                "lines": [_finite(asdict(line)) for line in report.lines],
                "skipped": [asdict(skip) for skip in report.skipped],
                "cost": asdict(report.cost),
            }
            for report in reports
        ],
    }


def exit_code(reports: Sequence[ArmReport]) -> int:
    """1 where any line fails, else 0."""
    return int(any(report.count("fail") for report in reports))


def _plain_item(item: Item) -> Any:
    found = asdict(item)
    del found["runs"]  # the tokens say the same
    return _finite(found)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
