"""What a finished job wrote: names, sizes and digests, written last; a job is finished while that holds.

    <job>.manifest.json     {"files": {name: {"bytes": n, "sha256": digest}}, "rests_on": digest, "of": {...}}
    .verified.json          which digests were taken, of which size and time of a file

A file is read again only where its size or time is another than when its digest was last taken, so
that asking costs a look at the folder. What the clock wrote stands in no manifest, nor a model's card.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from statewise.errors import RunError
from statewise.files import shown
from statewise.store.reading import damaged, is_there, misfit, read_json, remedy
from statewise.store.writing import remove, sync, write_json, written

CACHE = ".verified.json"
SHAPE = {
    "files": {str: {"bytes": int, "sha256": str}},
    "rests_on": str,
    "of?": {"arm": str, "seed": int, "study": (str, None)},
}


@dataclass(frozen=True, slots=True)
class Held:
    """What became of a finished job's files. `missing` names the first that is not there; None where all hold."""

    missing: str | None
    rests_on: str
    """A digest of what the job was done with, from another manifest; see `digest_of`."""


def manifest_path(folder: Path, job: str) -> Path:
    """Where the manifest of a job lies."""
    return folder / f"{job}.manifest.json"


def seal(
    folder: Path,
    job: str,
    patterns: Iterable[str],
    *,
    rests_on: str = "",
    of: Mapping[str, Any] | None = None,
) -> None:
    """Write the manifest of a finished job over the files that fit the patterns. All of them are on the disk then.

    `of` says whose job it was: `arm`, `seed` and `study`. Raises RunError.
    """
    files = {}
    cache = _cache(folder)
    for place in sorted({p for pattern in patterns for p in folder.glob(pattern)}):
        if place.is_file() and not place.is_symlink():
            with written(place):
                sync(place)
            name = place.relative_to(folder).as_posix()
            size, changed = _about(place) or [0, 0]
            files[name] = {"bytes": size, "sha256": _digest(place)}
            cache[name] = [size, changed, files[name]["sha256"]]
    whose = {} if of is None else {"of": dict(of)}
    write_json(manifest_path(folder, job), {"files": files, "rests_on": rests_on, **whose})
    _keep(folder, cache)


def unseal(folder: Path, job: str) -> None:
    """Make a job one that is not finished, before any of its files is written again."""
    remove(manifest_path(folder, job))


def held(folder: Path, job: str) -> Held | None:
    """Whether a finished job's files are as it wrote them; None where it has no manifest.

    Raises RunError, naming the first file that was changed.
    """
    stored = _stored(folder, job)
    if stored is None:
        return None
    cache = _cache(folder)
    known = dict(cache)
    missing = None
    for name, wrote in stored["files"].items():
        place = folder / name
        if not is_there(place):
            missing = missing or name
            continue
        about = _about(place)
        if about is None or about[0] != wrote["bytes"]:
            raise _changed(place, job)
        seen = known.get(name)
        digest = seen[2] if seen is not None and seen[:2] == about else _digest(place)
        if digest != wrote["sha256"]:
            raise _changed(place, job)
        cache[name] = [*about, digest]
    if cache != known:
        _keep(folder, cache)
    return Held(missing, stored["rests_on"])


def sealed_of(folder: Path, job: str) -> Mapping[str, Any]:
    """Whose a finished job was, as its manifest says; {} where none says so. Raises RunError."""
    stored = _stored(folder, job)
    return stored.get("of", {}) if stored is not None else {}


def _changed(path: Path, job: str) -> RunError:
    return damaged(path, f"it is another than the finished job {job!r} wrote")


def digest_of(folder: Path, job: str, prefix: str) -> str:
    """One digest of those files of a manifest whose names begin so; empty where there is no manifest."""
    stored = _stored(folder, job)
    if stored is None:
        return ""
    named = [
        f"{n} {w['sha256']}" for n, w in sorted(stored["files"].items()) if n.startswith(prefix)
    ]
    return hashlib.sha256("\n".join(named).encode()).hexdigest()


def _stored(folder: Path, job: str) -> Mapping[str, Any] | None:
    path = manifest_path(folder, job)
    if not is_there(path):
        return None
    stored = read_json(path, SHAPE)
    for name in stored["files"]:
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts or "\0" in name or not parts.parts:
            raise RunError(
                f"{shown(path)} is damaged ({name!r} is no file of its folder); {remedy(path)}"
            )
    return stored


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise damaged(path, error.strerror or "it cannot be read") from error


# ---- digests that were taken ----------------------------------------------------------------

Seen = list[Any]
"""Size in bytes, time of the last change in nanoseconds, digest."""


def _cache(folder: Path) -> dict[str, Seen]:
    """What is known without reading; nothing where the file is not there, or is no longer what we wrote."""
    try:
        found = json.loads((folder / CACHE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    fits = misfit(found, {str: [(int, str)]}) is None
    return found if fits and all(len(seen) == 3 for seen in found.values()) else {}


def _keep(folder: Path, cache: Mapping[str, Seen]) -> None:
    """Keep it where the folder can be written to: it only saves time."""
    if os.access(folder, os.W_OK):
        try:
            write_json(folder / CACHE, cache)
        except RunError:
            return


def _about(path: Path) -> Seen | None:
    """Size and time of a regular file; None for anything else."""
    try:
        about = path.stat()
    except OSError:
        return None
    return [about.st_size, about.st_mtime_ns] if stat.S_ISREG(about.st_mode) else None
