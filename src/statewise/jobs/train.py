"""The two jobs of an arm and seed: train it, measure it. Each continues where it was killed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from statewise.arms import Arm, Budget, policies
from statewise.data import Prompts
from statewise.errors import DivergedError, NotFiniteError
from statewise.evaluate import evaluate, write_items
from statewise.jobs.budget_match import goal_of, until
from statewise.jobs.outcome import judging_rows, keep_rows, kept_rows, why_wrecked
from statewise.memory import memories
from statewise.policy import ADAPTER_CONFIG, LIVE, Ema, Policy, name_portably
from statewise.probes import (
    Drift,
    drift_between,
    hidden_features,
    lexical_features,
    mean_kl,
    update_norm,
)
from statewise.probes.drift import prefixes
from statewise.probing.online import watcher
from statewise.seeding import seed_for
from statewise.stats import item_mean
from statewise.store import (
    RunFolder,
    append_rows,
    artefacts,
    cut_rows,
    damaged,
    exclusive,
    held,
    is_there,
    layout,
    read_json,
    read_rows,
    read_seconds,
    remove,
    seal,
    sync,
    tidy,
    whole_directory,
    write_json,
    write_text,
    written,
)
from statewise.store.finished import (
    FAILED,
    MARKER,
    clear_training,
    fail,
    failure,
    finish,
    follow,
    reopen_job,
    was_cut_short,
)
from statewise.study.arm_run import ArmRun
from statewise.study.model_card import model_card, public_name
from statewise.study.models import base_location, marker
from statewise.study.prompts import drift_prompts
from statewise.study.spec import BASE, DevCurve
from statewise.study.stops import named
from statewise.study.worlds import world_of
from statewise.train import Row, make_optimizer, roll_out, train
from statewise.trajectory import Sampling, Trajectory
from statewise.trajectory_store import read_states, write_states

GROWING = (
    *(layout.METRICS, layout.TIMING, layout.DEV, layout.ONLINE_PROBES, layout.PROBES_TIMING),
    layout.CANDIDATES,
)
"""Files that training adds lines to; what a kill undid is cut from each."""
COUNTED = tuple(file for file in GROWING if not file.endswith(layout.TIMING))
"""Those whose rows a checkpoint counts, so that none is lost behind it unseen. What the clock says may be."""

Progress = Callable[..., None]
"""Called with phase, steps done, steps in all, tokens per second, and while it trains the loss."""


# ---- training -------------------------------------------------------------------------------


def train_arm(arm_run: ArmRun, progress: Progress) -> None:
    """Train one arm for one seed, from its last checkpoint if there is one."""
    study, seed, folder = arm_run.study, arm_run.seed, arm_run.folder
    with exclusive(folder / ".lock"):
        tidy(folder)
        tidy(folder / "nearest")
        if arm_run.is_trained or was_cut_short(folder, "train"):
            finish_training(folder)
            return
        reopen_job(folder, "train")
        remove(folder / FAILED)
        goal = goal_of(arm_run)
        checkpoint, start = resume(folder)
        first = kept_rows(checkpoint) or kept_rows(folder) if checkpoint else []
        student = arm_run.student(checkpoint, start)
        bound = arm_run.bound(student)
        optimizer = make_optimizer(student, bound.budget)
        if checkpoint is not None:
            restore_optimizer(optimizer, checkpoint / "optimizer.safetensors")
            for part, memory in memories(bound).items():
                memory.restore_state(checkpoint / part)
        probe = watcher(study, RunFolder(arm_run.root), bound, student, seed)
        if goal:
            goal.begin(start)
        progress("training", start, bound.steps, 0.0)
        if start == 0 and study.dev:
            _measure_dev(study.dev, student, arm_run, step=0)
        step = start
        rows = train(bound, student, optimizer, seed=seed_for("train", seed), start=start)
        try:
            for row, last in until(goal, rows, start=start, steps=bound.steps):
                step = row.step
                first = first or judging_rows(row.first_rows)
                _record(row, folder)
                progress(
                    "training",
                    row.step,
                    bound.steps,
                    tokens_per_second(row),
                    row.figures.get("loss"),
                )
                if goal:
                    goal.consider(student, row.step, last=last)
                if study.dev and (last or row.step % study.dev.every_steps == 0):
                    _measure_dev(study.dev, student, arm_run, step=row.step)
                probe(row.step, last)
                if not last and row.step % study.checkpoint_every_steps == 0:
                    grown = [folder / file for file in COUNTED]
                    save_checkpoint(
                        folder / "checkpoint",
                        bound,
                        student,
                        optimizer,
                        row.step,
                        grown=grown,
                        first=first,
                    )
                    if goal:
                        goal.prune()
        except DivergedError as error:
            fail(folder, str(error), step)
        except NotFiniteError as error:
            # Before the first update the student is what it starts from, and no fault of the arm's.
            if not (is_students(error) and optimizer.state):
                raise
            fail(folder, str(error), step)
        if failure(folder) is None:
            chosen = goal.chosen(step) if goal else None
            ended = student if chosen is None else arm_run.student(chosen, step)
            if why := _wrecked(arm_run, bound.budget, ended, first):
                fail(folder, why, step)
        if failure(folder) is not None:
            clear_training(folder)
            return
        with whole_directory(folder / "policy") as beside:
            if goal:
                step = goal.save(student, step, beside)
            else:
                student.save(beside)
            adapted = (beside / ADAPTER_CONFIG).is_file()
            if adapted:
                name_portably(beside, arm_run.root)
            facts = _card(arm_run, bound, student) | {"steps": step}
            card = model_card(facts, base_location(study), adapter=adapted)
            write_text(beside / "README.md", card)
            write_json(beside / MARKER, facts)
        finish_training(folder)


def finish_training(folder: Path) -> None:
    """Write the manifest where there is none yet, and remove what only training needed."""
    if was_cut_short(folder, "train"):
        finish(folder, "train")
    clear_training(folder)


def is_students(error: NotFiniteError) -> bool:
    """True if the policy that an error is about is the one that trains, or an average of it."""
    live = (LIVE, f"teacher:{LIVE}", f"teacher:{Ema.kind}")
    return error.owner.rpartition("@")[0] in live


def _wrecked(
    arm_run: ArmRun, budget: Budget, student: Policy, rows: Sequence[Trajectory]
) -> str | None:
    """Why the weights that training ended in are no policy; see `outcome.py`."""
    start = arm_run.policy(arm_run.start, "start", precision=budget.precision)
    rows = rows or judging_rows(_first_rows(arm_run))
    return why_wrecked(student, start, rows, tokens_per_microbatch=budget.tokens_per_microbatch)


def _first_rows(arm_run: ArmRun) -> list[Trajectory]:
    """The rows of the first step, drawn once more: old checkpoints hold none."""
    student, bound = arm_run.loaded()
    for part in memories(bound).values():
        part.begin(student)
    drawn = [
        roll_out(stream, student, seed=seed_for("train", arm_run.seed), step=0, place=place)
        for place, stream in enumerate(bound.streams)
    ]
    return [row for rollout in drawn for row in rollout.trajectories]


def resume(folder: Path) -> tuple[Path | None, int]:
    """The checkpoint to go on from, and its step; rows that came after it are cut.

    Where rows behind it are lost it is let go: the arm begins anew, and ends as it would have ended. Raises
    RunError for a checkpoint that is damaged.
    """
    checkpoint, step = folder / "checkpoint", 0
    expected: dict[str, int] = {}
    if is_there(checkpoint):
        state = read_json(checkpoint / "state.json", artefacts.CHECKPOINT)
        step, expected = state["step"], state.get("rows", {})
        found = held(checkpoint, "checkpoint")
        if found and found.missing:
            raise damaged(checkpoint / found.missing, "it is missing")
    kept = {file: cut_rows(folder / file, step if step else -1) for file in GROWING}
    if step and follow(folder, step) and all(kept.get(f) == n for f, n in expected.items()):
        return checkpoint, step
    remove(checkpoint)
    for file in GROWING:
        cut_rows(folder / file, -1)
    return None, 0


def _record(row: Row, folder: Path) -> None:
    """Append one step: what repeats exactly in one file, what the clock said in the other."""
    append_rows(folder / layout.METRICS, [{"step": row.step, **row.figures}])
    rate = tokens_per_second(row)
    timing = {"step": row.step, "seconds": row.seconds, "tokens_per_second": rate}
    append_rows(folder / layout.TIMING, [timing])


def tokens_per_second(row: Row) -> float:
    """Tokens sampled (by anyone) and tokens trained, over the step's wall time."""
    return (row.figures["tokens_trained"] + row.figures["tokens_sampled"]) / row.seconds


def _measure_dev(dev: DevCurve, student: Policy, arm_run: ArmRun, *, step: int) -> None:
    """One point of the dev curve."""
    items = evaluate(student, [dev.task], arm=arm_run.name, seed=arm_run.seed, sampled=False)
    mean = item_mean([item.score for item in items])
    row = {
        "step": step,
        "task": dev.task.key,
        "score": mean.value,
        "n": mean.n,
        "stderr": mean.stderr,
    }
    append_rows(arm_run.folder / layout.DEV, [row])


def save_checkpoint(
    folder: Path,
    arm: Arm,
    student: Policy,
    optimizer: torch.optim.Optimizer,
    step: int,
    *,
    grown: Sequence[Path] = (),
    first: Sequence[Trajectory] = (),
) -> None:
    """A Hugging Face directory, the optimiser's moments, what the arm's parts remember, and the step.

    `grown` are files of rows that a resumed arm goes on with: they are on the disk before the checkpoint
    is, and their rows are counted in it. `first` are the rows by which the end is judged. Raises RunError.
    """
    moments = {
        f"{index}.{key}": value.contiguous()
        for index, entry in optimizer.state_dict()["state"].items()
        for key, value in entry.items()
    }
    rows = {}
    for path in grown:
        if path.is_file():
            with written(path):
                sync(path)
                rows[path.name] = path.read_bytes().count(b"\n")
    with whole_directory(folder) as beside:
        student.save(beside)
        save_file(moments, beside / "optimizer.safetensors")
        for part, memory in memories(arm).items():
            memory.save_state(beside / part)
        keep_rows(beside, first)
        write_json(beside / "state.json", {"step": step, "rows": rows})
        seal(beside, "checkpoint", ("*", "*/*"))


def restore_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Put saved moments back into a fresh optimiser over the same parameters."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    try:
        saved = load_file(path)
    except (OSError, SafetensorError) as error:
        raise damaged(path, str(error)) from error
    for key, value in saved.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict(optimizer.state_dict() | {"state": state})


def _public_role(name: str) -> str:
    """A role such as `teacher:mild_sft`, without a path of this machine."""
    role, _, place = name.partition(":")
    return f"{role}:{public_name(place)}" if place else role


def _card(arm_run: ArmRun, arm: Arm, student: Policy) -> dict[str, object]:
    """What the weights' own config does not say."""
    loaded = [s.prompts for s in arm.streams if isinstance(s.prompts, Prompts)]
    return {
        "study": arm_run.study.name,
        "arm": arm.name,
        "seed": arm_run.seed,
        "steps_declared": arm.steps,
        "world_seed": world_of(base_location(arm_run.study)),
        "teachers": [_public_role(policy.name) for policy in policies(arm.streams)],
        "stop_tokens": {
            _public_role(p.name): named(p, p.stop_token_ids)
            for p in (student, *policies(arm.streams))
        },
        "prompts": [len(p) for p in loaded],
        "prompts_dropped": sum(p.dropped for p in loaded),
        "prompts_truncated": sum(p.truncated for p in loaded),
    }


# ---- measuring ------------------------------------------------------------------------------


def measure_arm(arm_run: ArmRun, progress: Progress) -> None:
    """Evaluate one trained arm (or the base) on every task, and measure how far it moved.

    An arm whose own log-probs turn out not to be finite has failed. Raises NotFiniteError for any other model.
    """
    folder = arm_run.folder
    with exclusive(folder / ".lock"):
        tidy(folder)
        if arm_run.is_measured:
            return
        reopen_job(folder, "measure")
        try:
            _measure(arm_run, progress)
        except NotFiniteError as error:
            if arm_run.is_base or not is_students(error):
                raise
            fail(folder, str(error), int(marker(str(folder / "policy")).get("steps", 0)))
            return
        finish(folder, "measure")


def _measure(arm_run: ArmRun, progress: Progress) -> None:
    """Write every figure that is measured of one policy."""
    study, name, seed, folder = arm_run.study, arm_run.name, arm_run.seed, arm_run.folder
    policy = arm_run.policy()
    if not (folder / layout.ITEMS).is_file():
        progress("evaluating", 0, 1, 0.0)
        write_items(folder / layout.ITEMS, evaluate(policy, study.tasks, arm=name, seed=seed))
    figures: dict[str, float | None] = {"kl_to_base_nats": None}
    if study.drift:
        progress("measuring drift", 0, 1, 0.0)
        figures |= _measure_drift(arm_run, study.drift, policy)
    write_json(
        folder / layout.BUDGET,
        _costs(folder) | figures | _moved(arm_run, policy),
    )


def _costs(folder: Path) -> dict[str, Any]:
    """Totals over the steps that led to the arm's policy; those behind a checkpoint that was chosen are not."""
    steps = marker(str(folder / "policy")).get("steps", 0)
    rows = [r for r in read_rows(folder / layout.METRICS, artefacts.SPENT) if r["step"] <= steps]
    totals = {key: sum(row[key] for row in rows) for key in artefacts.SPENT_KEYS}
    times = [r for r in read_seconds(folder / layout.TIMING) if 0 < r.get("step", 0) <= steps]
    return totals | {"wall_seconds": sum(row["seconds"] for row in times)}


def _moved(arm_run: ArmRun, policy: Policy) -> dict[str, float]:
    """Norm of the arm's update from where it started; the base has none."""
    if arm_run.is_base:
        return {"update_norm": 0.0}
    start = arm_run.policy(arm_run.start, "start")
    if arm_run.arm is None:  # made of merged weights
        start = start.merged()
    return {"update_norm": update_norm(policy, start)}


def _measure_drift(arm_run: ArmRun, drift: Drift, policy: Policy) -> dict[str, float | None]:
    """Store the policy's rollouts; compare their prefixes with the base's. Returns KL to base.

    The base draws two independent samples: the second one against the first is the null.
    """
    name, seed, folder = arm_run.name, arm_run.seed, arm_run.folder
    samples = {"learner": _rollouts(drift, policy, seed_for("drift", name, seed))}
    if arm_run.is_base:
        samples["again"] = _rollouts(drift, policy, seed_for("drift", name, seed, "again"))
    write_states(folder / layout.STATES, samples)
    base = policy if arm_run.is_base else arm_run.base.policy(role=BASE)
    first = read_states(arm_run.base.folder / layout.STATES, "learner")
    second = samples["again" if arm_run.is_base else "learner"]
    features = {}
    for kind in ("hidden", "lexical"):
        x, y = _features(kind, base, drift, first, second)
        seeds = seed_for("drift", kind, name, seed)
        features[kind] = asdict(drift_between(x, y, permutations=drift.permutations, seed=seeds))
    write_json(folder / layout.DRIFT, {"features": features})
    if arm_run.is_base:
        return {"kl_to_base_nats": 0.0}
    kl = mean_kl(policy, base, samples["learner"])
    return {
        "kl_to_base_nats": kl.value,
        "kl_to_base_stderr_nats": kl.stderr,
        "kl_to_base_states": kl.n,
    }


def _rollouts(drift: Drift, policy: Policy, seed: int) -> list[Trajectory]:
    return policy.sample(
        drift_prompts(drift, policy),
        sampling=Sampling(drift.temperature),
        max_new_tokens=drift.max_new_tokens,
        seed=seed,
    )


def _features(
    kind: str, base: Policy, drift: Drift, first: list[Trajectory], second: list[Trajectory]
) -> tuple[np.ndarray, np.ndarray]:
    """Features of both samples' prefixes, `[P, K, D]` each, made together so that they share a vocabulary."""
    states = [prefix for t in (*first, *second) for prefix in prefixes(t, drift.depths)]
    if kind == "hidden":
        every = hidden_features(base, states)
    else:
        every = lexical_features([base.to_text(state) for state in states])
    x, y = every.reshape(2, len(first), len(drift.depths), -1)
    return x, y
