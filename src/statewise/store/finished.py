"""Which jobs of an arm and seed are finished: by the manifest that each leaves; in runs of before, by its files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from statewise.errors import RunError
from statewise.files import short, shown
from statewise.store import (
    MARKER,
    RunFolder,
    artefacts,
    digest_of,
    held,
    is_there,
    layout,
    manifest_path,
    read_json,
    read_rows,
    remove,
    seal,
    sealed_of,
    unseal,
    write_json,
)

Task = Literal["train", "measure", "probe"]
Standing = Literal["no", "unverified", "yes"]
"""`unverified`: its files are there, and no manifest says whether they are as they were written."""

TASKS: tuple[Task, ...] = ("train", "measure", "probe")
POLICY = "policy/"
FILES: dict[Task, tuple[str, ...]] = {
    "train": (
        *(layout.METRICS, layout.DEV, layout.ONLINE_PROBES, layout.MATCH, layout.CANDIDATES),
        *(f"{POLICY}*.{kind}" for kind in ("json", "safetensors", "jinja", "txt", "model")),
    ),
    "measure": (layout.ITEMS, layout.STATES, layout.DRIFT, layout.BUDGET),
    "probe": (*(layout.PROBE_STATES, layout.MICROSCOPE, layout.SKIPPED_PROBES, layout.PROBES),),
}
"""What a job writes that stays; a model's card is text for people and may be edited."""
MANIFESTS = 1
"""Stands in `environment.json` of a run whose jobs leave manifests."""


def is_trained(run: RunFolder, arm: str, seed: int) -> bool:
    """True when the arm's policy is there whole, with all that was written on the way. Raises RunError."""
    return standing(run, arm, seed, "train") != "no"


def is_measured(run: RunFolder, arm: str, seed: int) -> bool:
    """True when everything that is measured of the arm is there. Raises RunError."""
    return standing(run, arm, seed, "measure") != "no"


def is_probed(run: RunFolder, arm: str, seed: int) -> bool:
    """True when every probe of the arm was asked. Raises RunError."""
    return standing(run, arm, seed, "probe") != "no"


def standing(run: RunFolder, arm: str, seed: int, task: Task) -> Standing:
    """Whether a job is finished. Raises RunError, naming the file, where one was changed since.

    Raises RunError too where the folder is a copy of another arm's, seed's or study's.
    """
    folder = run.arm(arm, seed)
    refuse_copies(folder, task)
    found = held(folder, task)
    if found is None:
        by_files = not leaves_manifests(run) and seems_finished(folder, task)
        return "unverified" if by_files else "no"
    return "yes" if found.missing is None and found.rests_on == rests_on(folder, task) else "no"


def lost(run: RunFolder, arm: str, seed: int, task: Task) -> str | None:
    """The file of a finished job that is no longer there; None where none is missing. Raises RunError."""
    found = held(run.arm(arm, seed), task)
    return found.missing if found else None


def rests_on(folder: Path, task: Task) -> str:
    """What a job was done with: of measuring and probing, the weights of its folder."""
    return "" if task == "train" else digest_of(folder, "train", POLICY)


def leaves_manifests(run: RunFolder) -> bool:
    """True for a run that was begun since jobs leave manifests."""
    path = run.root / layout.ENVIRONMENT
    return is_there(path) and read_json(path, artefacts.ENVIRONMENT).get("manifests") == MANIFESTS


def seems_finished(folder: Path, task: Task) -> bool:
    """By the files alone: the last one that the job writes is there, and those it cannot do without."""
    match task:
        case "train":
            return _seems_trained(folder)
        case "measure":
            return all((folder / name).is_file() for name in (layout.ITEMS, layout.BUDGET))
        case "probe":
            return (folder / layout.PROBES).is_file()


def _seems_trained(folder: Path) -> bool:
    """A policy and every row of the steps that led to it; one that was not trained has no steps."""
    path = folder / POLICY / MARKER
    if not is_there(path):
        return False
    steps = int(read_json(path, artefacts.MARKER).get("steps", 0))
    return follow(folder, steps)


def follow(folder: Path, steps: int) -> bool:
    """True where `metrics.jsonl` has a row for each of the first `steps` steps, in their order."""
    rows = read_rows(folder / layout.METRICS, {"step": int})
    return [row["step"] for row in rows[:steps]] == list(range(1, steps + 1))


# ---- whose a folder is ----------------------------------------------------------------------


def refuse_copies(folder: Path, *tasks: Task) -> None:
    """Refuse the folder of an arm and seed that holds another's work. Raises RunError, naming both."""
    for task in tasks:
        if said := _misplaced(folder, task):
            raise RunError(
                f"{shown(folder)} is a copy: {said}; delete {shown(folder)} and run the study again, "
                "which makes it anew"
            )


def is_copy(folder: Path) -> bool:
    """True where a folder holds another's work than its place says. Raises RunError."""
    return any(_misplaced(folder, task) for task in TASKS)


def _misplaced(folder: Path, task: Task) -> str | None:
    """Whose work lies in a folder, where it is not that of its place; by the manifest and by the policy."""
    mine = _place(folder)
    policy = folder / POLICY / MARKER
    known = {manifest_path(folder, task): sealed_of(folder, task)}
    known[policy] = read_json(policy, artefacts.MARKER) if is_there(policy) else {}
    for path, theirs in known.items():
        # Policies name their study by words that other studies may have too.
        keys = ("arm", "seed") if path == policy else ("arm", "seed", "study")
        # Runs of before, and models from elsewhere, do not say everything.
        both = [key for key in keys if None not in (mine.get(key), theirs.get(key))]
        odd = [key for key in both if mine[key] != theirs[key]]
        if odd:
            said = ", ".join(f"{key} {_said(theirs[key])}" for key in both if key != "study")
            another = " of another study" if "study" in odd else ""
            return f"its {path.relative_to(folder)} is of {said}{another}"
    return None


def _said(value: object) -> str:
    return short(value) if isinstance(value, str) else str(value)


def _place(folder: Path) -> dict[str, Any]:
    """The arm and seed that a folder's place says, and the study of its run; nothing where it is no such place."""
    root = folder.parents[2] if len(folder.parents) > 2 else folder
    if folder.is_symlink() and is_there(root / layout.SEARCH):
        folder = folder.resolve()  # a search's best variant stands in for its arm
    seed = layout.seed_of(folder)
    if seed is None:
        return {}
    path = root / layout.ENVIRONMENT
    study = read_json(path, artefacts.ENVIRONMENT).get("study") if is_there(path) else None
    return {"arm": folder.parent.name, "seed": seed, "study": study}


# ---- arms that failed ---------------------------------------------------------------------------


FAILED = layout.FAILED


def fail(folder: Path, reason: str, step: int) -> None:
    """Write down that an arm has failed at a step: its policy is no result, and nobody learns from it.

    It stays failed, for it would fail again, until this file is deleted. Raises RunError.
    """
    write_json(folder / FAILED, {"reason": reason, "step": step})


def failure(folder: Path) -> str | None:
    """Why an arm has failed; None for one that has not. Raises RunError."""
    path = folder / FAILED
    if not is_there(path):
        return None
    found = read_json(path, {"reason": str, "step": int})
    return f"{found['reason']} (step {found['step']})"


ROWS = layout.FIRST_STEP
"""Rows of the first step: in a checkpoint, and in folders of before beside it."""


def clear_training(folder: Path) -> None:
    """Remove what only training needed. Raises RunError."""
    for part in ("checkpoint", "nearest", ROWS):
        remove(folder / part)


# ---- beginning and ending a job -------------------------------------------------------------


def finish(folder: Path, task: Task) -> None:
    """Write the manifest of a job that has written all its files. Raises RunError."""
    of = _place(folder) or None
    seal(folder, task, FILES[task], rests_on=rests_on(folder, task), of=of)


def was_cut_short(folder: Path, task: Task) -> bool:
    """True for a job that was killed between its last file and its manifest."""
    return not is_there(manifest_path(folder, task)) and seems_finished(folder, task)


def reopen_job(folder: Path, task: Task) -> None:
    """Make a job one that is not finished; what another policy was measured or probed by goes. Raises RunError.

    Killed anywhere in here and called again, it ends the same.
    """
    found = held(folder, task)
    if found is None:
        return
    if found.rests_on != rests_on(folder, task):
        for name in FILES[task]:
            remove(folder / name)
    if task == "train":  # the weights stay until others take their place
        remove(folder / POLICY / MARKER)
    unseal(folder, task)
