"""`statewise plan` in words: what claims could see, and what the study would take."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from statewise.claims.power import Assumed, ClaimPlan
from statewise.formatting import DASH, duration, number
from statewise.jobs.costs import Costs, Seconds
from statewise.terminal import console


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
            if said := _said(claim):
                out.print(f"\n[bold]{escape(claim.name)}[/]: {escape(said)}.")
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
    for head in ("claim", "comparison"):
        table.add_column(head, no_wrap=True)  # folded below, between words
    for head in ("margin", "sees", "aim", "items", "seeds", "would do:\nseeds×items"):
        table.add_column(head, justify="right", no_wrap=True)
    for claim in claims:
        table.add_row(
            escape(_folded(claim.name)) + ("" if claim.primary else "\n(not primary)"),
            escape(_compared(claim.comparison)),
            number(claim.margin),
            _or_dash(claim.smallest_detectable),
            _or_dash(claim.aim),
            f"{claim.items:,}" if claim.items else DASH,
            str(claim.seeds),
            DASH if claim.pair is None else f"{claim.pair.seeds} × {claim.pair.items:,}",
        )
    return table


def _folded(name: str, width: int = 22) -> str:
    """A long name in lines, broken behind underscores.

    >>> print(_folded("exceeds_teacher_base_and_interpolation"))
    exceeds_teacher_base_
    and_interpolation
    """
    lines = [""]
    for part in name.replace("_", "_ ").split(" "):
        if lines[-1] and len(lines[-1]) + len(part) > width:
            lines.append("")
        lines[-1] += part
    return "\n".join(lines)


def _compared(comparison: str) -> str:
    """Both sides of a comparison, each in lines of its own.

    >>> print(_compared("grpo vs one_step_opd_from_stress"))
    grpo
    vs one_step_opd_from_
    stress
    """
    first, _, rest = comparison.partition(" ")
    word, _, second = rest.partition(" ")
    return _folded(first) + (f"\n{word} {_folded(second)}" if second else f" {word}")


def _variances(claims: tuple[ClaimPlan, ...]) -> dict[str, list[str]]:
    """What is taken as known of the differences, and of which claims; what a run gave says so."""
    found: dict[str, list[str]] = {}
    for claim in claims:
        if claim.assumed:
            found.setdefault(claim.assumed, []).append(claim.name)
    return found


def _said(claim: ClaimPlan) -> str:
    """What decides a claim: one pair of seeds and items, then what either alone would do.

    Items are those of all its tasks together.
    """
    if claim.aim is None:
        return claim.note
    pair, said = claim.pair, []
    if pair is None:
        said.append("no design within reason decides it: too much differs as it is assumed")
    elif pair.items <= pair.available:
        said.append(
            f"{_seeds(pair.seeds)} with {pair.items:,} items decide it (its tasks hold {pair.available:,})"
        )
    else:
        said.append(
            f"{_seeds(pair.seeds)} with {pair.items:,} items decide it, but its tasks hold {pair.available:,}: "
            "take larger tasks, a larger effect (--beyond) or a wider margin"
        )
    if claim.items_needed is not None and (pair is None or claim.seeds != pair.seeds):
        said.append(f"at {_seeds(claim.seeds)}, {claim.items_needed:,} items do")
    if claim.seeds_needed is not None and (pair is None or claim.seeds_needed != pair.seeds):
        said.append(f"at {claim.items:,} items, {_seeds(claim.seeds_needed)} do")
    return "; ".join([*said, claim.note] if claim.note else said)


def _seeds(count: int) -> str:
    return f"{count} seed{'s' * (count != 1)}"


def _legend(assumed: Assumed) -> str:
    return (
        "sees: the smallest true effect that comes out supported in 8 of 10 studies of this design (for `retains`: the "
        "margin at which no change is called so). All comparisons of a claim must pass, at the strictest level that "
        "Holm asks for; each number is that of the most demanding one.\n"
        f"aim: the true effect that `would do` is for, {assumed.beyond:g} beyond the margin (change it: --beyond); "
        "for `retains`, no change.\n"
        f"Assumed where no run says better: {assumed.discordance:g} of items differ between two arms, the same items "
        f"for every seed (change it: --discordance), and an arm's score has standard deviation {assumed.seed_sd:g} "
        "over seeds (--seed-sd). To replace both by what was measured, run a few seeds and give the folder: --run RUN."
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
