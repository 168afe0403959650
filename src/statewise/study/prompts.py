"""The prompts that a study names, read and tokenised for the policy that reads them."""

from __future__ import annotations

from collections.abc import Sequence

from statewise.arms import Stream
from statewise.data import Prompts, load
from statewise.errors import DataError
from statewise.policy import Policy
from statewise.probes import Drift
from statewise.trajectory import Prompt


def load_prompts(stream: Stream, student: Policy) -> Prompts:
    """The prompts of a stream, tokenised for the student, with room for what its source writes.

    Raises DataError for data that is missing or malformed.
    """
    if isinstance(stream.prompts, Prompts):
        return stream.prompts
    return load(
        stream.prompts,
        student.encode,
        context_tokens=student.context_tokens,
        max_new_tokens=stream.source.room_tokens,
        prefix_ids=student.prefix_ids,
        with_completion=stream.source.reads_gold,
    )


def drift_prompts(drift: Drift, reader: Policy) -> Sequence[Prompt]:
    """The prompts that drift is measured on, tokenised for the policy that completes them.

    Raises DataError for a single prompt.
    """
    prompts = load(
        drift.prompts,
        reader.encode,
        context_tokens=reader.context_tokens,
        max_new_tokens=drift.max_new_tokens,
        prefix_ids=reader.prefix_ids,
    ).items
    if len(prompts) < 2:
        raise DataError(
            f"{len(prompts)} prompt: drift compares states of different prompts; give 2 or more, "
            "and 8 or more for a p below 0.01"
        )
    return prompts
