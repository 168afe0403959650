"""The third job of an arm and seed: ask it every probe, and show it state by state.

Each probe's rows are kept in `probing/` until all are there, so that a killed job continues behind the
last probe it finished. Rows depend on policies, samples and seeds alone: a continued job writes the
bytes of an unbroken one. What the clock says goes to a file of its own.
"""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from statewise.policy import Policy, PolicyRef
from statewise.seeding import seed_for
from statewise.store import RunFolder, exclusive, read_json, read_rows, write_json, write_text
from statewise.study.asked import Row
from statewise.study.asking import write_rows
from statewise.study.jobs import Progress
from statewise.study.microscope import write_microscope
from statewise.study.models import BASE_SEED, load_role, teacher_names
from statewise.study.probe_samples import (
    AGAIN,
    DATASET,
    LEARNER,
    RETENTION,
    drawn,
    gold,
    probe_prompts,
    teacher_role,
    tokens_of,
)
from statewise.study.scene import Scene, answers, applies, trained_role
from statewise.study.spec import BASE, Study
from statewise.study.walks import own_update
from statewise.trajectory import Prompt, Trajectory

TIMING = "probes.timing.jsonl"


def is_probed(run: RunFolder, arm: str, seed: int) -> bool:
    """True when every probe of the arm was asked."""
    return (run.arm(arm, seed) / "probes.parquet").is_file()


def probe_arm(study: Study, run: RunFolder, name: str, seed: int, progress: Progress) -> None:
    """Ask one measured arm (or the base) every probe of the study."""
    folder, probing = run.arm(name, seed), study.probes
    assert probing is not None
    with exclusive(folder / ".lock"):
        if is_probed(run, name, seed):
            shutil.rmtree(folder / "probing", ignore_errors=True)
            return
        total = len(probing.after) + 1
        progress("drawing states", 0, total, 0.0)
        began = time.perf_counter()
        scene, prompts = _scene(study, run, name, seed)
        seconds = {"drawing": time.perf_counter() - began}
        rows: list[Row] = []
        skipped: list[dict[str, str]] = []
        for done, probe in enumerate(probing.after):
            progress(f"probing {probe}", done + 1, total, 0.0)
            kept = _kept(folder / "probing" / f"{probe}.json", probe, scene)
            rows += [Row(**row) for row in kept["rows"]]
            skipped += [{"probe": probe} | kept["skipped"]] if kept["skipped"] else []
            seconds[probe] = kept["seconds"]
        if probing.microscope and seed == (BASE_SEED if name == BASE else study.seeds[0]):
            progress("microscope", total, total, 0.0)
            began = time.perf_counter()
            write_microscope(folder / "microscope.json", study, scene, prompts, seed)
            seconds["microscope"] = time.perf_counter() - began
        write_json(folder / "probes.skipped.json", skipped)
        _write_seconds(folder / TIMING, seconds)
        write_rows(folder / "probes.parquet", rows)
        shutil.rmtree(folder / "probing", ignore_errors=True)


def reopen(folder: Path) -> None:
    """Make a finished probing job one that was killed behind its last probe: what was asked is kept.

    For a folder whose study has gained probes: the job that follows asks the new ones alone. Killed
    between two lines and called again, it ends the same.
    """
    rows = pq.read_table(folder / "probes.parquet").to_pylist()
    skipped = {row["probe"]: row for row in read_json(folder / "probes.skipped.json")}
    spent = {
        row["probe"]: row["seconds"] for row in read_rows(folder / TIMING) if row["step"] is None
    }
    for probe in dict.fromkeys([*(row["probe"] for row in rows), *skipped]):
        reason = skipped.get(probe)
        kept = {
            "rows": [row for row in rows if row["probe"] == probe],
            "skipped": None if reason is None else {k: reason[k] for k in ("kind", "reason")},
            "seconds": spent.get(probe, 0.0),
        }
        write_json(folder / "probing" / f"{probe}.json", kept)
    (folder / "probes.parquet").unlink()


def _kept(path: Path, probe: str, scene: Scene) -> dict[str, Any]:
    """What a probe answered, from its file where it was asked before the job was killed."""
    if not path.is_file():
        began = time.perf_counter()
        rows: list[Row] = []
        reason, kind = applies(probe, scene), "does not apply"
        if reason is None:
            rows, reason = answers(probe, scene)
            kind = "in part" if rows else "no answer"
        kept = {
            "rows": [asdict(row) for row in rows],
            "skipped": None if reason is None else {"kind": kind, "reason": reason},
            "seconds": time.perf_counter() - began,
        }
        write_json(path, kept)
    return read_json(path)


def _write_seconds(path: Path, seconds: dict[str, float]) -> None:
    """Behind the rows of what was asked while the arm trained."""
    rows = [row for row in read_rows(path) if row["step"] is not None]
    rows += [{"step": None, "probe": probe, "seconds": value} for probe, value in seconds.items()]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _scene(study: Study, run: RunFolder, name: str, seed: int) -> tuple[Scene, list[Prompt]]:
    """The arm with everyone and everything that its probes look at."""
    probing = study.probes
    assert probing is not None
    arm = study.trained_as(name)
    policy = load_role("student", PolicyRef(name), study, run, seed=seed)
    base = policy if name == BASE else load_role(BASE, PolicyRef(BASE), study, run, seed=seed)
    prompts = probe_prompts(study, base)
    of_base = drawn(study, run, base, prompts, BASE, BASE_SEED)
    mine = of_base if name == BASE else drawn(study, run, policy, prompts, name, seed)
    teachers: dict[str, Policy] = {}
    samples: dict[str, list[Trajectory]] = {DATASET: gold(prompts, base), BASE: of_base.learner}
    several = {BASE: of_base.several}
    if name == BASE:
        several[AGAIN] = of_base.several_again
    else:
        samples[LEARNER], several[LEARNER] = mine.learner, mine.several
        for teacher in teacher_names(arm):
            if teacher == BASE:
                teachers[teacher] = base
                continue
            role = teacher_role(teacher)
            other = load_role(role, PolicyRef(teacher), study, run, seed=seed)
            teachers[teacher] = other
            samples[role] = mine.teachers.get(teacher) or (
                drawn(study, run, other, prompts, teacher, seed).learner
            )
    samples[RETENTION] = of_base.retention
    scene = Scene(
        name=name,
        policy=policy,
        base=base,
        teachers=teachers,
        samples={role: rows for role, rows in samples.items() if rows},
        several=several,
        trained=trained_role(arm.streams[0].source) if arm else None,
        tokens=tokens_of(study),
        depths_tokens=probing.depths_tokens,
        # Not the arm's name: what two arms have in common (a teacher, the base) answers both alike.
        seed=seed_for("probes", seed),
        own_retention=() if name == BASE else mine.retention,
        again=of_base.again if name == BASE else (),
    )
    if arm is None:
        return scene, prompts
    return replace(scene, update=lambda: own_update(study, scene, prompts, seed)), prompts
