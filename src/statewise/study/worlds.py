"""One study, one generated world: prompts, tasks and base of two worlds share names and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from statewise.errors import ConfigError
from statewise.evaluate import Task
from statewise.study.models import base_location, external_refs, marker
from statewise.study.spec import BASE, Study

WORLD_TASKS = "pocket_"
"""How the names of the embedded world's tasks begin."""


def world_of(location: str) -> int | None:
    """The seed of the world that a model was pretrained on; None where nothing says so.

    Of a base that statewise pretrained its recipe says it; of an arm's policy what was written beside it.
    """
    card = marker(location)
    recipe = card.get("recipe")
    if isinstance(recipe, dict):
        return int(recipe.get("world_seed", 0))
    seed = card.get("world_seed")
    return None if seed is None else int(seed)


def check_worlds(study: Study) -> None:
    """Refuse a study whose base, prompts and tasks are not of one world.

    A base knows the facts of its own world and no other's: scores on tasks of another say nothing of what it
    knows or forgot. What is of no generated world (a hub's model, JSON lines, other tasks) is not asked.

    Raises ConfigError with the two places and their seeds.
    """
    known = [(where, seed) for where, seed in _worlds(study) if seed is not None]
    for where, seed in known[1:]:
        first, other = known[0]
        if seed != other:
            raise ConfigError(
                f"{where}: the generated world {seed}, but {first} is of world {other}; a base, its prompts and its "
                "tasks must be of one world: give all the same `world_seed`, or the base that was pretrained on it"
            )


def check_tasks_of(location: str, tasks: list[Task]) -> None:
    """Refuse tasks of another world than the model's. Raises ConfigError with the option that names a world."""
    own = world_of(location)
    for task in tasks:
        if own is not None and task.name.startswith(WORLD_TASKS) and task.world_seed != own:
            raise ConfigError(
                f"--task {task.name}: items of the generated world {task.world_seed}, but {location} was pretrained "
                f"on world {own}; say --world-seed {own}"
            )


def _worlds(study: Study) -> Iterator[tuple[str, int | None]]:
    """Every place of a study that may name a world, with its seed, the base first."""
    yield "base", world_of(base_location(study))
    for arm in study.arms:
        for ref in external_refs(study, arm):
            if ref.name != BASE:
                yield f"arms.{arm.name} ({ref.name})", world_of(ref.name)
        for i, stream in enumerate(arm.streams):
            yield f"arms.{arm.name}.streams[{i}].prompts", _seed(stream.prompts)
    for task in study.tasks:
        yield f"tasks.{task.key}", _of_task(task)
    for where, rule in (("dev", study.dev), ("search", study.search)):
        if rule is not None:
            yield f"{where}.task", _of_task(rule.task)
    if study.drift is not None:
        yield "drift.prompts", _seed(study.drift.prompts)
    if study.probes is not None:
        yield "probes.prompts", _seed(study.probes.prompts)


def _of_task(task: Task) -> int | None:
    return task.world_seed if task.name.startswith(WORLD_TASKS) else None


def _seed(prompts: Any) -> int | None:
    """The world of prompts, by the field of those that are generated."""
    seed = getattr(prompts, "world_seed", None)
    return None if seed is None else int(seed)
