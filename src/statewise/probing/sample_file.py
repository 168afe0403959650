"""Draw named samples of states and store them: the same states for every policy that is asked.

    dataset             the prompts' gold completions
    base                the base's own completions of the same prompts
    <name>@<step>       those of any other policy, after so many updates
    retention           the base's continuations of the retention tasks' questions
    retention/<name>@<step>

Retention questions are what forgetting is scored on: their weights are 0, so that an arm which reads
the file trains on none of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from statewise.data import Data, Gsm8k, JsonLines, WorldProblems, load
from statewise.errors import ConfigError, RunError, at_least_one
from statewise.evaluate import Task
from statewise.evaluate.guarded import guarded
from statewise.evaluate.isolation import compiled_templates, undisturbed
from statewise.evaluate.tasks import load as load_task
from statewise.policy import Policy
from statewise.policy.encoding import evaluated, first_id
from statewise.probing.resolve import Places, load_policy, version_of
from statewise.seeding import seed_for
from statewise.sources import Dataset
from statewise.study.models import fingerprint
from statewise.study.spec import BASE
from statewise.trajectory import Prompt, Sampling, Trajectory
from statewise.trajectory_store import About, write_states

DATASET, RETENTION = "dataset", "retention"


@dataclass(frozen=True)
class Drawing:
    """How samples are drawn."""

    prompts: Data
    max_new_tokens: int = 120
    samples_per_prompt: int = 1
    temperature: float = 1.0
    retention: tuple[Task, ...] = ()
    retention_limit: int = 100
    """First so many items of each retention task (of each subtask of a group)."""
    retention_tokens: int = 32
    seed: int = 0

    def __post_init__(self) -> None:
        at_least_one(
            self, "max_new_tokens", "samples_per_prompt", "retention_limit", "retention_tokens"
        )
        Sampling(self.temperature)


def prompts_named(name: str | None, places: Places, limit: int | None) -> Data:
    """The prompts that `--prompts` names: a split of the world, `gsm8k`, or a JSON-lines file.

    Without a name, those that the run's study compares drift on; without a run, the world's dev split.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"--limit must be 1 or more, found {limit}")
    study = places.study
    if name is None and study is not None and study.drift is not None and limit is None:
        return study.drift.prompts
    match name:
        case None | "dev":
            return WorldProblems("dev", limit=limit or 200)
        case "demonstrations" | "prompts":
            return WorldProblems(name, limit=limit or 200)
        case "gsm8k":
            return Gsm8k(limit=limit or 200, too_long="drop")
        case _ if Path(name).expanduser().is_file():
            return JsonLines(name, limit=limit)
    raise ConfigError(
        f"--prompts: {name!r} is no file; known besides: dev, demonstrations, prompts (the embedded "
        "world's), gsm8k"
    )


def draw_samples(
    places: Places, drawing: Drawing, path: Path, told: Callable[[str], None] = lambda _: None
) -> dict[str, int]:
    """Draw every sample, write the file, and return how many trajectories each has.

    A policy is loaded, asked and let go before the next, so that one is in memory at a time beside the
    base. Raises what loading models, prompts and tasks raises; nothing is written then.
    """
    if path.exists() and path.suffix != ".parquet":
        raise RunError(f"{path} is there and no .parquet file; give another --out")
    others = {name: place for name, place in places.policies.items() if name != BASE}
    first = places.base or next(iter(others.values()))
    base = load_policy(BASE, first)
    prompts = load(
        drawing.prompts,
        base.encode,
        context_tokens=base.context_tokens,
        max_new_tokens=drawing.max_new_tokens,
        prefix_ids=base.prefix_ids,
        with_completion=True,
    ).items
    where = drawing.prompts.path if isinstance(drawing.prompts, JsonLines) else drawing.prompts.kind
    questions = {task.key: task_prompts(task, base, drawing) for task in drawing.retention}
    samples: dict[str, list[Trajectory]] = {}
    about: dict[str, About] = {}
    if all(prompt.reference for prompt in prompts):
        samples[DATASET] = Dataset()(prompts, student=base, seed=drawing.seed)
        about[DATASET] = About(prompts=where)
    asked = ({BASE: places.base} if places.base else {}) | others
    for name, location in asked.items():
        policy = base if location == first else load_policy(name, location, base)
        label = name if name == BASE else f"{name}@{version_of(location)}"
        told(label)
        samples[label] = policy.sample(
            prompts,
            samples_per_prompt=drawing.samples_per_prompt,
            sampling=Sampling(drawing.temperature),
            max_new_tokens=drawing.max_new_tokens,
            seed=seed_for("states", drawing.seed, label),
        )
        known = {"policy": name, "location": location, "fingerprint": fingerprint(location)}
        about[label] = About(
            **known, prompts=where, seed=drawing.seed, max_new_tokens=drawing.max_new_tokens
        )
        if questions:
            kept = RETENTION if name == BASE else f"{RETENTION}/{label}"
            samples[kept] = _retained(policy, questions, drawing, label)
            about[kept] = About(
                **known,
                prompts=",".join(questions),
                seed=drawing.seed,
                max_new_tokens=drawing.retention_tokens,
            )
    write_states(path, samples, about)
    return {name: len(rows) for name, rows in samples.items()}


def task_prompts(task: Task, policy: Policy, drawing: Drawing) -> list[Prompt]:
    """The questions of a task as the harness asks them, few-shot examples included, one an item.

    Cut from the left where they leave no room for an answer, as in evaluation.
    """
    room = policy.context_tokens - drawing.retention_tokens
    found = []
    with undisturbed(), compiled_templates():
        leaves = load_task(task)
        for name, leaf in leaves.items():
            with guarded(task.name):
                leaf.build_all_requests(limit=drawing.retention_limit, rank=0, world_size=1)
            asked: dict[int, str] = {}
            for request in leaf.instances:
                arguments: tuple[Any, ...] = request.args
                context = str(arguments[0])
                if request.request_type == "loglikelihood":  # white space moves to what is scored
                    context, _ = evaluated(context, "")
                asked.setdefault(request.doc_id or 0, context)
            for item, text in asked.items():
                place = f"{task.key}/{item}" if len(leaves) == 1 else f"{task.key}/{name}/{item}"
                ids = policy.encode(text)[0].tolist() or [first_id(policy.tokenizer)]
                found.append(Prompt(place, text, np.array(ids[-room:], np.int32)))
    return found


def _retained(
    policy: Policy, questions: Mapping[str, Sequence[Prompt]], drawing: Drawing, label: str
) -> list[Trajectory]:
    rows = policy.sample(
        [prompt for those in questions.values() for prompt in those],
        samples_per_prompt=drawing.samples_per_prompt,
        sampling=Sampling(drawing.temperature),
        max_new_tokens=drawing.retention_tokens,
        seed=seed_for("states", drawing.seed, label, RETENTION),
    )
    return [row.with_weights(np.zeros(len(row), np.float32)) for row in rows]
