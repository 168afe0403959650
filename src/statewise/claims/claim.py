"""Claims: predictions with a margin, written down before any arm runs.

Plain data, parsed from a study file; `claims/verdicts.py` settles them. A claim about a *method*
takes the training seed as its unit; with one seed it is undecided, whatever the numbers. `unit:
items` makes it a claim about the checkpoints of the first seed instead. `primary` claims share one
chance of error (Holm); the others are judged alone and count as exploration.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import ClassVar, Literal

from statewise.errors import ConfigError, nearest
from statewise.limits import Share
from statewise.stats import MINIMUM_SEEDS, shortfall

BASE = "base"
"""The name of the policy that every arm starts from unless it says otherwise."""
TARGET = "target"
RETENTION = "retention"
Unit = Literal["seeds", "items"]


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
    baseline: str = BASE
    margin: Share = 0.03
    primary: bool = True
    unit: Unit = "seeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Retains:
    """`arm` stays within `margin` of the baseline on every retention task.

    Effect per task: `score_baseline - score_arm`; two one-sided tests (TOST) against `+-margin`,
    joined by intersection-union. Absence of evidence for forgetting is not this claim. A loss
    beyond the margin contradicts it. A gain beyond the margin does not, for nothing was lost; but
    it does not support it either: what was planned is equivalence, and a test that asks less once
    the gain is seen would be another test than the one fixed beforehand.
    """

    kind: ClassVar[str] = "retains"
    name: str
    text: str
    arm: str
    baseline: str = BASE
    margin: Share = 0.03
    primary: bool = True
    unit: Unit = "seeds"


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
    margin: Share = 0.0
    task: str = TARGET
    primary: bool = True
    unit: Unit = "seeds"


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
    margin: Share = 0.0
    primary: bool = True
    unit: Unit = "seeds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """A scalar `drift` does not explain forgetting: of methods it has not seen it predicts too little.

    Effect: the share of forgetting's spread that a line on drift through all *other* methods explains of a
    method's runs (`stats.explained`, a skill; 1 is all, 0 no more than their mean), divided by the share that a
    perfect line could have explained, given how well both were measured. Supported where its interval lies below
    `margin`. Contradicted where it lies above, with and without the stress arms, and
    drifts that are dealt to other methods explain less (permutation p at the same level): one arm that is
    destroyed makes a line of any drift. Undecided where forgetting differs between arms by no more than
    `least_range`, or forgetting or drift has a reliability below 0.8 over runs: noise is unexplained by anything.

    `methods` lists each method's arms as doses, in order; fewer than 6 methods x 4 doses x 2 seeds leave it
    undecided. `drift`: `mmd2_hidden`, `mmd2_lexical`, `kl_to_base` (nats a state, own states), `update_norm`.
    """

    kind: ClassVar[str] = "unexplained"
    name: str
    text: str
    drift: Literal["mmd2_hidden", "mmd2_lexical", "kl_to_base", "update_norm"]
    methods: dict[str, tuple[str, ...]]
    stress: tuple[str, ...] = field(default=())
    baseline: str = BASE
    margin: Share = 0.5
    least_range: Share = 0.03
    primary: bool = True
    unit: Unit = "seeds"


Claim = Forgets | Retains | Exceeds | ForgetsLess | Unexplained
Comparison = Forgets | Retains | Exceeds | ForgetsLess
"""Claims that compare one arm with others, item by item."""


def rivals(claim: Claim) -> tuple[str, ...]:
    """The arms that the claim's own arms are compared with."""
    if isinstance(claim, Exceeds):
        return claim.over
    return (claim.than if isinstance(claim, ForgetsLess) else claim.baseline,)


def own_arms(claim: Claim) -> tuple[str, ...]:
    """The arms that a claim speaks of."""
    if isinstance(claim, Unexplained):
        return tuple(arm for doses in claim.methods.values() for arm in doses)
    return (claim.arm,)


def task_groups(claim: Comparison, roles: Mapping[str, str]) -> list[list[str]]:
    """The tasks of each comparison with a rival: one at a time for `retains`, their mean otherwise.

    `roles` maps a task's name to its role.
    """
    wanted = claim.task if isinstance(claim, Exceeds) else RETENTION
    tasks = [wanted] if wanted in roles else [name for name in roles if roles[name] == wanted]
    return [[name] for name in tasks] if isinstance(claim, Retains) else [tasks]


def check(
    claim: Claim,
    roles: Mapping[str, str],
    arms: Collection[str] | None = None,
    *,
    drift: bool = True,
) -> None:
    """Refuse a claim that no data could decide.

    `roles` maps a task's name to its role; `arms` are the names that may be compared, None where
    they are not known; `drift` says that the study measures it. Raises ConfigError with the path of what is wrong.
    """
    where = f"claims.{claim.name}"
    for name in (*own_arms(claim), *rivals(claim)):
        if arms is not None and name not in arms:
            raise ConfigError(f"{where}: no arm {name!r}; {nearest(name, arms)}")
    if not isfinite(claim.margin) or claim.margin < 0:
        raise ConfigError(f"{where}.margin: {claim.margin} is not a number >= 0")
    if isinstance(claim, Retains) and claim.margin == 0:
        raise ConfigError(f"{where}.margin: an equivalence test needs a margin above 0")
    if isinstance(claim, Unexplained):
        _check_unexplained(claim, where, drift=drift)
    if isinstance(claim, Exceeds):
        if not claim.over:
            raise ConfigError(f"{where}.over: names no arm to exceed")
        if claim.task not in (TARGET, *roles):
            raise ConfigError(f"{where}.task: {claim.task!r}; {nearest(claim.task, roles)}")
    wanted = claim.task if isinstance(claim, Exceeds) else RETENTION
    if wanted in (TARGET, RETENTION) and wanted not in roles.values():
        raise ConfigError(f"{where}: the study has no {wanted} task")


def _check_unexplained(claim: Unexplained, where: str, *, drift: bool) -> None:
    if not drift and claim.drift != "update_norm":
        raise ConfigError(
            f"{where}.drift: {claim.drift} is measured on drift's prompts; give the study a `drift`, "
            "or leave the claim out"
        )
    own = own_arms(claim)
    if not own:
        raise ConfigError(f"{where}.methods: names no arm")
    if doubled := sorted({arm for arm in own if own.count(arm) > 1}):
        raise ConfigError(
            f"{where}.methods: {doubled[0]!r} stands twice; an arm is one dose of one method"
        )
    design = {m: dict.fromkeys(doses, MINIMUM_SEEDS) for m, doses in claim.methods.items()}
    counts = {method: len(doses) for method, doses in claim.methods.items()}
    # A smaller design is left undecided for its size, which is said then.
    if len(set(counts.values())) > 1 and shortfall(design) is None:
        raise ConfigError(
            f"{where}.methods: a regression over methods needs as many doses of each, found "
            f"{', '.join(f'{count} of {method}' for method, count in counts.items())}"
        )
    for name in claim.stress:
        if name not in own:
            raise ConfigError(
                f"{where}.stress: {name!r} is no dose of its methods; {nearest(name, own)}"
            )
    if not isfinite(claim.least_range) or claim.least_range < 0:
        raise ConfigError(f"{where}.least_range: {claim.least_range} is not a number >= 0")
    if not claim.margin < 1:
        raise ConfigError(f"{where}.margin: a share below 1, found {claim.margin}")
    if claim.unit != "seeds":
        raise ConfigError(
            f"{where}.unit: one checkpoint a dose has no spread over seeds; leave it out"
        )
