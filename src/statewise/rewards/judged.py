"""What a reward says of a completion, and whether it could read it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Judged:
    """The value of a completion; `fault` says why no answer could be read, and then the value is 0.0.

    A completion that breaks a judge is an answer that nobody can read, so it earns what no answer earns.
    It is counted (`reward_fault_share`), never hidden: a judge that fails often measures itself.

    >>> Judged(1.0).fault is None, Judged(0.0, "TimeoutException: during comparison").value
    (True, 0.0)
    """

    value: float
    fault: str | None = None
