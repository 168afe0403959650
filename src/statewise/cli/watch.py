"""What a person sees while jobs run: which arm, which step, loss, tokens per second, time left."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from statewise.formatting import duration
from statewise.jobs.executor import Event, Job

EVERY_SECONDS = 30.0
"""Without a terminal: how often each running job says where it is."""
ESTIMATED_FROM = 3
"""Jobs that must have ended, or steps of a job, before the time left is estimated: the first jobs are
the shortest (the base is measured, mild arms are trained) and the first step compiles and allocates."""


@contextlib.contextmanager
def watching(title: str, every_seconds: float = EVERY_SECONDS) -> Iterator[Callable[[Event], None]]:
    """A function to hand to the executor. On a terminal: live bars; elsewhere: lines.

    Lines say when a job begins and finishes, and every `every_seconds` where each running job is.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as progress:
            yield _live(progress, title)
        return
    watch, beat = lines(
        lambda text: console.print(text, highlight=False, markup=False, soft_wrap=True)
    )
    with beating(beat, every_seconds):
        yield watch


@contextlib.contextmanager
def beating(beat: Callable[[], None], every_seconds: float) -> Iterator[None]:
    """Call `beat` every so many seconds, in a thread: a long step brings no event of its own."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(every_seconds):
            beat()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def left_seconds(done: int, total: int, elapsed_seconds: float) -> float | None:
    """Time left at the pace so far; None before `ESTIMATED_FROM` are done.

    >>> left_seconds(2, 10, 4.0), left_seconds(4, 10, 8.0)
    (None, 12.0)
    """
    if done < ESTIMATED_FROM or total < done:
        return None
    return elapsed_seconds / done * (total - done)


@contextlib.contextmanager
def counting(every_seconds: float = 5.0) -> Iterator[Callable[[str, int, int], None]]:
    """A function that takes (what, done, total) and says so on standard error, seldom enough to read."""
    console = Console(stderr=True)
    said, began = -every_seconds, time.monotonic()

    def count(what: str, done: int, total: int) -> None:
        nonlocal said, began
        now = time.monotonic()
        began = now if done == 0 else began
        if done in (0, total) or now - said >= every_seconds:
            said = now
            left = _left(left_seconds(done, total, now - began)) if done < total else ""
            console.print(
                f"{what}: {done:,} of {total:,} items{left}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )

    yield count


# ---- lines ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Running:
    """A job that runs: its last event, when it began, and from which step its pace is counted."""

    event: Event
    began: float
    first_done: int
    first_time: float


def lines(
    say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
) -> tuple[Callable[[Event], None], Callable[[], None]]:
    """Two functions: one takes events and says what begins and finishes, one says where each job is."""
    start, lock = clock(), threading.Lock()
    running: dict[Job, _Running] = {}
    ended = 0

    def stamped(text: str) -> None:
        say(f"[{(clock() - start) / 60:5.1f} min] {text}")

    def watch(event: Event) -> None:
        nonlocal ended
        now = clock()
        with lock:
            if event.state == "began":
                running[event.job] = _Running(event, now, 0, now)
                stamped(f"began {event.job}")
            elif event.state == "moved" and (seen := running.get(event.job)):
                same = seen.event.phase == event.phase and seen.event.state == "moved"
                running[event.job] = (
                    replace(seen, event=event)
                    if same
                    else _Running(event, seen.began, event.done, now)
                )
            elif event.state == "ended":
                ended += 1
                running.pop(event.job, None)
                left = left_seconds(ended, event.jobs, now - start)
                ending = f"({ended} of {event.jobs} jobs{_left(left)})"
                if event.failed:
                    stamped(f"failed {event.job}: {event.failed} {ending}")
                else:
                    stamped(f"finished {event.job} {ending}")

    def beat() -> None:
        with lock:
            for job, seen in running.items():
                done = seen.event.done - seen.first_done
                total = seen.event.total - seen.first_done
                left = left_seconds(done, total, clock() - seen.first_time)
                since = duration(clock() - seen.began)
                stamped(f"{job}: {', '.join([*where(seen.event), f'{since} so far'])}{_left(left)}")

    return watch, beat


def where(event: Event) -> list[str]:
    """Where a job is, in parts.

    >>> where(Event(Job("train", "grpo", 0), "moved", "training", 12, 40, 3210.4, 0.5321))
    ['step 12 of 40', 'loss 0.532', '3,210 tokens/s']
    """
    if event.state != "moved":
        return []
    steps = f"step {event.done} of {event.total}" if event.total > 1 else ""
    phase = event.phase if event.phase != "training" else ""
    loss = "" if event.loss is None else f"loss {event.loss:.3g}"
    rate = f"{event.tokens_per_second:,.0f} tokens/s" if event.tokens_per_second else ""
    return [part for part in (phase, steps, loss, rate) if part]


def _left(seconds: float | None) -> str:
    return "" if seconds is None else f", about {duration(seconds)} left"


# ---- bars -----------------------------------------------------------------------------------------


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
            status = "  ".join(where(event))
            progress.update(rows[event.job], completed=event.done, total=event.total, status=status)
        elif event.state == "ended":
            ended += 1
            progress.remove_task(rows.pop(event.job))
            if event.failed:
                progress.console.print(
                    f"[red]failed[/] {event.job}: {escape(event.failed)}", highlight=False
                )
            else:
                progress.console.print(f"[green]done[/] {event.job}", highlight=False)
        total = event.jobs
        if total:
            left = _left(left_seconds(ended, total, time.monotonic() - began))
            progress.update(
                overall, completed=ended, total=total, status=f"{ended}/{total} jobs{left}"
            )

    return watch
