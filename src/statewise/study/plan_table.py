"""`statewise plan` in words: what claims could see, and what the study would take."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from statewise.study.costs import Costs, Seconds
from statewise.study.planning import Assumed, ClaimPlan
from statewise.study.terminal import console
from statewise.words import DASH, duration, number


def plan_text(
    name: str,
    claims: tuple[ClaimPlan, ...],
    costs: Costs | None,
    assumed: Assumed,
    *,
    width: int = 100,
    colour: bool = False,
) -> str:
    """The plan for a terminal."""
    out = console(width=width, colour=colour)
    with out.capture() as capture:
        if claims:
            out.print(_claims(name, claims))
            for words, names in _variances(claims).items():
                out.print(f"differences {escape(words)} ({', '.join(map(escape, names))})")
            out.print(_legend(assumed), style="dim")
        else:
            out.print(f"{escape(name)} makes no claim.")
        for claim in claims:
            if claim.note:
                out.print(f"\n[bold]{escape(claim.name)}[/]: {escape(claim.note)}.")
        if costs is not None:
            out.print(_costs(costs))
            out.print(_spent(costs))
    return capture.get()


def plan_plain(
    name: str, claims: tuple[ClaimPlan, ...], costs: Costs | None, assumed: Assumed
) -> dict[str, Any]:
    """The plan as plain data."""
    return {
        "study": name,
        "assumed": asdict(assumed),
        "claims": [asdict(claim) for claim in claims],
        "costs": None if costs is None else asdict(costs),
    }


def _claims(name: str, claims: tuple[ClaimPlan, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title=escape(f"plan of {name}"))
    table.add_column("claim", overflow="fold", min_width=20)
    table.add_column("comparison", overflow="fold", min_width=16)
    for head in ("margin", "sees", "aim", "items", "items\nneeded", "seeds", "seeds\nneeded"):
        table.add_column(head, justify="right", no_wrap=True)
    for claim in claims:
        table.add_row(
            escape(_folded(claim.name)) + ("" if claim.primary else "\n(not primary)"),
            escape(claim.comparison).replace(" ", "\n", 1),
            number(claim.margin),
            _or_dash(claim.smallest_detectable),
            _or_dash(claim.aim),
            f"{claim.items:,}" if claim.items else DASH,
            DASH if claim.items_needed is None else f"{claim.items_needed:,}",
            str(claim.seeds),
            DASH if claim.seeds_needed is None else str(claim.seeds_needed),
        )
    return table


def _folded(name: str, width: int = 26) -> str:
    """A long name in lines, broken behind underscores.

    >>> print(_folded("exceeds_teacher_base_and_interpolation"))
    exceeds_teacher_base_and_
    interpolation
    """
    lines = [""]
    for part in name.replace("_", "_ ").split(" "):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _variances(claims: tuple[ClaimPlan, ...]) -> dict[str, list[str]]:
    """What is taken as known of the differences, and of which claims; what a run gave says so."""
    found: dict[str, list[str]] = {}
    for claim in claims:
        if claim.assumed:
            found.setdefault(claim.assumed, []).append(claim.name)
    return found


def _legend(assumed: Assumed) -> str:
    return (
        "sees: true effect that this design calls supported at least 8 times in 10, all comparisons of the claim "
        "together, at the strictest level that Holm asks for (of `retains`: the margin at which no change is). "
        f"aim: true effect, {assumed.beyond:g} beyond the margin (--beyond), that the items needed (at these seeds) "
        "and the seeds needed (at these items) would decide so; of `retains`, no change. Each number is that of the "
        "comparison of a claim that asks most. Of item-paired differences: variance over items (where as many are "
        "won as lost, the share that differs) and standard deviation over seeds. "
        f"Where no run says better: {assumed.discordance:g} of items differ between two arms, the same for every "
        f"seed, and an arm's score has standard deviation {assumed.seed_sd:g} over seeds. Both are assumptions."
    )


def _costs(costs: Costs) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title="one seed of each arm")
    table.add_column("arm", no_wrap=True)
    for head in ("steps", "training", "from"):
        table.add_column(head, justify="left" if head == "from" else "right")
    for arm in costs.arms:
        span = _span(arm.training)
        table.add_row(escape(arm.arm), f"{arm.steps:,}", span, escape(arm.source))
    return table


def _spent(costs: Costs) -> str:
    workers = f"{costs.workers} worker{'s' * (costs.workers != 1)}"
    without = f", without {', '.join(costs.left_out)}" if costs.left_out else ""
    memory = (
        "unknown: arms that were read from the run were not executed"
        if costs.memory_gib is None
        else f"{costs.memory_gib:.1f} GiB a worker, the peak of what was measured here"
    )
    return (
        f"Evaluation of one policy on all tasks: {_span(costs.evaluation)}. The whole study on {workers}: "
        f"{_span(costs.elapsed)}{without}. Memory: {memory}."
    )


def _span(span: Seconds) -> str:
    low, high = duration(span.low), duration(span.high)
    return low if low == high else f"{low} to {high}"


def _or_dash(value: float | None) -> str:
    return DASH if value is None else number(value)
