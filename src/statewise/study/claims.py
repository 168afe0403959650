"""Claims: predictions with a margin, written down before any arm runs.

Plain data, parsed from a study file; `study/verdicts.py` settles them. A claim about a *method*
takes the training seed as its unit; with one seed it is undecided, whatever the numbers. `unit:
items` makes it a claim about the checkpoints of the first seed instead. `primary` claims share one
chance of error (Holm); the others are judged alone and count as exploration.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

TARGET = "target"
RETENTION = "retention"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgets:
    """`arm` loses more than `margin` on the retention tasks.

    Effect: forgetting `F = score_baseline - score_arm`, mean over retention tasks (eq. 12 of the
    paper). Supported where F's interval lies above `margin`.
    """

    kind: ClassVar[str] = "forgets"
    name: str
    text: str
    arm: str
    baseline: str = "base"
    margin: float = 0.03
    primary: bool = True
    unit: str = "seeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retains:
    """`arm` stays within `margin` of the baseline on every retention task.

    Effect per task: `score_baseline - score_arm`; two one-sided tests (TOST) against `+-margin`,
    joined by intersection-union. Absence of evidence for forgetting is not this claim.
    """

    kind: ClassVar[str] = "retains"
    name: str
    text: str
    arm: str
    baseline: str = "base"
    margin: float = 0.03
    primary: bool = True
    unit: str = "seeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Exceeds:
    """`arm` scores more than `margin` above each arm of `over`, on `task`.

    `task` is a task's name or `target`. Paired by item, and by seed where the other arm trains; an
    arm that does not train (base) is one fixed checkpoint. Joined by intersection-union.
    """

    kind: ClassVar[str] = "exceeds"
    name: str
    text: str
    arm: str
    over: tuple[str, ...]
    margin: float = 0.0
    task: str = TARGET
    primary: bool = True
    unit: str = "seeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetsLess:
    """`arm` keeps more than `than` does: the retention mean is more than `margin` above.

    Effect: `score_arm - score_than`, mean over retention tasks, which is the difference of their
    forgetting whatever the baseline.
    """

    kind: ClassVar[str] = "forgets_less"
    name: str
    text: str
    arm: str
    than: str
    margin: float = 0.0
    primary: bool = True
    unit: str = "seeds"


Claim = Forgets | Retains | Exceeds | ForgetsLess
