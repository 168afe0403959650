"""The run folder: what is written where, and how nothing is ever half-written.

    RUN/study.yaml                      the resolved study, itself a study file
    RUN/environment.json                the base's fingerprint; versions and hardware of every call
    RUN/arms/<arm>/seed-<n>/            one folder an arm and seed
        metrics.jsonl                   one row a step; repeats exactly under the same seed
        timing.jsonl                    seconds and tokens a second of the same steps
        dev.jsonl                       the dev curve
        checkpoint/                     where training continues after a kill; gone when it ends
        match.json, match.jsonl         what a matched arm was to reach; every checkpoint that was asked
        policy/                         the trained policy, a Hugging Face directory
        budget.json                     what the arm cost and how far it moved
        items.parquet                   one row an item, task and decoding
        states.parquet                  the rollouts whose prefixes drift compares
        drift.json                      drift from base
        probes.jsonl                    cheap probes while it trained
        probe_states.parquet            what it drew for the probes (study/probe_samples.py)
        probes.parquet                  what every probe answered, one row a number
        probes.skipped.json             which did not apply or had no answer, or only a part, and why
        microscope.json                 a few completions token by token (study/microscope.py); first seed only
        jobs.timing.jsonl, probes.timing.jsonl    seconds of its jobs and of each probe
    RUN/results.json, report.html, report.md

Every file appears whole or not at all: it is written beside its place and moved there. The `.jsonl`
files grow by lines; a line that a kill tore is not read, and a resumed run cuts what it will redo.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from statewise.errors import RunError

MARKER = "statewise.json"
"""Beside a policy's weights: what its config does not say (arm, steps, random initialisation)."""

PACKAGES = (
    "statewise",
    "torch",
    "transformers",
    "peft",
    "lm_eval",
    "datasets",
    "tokenizers",
    "numpy",
    "scipy",
)


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run."""

    root: Path

    @property
    def study(self) -> Path:
        """The resolved study."""
        return self.root / "study.yaml"

    def must_exist(self) -> Path:
        """The resolved study's file. Raises RunError where the folder is no run's."""
        if not self.study.is_file():
            raise RunError(f"{self.root} is no run folder: it has no study.yaml")
        return self.study

    def arm(self, name: str, seed: int) -> Path:
        """The folder of one arm and seed."""
        return self.root / "arms" / name / f"seed-{seed}"


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file that takes the place of `path` only when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write plain data as JSON, whole or not at all; nan and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file. Raises RunError naming a damaged one."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise RunError(
            f"{path} cannot be read ({error}); delete it and run again to rebuild it"
        ) from error


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to a JSON-lines file; nan and infinity are refused."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a JSON-lines file; none where there is no file. A torn last line is not a row.

    Raises RunError naming a damaged line.
    """
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n")[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise RunError(
                f"{path}, line {number} is damaged ({error}); delete its folder and run again"
            ) from error
    return rows


def cut_rows(path: Path, last_step: int) -> None:
    """Keep the rows up to `last_step`: what came after it will be computed again."""
    if path.exists():
        kept = [row for row in read_rows(path) if row["step"] <= last_step]
        write_text(path, "".join(json.dumps(row) + "\n" for row in kept))


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A directory that takes the place of `path` only when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside, old = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir()
    yield beside
    shutil.rmtree(old, ignore_errors=True)
    if path.exists():
        path.rename(old)
    beside.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def recover_directory(path: Path) -> None:
    """Undo a move that was cut short between its two renames: the old directory is still whole."""
    old = path.with_name(f".{path.name}.old")
    if old.exists() and not path.exists():
        old.rename(path)


def check_folder(folder: Path) -> None:
    """Refuse a place where no folder can be: it, or something above it, is a file."""
    nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not nearest.is_dir():
        raise RunError(f"{nearest} is a file, not a folder; give another --out")
    if not os.access(nearest, os.W_OK):
        raise RunError(f"{nearest} cannot be written to; give another --out")


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file; it is free again when the process ends, however it ends.

    Raises RunError where another process holds it.
    """
    check_folder(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunError(
                f"another process is writing to {path.parent}; wait for it, stop it, or give another --out"
            ) from None
        yield


def environment() -> dict[str, Any]:
    """Versions and hardware, as far as the standard library can tell."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "packages": versions,
    }


def _processor() -> str:
    """The processor's name; `platform.processor()` is empty on most Linux systems."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
