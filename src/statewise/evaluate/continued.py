"""An evaluation that is killed and goes on: its parts stand beside the file that it will write."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from statewise.errors import RunError
from statewise.evaluate.items import Kept
from statewise.evaluate.tasks import Task
from statewise.plain import to_plain
from statewise.store import check_folder, exclusive, read_json, write_json

ITEMS_PER_PART = 64
"""A part is lost when it is killed, and gives a line of progress; smaller parts fill batches less well."""


@contextlib.contextmanager
def kept_beside(
    out: Path | None, model: str, tasks: Sequence[Task], seed: int
) -> Iterator[Kept | None]:
    """The parts of the evaluation that `out` will hold, in `out`.parts; removed when it ends well.

    Without `out` nothing is kept. `model` is what tells one model from another: a fingerprint.

    Raises RunError if the parts that are there are another evaluation's, or another process writes them.
    """
    if out is None:
        yield None
        return
    if out.is_dir():
        raise RunError(
            f"--out: {out} is a folder; name a file in it, such as {out / 'items.parquet'}"
        )
    folder = out.with_name(f"{out.name}.parts")
    check_folder(folder)
    with exclusive(folder / ".lock"):
        said = {"model": model, "seed": seed, "tasks": to_plain(list(tasks))}
        asked = folder / "evaluation.json"
        if asked.is_file() and read_json(asked) != said:
            raise RunError(
                f"{folder} holds parts of another evaluation (its model, tasks or seed differ); "
                "delete that folder, or give another --out"
            )
        write_json(asked, said)
        yield Kept(folder)
        shutil.rmtree(folder)
