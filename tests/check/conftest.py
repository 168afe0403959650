"""Studies of one arm on the tiny base, and the line of a check."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def one(tiny_study) -> Callable[..., Any]:
    """The tiny study with one arm, measured on the first items of its target alone."""

    def make(arm, **changes):
        tasks = tuple(t for t in tiny_study.tasks if t.role == "target")
        bare = {"arms": (arm,), "tasks": tasks, "claims": (), "doses": {}, "dev": None}
        return replace(tiny_study, **(bare | changes))

    return make


@pytest.fixture(scope="session")
def report() -> Callable[..., Any]:
    """The report of a study's only arm, or of the one that is named."""
    from statewise.check import check_study

    def make(study, arm=None, **options):
        (found,) = check_study(study, arms=[arm] if arm else [], **options)
        return found

    return make


@pytest.fixture(scope="session")
def line() -> Callable[..., Any]:
    """The line of that name in a report."""

    def find(report, name):
        (found,) = [x for x in report.lines if x.name == name]
        return found

    return find


@pytest.fixture
def rows(tmp_path) -> Callable[..., Any]:
    """Data of question and answer, written as JSON lines."""
    from statewise.data import JsonLines

    def write(pairs, **options):
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.jsonl"
        records = [json.dumps({"question": q, "answer": a}) for q, a in pairs]
        path.write_text("\n".join(records))
        return JsonLines(str(path), **options)

    return write


@pytest.fixture
def copy_of(tiny_base, tmp_path) -> Callable[..., Any]:
    """A copy of the tiny base with one of its JSON files changed."""

    def make(name: str, file: str, change: Callable[[Any], Any]) -> str:
        folder = Path(shutil.copytree(tiny_base, tmp_path / name))
        path = folder / file
        found = json.loads(path.read_text())
        path.write_text(json.dumps(change(found) or found))
        return str(folder)

    return make
