"""Contenders in turn: search a setting for each, warm up, alternate, keep every sample.

One comparison is one piece of work, done by statewise and by each peer. Whoever has several settings tries
each of them first, for a short while, and enters with the best; everything that was tried is kept.
Then all run in turn, round by round, the order reversed each time, so that a machine that slows down
slows down everyone.
"""

from __future__ import annotations

import contextlib
import gc
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

Setting = Mapping[str, Any]
OURS = "statewise"


@dataclass(frozen=True)
class Options:
    """What the command line says of every part."""

    quick: bool = False
    rounds: int = 5
    threads: int = 2
    device: str = "cpu"
    peers: bool = True
    results: Path = Path("benchmarks/results")
    figures: Path = Path("docs/figures")

    @property
    def cuda(self) -> bool:
        """True where the work is done by an accelerator."""
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Work:
    """One round of one contender: what was done, in what time, and the least that it had to cost.

    `amount` is in the unit of the comparison (tokens, steps, items). `flops` and `bytes_read` are counted
    by formula (`cost.py`) for this very work, and `dtype` says which peak they are held against.
    """

    amount: float
    seconds: float
    flops: float = 0.0
    bytes_read: float = 0.0
    dtype: str = "fp32"
    details: Mapping[str, Any] = field(default_factory=dict)


Run = Callable[[int], Work]
"""One round; the argument seeds what is random in it."""


@dataclass(frozen=True)
class Contender:
    """Someone who can do the work, and the settings it may choose from.

    `opens` prepares a setting (loads models, starts a process) and yields what is timed.
    """

    name: str
    settings: Sequence[Setting]
    opens: Callable[[Setting], contextlib.AbstractContextManager[Run]]


@dataclass(frozen=True)
class Target:
    """`aim` and `floor` of the ratio ours / theirs (a rate) or of theirs / ours (seconds); see `Comparison`."""

    peer: str
    aim: float
    floor: float


@dataclass(frozen=True)
class Comparison:
    """One piece of work. `higher` units are rates, `lower` ones are seconds a piece.

    `no_more` names a detail, such as memory, of which we may take no more than the peer of the first target does at
    its best setting: ours is then the fastest of those that keep to it. Either side has several settings.
    """

    name: str
    unit: str
    better: Literal["higher", "lower"]
    contenders: Sequence[Contender]
    targets: Sequence[Target] = ()
    describes: Mapping[str, Any] = field(default_factory=dict)
    no_more: str | None = None

    def value(self, work: Work) -> float:
        """What is reported of a round.

        >>> pairs = Comparison("", "s", "lower", ()), Comparison("", "tokens/s", "higher", ())
        >>> [comparison.value(Work(amount=4, seconds=2)) for comparison in pairs]
        [0.5, 2.0]
        """
        return work.amount / work.seconds if self.better == "higher" else work.seconds / work.amount


class MissingError(Exception):
    """A peer that is not installed; the message says what brings it."""


def say(text: str) -> None:
    """Progress, on stderr."""
    print(text, file=sys.stderr, flush=True)


def now(device: str = "cpu") -> float:
    """Seconds; an accelerator is waited for first."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def compare(comparison: Comparison, options: Options, peaks: Mapping[str, float]) -> dict[str, Any]:
    """Search, warm up, alternate; everything as plain data."""
    say(f"  {comparison.name}")
    searched: dict[str, list[dict[str, Any]]] = {}
    missing: dict[str, str] = {}
    entered: list[tuple[Contender, Setting]] = []
    for contender in comparison.contenders:
        try:
            best, trials = _search(contender, comparison, options)
        except MissingError as reason:
            say(f"    {contender.name}: {reason}")
            missing[contender.name] = str(reason)
            continue
        searched[contender.name] = trials
        entered.append((contender, best))
    if comparison.no_more:
        entered = _frugal(comparison, searched, entered)
    rounds = _alternate(entered, options)
    entries = [
        _entry(contender.name, setting, rounds[contender.name], comparison, peaks)
        | {"searched": searched[contender.name]}
        for contender, setting in entered
    ]
    return {
        "name": comparison.name,
        "unit": comparison.unit,
        "better": comparison.better,
        "describes": dict(comparison.describes),
        "contenders": entries,
        "ratios": ratios(entries, comparison),
        "missing": missing,
    }


def _search(
    contender: Contender, comparison: Comparison, options: Options
) -> tuple[Setting, list[dict[str, Any]]]:
    """The best setting of a contender by one round after one of warming up, and what was tried."""
    settings = contender.settings[:1] if options.quick else contender.settings
    if len(settings) == 1:
        with contender.opens(settings[0]):  # a missing peer shows here
            pass
        return settings[0], []
    trials: list[dict[str, Any]] = []
    for setting in settings:
        try:
            with contender.opens(setting) as run:
                run(0)
                work = run(1)
                value = comparison.value(work)
            trials.append({"setting": dict(setting), "value": value, "details": dict(work.details)})
            say(f"    {contender.name} {words(setting)}: {value:,.4g} {comparison.unit}")
        except MissingError:
            raise
        except (RuntimeError, ValueError, TypeError, NotImplementedError, MemoryError) as error:
            # A setting that a peer refuses is no setting of it. That it was tried is kept.
            reason = f"{type(error).__name__}: {str(error).strip()[:300]}"
            trials.append({"setting": dict(setting), "refused": reason})
            say(f"    {contender.name} {words(setting)}: refused, {reason}")
        gc.collect()
    done = [trial for trial in trials if "value" in trial]
    if not done:
        raise RuntimeError(f"{contender.name} refused every setting; the first said: {trials[0]}")
    pick = max if comparison.better == "higher" else min
    return pick(done, key=lambda trial: trial["value"])["setting"], trials


def _frugal(
    comparison: Comparison,
    searched: Mapping[str, Sequence[Mapping[str, Any]]],
    entered: Sequence[tuple[Contender, Setting]],
) -> list[tuple[Contender, Setting]]:
    """We enter with our fastest setting that takes no more than the peer's best; the thriftiest where none does."""
    key, better = str(comparison.no_more), 1 if comparison.better == "higher" else -1
    settings = {contender.name: setting for contender, setting in entered}
    done = {name: [t for t in trials if "value" in t] for name, trials in searched.items()}
    peer = comparison.targets[0].peer
    if not (done.get(OURS) and done.get(peer)):  # a quick run searches nothing
        return list(entered)
    limit = next(t["details"][key] for t in done[peer] if t["setting"] == settings[peer])
    thrifty = [t for t in done[OURS] if t["details"][key] <= limit]
    if thrifty:
        chosen = max(thrifty, key=lambda t: better * t["value"])
    else:
        chosen = min(done[OURS], key=lambda t: t["details"][key])
    return [(c, chosen["setting"] if c.name == OURS else setting) for c, setting in entered]


def _alternate(
    entered: Sequence[tuple[Contender, Setting]], options: Options
) -> dict[str, list[Work]]:
    with contextlib.ExitStack() as open_ones:
        gc.freeze()  # what is there already need not be looked through before every round
        open_ones.callback(gc.unfreeze)
        runs = [(c.name, open_ones.enter_context(c.opens(setting))) for c, setting in entered]
        for _, run in runs:
            run(0)
        done: dict[str, list[Work]] = {name: [] for name, _ in runs}
        for index in range(1, options.rounds + 1):
            for name, run in runs if index % 2 else reversed(runs):
                gc.collect()  # nobody cleans up after another on the clock
                done[name].append(run(index))
    return done


def _entry(
    name: str,
    setting: Setting,
    works: Sequence[Work],
    comparison: Comparison,
    peaks: Mapping[str, float],
) -> dict[str, Any]:
    samples = [comparison.value(work) for work in works]
    entry = {
        "name": name,
        "setting": dict(setting),
        "samples": samples,
        **spread(samples),
        "details": _medians([work.details for work in works]),
    }
    if works[0].flops:
        peak = peaks[f"matmul_{works[0].dtype}"]
        entry["share_of_matmul"] = statistics.median(w.flops / w.seconds / peak for w in works)
    if works[0].bytes_read:
        entry["share_of_bandwidth"] = statistics.median(
            w.bytes_read / w.seconds / peaks["copy"] for w in works
        )
    say(f"    {name}: {entry['median']:,.4g} {comparison.unit} ({words(setting)})")
    return entry


def ratios(
    entries: Sequence[Mapping[str, Any]], comparison: Comparison
) -> dict[str, dict[str, Any]]:
    """How many times faster ours is than each peer: by medians, and the extremes round by round.

    >>> comparison = Comparison("", "s", "lower", (), (Target("peer", 3.0, 2.0),))
    >>> of = lambda name, *samples: {"name": name, "samples": samples} | spread(samples)
    >>> found = ratios([of("statewise", 1.0, 2.0, 1.0), of("peer", 2.0, 5.0, 4.0)], comparison)
    >>> found["peer"]
    {'ratio': 4.0, 'least': 2.0, 'most': 4.0, 'aim': 3.0, 'floor': 2.0}
    """
    targets = {target.peer: target for target in comparison.targets}
    by_name = {entry["name"]: entry for entry in entries}
    if OURS not in by_name:
        return {}
    ours = by_name.pop(OURS)

    def faster(mine: float, theirs: float) -> float:
        return mine / theirs if comparison.better == "higher" else theirs / mine

    found = {}
    for name, entry in by_name.items():
        each = [faster(a, b) for a, b in zip(ours["samples"], entry["samples"], strict=True)]
        found[name] = {
            "ratio": faster(ours["median"], entry["median"]),
            "least": min(each),
            "most": max(each),
            "aim": targets[name].aim if name in targets else None,
            "floor": targets[name].floor if name in targets else None,
        }
    return found


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Median and extremes."""
    return {"median": statistics.median(samples), "min": min(samples), "max": max(samples)}


def _medians(details: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Numbers by their median over rounds, everything else as the last round says."""
    return {
        key: statistics.median([d[key] for d in details])
        if isinstance(value, int | float) and not isinstance(value, bool)
        else value
        for key, value in details[-1].items()
    }


def words(setting: Setting) -> str:
    """A setting in a line.

    >>> words({"batch": 32, "packing": False, "precision": "bf16"})
    'batch 32, packing off, precision bf16'
    """
    switch = {True: "on", False: "off"}
    return ", ".join(
        f"{k.replace('_', ' ')} {switch[v] if isinstance(v, bool) else v}"
        for k, v in setting.items()
    )


@contextlib.contextmanager
def ready(run: Run) -> Iterator[Run]:
    """A contender that needs no closing."""
    yield run
