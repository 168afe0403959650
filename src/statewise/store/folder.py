"""Whose a path is: where things lie in a run folder, who may write there, and what never leaves it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from statewise.errors import ConfigError, LockedError, RunError
from statewise.files import shown
from statewise.names import check_name
from statewise.store import layout
from statewise.store.reading import is_there
from statewise.store.writing import written

MARKER = layout.MARKER
"""Beside a policy's weights: what its config does not say (arm, steps, random initialisation)."""


@dataclass(frozen=True)
class RunFolder:
    """The paths of a run."""

    root: Path

    @property
    def study(self) -> Path:
        """The resolved study."""
        return self.root / layout.STUDY

    def must_exist(self) -> Path:
        """The resolved study's file. Raises RunError where the folder is no run's, or a link leaves it."""
        if not is_there(self.study):
            is_run = bool(layout.seed_folders(self.root))
            lost = "it holds arms but has lost its study.yaml; restore that, or run the study again"
            reason = lost if is_run else "it has no study.yaml"
            raise RunError(f"{shown(self.root)} is no run folder: {reason}")
        self.refuse_links()
        return self.study

    def arm(self, name: str, seed: int) -> Path:
        """The folder of one arm and seed. Raises RunError for a name that is no name of a folder."""
        return self.arm_folder(name) / layout.seed_name(seed)

    def arm_folder(self, name: str) -> Path:
        """The folder of one arm, whose seeds lie below it. Raises RunError for a name that leads elsewhere."""
        if not is_name(name):
            raise RunError(
                f"{shown(self.study)}: {name[:60]!r} is no name of an arm; use letters, digits, '_' and '-'"
            )
        return self.root / "arms" / name

    def seeds(self, name: str) -> dict[int, Path]:
        """The folders of an arm that are there, by their seed."""
        folder = self.arm_folder(name)
        if not folder.is_dir():
            return {}
        by_seed = {layout.seed_of(path): path for path in folder.iterdir() if path.is_dir()}
        return dict(sorted((seed, path) for seed, path in by_seed.items() if seed is not None))

    def refuse_links(self) -> None:
        """Refuse a folder in which a link leads out of it: what lies there is not the run's. Raises RunError."""
        own = self.root.resolve()
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                place = Path(folder, name)
                if place.is_symlink() and not _target(place).is_relative_to(own):
                    raise RunError(
                        f"{shown(place)} is a link that leaves the run folder; put in its place what it "
                        "leads to, or remove it"
                    )


def _target(link: Path) -> Path:
    try:
        return link.resolve()
    except (OSError, RuntimeError):  # a link that leads back to itself leads nowhere
        return Path("/")


def is_name(name: object) -> bool:
    r"""True for what a study accepts as the name of an arm, which is the name of its folder.

    >>> [is_name(n) for n in ("mild_sft", "opd-2", "..", "a/b", "", "a\0b", "x" * 300)]
    [True, True, False, False, False, False, False]
    """
    try:
        check_name(name, "arm name")
    except ConfigError:
        return False
    return True


# ---- where something is to be written -------------------------------------------------------


def check_folder(folder: Path, option: str = "--out") -> None:
    """Refuse a place where no folder can be: it, or something above it, is a file or leads nowhere.

    Nothing is written. Raises RunError.
    """
    with written(folder):
        nearest = next(p for p in (folder, *folder.absolute().parents) if os.path.lexists(p))
        os.lstat(folder) if nearest == folder else _could_be_named(nearest, folder)
    if nearest.is_symlink() and not nearest.exists():
        raise RunError(f"{shown(nearest)} is a link that leads nowhere; give another {option}")
    if not nearest.is_dir():
        raise RunError(f"{shown(nearest)} is a file, not a folder; give another {option}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise RunError(f"{shown(nearest)} cannot be written to; give another {option}")


def check_file(path: Path, option: str = "--out") -> None:
    """Refuse a place where no file can be written. Nothing is written. Raises RunError."""
    check_folder(path.parent, option)
    with written(path):
        if os.path.lexists(path) and path.is_dir():
            raise RunError(f"{shown(path)} is a folder; give the name of a file by {option}")


def _could_be_named(nearest: Path, folder: Path) -> None:
    """Ask the system for each name that is to be made: one that is too long is refused now."""
    for part in folder.absolute().relative_to(nearest.absolute()).parts:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(nearest / part)


# ---- who writes -----------------------------------------------------------------------------


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a lock file; it is free again when the process ends, however it ends.

    Raises RunError where another process holds it, or where it cannot be written.
    """
    check_folder(path.parent)
    with written(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
    try:
        try:
            with written(path):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except RunError as error:
            if isinstance(error.__cause__, BlockingIOError):
                raise LockedError(
                    f"another process is writing to {shown(path.parent)}; wait for it, stop it, or give "
                    "another --out"
                ) from None
            raise
        yield
    finally:
        os.close(handle)
