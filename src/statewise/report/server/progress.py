"""A run folder as it stands now: how far each arm and seed has come, curves so far, verdicts so far.

Reads files that a run in progress is writing: each appears whole, and a torn last line is no row.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from statewise.claims.claim import BASE
from statewise.report.optimised import REWARD, is_surrogate, loss_name, reward_names
from statewise.results.probes import asked_at_the_end
from statewise.results.stored_study import before, needs, stored_study
from statewise.results.types import Results, thinned
from statewise.stats import Estimate
from statewise.store import RunFolder, artefacts, layout, read_json, read_rows
from statewise.store.finished import TASKS, failure, leaves_manifests, standing

LIVE_SECONDS = 60
"""What was written so lately is being written."""
POINTS = 60
"""Points of a live curve: enough for its size on the page."""
ENDED = ("done", "failed", "not run")
"""States of an arm and seed in which nothing is left to do: no command goes on from here."""
Stamp = tuple[tuple[str, int, int], ...]
_ROWS: dict[Path, tuple[tuple[int, int], list[dict[str, Any]]]] = {}
_STATES: dict[tuple[Path, str, bool], tuple[Stamp, str]] = {}


def stamp(run_dir: Path) -> Stamp:
    """What the folder's data look like from outside: changes whenever a report would."""
    found = []
    for path in (
        run_dir / layout.STUDY,
        *(path for folder in layout.seed_folders(run_dir) for path in folder.glob("*")),
    ):
        # Hidden files say which digests were taken: looking at a run writes them.
        if path.suffix in (".yaml", ".json", ".jsonl", ".parquet") and path.name[0] != ".":
            known = _stat(path)
            if known is not None:
                found.append((str(path.relative_to(run_dir)), *known))
    return tuple(sorted(found))


def _stat(path: Path) -> tuple[int, int] | None:
    try:
        known = path.stat()
    except FileNotFoundError:  # moved away between listing and looking
        return None
    return known.st_mtime_ns, known.st_size


def status(run_dir: Path) -> dict[str, Any]:
    """Progress and curves of a run as plain data. Raises RunError where it is no run folder, or damaged."""
    study, run = stored_study(run_dir), RunFolder(run_dir)
    seeds = study.get("seeds") or [0]
    seeds = list(range(seeds)) if isinstance(seeds, int) else [int(seed) for seed in seeds]
    probed = asked_at_the_end(study)
    arms = [{"name": BASE, "seeds": [_base(run, probed=probed)]}]
    for name, trained_as in _made(study).items():
        if name != BASE:
            found = _seeds(run, name, trained_as, seeds, probed=probed)
            arms.append({"name": name, "seeds": found, **_optimised(trained_as or {})})
    _say_what_is_behind(arms, needs(study))
    known = stamp(run_dir)
    # A probing job keeps its rows apart until all are there.
    kept = [
        _stat(path)
        for folder in layout.seed_folders(run_dir)
        for path in folder.glob("probing/*.json")
    ]
    newest = max([changed for _, changed, _ in known] + [at[0] for at in kept if at], default=0)
    idle_seconds = round(max(0.0, time.time() - newest / 1e9))
    return {
        "state": _standing(run_dir, arms, idle_seconds),
        "study": str(study.get("name", run_dir.name)),
        "question": str(study.get("question") or ""),
        "arms": arms,
        "idle_seconds": idle_seconds,
        "measured": sum(1 for name, *_ in known if name.endswith(layout.BUDGET)),
    }


def _standing(run_dir: Path, arms: Sequence[Mapping[str, Any]], idle_seconds: int) -> str:
    """`finished` where nothing is left; `live` where a process holds the run, or wrote a moment ago; else `stalled`."""
    if all(seed["state"] in ENDED for arm in arms for seed in arm["seeds"]):
        return "finished"
    return "live" if idle_seconds < LIVE_SECONDS or _held(run_dir / ".lock") else "stalled"


def _held(lock: Path) -> bool:
    """True where a process of this machine holds the lock.

    Read where the kernel lists locks: trying it would take it, and a run that begins just then would be refused.
    Where there is no such list (not Linux) the age of the files decides alone.
    """
    try:
        inode = lock.stat().st_ino
        held = Path("/proc/locks").read_text(encoding="ascii").splitlines()
    except OSError:
        return False
    return any(re.search(rf":{inode}\b", line) and "->" not in line for line in held)


def _optimised(arm: Mapping[str, Any]) -> dict[str, Any]:
    """What the curves of an arm are of: only those of one name may share a scale."""
    return {
        "loss": loss_name(arm),
        "surrogate": is_surrogate(arm),
        "rewards": {f"{start}{REWARD}": name for start, name in reward_names(arm).items()},
    }


def together(results: Results) -> dict[str, Any]:
    """Where each arm stands between target and retention, with the tasks behind both: what runs are compared by."""
    target = next((task.name for task in results.tasks if task.role == "target"), "")
    kept = [task.name for task in results.tasks if task.role == "retention"]
    return {
        "target": target,
        "retention": kept,
        "arms": [
            {
                "name": arm.name,
                "target": _ends(score.quantity.estimate),
                "retention": _ends(arm.retention.estimate),
            }
            for arm in results.arms
            if (score := arm.score(target)) and arm.retention
        ],
    }


def _ends(estimate: Estimate) -> list[float | None]:
    return [estimate.value, estimate.low, estimate.high]


def _made(study: Mapping[str, Any]) -> dict[str, Mapping[str, Any] | None]:
    """What the study makes, arms before nulls: each with the arm that trains for it, None where none does."""
    arms = {str(arm["name"]): arm for arm in study.get("arms") or ()}
    nulls = {str(null["name"]): arms.get(null.get("of")) for null in study.get("nulls") or ()}
    return arms | nulls


def _say_what_is_behind(arms: Sequence[Mapping[str, Any]], direct: Mapping[str, set[str]]) -> None:
    """Give `not run` to what waits for an arm that has failed, as the executor leaves it out."""
    failed = {
        (str(arm["name"]), seed["seed"])
        for arm in arms
        for seed in arm["seeds"]
        if seed["state"] == "failed"
    }
    for arm in arms:
        first = sorted(before(str(arm["name"]), direct) - {arm["name"]})
        for seed in arm["seeds"]:
            lacking = [name for name in first if (name, seed["seed"]) in failed]
            if lacking and seed["state"] not in ENDED:
                seed["state"], seed["why"] = "not run", f"{', '.join(lacking)} has failed"


def _base(run: RunFolder, *, probed: bool) -> dict[str, Any]:
    state = _state(run, BASE, 0, "evaluating", probed=probed)
    return {"seed": 0, "state": state, "step": None, "steps": None, "curves": {}}


def _seeds(
    run: RunFolder,
    name: str,
    trained_as: Mapping[str, Any] | None,
    seeds: list[int],
    *,
    probed: bool,
) -> list[dict[str, Any]]:
    """Every seed of an arm or null; one that is made without training has no steps."""
    steps = _declared_steps(run.root / "arms", trained_as) if trained_as else None
    begun = "training" if trained_as else "interpolating"
    found = []
    for seed in seeds:
        mine = run.arm(name, seed)
        why = failure(mine)
        rows = _rows(mine / layout.METRICS)
        found.append(
            {
                "seed": seed,
                "state": "failed" if why else _state(run, name, seed, begun, probed=probed),
                "why": why,
                "step": rows[-1]["step"] if rows else 0 if trained_as else None,
                "steps": steps,
                "curves": _curves(rows, _rows(mine / layout.DEV)),
            }
        )
    return found


def _declared_steps(arms: Path, arm: Mapping[str, Any]) -> int | None:
    """Steps of an arm's budget. Those of one that counts epochs are known once a seed of it has ended.

    Not the steps behind a policy: of an arm at equal budget those are fewer.
    """
    if steps := (arm.get("budget") or {}).get("steps"):
        return int(steps)
    for card in arms.glob(f"{arm['name']}/{layout.seed_name('*')}/{layout.POLICY}/{layout.MARKER}"):
        return read_json(card, artefacts.MARKER).get("steps_declared")
    return None


def _state(run: RunFolder, name: str, seed: int, begun: str, *, probed: bool) -> str:
    """What an arm and seed is at, as the executor would find it; `done` where nothing is left.

    `begun` is what is done first: training, interpolating, or for the base evaluating at once. Asked
    again only where a file was written, moved or deleted. Raises RunError where one was changed since.
    """
    folder = run.arm(name, seed)
    known = tuple((str(p), *at) for p in _files(folder) if (at := _stat(p)) is not None)
    key = (folder, begun, probed)
    if key not in _STATES or _STATES[key][0] != known:
        _STATES[key] = (known, _job(run, name, seed, begun, probed=probed))
    return _STATES[key][1]


def _files(folder: Path) -> list[Path]:
    found = [*folder.glob("*"), *folder.glob("policy/*")]
    return sorted(p for p in found if p.name[0] != ".")


def _job(run: RunFolder, name: str, seed: int, begun: str, *, probed: bool) -> str:
    folder = run.arm(name, seed)
    if not leaves_manifests(run):
        return _by_files(folder, begun, probed=probed)
    skipped = {"train" if name == BASE else None, None if probed else "probe"}
    for task in TASKS:
        if task not in skipped and standing(run, name, seed, task) == "no":
            break
    else:
        return "done"
    if task == "probe":
        return "probing"
    if task == "measure" and folder.exists():
        return "measuring" if (folder / layout.ITEMS).is_file() else "evaluating"
    return _begun(folder, begun)


def _by_files(folder: Path, begun: str, *, probed: bool) -> str:
    """`_job` of a run without manifests, by the file that each stage leaves; it may be a copy without weights."""
    if (folder / layout.BUDGET).is_file():
        return "done" if not probed or (folder / layout.PROBES).is_file() else "probing"
    if (folder / layout.ITEMS).is_file():
        return "measuring"
    if (folder / "policy" / layout.MARKER).is_file():
        return "evaluating"
    return _begun(folder, begun)


def _begun(folder: Path, begun: str) -> str:
    # A folder is there before its first step, while models are loaded.
    first = folder / layout.METRICS if begun == "training" else folder
    return begun if first.exists() else "waiting"


def _rows(path: Path) -> list[dict[str, Any]]:
    """Rows of a file that may grow; read again only where it has changed."""
    known = _stat(path)
    if known is None:
        return []
    if path not in _ROWS or _ROWS[path][0] != known:
        shape = artefacts.DEV if path.name == layout.DEV else artefacts.METRICS
        _ROWS[path] = (known, read_rows(path, shape))
    return _ROWS[path][1]


def _curves(
    metrics: list[dict[str, Any]], dev: list[dict[str, Any]]
) -> dict[str, list[tuple[float, float]]]:
    """Loss, rewards, and the score of each dev task."""
    known = [
        (key, row["step"], value)
        for row in metrics
        for key, value in row.items()
        if key == "loss" or key.rsplit(".", 1)[-1] == REWARD
    ]
    known += [(str(row["task"]), row["step"], row["score"]) for row in dev]
    found: dict[str, list[tuple[float, float]]] = {}
    for name, step, value in known:
        if value is not None:
            found.setdefault(name, []).append((float(step), float(value)))
    return {
        name: [(step, round(value, 5)) for step, value in points]
        for name, whole in found.items()
        if (points := thinned(whole, POINTS))
    }


def verdicts(results: Results) -> list[dict[str, str]]:
    """Every claim with what became of it so far."""
    return [
        {"text": v.text, "asked": v.asked, "verdict": v.verdict, "sentence": v.sentence}
        for v in results.verdicts
    ]
