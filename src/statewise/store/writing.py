"""The door for writing: a file is there whole, on the disk, or not at all; a fault is one line.

    whole_file, whole_directory     written beside their place and moved there, fsynced before the move
    append_rows                     one more line in a file that grows; never half of one
    written                         around any other writing: what the system refuses becomes a RunError
    tidy                            removes what killed processes left half-written

What is being written lies beside its place under a name that starts with a dot: `.NAME.PID.part` for
a file, `.NAME.new` for a directory, and `.NAME.old` for the directory that it replaces.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from statewise.errors import RunError
from statewise.files import shown

_LONGEST = 50
"""Characters of a name that stand in the name beside it: 255 bytes hold four times as many."""
_PART = re.compile(r"\.(?P<name>.+)\.(?P<pid>\d+)\.part")
_PART_OF_BEFORE = re.compile(
    r"\.(?P<name>.+\.(json|jsonl|parquet|yaml|html|md|svg|csv|png)|preflight-passed)\.(?P<pid>\d+)"
)
_DIRECTORY = re.compile(r"\.(?P<name>.+)\.(?P<what>new|old)")
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)|\[errno (\d+)\]", re.IGNORECASE)

_REMEDIES = {
    errno.ENOSPC: "free some space there, then run the same command again",
    errno.EDQUOT: "free some of your quota there, then run the same command again",
    errno.EFBIG: "raise the limit of a file's size (ulimit -f), then run the same command again",
    errno.EROFS: "give a place that can be written to",
    errno.EACCES: "allow writing there (chmod u+w), or give another place",
    errno.EPERM: "allow writing there, or give another place",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EISDIR: "a folder is where the file belongs: move it away, then run the same command again",
    errno.ENOTDIR: "a file is where a folder belongs: move it away, or give another place",
    errno.EEXIST: "a file or a dead link is where a folder belongs: move it away, or give another place",
    errno.ENOENT: "its folder was taken away: run the same command again",
    errno.ELOOP: "a link there leads back to itself: remove it, or give another place",
    errno.ENXIO: "a pipe or a device is where the file belongs: move it away, or give another place",
}
_OTHER = "check the disk, then run the same command again"


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Around the writing of `path`: raises RunError, with the place and a remedy, for what the system refuses.

    Libraries written in Rust raise errors of their own that name the system's only in their text.
    """
    try:
        yield
    except Exception as error:
        code = _code(error)
        if code is None:
            raise
        reason = os.strerror(code) if code else (str(error) or type(error).__name__).splitlines()[0]
        if (other := _other_place(error, path)) is not None:
            raise RunError(
                f"{shown(other)}: cannot be used ({reason}), so that {shown(path)} was not written; see to it, "
                "then run the same command again"
            ) from error
        raise RunError(
            f"{shown(path)}: cannot be written ({reason}); {_REMEDIES.get(code, _OTHER)}"
        ) from error


def _other_place(error: Exception, path: Path) -> Path | None:
    """The file that the system refused, if it is no part of the writing of `path`; None if it is or is not named."""
    named = [error.filename, error.filename2] if isinstance(error, OSError) else []
    places = [Path(name).absolute() for name in named if isinstance(name, str) and name]
    own = path.absolute()
    beside = tuple(
        f".{own.name[:_LONGEST]}.{ending}" for ending in ("new", "old", f"{os.getpid()}.part")
    )
    for place in places:
        relative = place.relative_to(own.parent).parts if place.is_relative_to(own.parent) else ()
        if own.is_relative_to(place) or (relative and relative[0] in (own.name, *beside)):
            return None
    return places[0] if places else None


def _code(error: Exception) -> int | None:
    """The system's error number; 0 for one that it does not number, None for what is no fault of the disk.

    >>> _code(OSError(errno.ENOSPC, "full")), _code(ValueError("I/O error: full (os error 28)"))
    (28, 28)
    >>> _code(ValueError("a fault of ours"))
    """
    if isinstance(error, OSError) and error.errno:
        return error.errno
    found = _SYSTEM_ERROR.search(str(error))
    if found:
        return int(found[1] or found[2])
    return 0 if isinstance(error, OSError) else None


# ---- whole files and directories ------------------------------------------------------------


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A file that takes the place of `path`, on the disk, only when the block ends well. Raises RunError."""
    beside = path.with_name(f".{path.name[:_LONGEST]}.{os.getpid()}.part")
    with written(path), _folder_of(path):
        try:
            yield beside
            sync(beside)
            beside.replace(path)
            sync(path.parent)
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A directory that takes the place of `path` only when the block ends well and all of it is on the disk.

    Raises RunError. One process at a time may write a directory: hold its lock.
    """
    beside, old = (path.with_name(f".{path.name[:_LONGEST]}.{what}") for what in ("new", "old"))
    with written(path), _folder_of(path):
        remove(beside)
        try:
            beside.mkdir()
            yield beside
            for place in (*beside.rglob("*"), beside):
                sync(place)
            remove(old)
            if os.path.lexists(path):
                path.rename(old)
            beside.rename(path)
            sync(path.parent)
        except BaseException:
            _undo(path, beside, old)
            raise
        remove(old)


def _undo(path: Path, beside: Path, old: Path) -> None:
    """Nothing half-written stays, and what was there before is back in its place."""
    with contextlib.suppress(OSError):
        if os.path.lexists(old) and not os.path.lexists(path):
            old.rename(path)
    with contextlib.suppress(OSError):
        remove(beside)


@contextlib.contextmanager
def _folder_of(path: Path) -> Iterator[None]:
    """The folder that `path` lies in, made where it is not there, and taken back where the block fails."""
    missing = [place for place in path.parents if not os.path.lexists(place)]
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        for place in missing:  # the deepest first; one that holds anything stays
            with contextlib.suppress(OSError):
                place.rmdir()
        raise


def sync(path: Path) -> None:
    """Wait until a file, or the names in a directory, are on the disk: what a later move depends on."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system without it
            raise
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole directory; nothing where there is none. Raises RunError."""
    with written(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    with whole_file(path) as beside:
        beside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: object) -> None:
    """Write plain data as JSON, whole or not at all; nan and infinity are refused."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


# ---- files that grow ------------------------------------------------------------------------


def append_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to a JSON-lines file, all or none; nan and infinity are refused.

    What a kill tore off at the end of the file is cut away first. The rows are not waited for:
    `sync` does that before a checkpoint that depends on them.
    """
    data = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
    with written(path), _folder_of(path):
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
        handle = os.open(path, flags, 0o666)
        try:
            about = os.fstat(handle)
            if not stat.S_ISREG(about.st_mode):
                raise OSError(errno.ENXIO, "no file")
            size = _whole_lines(handle, about.st_size)
            try:
                while data:
                    data = data[os.write(handle, data) :]
            except BaseException:
                os.ftruncate(handle, size)
                if not size:  # it was made for these rows, or held none
                    path.unlink(missing_ok=True)
                raise
        finally:
            os.close(handle)


def _whole_lines(handle: int, size: int) -> int:
    """The size of the file up to its last whole line, to which it is cut."""
    start = size
    while start and os.pread(handle, 1, start - 1) != b"\n":
        block = max(0, start - 4096)
        start = block + os.pread(handle, start - block, block).rfind(b"\n") + 1 or block
    if start < size:
        os.ftruncate(handle, start)
    return start


# ---- what killed processes left -------------------------------------------------------------


def tidy(folder: Path) -> None:
    """Undo what killed processes left half done in a folder. Raises RunError.

    For a folder whose lock is held: half-written files go, but for those of another process that lives,
    and a directory that was moved away for one that never came is back.
    """
    with written(folder):
        names = [place.name for place in folder.iterdir()] if folder.is_dir() else []
    for name in names:
        place = folder / name
        part = _PART.fullmatch(name) or _PART_OF_BEFORE.fullmatch(name)
        if part and not _is_another(int(part["pid"])):
            remove(place)
        directory = _DIRECTORY.fullmatch(name)
        if directory and place.is_dir():
            whole = folder / directory["name"]
            if directory["what"] == "old" and not os.path.lexists(whole):
                with written(whole):
                    place.rename(whole)
            else:
                remove(place)


def _is_another(pid: int) -> bool:
    """True for a process that lives and is not this one: numbers come again, in containers most of all."""
    if pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
