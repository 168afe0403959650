"""`check_study`: every check of every arm, arm by arm."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from statewise.arms import Arm, references
from statewise.check.data import context, reward
from statewise.check.equal import NAME as EQUAL
from statewise.check.equal import equal_teacher
from statewise.check.finding import Found, Line, Skip, Status, failed, guarded
from statewise.check.forms import NAME as FORMS
from statewise.check.forms import answer_forms
from statewise.check.gap import NAME as GAP
from statewise.check.gap import sampler_gap
from statewise.check.gradients import INVARIANCES, few_rows, invariances
from statewise.check.item import Item, items
from statewise.check.leakage import Item as HeldOut
from statewise.check.leakage import held_out, overlap
from statewise.check.stops import marked, stop_tokens
from statewise.check.subject import Fit, Subject, load_subject, read_prompts, walk
from statewise.check.texts import token_ids
from statewise.check.tokens import (
    chat_template,
    encodings,
    masks,
    sample_texts,
    stop_emitted,
    stop_trained,
)
from statewise.claims.controls import Interpolation
from statewise.errors import ConfigError, ModelError, StatewiseError, nearest
from statewise.gradient import Rollout
from statewise.jobs.folder import differing, few_words
from statewise.store import RunFolder
from statewise.study.arm_run import ArmRun
from statewise.study.spec import Study
from statewise.study.worlds import check_worlds

WALKED = ("masks", "stop token trained", "stop token emitted", GAP, "gradient", *INVARIANCES, EQUAL)
"""Checks of what sources make: they need rows."""
READ = (
    "encoding",
    "stop tokens",
    "token ids",
    "marks in texts",
    "chat template",
    "context",
    "train/test overlap",
    "reward",
    FORMS,
)
"""Checks of models and data: they need no rows."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What the checks of an arm took."""

    rows: int = 0
    tokens_sampled: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ArmReport:
    """What was found of one arm."""

    arm: str
    notes: tuple[str, ...]
    items: tuple[Item, ...]
    found: tuple[Found, ...]
    cost: Cost

    @property
    def lines(self) -> list[Line]:
        """The checks that had something to look at."""
        return [found for found in self.found if isinstance(found, Line)]

    @property
    def skipped(self) -> list[Skip]:
        """Those that had not."""
        return [found for found in self.found if isinstance(found, Skip)]

    def count(self, status: Status) -> int:
        """How many lines say so."""
        return sum(line.status == status for line in self.lines)


def check_study(
    study: Study,
    *,
    arms: Sequence[str] = (),
    run: RunFolder | None = None,
    items: int = 4,
    only: Sequence[str] = (),
    quick: bool = False,
    watch: Callable[[str], None] = lambda _: None,
) -> Iterator[ArmReport]:
    """The checks of every arm, or of those that are named, in the study's order; nothing is written.

    `items` prompts a stream are walked as the study's first seed would walk them, and at most as many
    rows a stream take part in the checks of the gradient. `run` is a folder whose trained arms serve as
    teachers and starts. `only` names checks to run alone, `quick` leaves out those that need a rollout
    (`WALKED`): a model is loaded and read, and no text is sampled. `watch` gets a line as each begins.

    A model that cannot be loaded is a fail of its arms, whose other checks are skipped; it is not tried
    again for the next arm. Raises ConfigError at once, before the first report is asked for, for an arm
    that is not there, for a null, naming the arms that it is made of, and for a study of two generated worlds.
    """
    if items < 1:
        raise ConfigError(f"--items must be 1 or more, found {items}")
    names = [arm.name for arm in study.arms]
    for name in arms:
        if null := study.null(name):
            made_of = null.between if isinstance(null, Interpolation) else (null.of,)
            arms_of = [end for end in made_of if end in names]
            raise ConfigError(
                f"--arm: {name!r} is a null and nothing of it is checked by itself; check what it is made of: "
                + " ".join(f"--arm {end}" for end in arms_of)
            )
        if name not in names:
            raise ConfigError(f"--arm: no arm {name!r}; {nearest(name, names)}")

    for name in only:
        if name not in (*READ, *WALKED):
            raise ConfigError(f"--only: no check {name!r}; {nearest(name, (*READ, *WALKED))}")
        if quick and name in WALKED:
            raise ConfigError(
                f"--quick leaves out {name!r}, which --only asks for: drop one of them"
            )
    wanted = frozenset(only or (READ if quick else (*READ, *WALKED)))
    check_worlds(study)
    chosen = [arm for arm in study.arms if not arms or arm.name in arms]
    return _reports(study, chosen, run, items, Wanted(wanted, watch))


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which checks are run, and who gets a line as each begins."""

    names: frozenset[str]
    say: Callable[[str], None]

    def of(self, checks: Sequence[tuple[str, Callable[[], Found]]]) -> Iterator[Found]:
        """What the wanted ones among these checks find."""
        for name, check in checks:
            if name in self.names:
                self.say(name)
                yield guarded(name, check)

    def skips(self, names: Sequence[str], reason: str) -> list[Found]:
        """The wanted ones among these checks, left out for one reason."""
        return [Skip(name, reason) for name in names if name in self.names]

    def walks(self) -> bool:
        """True if a wanted check needs rows."""
        return bool(self.names.intersection(WALKED))


def _reports(
    study: Study,
    chosen: Sequence[Arm],
    run: RunFolder | None,
    items: int,
    wanted: Wanted,
) -> Iterator[ArmReport]:
    lost: dict[str, StatewiseError] = {}

    @cache
    def measured() -> list[HeldOut]:
        return held_out(study)

    for number, arm in enumerate(chosen, 1):
        head = f"checking {arm.name} (arm {number} of {len(chosen)})"
        wanted.say(f"{head}: loading its models")
        told = replace(wanted, say=lambda name, head=head: wanted.say(f"{head}: {name}"))
        yield _check_arm(study, arm, run, items, measured, lost, told)


def _check_arm(
    study: Study,
    arm: Arm,
    run: RunFolder | None,
    count: int,
    measured: Callable[[], list[HeldOut]],
    lost: dict[str, StatewiseError],
    wanted: Wanted,
) -> ArmReport:
    began = time.perf_counter()
    try:
        subject = load_subject(ArmRun(study, run, arm.name, study.seeds[0]), lost)
    except ModelError as error:
        # One model that is not there must not silence the other arms.
        skips = wanted.skips((*READ, *WALKED), "a model cannot be loaded")
        seconds = time.perf_counter() - began
        return ArmReport(arm.name, (), (), (failed("model", error), *skips), Cost(seconds=seconds))
    found, shown, cost = _found(study, subject, count, measured, wanted)
    found = [*_stale(study, arm, run), *found]
    cost = Cost(cost.rows, cost.tokens_sampled, time.perf_counter() - began)
    return ArmReport(arm.name, subject.notes, tuple(shown), tuple(found), cost)


def _stale(study: Study, arm: Arm, run: RunFolder | None) -> Iterator[Line]:
    """A warning where teachers or starts come from the run of a study that has changed since."""
    if run is None:
        return
    wanted = {arm.start.name, *(ref.name for ref in references(arm))}
    used = [
        other.name
        for other in study.arms
        if other.name in wanted and ArmRun(study, run, other.name, study.seeds[0]).is_trained
    ]
    if used and (changed := differing(study, run)):
        yield Line(
            "warn",
            "run folder",
            f"{', '.join(used)} as trained in {run.root}, by a study that differs in {few_words(changed)}",
            "run this study into a folder of its own and name it with --run, or check before it has run",
        )


def _found(
    study: Study,
    subject: Subject,
    count: int,
    measured: Callable[[], list[HeldOut]],
    wanted: Wanted,
) -> tuple[list[Found], list[Item], Cost]:
    """Texts first, then data, then what sources make of a few prompts. What breaks stops what needs it."""
    try:
        subject, fits = read_prompts(subject)
    except StatewiseError as error:
        found = wanted.of(
            [
                ("encoding", lambda: encodings(subject, [])),
                ("stop tokens", lambda: stop_tokens(subject, study)),
                ("chat template", lambda: chat_template(subject, [])),
            ]
        )
        rest = [
            name
            for name in (*READ, *WALKED)
            if name not in ("encoding", "stop tokens", "chat template")
        ]
        skips = wanted.skips(rest, "the prompts cannot be read")
        return [failed("prompts", error), *found, *skips], [], Cost()
    texts = sample_texts(fits)
    found = list(
        wanted.of(
            [
                ("encoding", lambda: encodings(subject, texts)),
                ("stop tokens", lambda: stop_tokens(subject, study)),
                ("token ids", lambda: token_ids(subject, fits, study)),
                ("marks in texts", lambda: marked(subject, fits, study)),
                ("chat template", lambda: chat_template(subject, texts)),
                ("context", lambda: context(subject, fits, study)),
                ("train/test overlap", lambda: overlap(fits, measured())),
                ("reward", lambda: reward(subject, fits)),
                (FORMS, lambda: answer_forms(subject, fits)),
            ]
        )
    )
    if not wanted.walks():
        return found, [], Cost()
    if any(
        isinstance(one, Line) and (one.name, one.status) == ("encoding", "fail") for one in found
    ):
        return [*found, *wanted.skips(WALKED, "the teacher reads other tokens")], [], Cost()
    before = _written(subject)
    wanted.say(f"rolling out {count} prompts of each stream")
    try:
        rollouts = walk(subject, count, study.seeds[0])
    except StatewiseError as error:
        skips = wanted.skips(WALKED, "no rows")
        return [*found, failed("rollout", error), *skips], [], Cost()
    cost = Cost(sum(len(r.trajectories) for r in rollouts), _written(subject) - before)
    walked = _walked(subject, fits, rollouts, count, wanted)
    return [*found, *walked], items(subject, rollouts), cost


def _walked(
    subject: Subject,
    fits: Sequence[Fit],
    rollouts: Sequence[Rollout],
    count: int,
    wanted: Wanted,
) -> Iterator[Found]:
    yield from wanted.of(
        [
            ("masks", lambda: masks(rollouts)),
            ("stop token trained", lambda: stop_trained(subject, rollouts, fits)),
            ("stop token emitted", lambda: stop_emitted(subject, rollouts)),
            (GAP, lambda: sampler_gap(subject, rollouts)),
        ]
    )
    rows = few_rows(rollouts, count)
    if wanted.names.intersection(("gradient", *INVARIANCES)):
        wanted.say("gradient")
        try:
            for one in invariances(subject, rows):  # of one gradient, so they come together
                broken = isinstance(one, Line) and one.status == "fail"
                if broken or one.name in wanted.names:
                    yield one
        except StatewiseError as error:
            yield failed("gradient", error)
            yield from wanted.skips(INVARIANCES, "there is no gradient")
    yield from wanted.of([(EQUAL, lambda: equal_teacher(subject, rows))])


def _written(subject: Subject) -> int:
    return sum(policy.tokens_written for policy in (subject.student, *subject.teachers))
