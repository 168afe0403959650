"""What can be known before the first step: that models, data and tasks are there and fit each other.

A study that would fail in its third hour fails in its first seconds, and has written nothing.
"""

from __future__ import annotations

from statewise.arms import Stream
from statewise.data import Prompts, load
from statewise.evaluate.tasks import load as load_task
from statewise.policy import Policy
from statewise.store import RunFolder
from statewise.study.models import base_location, best_device
from statewise.study.spec import Study


def load_prompts(stream: Stream, student: Policy) -> Prompts:
    """The prompts of a stream, tokenised for the student, with room for what its source writes."""
    if isinstance(stream.prompts, Prompts):
        return stream.prompts
    return load(
        stream.prompts,
        student.to_ids,
        context_tokens=student.context_tokens,
        max_new_tokens=stream.source.room_tokens,
        prefix_ids=student.prefix_ids,
        with_completion=stream.source.reads_gold,
    )


def preflight(study: Study, run: RunFolder) -> None:
    """Load the base, every arm's prompts and every task once; skipped where the run has begun.

    Raises ModelError, DataError or ConfigError, naming the arm or the task.
    """
    if run.study.exists():
        return
    base = Policy.load(base_location(study), name="base", device=best_device(), trainable=False)
    for arm in study.arms:
        for place, stream in enumerate(arm.streams):
            try:
                load_prompts(stream, base)
            except ValueError as error:
                where = f"arms.{arm.name}.streams[{place}].prompts"
                raise type(error)(f"{where}: {error}") from error
    for task in (*study.tasks, *([study.dev.task] if study.dev else [])):
        load_task(task)
