"""Files of rows that a study names: digests of them, so that one run never mixes two versions of a file."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from statewise.arms import parts
from statewise.data import Gsm8k, JsonLines
from statewise.errors import RunError
from statewise.evaluate import Task
from statewise.files import at_home, shown
from statewise.sources import Stored
from statewise.store import RunFolder, is_there, layout, read_json, write_json
from statewise.study.spec import Study

KEPT = ".rows.json"
"""In a run folder, and in no report: the paths are of this machine."""
BENCHMARKS = {
    "gsm8k": ("gsm8k/train.jsonl", "gsm8k/test.jsonl"),
    "truthfulqa": ("truthfulqa/v1/mc_task.json",),
    "mmlu": tuple(
        f"mmlu/{s}.csv{packed}" for s in ("dev", "val", "test") for packed in ("", ".gz")
    ),
}
"""Files of a local folder (evaluate/local.py), by the word that stands in the names of their tasks."""


def row_files(study: Study) -> list[str]:
    """Every file of rows that a study names and that is there, as the study writes its path."""
    return [path for path in dict.fromkeys(_named(study)) if at_home(path).is_file()]


def _named(study: Study) -> Iterator[str]:
    for rows in parts(study, JsonLines):
        yield rows.path
    for stored in parts(study, Stored):
        yield stored.path
    for rows in parts(study, Gsm8k):
        if rows.folder is not None:
            yield str(Path(rows.folder) / BENCHMARKS["gsm8k"][0])
    for task in parts(study, Task):
        if task.data is not None:
            words = [word for word in BENCHMARKS if word in task.name] or list(BENCHMARKS)
            yield from (str(Path(task.data) / file) for w in words for file in BENCHMARKS[w])


def row_digests(study: Study, known: Mapping[str, str]) -> dict[str, str]:
    """`known` with the digests of files that it lacks, by path. A digest that is known stays. Raises RunError."""
    return {path: _digest(path) for path in row_files(study) if path not in known} | dict(known)


def keep_digests(study: Study, run: RunFolder) -> None:
    """Store digests that are not known yet; before any arm begins, all of them anew. Raises RunError."""
    has_arms = bool(layout.seed_folders(run.root))
    write_json(run.root / KEPT, row_digests(study, _kept(run) if has_arms else {}))


def _kept(run: RunFolder) -> dict[str, str]:
    path = run.root / KEPT
    return read_json(path, {str: str}) if is_there(path) else {}


def refuse_changed_rows(run: RunFolder) -> None:
    """Refuse to go on with other rows than a folder was begun with; runs of before know of none.

    Raises RunError, naming the file.
    """
    for path, digest in _kept(run).items():
        is_lost = not at_home(path).is_file()
        if is_lost or _digest(path) != digest:
            what = "is gone" if is_lost else "has changed"
            raise RunError(
                f"{shown(path)} {what} since {shown(run.root)} was begun with it: figures of what is left to do "
                "would be of other rows; put the first file back, or give another --out"
            )


def _digest(path: str) -> str:
    place = at_home(path)
    try:
        about = place.stat()
        return _digest_of(place, about.st_size, about.st_mtime_ns)
    except OSError as error:
        raise RunError(
            f"{shown(path)} cannot be read ({error.strerror}); make it readable"
        ) from error


@functools.lru_cache(maxsize=256)
def _digest_of(place: Path, _size: int, _changed_ns: int) -> str:
    """Taken once a size and time of a file."""
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
