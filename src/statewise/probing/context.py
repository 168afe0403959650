"""Who is asked which probe, at which states: what `jobs/probe.py` and `probing/online.py` share.

Samples are named by their role (`dataset`, `base`, `learner`, `teacher:<name>`, `retention`), policies by
their own names. Every row is about the arm itself; what is true of the base alone is said once, in the
base's own folder.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from statewise.errors import ConfigError, DataError
from statewise.gradient import Rollout
from statewise.policy import LIVE, Ema, Policy
from statewise.probing.catalogue import OWN_UPDATE, run_probe
from statewise.probing.inputs import Asked, Row
from statewise.probing.samples import AGAIN, DATASET, LEARNER, RETENTION, teacher_role
from statewise.sources import Filtered, Mixture, Replay, Source, Stored
from statewise.study.probes import KINDS
from statewise.study.spec import BASE
from statewise.trajectory import Trajectory
from statewise.trajectory_store import About

OWN_RETENTION = f"{RETENTION}/{LEARNER}"
"""Only the forgetting law reads it; everyone else's retention states are the base's."""
ALONE = ("reachability", "audit", "behaviour", "gradients")
"""Probes of one policy, which would be asked of the base again beside every arm."""
COMPARED = (LEARNER, AGAIN, DATASET)
"""What two-sample probes compare with the base's own: of an arm its own states, of the base the rest."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """An arm (or the base) at one moment, beside the base, its teachers and the states of all.

    `several` are the samples of `behaviour` and `coverage`, by role; `trained` names the role of the
    states that the arm's source visits.
    """

    name: str
    policy: Policy
    base: Policy
    teachers: Mapping[str, Policy]
    samples: Mapping[str, Sequence[Trajectory]]
    several: Mapping[str, Sequence[Trajectory]]
    trained: str | None
    tokens: int
    depths_tokens: tuple[int, ...]
    seed: int
    own_retention: Sequence[Trajectory] = ()
    update: Callable[[], Sequence[Rollout]] | None = None
    """Draws what one update of the arm would see, where the arm trains."""
    again: Sequence[Trajectory] = field(default=())

    @property
    def is_base(self) -> bool:
        """True where nobody but the base is asked."""
        return self.name == BASE


def trained_role(source: Source) -> str | None:
    """The role whose states are nearest to those that a source visits; None where no single one is.

    Where the student walks at all the states are the learner's, whoever branches off them. A mixture of
    roles has none, and a stored sample may be anyone's.

    >>> from statewise.policy import PolicyRef
    >>> from statewise.rewards import ExactAnswer
    >>> from statewise.sources import Dataset, Teacher
    >>> kept = Filtered(Teacher(PolicyRef("base"), max_new_tokens=8), ExactAnswer())
    >>> trained_role(kept), trained_role(Mixture((kept, Dataset()), (0.5,)))
    ('base', None)
    """
    match source:
        case Filtered() | Replay():
            return trained_role(source.source)
        case Mixture():
            roles = {trained_role(part) for part in source.sources}
            return roles.pop() if len(roles) == 1 else None
        case Stored():
            return None
    if "student" in source.owners or "blend" in source.owners:
        return LEARNER
    if "teacher" not in source.owners:
        return DATASET
    teacher = getattr(source, "teacher", None)
    if teacher is None:
        return None
    # An average of the student has no name before it is bound.
    name = str(getattr(teacher, "name", LIVE))
    if name in (LIVE, f"teacher:{LIVE}", f"teacher:{Ema.kind}"):
        return LEARNER
    return teacher_role(name.removeprefix("teacher:"))


def applies(probe: str, scene: Scene) -> str | None:
    """None where the probe can be asked, else why not."""
    if scene.is_base and not KINDS[probe].of_base:
        return "it compares an arm with the base"
    if KINDS[probe].taught and not scene.teachers:
        return "the arm has no teacher"
    return None


def answers(probe: str, scene: Scene) -> tuple[list[Row], str | None]:
    """The rows of one probe; and why there are none, or why one is missing."""
    asked = _asked(probe, scene)
    try:
        rows = run_probe(probe, asked)
    except (ConfigError, DataError) as error:
        # What a sample does not hold (too few prompts, no answer to score) is known only by trying; a study
        # of hours is not ended by it, and the reason is kept.
        return [], str(error).splitlines()[0]
    named = [replace(row, policy=row.policy or _subject(row, scene)) for row in rows]
    kept = [row for row in named if scene.is_base or row.policy != BASE]
    if not kept:
        return [], "it had nothing to say"
    return kept, _lacking(probe, scene, kept, asked.missing)


def _lacking(probe: str, scene: Scene, rows: Sequence[Row], missing: Sequence[str]) -> str | None:
    """What is missing from an answer and why, or None."""
    if probe == "locality":
        return _without_index(scene, rows)
    if probe != "gradients" or scene.update is None or any(OWN_UPDATE in row.at for row in rows):
        return None
    reason = "; ".join(missing) or "they have no gradient at these states"
    return f"not of the arm's own terms: {reason}"


def _without_index(scene: Scene, rows: Sequence[Row]) -> str | None:
    """None where locality has its index, else why not."""
    if any(row.measure == "index" for row in rows):
        return None
    if scene.trained is None:
        return "no index: no one sample has the states that it was trained on"
    for sample in (scene.trained, RETENTION):
        if sample not in scene.samples:
            return f"no index: there is no sample {sample!r}"
    return "no index: it did not move at the retention states"


def _subject(row: Row, scene: Scene) -> str:
    """Whom a row is about that compares samples and names no policy."""
    return BASE if row.sample == BASE else scene.name


def _asked(probe: str, scene: Scene) -> Asked:
    """The part of a scene that one probe is asked about."""
    samples, own = _samples(probe, scene), {} if scene.is_base else {scene.name: scene.policy}
    beside = scene.teachers if KINDS[probe].taught else {}
    policies = own | {name: policy for name, policy in beside.items() if name != BASE}
    alone = probe in ALONE and not scene.is_base
    # A policy's sample is found by its fingerprint. Two arms may have equal weights (one that never
    # moved is the base), so that here the role stands in for it.
    prints = {BASE: BASE, **{name: teacher_role(name) for name in beside}, scene.name: LEARNER}
    if scene.is_base:
        prints = {BASE: BASE}
    about = {name: About(fingerprint=_drawer(name)) for name in samples}
    return Asked(
        base=None if alone else scene.base,
        policies=policies,
        teachers={scene.name: tuple(beside)},
        samples=samples,
        about=about,
        prints=prints,
        trained={scene.name: scene.trained} if scene.trained in samples else {},
        depths_tokens=scene.depths_tokens,
        max_new_tokens=scene.tokens,
        seed=scene.seed,
        updates={} if scene.update is None else {scene.name: scene.update},
    )


def _drawer(sample: str) -> str:
    """Who drew a sample, by the role: retention samples end in theirs, and plain ones are the base's."""
    part, _, rest = sample.partition("/")
    return (rest or BASE) if part == RETENTION else sample


def _samples(probe: str, scene: Scene) -> dict[str, Sequence[Trajectory]]:
    """The samples that a probe is asked about, by role; those that hold nothing are left out."""
    samples = dict(scene.samples)
    match probe:
        case "behaviour":
            role = BASE if scene.is_base else LEARNER
            samples = {role: scene.several[role]}
        case "coverage":
            samples = dict(scene.several)
        case "drift" | "c2st":
            samples |= {AGAIN: scene.again}
            wanted = COMPARED if scene.is_base else (LEARNER,)
            samples = {name: samples.get(name, ()) for name in (BASE, *wanted)}
        case "forgetting":
            samples |= {OWN_RETENTION: scene.own_retention}
    return {name: rows for name, rows in samples.items() if rows}
