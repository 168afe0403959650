"""Axis 1. Which states are visited: prompts to trajectories, with the owner of every token.

A source is a value and a function

    (prompts, *, student, seed, progress) -> trajectories

`progress` in [0, 1) is how far the run has come, for schedules. Everything else that a source draws
is a function of `seed`. Beside its `kind` it says

    owners              which roles choose its tokens (what `Term.on` may name)
    supervised          which of them choose tokens that weigh
    samples_per_prompt  trajectories a prompt
    room_tokens         context that it needs beyond a prompt; None = that of the gold completion
    reads_gold          whether it needs that as well

A source that remembers (a replay) has `begin`, `save_state` and `restore_state` too: `arms.Remembers`.
"""

from statewise.sources.blended import Blended
from statewise.sources.continuation import Continuation
from statewise.sources.dataset import Dataset
from statewise.sources.filtered import Filtered
from statewise.sources.learner import Learner
from statewise.sources.longest import longest_completion
from statewise.sources.mixture import Mixture
from statewise.sources.prefix_reset import PrefixReset
from statewise.sources.python import PythonSource
from statewise.sources.replay import Replay
from statewise.sources.schedule import Schedule, Scheduled
from statewise.sources.single import SingleSource
from statewise.sources.stored import Stored
from statewise.sources.teacher import Teacher

Source = SingleSource | Filtered | Mixture | Replay

__all__ = [
    "Blended",
    "Continuation",
    "Dataset",
    "Filtered",
    "Learner",
    "Mixture",
    "PrefixReset",
    "PythonSource",
    "Replay",
    "Schedule",
    "Scheduled",
    "SingleSource",
    "Source",
    "Stored",
    "Teacher",
    "longest_completion",
]
