"""An evaluation that is killed and goes on: its parts stand beside the file that it will write."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from statewise.config import to_plain
from statewise.errors import RunError
from statewise.evaluate.items import Kept
from statewise.evaluate.requests import asked as asked_of
from statewise.evaluate.tasks import Task
from statewise.store import check_folder, exclusive, read_json, write_json

ITEMS_PER_PART = 64
"""A part is lost when it is killed, and gives a line of progress; smaller parts fill batches less well."""


@contextlib.contextmanager
def kept_beside(
    out: Path | None, model: str, tasks: Sequence[Task], seed: int
) -> Iterator[Kept | None]:
    """The parts of the evaluation that `out` will hold, in `out`.parts; removed when it ends well.

    Without `out` nothing is kept. `model` is what tells one model from another: a fingerprint.

    Raises RunError if the parts that are there are another evaluation's (other items among them), if
    that place is a link or a folder of somebody's own, or if another process writes into it.
    """
    if out is None:
        yield None
        return
    if out.is_dir():
        raise RunError(
            f"--out: {out} is a folder; name a file in it, such as {out / 'items.parquet'}"
        )
    folder = out.with_name(f"{out.name}.parts")
    asked = folder / "evaluation.json"
    if folder.is_symlink() or (folder.exists() and not asked.is_file() and _foreign(folder)):
        raise RunError(
            f"{folder} is where finished parts are kept, and it is a link or holds files of somebody's own; "
            "move it away, or give another --out"
        )
    check_folder(folder)
    with exclusive(folder / ".lock"):
        said = {
            "model": model,
            "seed": seed,
            "tasks": to_plain(list(tasks)),
            "items": [items_digest(task) for task in tasks],
        }
        if asked.is_file() and read_json(asked) != said:
            raise RunError(
                f"{folder} holds parts of another evaluation (its model, tasks, items or seed differ); "
                "delete that folder, or give another --out"
            )
        write_json(asked, said)
        yield Kept(folder)
        for path in (*folder.glob("*.parquet"), asked, folder / ".lock"):
            path.unlink(missing_ok=True)
    with contextlib.suppress(
        OSError
    ):  # a file that somebody else put there stays, and so does the folder
        folder.rmdir()


def _foreign(folder: Path) -> bool:
    return not folder.is_dir() or any(path.name != ".lock" for path in folder.iterdir())


def items_digest(task: Task) -> str:
    """SHA-256 of what a task asks: its documents' numbers, prompts and choices, in order."""
    digest = hashlib.sha256()
    for question in asked_of(task, task.limit):
        for doc_id, requests in question.requests.items():
            words = [[str(argument) for argument in request.args] for request in requests]
            digest.update(json.dumps([question.name, doc_id, words]).encode())
            digest.update(json.dumps(question.documents[doc_id], default=str).encode())
    return digest.hexdigest()
