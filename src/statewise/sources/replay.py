"""States that earlier versions of the learner visited."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import ClassVar

from statewise.errors import ConfigError, at_least_one
from statewise.limits import Rows, Steps
from statewise.policy import Policy
from statewise.seeding import permutation, seed_for
from statewise.sources.filtered import Filtered
from statewise.sources.mixture import Mixture, split
from statewise.sources.schedule import Scheduled, check_within, value_at
from statewise.sources.single import SingleSource
from statewise.sources.stored import Stored
from statewise.trajectory import Prompt, Trajectory, student_version

FILE, SAMPLE = "replay.parquet", "replay"

Group = list[Trajectory]
"""The samples of one occurrence of a prompt: stored, drawn and forgotten together."""


@dataclass(frozen=True)
class Replay:
    """A share of the step's prompts is answered by stored rollouts, the rest by `source`.

    Of M prompts, `share M` (fewer while fewer groups are stored; where that is no whole number, rounded
    down or up by a draw from the seed that keeps the mean) make way for as many stored groups, drawn
    without replacement; `source` walks the others, and what it makes is stored. A
    group's age is counted in versions of the student, which the owners of its tokens carry: nothing
    older than `age_limit` is ever replayed, and beyond `capacity` groups the oldest is forgotten. A
    group that teaches nothing, or in which the student wrote nothing, is not stored.

    The replayed tokens keep their behaviour log-probs, so an objective can weigh them by
    `pi / behaviour` (Schaul et al., 2016, arXiv 1511.05952, has the idea of weights for replayed data).

    The store is state: it begins empty with every run, and is saved and restored with checkpoints.

    Raises ConfigError where neither limit is given, and for a source in which the student writes nothing.

    >>> from statewise.sources import Learner
    >>> Replay(Learner(max_new_tokens=8), share=0.5)
    Traceback (most recent call last):
    statewise.errors.ConfigError: a replay needs an age_limit or a capacity, or it would grow for ever
    """

    kind: ClassVar[str] = "replay"
    source: SingleSource | Filtered | Mixture
    share: Scheduled
    age_limit: Steps | None = None
    capacity: Rows | None = None
    stored: list[Group] = field(init=False, repr=False, compare=False, default_factory=list)

    def __post_init__(self) -> None:
        check_within("share", self.share, 0.0, 1.0)
        at_least_one(self, *(n for n in ("age_limit", "capacity") if getattr(self, n) is not None))
        if self.age_limit is None and self.capacity is None:
            raise ConfigError(
                "a replay needs an age_limit or a capacity, or it would grow for ever"
            )
        if isinstance(self.source, Stored):
            raise ConfigError("a stored sample is frozen already: a replay would only repeat it")
        if not {"student", "blend"} & set(self.source.owners):
            raise ConfigError(
                f"source {self.source.kind!r} has no tokens of the student, so its rollouts do not age: "
                "a replay would only repeat them"
            )

    @property
    def owners(self) -> tuple[str, ...]:
        """Those of the source."""
        return self.source.owners

    @property
    def supervised(self) -> tuple[str, ...]:
        """Those of the source."""
        return self.source.supervised

    @property
    def samples_per_prompt(self) -> int:
        """That of the source."""
        return self.source.samples_per_prompt

    @property
    def room_tokens(self) -> int | None:
        """That of the source."""
        return self.source.room_tokens

    @property
    def reads_gold(self) -> bool:
        """True where the source does."""
        return self.source.reads_gold

    def __call__(
        self, prompts: Sequence[Prompt], *, student: Policy, seed: int, progress: float = 0.0
    ) -> list[Trajectory]:
        """The fresh trajectories in the order of their prompts, then the replayed ones."""
        young = [group for group in self.stored if self._is_young(group, student.version)]
        # A draw of its own: a mixture within rounds by another, or the two would round together.
        shares = [value_at(self.share, progress)]
        wanted, _ = split(len(prompts), shares, seed=seed_for(seed, "replayed"))
        drawn = permutation(len(young), seed, "replayed")[:wanted]
        kept = sorted(permutation(len(prompts), seed, "fresh")[len(drawn) :])
        fresh = self.source(
            [prompts[i] for i in kept], student=student, seed=seed, progress=progress
        )
        young += [
            group
            for group in _groups(fresh)
            if _version(group) is not None and any(row.supervised_tokens for row in group)
        ]
        self.stored[:] = young[-self.capacity :] if self.capacity else young
        return [*fresh, *(row for k in drawn for row in young[k])]

    def begin(self, student: Policy) -> None:
        """Forget what another run stored."""
        self.stored.clear()

    def save_state(self, directory: Path) -> None:
        """Write the store as a state sample."""
        if self.stored:
            rows = [row for group in self.stored for row in group]
            from statewise.trajectory_store import write_states  # pyarrow is slow to import

            write_states(directory / FILE, {SAMPLE: rows})

    def restore_state(self, directory: Path) -> None:
        """Read back what `save_state` wrote."""
        from statewise.trajectory_store import read_states  # pyarrow is slow to import

        path = directory / FILE
        self.stored[:] = _groups(read_states(path, SAMPLE)) if path.is_file() else []

    def _is_young(self, group: Group, version: int) -> bool:
        written = _version(group)
        assert written is not None
        return self.age_limit is None or version - written <= self.age_limit


def _groups(rows: Sequence[Trajectory]) -> list[Group]:
    """Consecutive trajectories of one group id."""
    return [list(group) for _, group in groupby(rows, key=lambda row: row.group_id)]


def _version(group: Group) -> int | None:
    """The version of the student that wrote in a group; None where it wrote nothing."""
    versions = [student_version(owner) for row in group for owner in row.owners]
    return min((v for v in versions if v is not None), default=None)
