"""Arms made of other arms."""

from __future__ import annotations

from dataclasses import replace

from statewise.arms.arm import Arm, Stream, Term
from statewise.data import Data, Prompts
from statewise.objectives import CrossEntropy
from statewise.sources import Dataset, Replay, Scheduled
from statewise.supervision import OwnActions


def with_replay(
    arm: Arm,
    *,
    share: Scheduled,
    age_limit: int | None = None,
    capacity: int | None = None,
) -> Arm:
    """The same arm on stale states: every stream of learner states replays `share` of its rollouts."""
    streams = [
        replace(stream, source=Replay(stream.source, share, age_limit, capacity))
        if "student" in stream.source.owners and not isinstance(stream.source, Replay)
        else stream
        for stream in arm.streams
    ]
    return replace(arm, streams=tuple(streams))


def with_rehearsal(
    arm: Arm, prompts: Data | Prompts, *, prompts_per_step: int, share: float = 1.0
) -> Arm:
    """The same arm with a second stream: gold tokens of other data, so that they are not forgotten.

    `sft` with rehearsal is two streams of one shape; the loss of the second is multiplied by `share`.
    """
    term = Term(OwnActions(), CrossEntropy())
    rehearsal = Stream(prompts, Dataset(), (term,), prompts_per_step, share)
    return replace(arm, streams=(*arm.streams, rehearsal))
