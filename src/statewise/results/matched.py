"""What was matched, and by how much it missed: `match.json` of every arm as rows of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from statistics import fmean
from typing import Any

from statewise import formatting
from statewise.results.types import MatchRow
from statewise.stats import Effect, Estimate, Scale, interval
from statewise.store import artefacts, is_there, layout, read_json

QUANTITIES = {
    "tokens_trained": "tokens trained",
    "tokens_sampled": "tokens sampled",
    "updates": "updates",
    "kl_to_base": "kl(student || base)",
    "update_norm": "update norm",
    "target_gain": "dev gain over base",
}
"""A quantity as a table writes it."""


HEAD = ("arm", "quantity", "target", "spent", "95 %", "missed", "weights")
"""Columns of the table of what was matched; `cells` are a row of it."""


def cells(row: MatchRow) -> tuple[str, ...]:
    """A row of the table, below `HEAD`, on the page, in Markdown and in the terminal.

    >>> cells(MatchRow("a", "updates", 10.0, 9.0, -0.1, 9.0))
    ('a', 'updates', '10', '9', '–', '−10.0 %', 'step 9')
    """
    return (
        row.arm,
        QUANTITIES[row.quantity],
        formatting.amount(row.target),
        formatting.amount(row.spent),
        error_text(row),
        missed_text(row),
        weights_text(row),
    )


def matched_rows(
    folders: Mapping[str, Mapping[int, Path]],
) -> tuple[tuple[MatchRow, ...], list[str]]:
    """One row an arm that is matched, means over its finished seeds; and a note for each that missed."""
    rows, notes = [], []
    for name, seeds in folders.items():
        paths = {seed: folder / layout.MATCH for seed, folder in seeds.items()}
        stored = {
            seed: read_json(path, artefacts.MATCH) for seed, path in paths.items() if is_there(path)
        }
        stored = {
            seed: found for seed, found in stored.items() if {"spent", "step"} <= found.keys()
        }
        if not stored:
            continue
        rows.append(_row(name, list(stored.values())))
        notes += _notes(name, stored)
    return tuple(rows), notes


def _row(name: str, stored: Sequence[Mapping[str, Any]]) -> MatchRow:
    shares = [found["share"] for found in stored if "share" in found]
    target, spent = (fmean(found[key] for found in stored) for key in ("target", "spent"))
    return MatchRow(
        arm=name,
        quantity=stored[0]["quantity"],
        target=target,
        spent=spent,
        missed=_missed(target, spent),
        step=fmean(found["step"] for found in stored),
        share=fmean(shares) if shares else None,
        stderr=_stderr([found.get("stderr") for found in stored]),
    )


def _stderr(each: Sequence[float | None]) -> float | None:
    """Of a mean over checkpoints whose errors are independent: `sqrt(sum of squares) / n`; None where one is.

    >>> _stderr([0.3, 0.4]), _stderr([0.3, None])
    (0.25, None)
    """
    known = [e for e in each if e is not None]
    return sum(e**2 for e in known) ** 0.5 / len(known) if len(known) == len(each) else None


def spent_estimate(row: MatchRow) -> Estimate:
    """What was spent, with its normal 95 % interval where it was measured and not counted.

    >>> e = spent_estimate(MatchRow("a", "kl_to_base", 0.1, 0.1, 0.0, 20.0, stderr=0.01))
    >>> round(e.low, 4), round(e.high, 4)
    (0.0804, 0.1196)
    """
    if row.stderr is None:
        return Estimate(row.spent, None, 1, row.quantity)
    error = Effect(row.spent, (Scale(row.stderr, inf),), 1, 1)
    return Estimate(row.spent, row.stderr, 1, row.quantity, *(interval(error, 0.025) or ()))


def missed_estimate(row: MatchRow) -> Estimate | None:
    """The miss in percent, with the error of what was spent; None where the target is 0.

    >>> e = missed_estimate(MatchRow("a", "kl_to_base", 0.1, 0.1, 0.0, 20.0, stderr=0.01))
    >>> round(e.low, 1), round(e.high, 1)
    (-19.6, 19.6)
    """
    if row.missed is None:
        return None
    spent, scale = spent_estimate(row), 100 / abs(row.target)
    if spent.stderr is None or spent.low is None or spent.high is None:
        return Estimate(100 * row.missed, None, 1, "percent")
    # Ends keep their order where the target is negative, a loss that is matched.
    off = sorted(100 * (end / row.target - 1) for end in (spent.low, spent.high))
    return Estimate(100 * row.missed, scale * spent.stderr, 1, "percent", *off)


def error_text(row: MatchRow) -> str:
    """The interval of what was spent; a dash where it was counted, or where its error is unknown.

    >>> error_text(MatchRow("a", "kl_to_base", 0.1, 0.1, 0.0, 20.0, stderr=0.01))
    '[0.0804, 0.1196]'
    """
    spent = spent_estimate(row)
    if spent.low is None or spent.high is None:
        return formatting.DASH
    ends = (
        f"{formatting.MINUS if end < 0 else ''}{formatting.amount(abs(end))}"
        for end in (spent.low, spent.high)
    )
    return f"[{', '.join(ends)}]"


def _missed(target: float, spent: float) -> float | None:
    """`spent / target - 1`; None where the target is 0: no share of nothing."""
    return spent / target - 1 if target else None


def _notes(name: str, stored: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """Which seeds missed by more than the study tolerates; means over seeds could hide them."""
    missed = {
        seed: found
        for seed, found in stored.items()
        if abs(found["spent"] - found["target"]) > found["tolerance"] * abs(found["target"])
    }
    if not missed:
        return []
    first = next(iter(missed.values()))
    to = f" of {first['target_arm']}" if first["target_arm"] else ""
    each = "; ".join(
        f"seed {seed}: {formatting.amount(found['spent'])} for {formatting.amount(found['target'])}"
        for seed, found in missed.items()
    )
    what = QUANTITIES[first["quantity"]]
    return [
        f"{name} is not matched to the {what}{to} within {formatting.percent(first['tolerance'])} ({each}): "
        "what is compared with it was not compared at equal budget."
    ]


def missed_text(row: MatchRow) -> str:
    """The miss as a signed percentage.

    >>> missed_text(MatchRow("a", "updates", 10.0, 9.0, -0.1, 9.0))
    '−10.0 %'
    """
    return (
        formatting.DASH
        if row.missed is None
        else f"{formatting.number(100 * row.missed, 1, sign=True)} %"
    )


def weights_text(row: MatchRow) -> str:
    """Which weights are measured: a step, or the share of the way between two policies.

    >>> weights_text(MatchRow("a", "updates", 10.0, 9.0, -0.1, 9.0))
    'step 9'
    >>> weights_text(MatchRow("a", "kl_to_base", 0.1, 0.1, 0.0, 0.0, 0.25))
    'share 0.250'
    """
    return f"step {row.step:.4g}" if row.share is None else f"share {formatting.number(row.share)}"
