"""What a value names before it is bound: a policy, an average of the student, an adapter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from statewise.errors import ConfigError, at_least_one
from statewise.limits import FewTimes, Positive, ProperShare, ShareBelow1

Precision = Literal["fp32", "bf16"]
LIVE = "student"
"""The name of the policy that is being trained, where a study wants it as its own teacher."""


@dataclass(frozen=True)
class PolicyRef:
    """The place of a policy in a value that is not bound yet.

    An arm's name, `base`, a directory, or `student`: the live policy itself.

    >>> PolicyRef("base")
    PolicyRef(name='base')
    """

    plain: ClassVar[str] = "scalar"
    name: str


@dataclass(frozen=True)
class Ema:
    """A teacher that follows the student: `teacher <- decay * teacher + (1 - decay) * student`.

    It starts as the student and moves after each update (Tarvainen and Valpola, 2017, arXiv
    1703.01780, section 2). Its weights are saved with every checkpoint.

    Raises ConfigError where `decay` is not strictly between 0 and 1.

    >>> Ema(1.0)
    Traceback (most recent call last):
    statewise.errors.ConfigError: decay must lie between 0 and 1, found 1.0; 0 would be the policy \
'student', and 1 the policy that the arm starts from
    """

    kind: ClassVar[str] = "ema"
    decay: ProperShare

    def __post_init__(self) -> None:
        if not 0 < self.decay < 1:
            raise ConfigError(
                f"decay must lie between 0 and 1, found {self.decay}; 0 would be the policy {LIVE!r}, "
                "and 1 the policy that the arm starts from"
            )


@dataclass(frozen=True)
class Lora:
    """A low-rank adapter: `W + (alpha / rank) B A` (Hu et al., 2021, arXiv 2106.09685, eq. 3).

    >>> Lora(rank=0)
    Traceback (most recent call last):
    statewise.errors.ConfigError: rank must be 1 or more, found 0
    """

    rank: FewTimes = 16
    alpha: Positive = 32.0
    dropout: ShareBelow1 = 0.0
    target_modules: tuple[str, ...] | None = None
    """Names of the adapted linear layers; None = every linear layer but the head."""

    def __post_init__(self) -> None:
        at_least_one(self, "rank")
        if not 0 <= self.dropout < 1:
            raise ConfigError(f"dropout must be at least 0 and below 1, found {self.dropout}")
