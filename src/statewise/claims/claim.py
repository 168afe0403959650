"""Claims: predictions with a margin, written down before any arm runs.

A claim is plain data, parsed from a study file, and answers for itself: which arms and tasks it
compares, which test settles it, how its verdict reads. `claims/verdicts.py` settles all claims of a
study together. A claim about a *method* takes the training seed as its unit; with one seed it is
undecided, whatever the numbers. `unit: items` makes it a claim about the checkpoints of the first
seed instead. `primary` claims share one chance of error (Holm); the others are judged alone and count
as exploration.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from statewise import stats
from statewise.claims import sentences
from statewise.errors import ConfigError, nearest
from statewise.limits import Share

if TYPE_CHECKING:  # pandas and pyarrow take long to import, and reading a study file needs neither
    import pandas as pd

    from statewise.claims.comparison import Comparison
    from statewise.claims.drift_regression import Explanation

BASE = "base"
"""The name of the policy that every arm starts from unless it says otherwise."""
TARGET = "target"
RETENTION = "retention"
Unit = Literal["seeds", "items"]
Outcome = Literal["supported", "contradicted", "undecided"]
Bounds = tuple[float, float]


class ItemClaim(ABC):
    """A claim that compares one arm with others, item by item."""

    __slots__ = ()

    kind: ClassVar[str]
    equivalence: ClassVar[bool] = False
    """Both directions are tested against the margin, not one."""
    counts_losses: ClassVar[bool] = False
    """The effect is what the arm lost against the other, not what it gained."""
    each_task: ClassVar[bool] = False
    """Every task is a comparison of its own; otherwise the mean over tasks is compared."""
    names_decoding: ClassVar[bool] = False
    """Tasks with generated answers are compared under sampling as well, for the reader."""

    name: str
    text: str
    arm: str
    margin: Share
    primary: bool
    unit: Unit

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that the claim is about."""
        return (self.arm,)

    @property
    @abstractmethod
    def rivals(self) -> tuple[str, ...]:
        """The arms that they are compared with."""

    @property
    def wanted(self) -> str:
        """The task, or the role of the tasks, on which they are compared."""
        return RETENTION

    def comparisons(self, roles: Mapping[str, str]) -> list[tuple[str, list[str]]]:
        """A rival and tasks for each comparison. `roles` maps a task's name to its role."""
        named = [self.wanted] if self.wanted in roles else []
        tasks = named or [name for name, role in roles.items() if role == self.wanted]
        groups = [[name] for name in tasks] if self.each_task else [tasks]
        return [(rival, group) for rival in self.rivals for group in groups]

    def label(self, rival: str, tasks: Sequence[str]) -> str:
        """The name of a comparison."""
        return f"{self.arm} on {tasks[0]}" if self.each_task else f"vs {rival}"

    def evidence(
        self,
        scores: pd.DataFrame,
        roles: Mapping[str, str],
        fixed: frozenset[str],
        drifts: pd.DataFrame | None,
    ) -> Sequence[Comparison] | str:
        """One estimate for each comparison, or a sentence that says why there is none."""
        from statewise.claims.comparison import compare

        return compare(self, scores, roles, fixed)

    @abstractmethod
    def p(self, part: Comparison) -> float | None:
        """One-sided p of this part; small if it shows what was predicted."""

    @abstractmethod
    def p_against(self, part: Comparison) -> float:
        """One-sided p of the opposite: small if this part excludes what was predicted.

        Infinite if the error is unknown.
        """

    @abstractmethod
    def clearance(self, bounds: Bounds) -> float:
        """How far the interval's less favourable end clears the margin."""

    def detectable(self, parts: Sequence[Comparison], alpha: float) -> float | None:
        """The smallest true effect, the same in every part, that is shown at least 8 times in 10.

        For an equivalence: the smallest margin at which no effect is shown to be none.
        """
        if not all(part.effect.scales for part in parts):
            return None
        # Every part must pass, and of an equivalence both sides: they share the misses.
        power = stats.part_power(len(parts), sides=2 if self.equivalence else 1)
        scales = [scale for part in parts for scale in part.effect.scales]
        reach = max(stats.detectable_beyond(s.stderr, s.df, alpha, power) for s in scales)
        return reach if self.equivalence else self.margin + reach

    @abstractmethod
    def subject(self, part: Comparison) -> str:
        """What the number is of: the start of its sentence."""

    @abstractmethod
    def conclusion(
        self, outcome: Outcome, bounds: Bounds, n_parts: int, detectable: float | None
    ) -> str:
        """The end of its sentence: what the interval shows, excludes or leaves open."""

    def sentence(
        self,
        parts: Sequence[Comparison],
        worst: Comparison,
        bounds: Bounds | None,
        outcome: Outcome,
        level: float,
        detectable: float | None,
    ) -> str:
        """The verdict in words."""
        sampled = sentences.at_temperature_1(
            [(part.name, part.effect, part.sampled) for part in parts if part.sampled is not None]
        )
        subject = self.subject(worst)
        if bounds is None:
            return sentences.unknown(subject, worst.effect, self.unit) + sampled
        estimate = sentences.estimate(
            worst.effect, bounds, level, worst.n_items, self.unit, worst.p_mcnemar
        )
        least = f", the least favourable of {len(parts)} comparisons" if len(parts) > 1 else ""
        conclusion = self.conclusion(outcome, bounds, len(parts), detectable)
        return f"{subject} {estimate}{least}{conclusion}{sampled}"

    def refuse(self, where: str, roles: Mapping[str, str], *, drift: bool) -> None:
        """Raise ConfigError for what no data could decide."""
        if self.equivalence and self.margin == 0:
            raise ConfigError(f"{where}.margin: an equivalence test needs a margin above 0")


class OneSidedClaim(ItemClaim):
    """Supported if the effect lies above the margin."""

    __slots__ = ()

    effect_words: ClassVar[str]

    def p(self, part: Comparison) -> float | None:
        return stats.p_above(part.effect, self.margin)

    def p_against(self, part: Comparison) -> float:
        p = stats.p_below(part.effect, self.margin)
        return inf if p is None else p

    def clearance(self, bounds: Bounds) -> float:
        return bounds[0] - self.margin

    def conclusion(
        self, outcome: Outcome, bounds: Bounds, n_parts: int, detectable: float | None
    ) -> str:
        return sentences.one_sided(
            outcome, bounds, self.margin, self.effect_words, n_parts, detectable
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgets(OneSidedClaim):
    """`arm` loses more than `margin` on the retention tasks.

    Effect: forgetting `F = score_baseline - score_arm`, mean over retention tasks (eq. 12 of the
    paper). Supported if F's interval lies above `margin`.
    """

    kind: ClassVar[str] = "forgets"
    counts_losses: ClassVar[bool] = True
    effect_words: ClassVar[str] = "forgetting"

    name: str
    text: str
    arm: str
    baseline: str = BASE
    margin: Share = 0.03
    primary: bool = True
    unit: Unit = "seeds"

    @property
    def rivals(self) -> tuple[str, ...]:
        return (self.baseline,)

    @staticmethod
    def asked_for(margin: float) -> str:
        return f"a loss above {margin:g}"

    def subject(self, part: Comparison) -> str:
        return (
            f"Forgetting of {self.arm} against {self.baseline}{sentences.mean_of(part.by_task)} is"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Retains(ItemClaim):
    """`arm` stays within `margin` of the baseline on every retention task.

    Effect per task: `score_baseline - score_arm`; two one-sided tests (TOST) against `+-margin`,
    joined by intersection-union. Absence of evidence for forgetting is not this claim. A loss
    beyond the margin contradicts it. A gain beyond the margin does not, for nothing was lost; but
    it does not support it either: what was planned is equivalence, and a test that asks less once
    the gain is seen would be another test than the one fixed beforehand.
    """

    kind: ClassVar[str] = "retains"
    equivalence: ClassVar[bool] = True
    counts_losses: ClassVar[bool] = True
    each_task: ClassVar[bool] = True

    name: str
    text: str
    arm: str
    baseline: str = BASE
    margin: Share = 0.03
    primary: bool = True
    unit: Unit = "seeds"

    @property
    def rivals(self) -> tuple[str, ...]:
        return (self.baseline,)

    @staticmethod
    def asked_for(margin: float) -> str:
        return f"no change beyond ±{margin:g}"

    def p(self, part: Comparison) -> float | None:
        return stats.p_equivalent(part.effect, self.margin)

    def p_against(self, part: Comparison) -> float:
        # Only a loss beyond the margin is the opposite of retention; a gain is not.
        p = stats.p_above(part.effect, self.margin)
        return inf if p is None else p

    def clearance(self, bounds: Bounds) -> float:
        low, high = bounds
        return self.margin - max(high, -low)

    def subject(self, part: Comparison) -> str:
        return f"The loss of {part.name} against {self.baseline} is"

    def conclusion(
        self, outcome: Outcome, bounds: Bounds, n_parts: int, detectable: float | None
    ) -> str:
        return sentences.equivalent(outcome, bounds, self.margin, n_parts, detectable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exceeds(OneSidedClaim):
    """`arm` scores more than `margin` above each arm of `over`, on `task`.

    `task` is a task's name or `target`. Paired by item, and by seed if the other arm trains; an
    arm that does not train (base) is one fixed checkpoint. Joined by intersection-union.
    """

    kind: ClassVar[str] = "exceeds"
    names_decoding: ClassVar[bool] = True
    effect_words: ClassVar[str] = "an advantage"

    name: str
    text: str
    arm: str
    over: tuple[str, ...]
    margin: Share = 0.0
    task: str = TARGET
    primary: bool = True
    unit: Unit = "seeds"

    @property
    def rivals(self) -> tuple[str, ...]:
        return self.over

    @property
    def wanted(self) -> str:
        return self.task

    @staticmethod
    def asked_for(margin: float) -> str:
        return sentences.higher("score", margin)

    def subject(self, part: Comparison) -> str:
        task = "the target" if self.task == TARGET else self.task
        decoded = f", decoded {part.decoding}," if part.decoding else ""
        return f"{self.arm} {part.name} on {task}{decoded} is"

    def refuse(self, where: str, roles: Mapping[str, str], *, drift: bool) -> None:
        if not self.over:
            raise ConfigError(f"{where}.over: names no arm to exceed")
        if self.task not in (TARGET, *roles):
            raise ConfigError(f"{where}.task: {self.task!r}; {nearest(self.task, roles)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetsLess(OneSidedClaim):
    """`arm` keeps more than `than` does: the retention mean is more than `margin` above.

    Effect: `score_arm - score_than`, mean over retention tasks, which is the difference of their
    forgetting whatever the baseline.
    """

    kind: ClassVar[str] = "forgets_less"
    effect_words: ClassVar[str] = "less forgetting"

    name: str
    text: str
    arm: str
    than: str
    margin: Share = 0.0
    primary: bool = True
    unit: Unit = "seeds"

    @property
    def rivals(self) -> tuple[str, ...]:
        return (self.than,)

    @staticmethod
    def asked_for(margin: float) -> str:
        return sentences.higher("retention", margin)

    def subject(self, part: Comparison) -> str:
        return f"Retention of {self.arm} over {self.than}{sentences.mean_of(part.by_task)} is"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """A scalar `drift` does not explain forgetting: of methods it has not seen it predicts too little.

    Effect: the share of forgetting's spread that a line on drift through all *other* methods explains of a
    method's runs (`stats.explained`, a skill; 1 is all, 0 no more than their mean), divided by the share that a
    perfect line could have explained, given how well both were measured. Supported if its interval lies below
    `margin`. Contradicted if it lies above, with and without the stress arms, and
    drifts assigned to other methods at random explain less (permutation p at the same level): one arm that is
    destroyed makes a line of any drift. Undecided if forgetting differs between arms by no more than
    `least_range`, or forgetting or drift has a reliability below 0.8 over runs: noise is unexplained by anything.

    `methods` lists each method's arms as doses, in order; fewer than 6 methods x 4 doses x 2 seeds leave it
    undecided. `drift`: `mmd2_hidden`, `mmd2_lexical`, `kl_to_base` (nats per state, own states), `update_norm`.
    """

    kind: ClassVar[str] = "unexplained"
    equivalence: ClassVar[bool] = False
    wanted: ClassVar[str] = RETENTION

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

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(arm for doses in self.methods.values() for arm in doses)

    @property
    def rivals(self) -> tuple[str, ...]:
        return (self.baseline,)

    @staticmethod
    def asked_for(margin: float) -> str:
        return f"less than {margin:g} explained"

    def comparisons(self, roles: Mapping[str, str]) -> list[tuple[str, list[str]]]:
        """None: a regression over arms is not a comparison item by item."""
        return []

    def shortfall(self, n_seeds: int) -> str | None:
        """What the design lacks if every dose has that many seeds; None if it suffices."""
        return stats.shortfall(
            {method: dict.fromkeys(doses, n_seeds) for method, doses in self.methods.items()}
        )

    def evidence(
        self,
        scores: pd.DataFrame,
        roles: Mapping[str, str],
        fixed: frozenset[str],
        drifts: pd.DataFrame | None,
    ) -> Sequence[Explanation] | str:
        """The regression, or a sentence that says why there is none."""
        from statewise.claims.comparison import missing_arms
        from statewise.claims.drift_regression import explain

        explanation = missing_arms(self.arms, self.rivals, scores) or explain(
            self, scores, roles, fixed, drifts
        )
        return explanation if isinstance(explanation, str) else [explanation]

    def p(self, part: Explanation) -> float | None:
        return part.p_unexplained(self.margin)

    def p_against(self, part: Explanation) -> float:
        # The opposite has to hold without the stress arms too, and against drifts of other methods.
        return part.p_explains(self.margin)

    def clearance(self, bounds: Bounds) -> float:
        return bounds[0] - self.margin

    def detectable(self, parts: Sequence[Explanation], alpha: float) -> None:
        """Unknown: it depends on the spread of methods, which no formula of ours covers."""

    def sentence(
        self,
        parts: Sequence[Explanation],
        worst: Explanation,
        bounds: Bounds | None,
        outcome: Outcome,
        level: float,
        detectable: float | None,
    ) -> str:
        """The verdict in words."""
        return worst.sentence(self, bounds, level, outcome)

    def refuse(self, where: str, roles: Mapping[str, str], *, drift: bool) -> None:
        """Raise ConfigError for what no data could decide."""
        if not drift and self.drift != "update_norm":
            raise ConfigError(
                f"{where}.drift: {self.drift} is measured on drift's prompts; give the study a `drift`, "
                "or leave the claim out"
            )
        own = self.arms
        if not own:
            raise ConfigError(f"{where}.methods: names no arm")
        if doubled := sorted({arm for arm in own if own.count(arm) > 1}):
            raise ConfigError(
                f"{where}.methods: {doubled[0]!r} is listed twice; an arm is one dose of one method"
            )
        counts = {method: len(doses) for method, doses in self.methods.items()}
        # A smaller design is left undecided for its size, and the verdict says so.
        if len(set(counts.values())) > 1 and self.shortfall(stats.MINIMUM_SEEDS) is None:
            raise ConfigError(
                f"{where}.methods: a regression over methods needs as many doses of each, found "
                f"{', '.join(f'{count} of {method}' for method, count in counts.items())}"
            )
        for name in self.stress:
            if name not in own:
                raise ConfigError(
                    f"{where}.stress: {name!r} is not a dose of its methods; {nearest(name, own)}"
                )
        if not isfinite(self.least_range) or self.least_range < 0:
            raise ConfigError(f"{where}.least_range: {self.least_range} is not a number >= 0")
        if not self.margin < 1:
            raise ConfigError(f"{where}.margin: a share below 1, found {self.margin}")
        if self.unit != "seeds":
            raise ConfigError(
                f"{where}.unit: one checkpoint per dose has no spread over seeds; leave it out"
            )


Claim = Forgets | Retains | Exceeds | ForgetsLess | Unexplained


def asked_for(kind: str, margin: float) -> str:
    """What a claim of this kind asks for, with its margin.

    >>> asked_for("forgets", 0.03), asked_for("retains", 0.03), asked_for("exceeds", 0.0)
    ('a loss above 0.03', 'no change beyond ±0.03', 'a higher score')
    >>> asked_for("forgets_less", 0.03), asked_for("unexplained", 0.5)
    ('a retention higher by more than 0.03', 'less than 0.5 explained')
    """
    return next(claim.asked_for(margin) for claim in get_args(Claim) if claim.kind == kind)


def check(
    claim: Claim,
    roles: Mapping[str, str],
    arms: Collection[str] | None = None,
    *,
    drift: bool = True,
) -> None:
    """Refuse a claim that no data could decide.

    `roles` maps a task's name to its role; `arms` are the names that may be compared, None if
    they are not known; `drift` says that the study measures it. Raises ConfigError with the path of what is wrong.
    """
    where = f"claims.{claim.name}"
    for name in (*claim.arms, *claim.rivals):
        if arms is not None and name not in arms:
            raise ConfigError(f"{where}: no arm {name!r}; {nearest(name, arms)}")
    if not isfinite(claim.margin) or claim.margin < 0:
        raise ConfigError(f"{where}.margin: {claim.margin} is not a number >= 0")
    claim.refuse(where, roles, drift=drift)
    if claim.wanted in (TARGET, RETENTION) and claim.wanted not in roles.values():
        raise ConfigError(f"{where}: the study has no {claim.wanted} task")
