"""What probes are asked, and the rows that their answers become.

One row a number: which probe, which policy against which reference, on which sample, what (`measure`),
where (`at`: a depth, a cell, a pair), the value with its error and interval, and a text where one is shown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Any

import numpy as np

from statewise.errors import ConfigError, DataError
from statewise.gradient import Rollout
from statewise.policy import Policy
from statewise.probing.sample_file import RETENTION
from statewise.stats import Estimate
from statewise.study.spec import BASE
from statewise.trajectory import Trajectory
from statewise.trajectory_store import About, same_fingerprint


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """What the probes may look at.

    `policies` by name, the base apart; `teachers` names, for a policy, those that teach it, and `trained`
    the sample whose states it was trained on; `samples` are stored trajectories and `about` says who drew
    them; `prints` are the policies' fingerprints. `updates` draws what one update would see, of policies whose arm
    is known.
    """

    base: Policy | None
    policies: Mapping[str, Policy]
    teachers: Mapping[str, Sequence[str]]
    samples: Mapping[str, Sequence[Trajectory]]
    about: Mapping[str, About]
    prints: Mapping[str, str]
    trained: Mapping[str, str] = field(default_factory=dict)
    clip: float = 1.0
    depths_tokens: tuple[int, ...] = (8, 24, 48)
    max_new_tokens: int = 120
    seed: int = 0
    updates: Mapping[str, Callable[[], Sequence[Rollout]]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    """Why a part of an answer is missing; a probe that goes on without one adds to it."""

    def need_base(self) -> Policy:
        """The base, or an error that says how to give one."""
        if self.base is None:
            raise ConfigError("this probe compares with a base: give one by --base")
        return self.base

    def everyone(self) -> dict[str, Policy]:
        """Every policy, the base first."""
        return ({BASE: self.base} if self.base else {}) | dict(self.policies)

    def own(self, name: str, *, retention: bool = False) -> str | None:
        """The sample that this policy drew, by its weights and never by its name."""
        mine = self.prints.get(name)
        for sample, known in self.about.items():
            kept = sample.split("/")[0] == RETENTION
            same = mine is not None and same_fingerprint(known.fingerprint, mine)
            if same and kept == retention:
                return sample
        return None

    def must_own(self, name: str) -> tuple[str, Sequence[Trajectory]]:
        """The policy's own sample, or an error that says how to draw one."""
        sample = self.own(name)
        if sample is None:
            raise DataError(
                f"no sample that was given was drawn by {name!r} with these weights; draw it by `statewise states`, "
                "or give the file that holds it by --states"
            )
        return sample, self.samples[sample]

    def pairs(self) -> Iterator[tuple[str, str, Policy, Policy]]:
        """Names and policies of every student and teacher."""
        every, found = self.everyone(), False
        for name, policy in self.policies.items():
            for teacher in self.teachers.get(name, ()):
                if teacher in every and teacher != name:
                    found = True
                    yield name, teacher, policy, every[teacher]
        if not found:
            raise ConfigError(
                "this probe needs a student and its teacher: give both policies (as NAME=PLACE), and say "
                "which teaches by --teacher NAME"
            )


@dataclass(frozen=True, slots=True)
class Row:
    """One number of one probe."""

    probe: str
    policy: str
    reference: str
    sample: str
    measure: str
    at: str
    value: float
    stderr: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None
    unit: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Part:
    """A result of a probe, and what it is about; `measure` and `at` name what the result does not."""

    policy: str
    reference: str
    sample: str
    result: Any
    measure: str = ""
    at: str = ""
    text: str = ""


def flat(result: Any, measure: str = "", at: str = "") -> Iterator[tuple[str, str, Any]]:
    """The numbers of a probe's result, each with its name and place.

    In a tuple of records, what is text or a count says where each record stands.

    >>> from statewise.probes.locality import Locality
    >>> list(flat(Locality({"base": Estimate(0.5, None, 1, "nats")}, None)))
    [('moved', 'base', Estimate(value=0.5, stderr=None, n=1, unit='nats', low=None, high=None))]
    >>> list(flat(((1, 0.25), (4, 0.5)), "pass_at_k"))
    [('pass_at_k', '1', 0.25), ('pass_at_k', '4', 0.5)]
    """
    if isinstance(result, Estimate | float):
        yield measure, at, result
    elif isinstance(result, Mapping):
        for key, value in result.items():
            yield from flat(value, measure, f"{at} {key}".strip())
    elif isinstance(result, tuple):
        for i, item in enumerate(result):
            if isinstance(item, tuple):
                yield from flat(item[1], measure, f"{at} {item[0]}".strip())
            elif is_dataclass(item) and not isinstance(item, Estimate):
                yield from flat(item, measure, at)
            else:
                yield from flat(item, measure, f"{at} {i + 1}".strip())
    elif is_dataclass(result):
        values = {f.name: getattr(result, f.name) for f in fields(result)}
        place = " ".join(
            str(v) for key, v in values.items() if isinstance(v, str | int) and key != "n"
        )
        for name, value in values.items():
            if not isinstance(value, str | int | np.ndarray) and value is not None:
                yield from flat(value, f"{measure}.{name}".strip("."), f"{at} {place}".strip())


def row_of(name: str, part: Part, measure: str, at: str, value: Estimate | float) -> Row:
    """One number of a part as a row."""
    known: dict[str, Any] = asdict(value) if isinstance(value, Estimate) else {"value": value}
    place = {"policy": part.policy, "reference": part.reference, "sample": part.sample}
    return Row(probe=name, **place, measure=measure, at=at, **known, text=part.text)
