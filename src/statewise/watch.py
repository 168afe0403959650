"""What a person sees while a study runs: which arm, which step, tokens a second, time left."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from statewise.study.executor import Event, Job


@contextlib.contextmanager
def watching(title: str) -> Iterator[Callable[[Event], None]]:
    """A function to hand to the executor. On a terminal: live bars; elsewhere: a line a finished job."""
    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as progress:
            yield _live(progress, title)
    else:
        yield _lines(console)


def _bars(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", table_column=None),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[status]}"),
        TimeElapsedColumn(),
        console=console,
    )


def _live(progress: Progress, title: str) -> Callable[[Event], None]:
    overall = progress.add_task(f"[bold]{title}", total=None, status="")
    rows: dict[Job, TaskID] = {}
    began = time.monotonic()
    ended = 0

    def watch(event: Event) -> None:
        nonlocal ended
        if event.state == "began":
            rows[event.job] = progress.add_task(str(event.job), total=None, status="")
        elif event.state == "moved" and event.job in rows:
            rate = f"{event.tokens_per_second:,.0f} tokens/s" if event.tokens_per_second else ""
            steps = f"{event.done}/{event.total}" if event.total > 1 else ""
            status = "  ".join(part for part in (event.phase, steps, rate) if part)
            progress.update(rows[event.job], completed=event.done, total=event.total, status=status)
        elif event.state == "ended":
            ended += 1
            progress.remove_task(rows.pop(event.job))
            progress.console.print(f"[green]done[/] {event.job}", highlight=False)
        total = event.jobs
        if total:
            left = (time.monotonic() - began) / ended * (total - ended) if ended else None
            remaining = f"about {left / 60:.0f} min left" if left is not None else ""
            progress.update(
                overall, completed=ended, total=total, status=f"{ended}/{total} jobs  {remaining}"
            )

    return watch


def _lines(console: Console) -> Callable[[Event], None]:
    began = time.monotonic()
    ended = 0

    def watch(event: Event) -> None:
        nonlocal ended
        if event.state != "ended":
            return
        ended += 1
        elapsed = time.monotonic() - began
        left = (
            f", about {elapsed / ended * (event.jobs - ended) / 60:.0f} min left"
            if event.jobs
            else ""
        )
        console.print(
            f"[{elapsed / 60:5.1f} min] {ended}/{event.jobs} {event.job}{left}",
            highlight=False,
            markup=False,
        )

    return watch
