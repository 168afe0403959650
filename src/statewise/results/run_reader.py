"""A run folder read as a whole: its study, its arms and seeds, their files.

Every reader of a run starts here: the summary, the page, the server and `statewise plan --run`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from statewise.claims.claim import BASE
from statewise.claims.controls import Interpolation
from statewise.claims.paired import ITEM_COLUMNS, read_scores, where
from statewise.errors import RunError
from statewise.results.stored_study import stored_study
from statewise.results.types import TaskRow
from statewise.store import RunFolder, Shape, is_there, layout, read_json, read_rows
from statewise.store.finished import TASKS, refuse_copies


@dataclass(frozen=True)
class RunReader:
    """The run in a folder. Raises RunError as it is made if the folder is not a run's, or its study is damaged."""

    root: Path
    study: Mapping[str, Any]

    @classmethod
    def open(cls, root: Path) -> RunReader:
        return cls(root, stored_study(root))

    @property
    def run(self) -> RunFolder:
        return RunFolder(self.root)

    @cached_property
    def kinds(self) -> dict[str, str]:
        """Every policy of the study in a report's order, base first, and what it is."""
        # The base is not an arm of a study file.
        kinds = {BASE: "base"} | {str(arm["name"]): "arm" for arm in self.study["arms"]}
        return kinds | {str(null["name"]): _kind(null) for null in self.study.get("nulls") or ()}

    @property
    def names(self) -> list[str]:
        return list(self.kinds)

    def has_steps(self, name: str) -> bool:
        """True for a policy that training makes: an arm, or a null that is one stopped early."""
        kind = self.kinds[name]
        return kind == "arm" or kind.startswith("early stop")

    @cached_property
    def tasks(self) -> tuple[TaskRow, ...]:
        return tuple(_task(entry) for entry in self.study["tasks"])

    @property
    def roles(self) -> dict[str, str]:
        """The role of every task."""
        return {task.name: task.role for task in self.tasks}

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that the study states: a number of seeds, or their list."""
        value = self.study.get("seeds", ())
        return tuple(range(value)) if isinstance(value, int) else tuple(int(s) for s in value)

    @property
    def notes(self) -> list[str]:
        """The study's own notes."""
        notes = self.study.get("notes") or ()
        return [notes] if isinstance(notes, str) else [str(note) for note in notes]

    @cached_property
    def folders(self) -> dict[str, dict[int, Path]]:
        """The folders that exist, by policy and seed."""
        return {name: self.run.seeds(name) for name in self.names}

    def each(self) -> Iterator[tuple[str, int, Path]]:
        """Policy, seed and folder, in a report's order."""
        for name, seeds in self.folders.items():
            for seed, folder in seeds.items():
                yield name, seed, folder

    def json(self, folder: Path, name: str, shape: Shape) -> dict[str, Any]:
        """That file of a folder; empty if it is not there."""
        return read_json(folder / name, shape) if is_there(folder / name) else {}

    def all(self, arm: str, name: str, shape: Shape) -> list[dict[str, Any]]:
        """That file of every seed that has it."""
        paths = [folder / name for folder in self.folders[arm].values()]
        return [read_json(path, shape) for path in paths if is_there(path)]

    def rows(self, folder: Path, name: str, shape: Shape) -> list[dict[str, Any]]:
        """The rows of a `.jsonl` file; none if it is not there."""
        return read_rows(folder / name, shape)

    @cached_property
    def items(self) -> pd.DataFrame:
        """Item scores of every policy and seed, each task by its own metric: what claims are settled on."""
        frames = [pd.DataFrame(columns=pd.Index(ITEM_COLUMNS.names))]
        for arm, seed, folder in self.each():
            refuse_copies(folder, *TASKS)
            if is_there(folder / layout.ITEMS):
                frames.append(read_scores(folder / layout.ITEMS, arm, seed))
        filled = [frame for frame in frames if len(frame)] or frames
        return _own_metrics(pd.concat(filled, ignore_index=True), self.tasks)


def _own_metrics(items: pd.DataFrame, tasks: Sequence[TaskRow]) -> pd.DataFrame:
    """Only each task's own metric, so that no item counts twice."""
    by_task = []
    for task in tasks:
        rows = where(items, task=task.name)
        metrics = sorted(set(rows["metric"]))
        if metrics and task.metric and task.metric not in metrics:
            raise RunError(
                f"{task.name}: no metric {task.metric!r} in {layout.ITEMS}; has {metrics}"
            )
        by_task.append(where(rows, metric=task.metric) if task.metric else rows)
    return pd.concat(by_task, ignore_index=True)


def _kind(null: Mapping[str, Any]) -> str:
    """What a null is made of, in words.

    >>> _kind({"kind": "interpolation", "between": ["base", "stress_sft"]})
    'interpolation of base and stress_sft'
    >>> _kind({"kind": "early_stop", "of": "mild_sft"})
    'early stop of mild_sft'
    """
    if null["kind"] == Interpolation.kind:
        return f"interpolation of {' and '.join(null['between'])}"
    return f"early stop of {null['of']}"


def _task(entry: Mapping[str, Any]) -> TaskRow:
    name = str(entry.get("label") or entry["name"])
    return TaskRow(name, str(entry["role"]), str(entry.get("metric") or ""))
