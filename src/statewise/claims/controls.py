"""What makes arms comparable: an equal budget, and policies that any real effect must beat.

Values of a study file and what they refuse; `jobs/budget_match.py` and `jobs/interpolate.py` act on them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import ClassVar, Literal

from statewise.errors import ConfigError, at_least_one, nearest
from statewise.limits import Number, ProperShare, Rows, Steps

Spent = Literal["tokens_trained", "tokens_sampled", "updates"]
Measured = Literal["kl_to_base", "update_norm", "target_gain"]
SPENT: tuple[str, ...] = ("tokens_trained", "tokens_sampled", "updates")
"""Summed over steps, as `budget.json` sums them: an arm stops where the sum reaches the target."""
MEASURED: tuple[str, ...] = ("kl_to_base", "update_norm", "target_gain")
"""Asked of a checkpoint: an arm trains to its end, and the nearest checkpoint is its policy."""


@dataclass(frozen=True)
class Match:
    """Arms at equal budget: the same amount spent, or the same distance moved.

    `by` a spent quantity: an arm ends with the first step at which its sum reaches the target, so it
    overshoots by less than a step. Its schedule and its progress stay those of its own `steps`; an arm
    that ends before it reaches the target is not prolonged.

    `by` a measured one: every `every_steps` steps, and at its end, the arm's checkpoint is asked, and
    the one nearest to the target (the first of equals) is the policy that is measured, and that its
    students are taught by. The start is no candidate: an arm that does not train is no arm.

        kl_to_base    mean over states of kl(student||base) in nats, on the student's own rollouts of the
                      first `prompts_limit` of drift's prompts, the same draws for every checkpoint and arm
        update_norm   ||theta - theta_start||, as `budget.json` has it
        target_gain   dev accuracy on the items of the dev curve, minus the base's

    `target` is a number, or an arm whose own total it is, seed by seed; that arm is trained first.
    `arms` are those that are matched; none named: all but the target and the arms that it needs.
    A miss beyond `tolerance` (a share of the target) is said in the report, nothing is refused.

    Raises ConfigError for numbers that no budget can be.

    >>> Match("updates", target=0.0)
    Traceback (most recent call last):
    statewise.errors.ConfigError: target: 0.0 updates are no budget; give a number above 0
    """

    by: Literal["tokens_trained", "tokens_sampled", "updates", "kl_to_base", "update_norm", "target_gain"]  # fmt: skip
    target: str | Number
    tolerance: ProperShare = 0.1
    arms: tuple[str, ...] = ()
    every_steps: Steps = 10
    prompts_limit: Rows = 64

    def __post_init__(self) -> None:
        at_least_one(self, "every_steps", "prompts_limit")
        if not 0 < self.tolerance < 1:
            raise ConfigError(f"tolerance: a share between 0 and 1, found {self.tolerance}")
        if isinstance(self.target, float) and not isfinite(self.target):
            raise ConfigError(f"target: {self.target} is not a finite number")
        if isinstance(self.target, float) and self.by != "target_gain" and self.target <= 0:
            raise ConfigError(
                f"target: {self.target} {self.by} are no budget; give a number above 0"
            )


@dataclass(frozen=True)
class Interpolation:
    """A policy between two others: `(1 - a) * first + a * second`, weight by weight.

    `a` in [0, 1] is found by bisection so that its `kl_to_base` equals that of the policy `matched_to`,
    seed by seed; where even the second policy moved less, `a` is 1 and the miss says so. Nothing trains:
    what a student has beyond it is more than having moved as far. Adapters are merged into the weights.

    Source: Wortsman et al., 2022 (arXiv 2109.01903), where `first` is the start of fine-tuning.
    """

    kind: ClassVar[str] = "interpolation"
    name: str
    between: tuple[str, str]
    matched_to: str
    tolerance: ProperShare = 0.02
    prompts_limit: Rows = 64

    def __post_init__(self) -> None:
        at_least_one(self, "prompts_limit")
        if not 0 < self.tolerance < 1:
            raise ConfigError(f"tolerance: a share between 0 and 1, found {self.tolerance}")

    @property
    def needs(self) -> tuple[str, ...]:
        """Policies that must be there first."""
        return (*self.between, self.matched_to)


@dataclass(frozen=True)
class EarlyStop:
    """The arm `of` once more, measured at the checkpoint that is nearest to what `matched_to` reached.

    With the same seed it trains as `of` does, step by step: it is what `of` was, earlier.
    """

    kind: ClassVar[str] = "early_stop"
    name: str
    of: str
    matched_to: str
    by: Measured = "target_gain"
    tolerance: ProperShare = 0.1
    every_steps: Steps = 5
    prompts_limit: Rows = 64

    def __post_init__(self) -> None:
        _ = self.match  # refuses what no rule can be

    @property
    def match(self) -> Match:
        """The rule by which its checkpoint is chosen."""
        return Match(
            self.by,
            self.matched_to,
            self.tolerance,
            (self.name,),
            self.every_steps,
            self.prompts_limit,
        )

    @property
    def needs(self) -> tuple[str, ...]:
        """Policies that must be there first, beside the teachers of `of`."""
        return (self.matched_to,)


Null = Interpolation | EarlyStop


def check_match(
    match: Match,
    needs: Mapping[str, Collection[str]],
    *,
    drift: bool,
    dev: bool,
    samples_nothing: Collection[str] = (),
) -> None:
    """Refuse a rule that names no arm, waits for itself, has nothing to measure on or is a budget of 0.

    `needs` are the arms of the study, each with all the arms that it cannot do without; arms in
    `samples_nothing` are known to train on texts that are there.
    """
    if isinstance(match.target, str) and match.target not in needs:
        raise ConfigError(f"match.target: no arm {match.target!r}; {nearest(match.target, needs)}")
    first = {match.target, *needs[match.target]} if isinstance(match.target, str) else set()
    for name in match.arms:
        if name not in needs:
            raise ConfigError(f"match.arms: no arm {name!r}; {nearest(name, needs)}")
        if name in first:
            raise ConfigError(
                f"match.arms: {name!r} is trained before its target {match.target!r} is known; "
                "match other arms, or to another target"
            )
    if match.by == "tokens_sampled" and match.target in samples_nothing:
        raise ConfigError(
            f"match.target: {match.target} spends no tokens_sampled, it trains on texts that are there; "
            "match by another quantity"
        )
    _check_measurable("match.by", match.by, drift=drift, dev=dev)


def check_null(
    null: Null,
    names: Collection[str],
    *,
    base: str,
    drift: bool,
    dev: bool,
    matched: Collection[str] = (),
) -> None:
    """Refuse a null of arms that are not there, or one that has nothing to measure on.

    `names` are the study's arms, `matched` those that `match` matches. A null of nulls is refused: it
    would say nothing new. So is an early stop of an arm at equal budget: that arm's own policy is an
    earlier checkpoint, and the null's could be a later one.
    """
    where = f"nulls.{null.name}"
    known = [base, *names]
    ends = null.between if isinstance(null, Interpolation) else ()
    for key, name in (*(("between", end) for end in ends), ("matched_to", null.matched_to)):
        if name not in known:
            raise ConfigError(f"{where}.{key}: no arm {name!r}; {nearest(name, known)}")
    if null.matched_to == base:
        raise ConfigError(f"{where}.matched_to: the base moved nowhere; name an arm")
    if isinstance(null, Interpolation) and null.between[0] == null.between[1]:
        raise ConfigError(f"{where}.between: {null.between[0]!r} twice; nothing lies between")
    if isinstance(null, EarlyStop) and null.of not in names:
        raise ConfigError(f"{where}.of: no arm {null.of!r}; {nearest(null.of, names)}")
    if isinstance(null, EarlyStop) and null.of == null.matched_to:
        raise ConfigError(
            f"{where}.matched_to: {null.of!r} is the arm itself, whose end is nearest; name another arm"
        )
    if isinstance(null, EarlyStop) and null.of in matched:
        raise ConfigError(
            f"{where}.of: {null.of!r} is stopped by `match` already, and this checkpoint could be a later "
            "one; name an arm that match.arms leaves out"
        )
    by = "kl_to_base" if isinstance(null, Interpolation) else null.by
    _check_measurable(where, by, drift=drift, dev=dev)


def _check_measurable(where: str, by: str, *, drift: bool, dev: bool) -> None:
    if by == "kl_to_base" and not drift:
        raise ConfigError(
            f"{where}: kl_to_base is measured on drift's prompts; give the study a `drift`"
        )
    if by == "target_gain" and not dev:
        raise ConfigError(
            f"{where}: target_gain is measured on the dev items; give the study a `dev`"
        )
