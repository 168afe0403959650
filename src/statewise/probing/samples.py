"""The states that a study's probes are asked at: drawn once a policy, kept in its folder.

    probe_states.parquet of an arm and seed
        learner             the policy's own completions of the probes' prompts, one each: those that drift
                            drew where it drew them, new ones where not
        several             SEVERAL completions each of the first quarter of the prompts
        retention           its continuations of the retention tasks' questions; weights 0
        teacher:<name>      those of a teacher that is no arm of the study and has no folder of its own
        again               of the base alone: a second draw, the null of what compares two samples
        several_again       of the base alone: a second `several`, the null of precision and recall

The gold completions are no file: they are the prompts' own. Everything is drawn at temperature 1, from
seeds of names and numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from statewise.data import Data, load
from statewise.policy import Policy, PolicyRef
from statewise.probing.sample_file import DATASET, RETENTION, Drawing, task_prompts
from statewise.seeding import seed_for
from statewise.sources import Dataset
from statewise.store import RunFolder, is_there, layout
from statewise.study.arm_run import ArmRun
from statewise.study.models import (
    BASE_SEED,
    fingerprint,
    teacher_names,
)
from statewise.study.probes import completion_tokens, prompts_of
from statewise.study.spec import BASE, Study
from statewise.trajectory import Prompt, Sampling, Trajectory
from statewise.trajectory_store import About, read_states, sample_names, write_states

LEARNER, SEVERAL_SAMPLE, AGAIN = "learner", "several", "again"
SEVERAL_AGAIN = f"{SEVERAL_SAMPLE}_{AGAIN}"
SEVERAL = 4
"""Completions a prompt where variety is measured: pass@4, entropy of prefixes."""
RETENTION_TOKENS = 32
FILE = layout.PROBE_STATES


@dataclass(frozen=True, slots=True, eq=False)
class Drawn:
    """What a policy drew: see the head of the file. `teachers` by the teacher's name."""

    learner: list[Trajectory]
    several: list[Trajectory]
    retention: list[Trajectory]
    again: list[Trajectory] = field(default_factory=list)
    several_again: list[Trajectory] = field(default_factory=list)
    teachers: dict[str, list[Trajectory]] = field(default_factory=dict)


def teacher_role(name: str) -> str:
    """What a teacher's sample is called; the base keeps its name, whoever it teaches.

    >>> teacher_role("stress_sft"), teacher_role("base")
    ('teacher:stress_sft', 'base')
    """
    return name if name == BASE else f"teacher:{name}"


def tokens_of(study: Study) -> int:
    """The most tokens of a completion that probes look at."""
    target = next(task for task in study.tasks if task.role == "target")
    return completion_tokens(study.drift, target.max_new_tokens)


def probe_prompts(study: Study, policy: Policy) -> list[Prompt]:
    """The prompts of the probes, with room for their gold completions and for generated ones."""
    return list(
        load(
            _data(study),
            policy.encode,
            context_tokens=policy.context_tokens,
            max_new_tokens=tokens_of(study),
            prefix_ids=policy.prefix_ids,
            with_completion=True,
        ).items
    )


def _data(study: Study) -> Data:
    """Whose prompts they are: the probes' own, else drift's."""
    data = prompts_of(study.probes, study.drift)
    assert data is not None
    return data


def gold(prompts: Sequence[Prompt], policy: Policy) -> list[Trajectory]:
    """The prompts' gold completions; none where a prompt has none."""
    if not all(prompt.reference for prompt in prompts):
        return []
    return Dataset()(prompts, student=policy, seed=seed_for("probes", DATASET))


def retention_prompts(study: Study, policy: Policy, limit: int) -> list[Prompt]:
    """`limit` questions of each retention task, as the harness asks them; of a group, from all subtasks."""
    wanted = Drawing(_data(study), retention_limit=limit, retention_tokens=RETENTION_TOKENS)
    tasks = [task for task in study.tasks if task.role == "retention"]
    return [
        prompt for task in tasks for prompt in spread(task_prompts(task, policy, wanted), limit)
    ]


def spread(prompts: Sequence[Prompt], limit: int) -> Sequence[Prompt]:
    """At most `limit` of them, evenly from first to last."""
    if len(prompts) <= limit:
        return prompts
    return [prompts[i * len(prompts) // limit] for i in range(limit)]


def completions(
    policy: Policy, prompts: Sequence[Prompt], tokens: int, *seed: str | int, each: int = 1
) -> list[Trajectory]:
    """A policy's own completions at temperature 1."""
    return policy.sample(
        prompts,
        samples_per_prompt=each,
        sampling=Sampling(),
        max_new_tokens=tokens,
        seed=seed_for("probes", *seed),
    )


def continuations(policy: Policy, prompts: Sequence[Prompt], *seed: str | int) -> list[Trajectory]:
    """A policy's own continuations of retention questions, which nobody is trained on."""
    rows = completions(policy, prompts, RETENTION_TOKENS, *seed, RETENTION)
    return [row.with_weights(np.zeros(len(row), np.float32)) for row in rows]


def drawn(
    study: Study, run: RunFolder, policy: Policy, prompts: Sequence[Prompt], name: str, seed: int
) -> Drawn:
    """What this policy drew for the probes: read where it is stored, else drawn and stored.

    The base draws first: the others continue the same retention questions.
    """
    path = run.arm(name, seed) / FILE
    if not is_there(path):
        _draw(study, run, policy, prompts, name, seed, path)
    found = {sample: read_states(path, sample) for sample in sample_names(path)}
    teachers = {
        sample.removeprefix("teacher:"): rows
        for sample, rows in found.items()
        if sample.startswith("teacher:")
    }
    return Drawn(
        found[LEARNER],
        found[SEVERAL_SAMPLE],
        found.get(RETENTION, []),
        found.get(AGAIN, []),
        found.get(SEVERAL_AGAIN, []),
        teachers,
    )


def _draw(
    study: Study,
    run: RunFolder,
    policy: Policy,
    prompts: Sequence[Prompt],
    name: str,
    seed: int,
    path: Path,
) -> None:
    assert study.probes is not None
    tokens = tokens_of(study)
    # No location: the same draws are the same bytes, wherever the run lies.
    mine = About(
        policy=name,
        fingerprint=fingerprint(ArmRun(study, run, name, seed).location()),
        seed=seed,
        max_new_tokens=tokens,
    )
    samples = {LEARNER: _own(study, run, policy, prompts, name, seed, LEARNER)}
    about: dict[str, About] = {}
    few = prompts[: -(-len(prompts) // SEVERAL)]

    def several(sample: str) -> list[Trajectory]:
        return completions(policy, few, tokens, name, seed, sample, each=SEVERAL)

    samples[SEVERAL_SAMPLE] = several(SEVERAL_SAMPLE)
    if name == BASE:
        samples[AGAIN] = _own(study, run, policy, prompts, name, seed, AGAIN)
        samples[SEVERAL_AGAIN] = several(SEVERAL_AGAIN)
        questions = retention_prompts(study, policy, study.probes.retention_limit)
    else:
        stored = _base_file(run)
        known = RETENTION in sample_names(stored)
        questions = [row.prompt for row in read_states(stored, RETENTION)] if known else []
        for teacher in teacher_names(study.trained_as(name)):
            if teacher != BASE and all(other.name != teacher for other in study.arms):
                role = teacher_role(teacher)
                other = ArmRun(study, run, name, seed).policy(PolicyRef(teacher), role)
                samples[role] = completions(other, prompts, tokens, teacher, seed)
                about[role] = replace(mine, policy=teacher, fingerprint=fingerprint(teacher))
    if questions:
        samples[RETENTION] = continuations(policy, questions, name, seed)
        about[RETENTION] = replace(mine, max_new_tokens=RETENTION_TOKENS)
    write_states(path, samples, dict.fromkeys(samples, mine) | about)


def _base_file(run: RunFolder) -> Path:
    return run.arm(BASE, BASE_SEED) / FILE


def _own(
    study: Study,
    run: RunFolder,
    policy: Policy,
    prompts: Sequence[Prompt],
    name: str,
    seed: int,
    sample: str,
) -> list[Trajectory]:
    """One completion a prompt: the one that drift drew of the very same tokens, else a new one."""
    stored: dict[str, Trajectory] = {}
    path = run.arm(name, seed) / layout.STATES
    if study.drift and study.drift.temperature == 1 and path.is_file():
        stored = {row.prompt.id: row for row in read_states(path, sample)}
    known = [stored.get(prompt.id) for prompt in prompts]
    kept = [
        row if row is not None and np.array_equal(row.prompt.token_ids, prompt.token_ids) else None
        for row, prompt in zip(known, prompts, strict=True)
    ]
    missing = [prompt for prompt, row in zip(prompts, kept, strict=True) if row is None]
    new = iter(
        completions(policy, missing, tokens_of(study), name, seed, sample) if missing else []
    )
    return [next(new) if row is None else row for row in kept]
