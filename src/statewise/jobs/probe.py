"""The third job of an arm and seed: ask it every probe, and show it state by state.

Each probe's rows are kept in `probing/` until all are there, so that a killed job continues behind the
last probe it finished. Rows depend on policies, samples and seeds alone: a continued job writes the
bytes of an unbroken one. What the clock says goes to a file of its own.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from statewise.jobs.train import Progress
from statewise.policy import Policy, PolicyRef
from statewise.probing.asking import write_rows
from statewise.probing.context import Scene, answers, applies, trained_role
from statewise.probing.inputs import Row
from statewise.probing.microscope import write_microscope
from statewise.probing.microscope_rollouts import own_update
from statewise.probing.samples import (
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
from statewise.results.probes import read_answers
from statewise.seeding import seed_for
from statewise.store import (
    RunFolder,
    artefacts,
    exclusive,
    is_there,
    layout,
    read_json,
    read_seconds,
    remove,
    tidy,
    unseal,
    write_json,
    write_text,
)
from statewise.store.finished import finish, is_probed, reopen_job
from statewise.study.arm_run import ArmRun
from statewise.study.models import BASE_SEED, teacher_names
from statewise.study.spec import BASE, Study
from statewise.trajectory import Prompt, Trajectory

TIMING = layout.PROBES_TIMING


def probe_arm(study: Study, run: RunFolder, name: str, seed: int, progress: Progress) -> None:
    """Ask one measured arm (or the base) every probe of the study."""
    folder, probing = run.arm(name, seed), study.probes
    assert probing is not None
    with exclusive(folder / ".lock"):
        tidy(folder)
        tidy(folder / "probing")
        if is_probed(run, name, seed):
            remove(folder / "probing")
            return
        reopen_job(folder, "probe")
        reopen(folder)
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
            write_microscope(folder / layout.MICROSCOPE, study, scene, prompts, seed)
            seconds["microscope"] = time.perf_counter() - began
        write_json(folder / layout.SKIPPED_PROBES, skipped)
        _write_seconds(folder / TIMING, seconds)
        write_rows(folder / layout.PROBES, rows)
        remove(folder / "probing")
        finish(folder, "probe")


def reopen(folder: Path) -> None:
    """Make a probing job that has its answers one that was killed behind its last probe: what was asked is kept.

    For a folder whose study has gained probes, or that has lost a file: the job that follows asks what is
    new, and writes what is missing. Killed between two lines and called again, it ends the same. Without
    the reasons of what was skipped nothing is kept: no row says which probe was asked.
    """
    unseal(folder, "probe")
    if not is_there(folder / layout.PROBES):
        return
    if not is_there(folder / layout.SKIPPED_PROBES):
        remove(folder / layout.PROBES)
        return
    rows = read_answers(folder / layout.PROBES)
    stored = read_json(folder / layout.SKIPPED_PROBES, artefacts.SKIPPED)
    skipped = {row["probe"]: row for row in stored}
    spent = {
        row["probe"]: row["seconds"]
        for row in read_seconds(folder / TIMING)
        if row.get("step") is None and isinstance(row.get("probe"), str)
    }
    for probe in dict.fromkeys([*(row["probe"] for row in rows), *skipped]):
        reason = skipped.get(probe)
        kept = {
            "rows": [row for row in rows if row["probe"] == probe],
            "skipped": None if reason is None else {k: reason[k] for k in ("kind", "reason")},
            "seconds": spent.get(probe, 0.0),
        }
        write_json(folder / "probing" / f"{probe}.json", kept)
    remove(folder / layout.PROBES)


def _kept(path: Path, probe: str, scene: Scene) -> dict[str, Any]:
    """What a probe answered, from its file where it was asked before the job was killed."""
    if not is_there(path):
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
    return read_json(path, artefacts.ANSWERS)


def _write_seconds(path: Path, seconds: dict[str, float]) -> None:
    """Behind the rows of what was asked while the arm trained."""
    rows = [row for row in read_seconds(path) if row.get("step") is not None]
    rows += [{"step": None, "probe": probe, "seconds": value} for probe, value in seconds.items()]
    write_text(path, "".join(json.dumps(row) + "\n" for row in rows))


def _scene(study: Study, run: RunFolder, name: str, seed: int) -> tuple[Scene, list[Prompt]]:
    """The arm with everyone and everything that its probes look at."""
    probing = study.probes
    assert probing is not None
    arm = study.trained_as(name)
    arm_run = ArmRun(study, run, name, seed)
    policy = arm_run.policy()
    base = policy if name == BASE else arm_run.base.policy(role=BASE)
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
            other = arm_run.policy(PolicyRef(teacher), role)
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
