"""Cheap probes while an arm trains, on few prompts: a line a number in `probes.jsonl`.

They look at the student between two steps, from seeds of names and numbers and without gradients, and
leave nothing behind in it: an arm trains as it would unwatched, to the bit.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from statewise.arms import Arm, policies
from statewise.policy import LIVE, Ema, Policy
from statewise.probing.context import Scene, answers, applies, trained_role
from statewise.probing.inputs import Row
from statewise.probing.samples import (
    DATASET,
    LEARNER,
    RETENTION,
    completions,
    continuations,
    gold,
    probe_prompts,
    retention_prompts,
    tokens_of,
)
from statewise.seeding import seed_for
from statewise.store import RunFolder, append_rows, layout
from statewise.study.arm_run import ArmRun
from statewise.study.probes import Probing
from statewise.study.spec import BASE, Study

PROMPTS = 32
"""Prompts that are completed at each look, and about as many retention questions."""
RETAINED = ("locality", "forgetting")
"""Probes that look at retention states; the harness need not be asked for them otherwise."""

Watcher = Callable[[int, bool], None]
"""Called after each step, with its number and whether it is the last."""


def watcher(study: Study, run: RunFolder, arm: Arm, student: Policy, seed: int) -> Watcher:
    """What looks at the student after every so many steps; nothing where the study asks for nothing.

    The base and its states are loaded and drawn at the first look, from seeds that do not know the step, so that
    a resumed run looks at the same ones; the learner's own are drawn anew at each look.
    """
    probing, folder = study.probes, run.arm(arm.name, seed)
    if probing is None or not probing.during:
        return lambda _step, _last: None
    scene: Scene | None = None

    def look(step: int, last: bool) -> None:
        nonlocal scene
        if last or step % probing.every_steps == 0:
            began = time.perf_counter()
            scene = scene or _scene(study, run, arm, student, probing, seed)
            _look(probing, scene, step, seed, folder, began)

    return look


def _scene(
    study: Study, run: RunFolder, arm: Arm, student: Policy, probing: Probing, seed: int
) -> Scene:
    """Everyone but the learner's own states."""
    base = ArmRun(study, run, BASE, seed).policy(role=BASE)
    prompts, tokens = probe_prompts(study, base)[:PROMPTS], tokens_of(study)
    samples = {
        DATASET: gold(prompts, base),
        BASE: completions(base, prompts, tokens, BASE, "during"),
    }
    tasks = sum(task.role == "retention" for task in study.tasks)
    if tasks and not set(RETAINED).isdisjoint(probing.during):
        limit = min(probing.retention_limit, -(-PROMPTS // tasks))
        questions = retention_prompts(study, base, limit)
        samples[RETENTION] = continuations(base, questions, BASE, "during")
    live = {f"teacher:{LIVE}", f"teacher:{Ema.kind}"}
    taught = [policy for policy in policies(arm.streams) if policy.name not in live]
    return Scene(
        name=arm.name,
        policy=student.view("student"),
        base=base,
        teachers={policy.name.removeprefix("teacher:"): policy for policy in taught},
        samples=samples,
        several={},
        trained=trained_role(arm.streams[0].source),
        tokens=tokens,
        depths_tokens=probing.depths_tokens,
        seed=seed_for("probes", seed),
    )


def _look(probing: Probing, scene: Scene, step: int, seed: int, folder: Path, began: float) -> None:
    """Ask each probe once."""
    prompts = [row.prompt for row in scene.samples[BASE]]
    scene.policy.version = step
    own = completions(scene.policy, prompts, scene.tokens, scene.name, seed, "during", step)
    now = replace(scene, samples=dict(scene.samples) | {LEARNER: own}, several={LEARNER: own})
    seconds = {"drawing": time.perf_counter() - began}
    rows: list[Row] = []
    for probe in probing.during:
        # Skipped where it does not apply or has no answer yet: the rows that are there say which.
        if applies(probe, now) is None:
            began = time.perf_counter()
            rows += answers(probe, now)[0]
            seconds[probe] = time.perf_counter() - began
    append_rows(folder / layout.ONLINE_PROBES, [_line(step, row) for row in rows])
    timing = [{"step": step, "probe": probe, "seconds": value} for probe, value in seconds.items()]
    append_rows(folder / layout.PROBES_TIMING, timing)


def _line(step: int, row: Row) -> dict[str, Any]:
    """A row without what the arm's folder says already."""
    kept = ("probe", "reference", "sample", "measure", "at", "value", "stderr", "n", "unit")
    return {"step": step} | {name: getattr(row, name) for name in kept}
