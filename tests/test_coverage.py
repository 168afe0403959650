"""Every interval of the package, asked by simulation how often it holds the truth."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import binom

from docs import coverage
from statewise import stats

REPOSITORY = Path(__file__).resolve().parents[1]
REPEATS = 400
FALSE_ALARM = 1e-4
"""Chance that a case whose coverage is exactly its floor fails."""


def fails(hits: int, repeats: int, floor: float) -> bool:
    """True where so few intervals hold the truth that the floor cannot be true."""
    return float(binom.cdf(hits, repeats, floor)) < FALSE_ALARM


@pytest.mark.parametrize("case", coverage.CASES, ids=lambda case: f"{case.function}: {case.name}")
def test_intervals_hold_the_truth_as_often_as_they_say(case):
    assert not fails(*coverage.covered(case, REPEATS), case.floor)


@pytest.mark.slow
@pytest.mark.parametrize("case", coverage.CASES, ids=lambda case: f"{case.function}: {case.name}")
def test_the_table_is_what_comes_out(case):
    """Within 4 standard errors of both, at another seed: 6e-5 a case."""
    row = table()[case.name, case.function]
    hits, known = coverage.covered(case, 2000, seed=1)
    share = hits / known
    # As large a share of the table's repetitions had an interval.
    error = (row * (1 - row) * (1 + 2000 / coverage.REPEATS) / known + 1e-6) ** 0.5
    assert abs(share - row) < 4 * error + 0.001


def table() -> dict[tuple[str, str], float]:
    """Observed coverage by case, as docs/statistics.md has it."""
    found = {}
    for line in coverage.PAGE.read_text("utf-8").split(coverage.BEGIN)[1].splitlines():
        if match := re.match(r"\| (.+?) \| `(\w+)` \| [\d.]+ \| ([\d.]+) \|", line):
            found[match[1], match[2]] = float(match[3])
    return found


def test_the_page_has_every_case_and_no_other():
    assert set(table()) == {(case.name, case.function) for case in coverage.CASES}


def test_a_case_that_undercovers_says_why():
    assert [case.name for case in coverage.CASES if case.floor < 0.93 and not case.note] == []


def test_every_function_with_an_interval_has_a_case():
    """Functions of `stats` that return an Estimate, an Effect or what holds one."""
    folder = Path(stats.__file__).parent
    named = {
        node.name
        for file in folder.glob("*.py")
        for node in ast.parse(file.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef)
        and not node.name.startswith("_")
        and isinstance(node.returns, ast.Name)
        and node.returns.id in ("Estimate", "Effect", "Explained")
    }
    assert len(named) >= 9
    assert named <= {case.function for case in coverage.CASES}


def test_a_planted_interval_that_is_too_narrow_is_found(monkeypatch):
    # A t over seeds alone where items dominate: 0.72 of the time at 3 seeds.
    case = next(
        c for c in coverage.CASES if c.name == "difference, 20 % differ for all seeds alike"
    )
    full = stats.crossed_effect
    monkeypatch.setattr(
        stats,
        "crossed_effect",
        lambda tables: stats.Effect(full(tables).value, (stats.Scale(1e-3, 2.0),), 3, 1000),
    )
    assert fails(*coverage.covered(case, REPEATS), case.floor)


def test_an_interval_that_is_unknown_holds_nothing():
    found = iter([None, (0.0, 1.0), None, (2.0, 3.0)])
    case = replace(coverage.CASES[0], draw=lambda rng: (next(found), 0.5))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coverage, "CASES", (case,))
        assert coverage.covered(case, 4) == (1, 2)
