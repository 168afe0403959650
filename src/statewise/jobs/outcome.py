"""How an arm's training ended: in a policy, or in weights that are none.

After the last step the student reads rows of the first step once more. What it makes of them is compared
with what the policy that the arm starts from makes of them: mean nats a trained-on token, for every
method the same measure. A loss of the method's own would not do: a policy-gradient loss lies around 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import numpy as np

from statewise.errors import NotFiniteError
from statewise.gradient import student_logprobs
from statewise.policy import Policy
from statewise.store.finished import ROWS
from statewise.trajectory import Trajectory
from statewise.trajectory_store import read_states, write_states

MOST_ROWS = 64
TIMES = 10.0
"""By how much the loss on them may have grown."""
LEAST_NATS = 0.1
"""The smallest loss that this is counted from: ten times nearly nothing is nearly nothing."""


def wrecked(first_nats: float, last_nats: float) -> str | None:
    """Why weights after the last step are none; None where they are a policy.

    `first_nats` and `last_nats` are the loss of the arm's start and of its end on the same rows, nats a
    token. The end fails where it is no number, or `TIMES` that of the start and more.

    >>> wrecked(0.5, 4.9), wrecked(0.01, 0.9)
    (None, None)
    >>> wrecked(0.5, 5.0)
    'its loss on the rows of the first step rose from 0.500 to 5.00 nats a token'
    >>> wrecked(0.5, float("nan"))
    'its log-probs of the rows of the first step are not finite'
    """
    if not isfinite(last_nats):
        return "its log-probs of the rows of the first step are not finite"
    if last_nats >= TIMES * max(first_nats, LEAST_NATS):
        return (
            f"its loss on the rows of the first step rose from {first_nats:.3f} to {last_nats:.2f} "
            "nats a token"
        )
    return None


def why_wrecked(
    student: Policy, start: Policy, rows: Sequence[Trajectory], *, tokens_per_microbatch: int
) -> str | None:
    """`wrecked` of a trained student and the policy it started from; also where a weight is not finite."""
    for name, p in student.module.named_parameters():
        low, high = p.detach().aminmax()
        if not (low.isfinite() and high.isfinite()):
            return f"its weight {name} holds numbers that are not finite"
    if not any(t.supervised_tokens for t in rows):
        return None
    first = loss_on(start, rows, tokens_per_microbatch=tokens_per_microbatch)
    try:
        last = loss_on(student, rows, tokens_per_microbatch=tokens_per_microbatch)
    except NotFiniteError:
        last = float("nan")
    return wrecked(first, last)


def loss_on(policy: Policy, rows: Sequence[Trajectory], *, tokens_per_microbatch: int) -> float:
    """Mean negative log-prob of the trained-on tokens, nats. Raises NotFiniteError."""
    found = student_logprobs(policy, rows, tokens_per_microbatch=tokens_per_microbatch)
    every = np.concatenate(found)
    return float(-every[np.isfinite(every)].astype(np.float64).mean())


def judging_rows(rows: Sequence[Trajectory]) -> list[Trajectory]:
    """Those rows of the first step by which an end is judged: what it trained on.

    A step may train on nothing (every group of completions was rewarded alike, say). Then they are its
    completions, whole.
    """
    trained_on = [row for row in rows if row.supervised_tokens]
    whole = [row.everywhere() for row in rows if len(row) > row.prompt_tokens]
    return (trained_on or whole)[:MOST_ROWS]


def keep_rows(folder: Path, rows: Sequence[Trajectory]) -> None:
    """Store rows of the first step, for the end of training."""
    if rows:
        write_states(folder / ROWS, {"first": rows})


def kept_rows(folder: Path) -> list[Trajectory]:
    """What `keep_rows` stored; nothing where it stored nothing."""
    path = folder / ROWS
    return read_states(path, "first") if path.is_file() else []
