"""Every planted bug of `make mutants` can still be planted, and they stand for every pitfall.

Nothing is planted here: that takes minutes. What is held is that the table does not rot.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.mutants.mutant import CannotPlantError, Mutant
from tests.mutants.table import MUTANTS, NOT_PLANTED, PITFALLS
from tests.test_docs import OPEN, sections

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_mutant_can_be_planted_and_its_tests_are_there(mutant: Mutant) -> None:
    assert mutant.planted(ROOT) != mutant.path(ROOT).read_text("utf-8")
    assert list(mutant.missing_tests(ROOT)) == []
    assert mutant.tests


def test_no_two_mutants_are_one() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
    bugs = [(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS]
    assert len(set(bugs)) == len(bugs)


def test_what_cannot_be_planted_is_named() -> None:
    sound = next(m for m in MUTANTS if m.name == "rows are padded on the left")
    for change, complaint in (
        ({"old": "nowhere"}, "holds 'nowhere' 0 times"),
        ({"old": "row"}, r"holds 'row' \d+ times and not once"),
        ({"new": sound.old}, "stays as it is"),
        ({"new": "target[:"}, "is no Python any more"),
        ({"file": "nowhere.py"}, "is not there"),
    ):
        with pytest.raises(CannotPlantError, match=complaint):
            replace(sound, **change).planted(ROOT)
    tests = ("nowhere.py", "test_mutants.py::test_nothing", "test_mutants.py")
    assert list(replace(sound, tests=tests).missing_tests(ROOT)) == list(tests[:2])


def test_every_pitfall_that_names_a_test_has_a_mutant_of_its_kind_or_a_reason() -> None:
    rows = [row for table in sections(ROOT / "docs" / "pitfalls.md").values() for row in table]
    tested = [what for what, _, here in rows if "`tests/" in here and not here.startswith(OPEN[1])]
    known = {**PITFALLS, **NOT_PLANTED}
    for what in tested:
        starts = [start for start in known if what.startswith(start)]
        assert len(starts) == 1, f"tests/mutants/table.py has {len(starts)} entries for: {what}"
    for start in known:
        assert any(what.startswith(start) for what in tested), f"no pitfall begins with: {start}"
    kinds = {mutant.kind for mutant in MUTANTS}
    assert {kind for named in PITFALLS.values() for kind in named} <= kinds
    assert all(NOT_PLANTED.values())
