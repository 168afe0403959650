"""What was matched, and by how much it missed: `match.json` of every arm as rows of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from statewise import words
from statewise.store import read_json
from statewise.study.rows import MatchRow

QUANTITIES = {
    "tokens_trained": "tokens trained",
    "tokens_sampled": "tokens sampled",
    "updates": "updates",
    "kl_to_base": "kl(student || base)",
    "update_norm": "update norm",
    "target_gain": "dev gain over base",
}
"""A quantity as a table writes it."""


def matched_rows(
    folders: Mapping[str, Mapping[int, Path]],
) -> tuple[tuple[MatchRow, ...], list[str]]:
    """One row an arm that is matched, means over its finished seeds; and a note for each that missed."""
    rows, notes = [], []
    for name, seeds in folders.items():
        paths = {seed: folder / "match.json" for seed, folder in seeds.items()}
        stored = {seed: read_json(path) for seed, path in paths.items() if path.is_file()}
        stored = {seed: found for seed, found in stored.items() if "spent" in found}
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
    )


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
        f"seed {seed}: {words.amount(found['spent'])} for {words.amount(found['target'])}"
        for seed, found in missed.items()
    )
    what = QUANTITIES[first["quantity"]]
    return [
        f"{name} is not matched to the {what}{to} within {words.percent(first['tolerance'])} ({each}): "
        "what is compared with it was not compared at equal budget."
    ]


def missed_text(row: MatchRow) -> str:
    """The miss as a signed percentage.

    >>> missed_text(MatchRow("a", "updates", 10.0, 9.0, -0.1, 9.0))
    '−10.0 %'
    """
    return words.DASH if row.missed is None else f"{words.number(100 * row.missed, 1, sign=True)} %"


def weights_text(row: MatchRow) -> str:
    """Which weights are measured: a step, or the share of the way between two policies.

    >>> weights_text(MatchRow("a", "updates", 10.0, 9.0, -0.1, 9.0))
    'step 9'
    >>> weights_text(MatchRow("a", "kl_to_base", 0.1, 0.1, 0.0, 0.0, 0.25))
    'share 0.250'
    """
    return f"step {row.step:.4g}" if row.share is None else f"share {words.number(row.share)}"
