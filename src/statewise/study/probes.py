"""Which probes a study runs, when, and on how many prompts; what each probe needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from statewise.data import Data, WorldDocuments
from statewise.errors import ConfigError, at_least_one, nearest
from statewise.limits import CountOrZero, Rows, Steps, Tokens
from statewise.probes import Drift


@dataclass(frozen=True, slots=True)
class Kind:
    """What a probe tells, in a few words, and what it asks of a study.

    `cheap` ones may run while an arm trains: a few forward passes over states that are there, or none.
    `taught` ones need a teacher that is not the student itself. `of_base` ones have something to say of
    the base alone, which is said once a study.
    """

    tells: str
    cheap: bool = False
    taught: bool = False
    of_base: bool = False


KINDS: Mapping[str, Kind] = {
    "locality": Kind("how far it moved from the base, sample by sample", cheap=True),
    "reachability": Kind("how likely others' states are to it", cheap=True, of_base=True),
    "forgetting": Kind("sequence KL to the base, both ways", cheap=True),
    "drift": Kind("how far its states lie from the base's", of_base=True),
    "c2st": Kind("whether a classifier tells its states from the base's", of_base=True),
    "coverage": Kind("how varied its states are, and which of the base's they cover", of_base=True),
    "splice": Kind("reward where one policy begins and another ends", taught=True),
    "repair": Kind("what the teacher gains from the student's states", taught=True),
    "fidelity": Kind("how sure the teacher is at the student's states", cheap=True, taught=True),
    "signal_tail": Kind("how large the teacher's signal gets", cheap=True, taught=True),
    "signal_mass": Kind("at which states the teacher's signal lies", cheap=True, taught=True),
    "overlap": Kind("top-k tokens that student and teacher share", cheap=True, taught=True),
    "exposure": Kind("divergence at the student's states against the teacher's", taught=True),
    "audit": Kind("whether its stored samples are still its own", cheap=True, of_base=True),
    "geometry": Kind("which weights the update changed, and how", cheap=True),
    "behaviour": Kind("reward, pass@k, entropy, length of its samples", cheap=True, of_base=True),
    "gradients": Kind(
        "how the gradients of its own terms and of others' samples lie", of_base=True
    ),
}
"""Every probe of `probing/catalogue.py` by name. A splice without a teacher has nothing to splice."""

AFTER = tuple(name for name in KINDS if name != "drift")
"""Drift is measured of every arm anyway, beside the base's own null."""
CHEAP = tuple(name for name, kind in KINDS.items() if kind.cheap)
CUTTING = ("splice", "repair")
"""Probes that cut completions at `depths_tokens`."""
DEFAULT_TOKENS = 120


@dataclass(frozen=True)
class Probing:
    """Probes of a study: `after` once an arm and seed is measured, `during` every so many of its steps.

    `prompts` None are those that drift is compared on. `retention_limit` is that of each retention
    task. The microscope shows so many prompts of the first seed token by token; 0 = none.

    >>> Probing(after=("localty",))
    Traceback (most recent call last):
    statewise.errors.ConfigError: after: no probe 'localty'; did you mean 'locality'? Known: audit, \
behaviour, c2st, coverage, drift, exposure, fidelity, forgetting, geometry, gradients, locality, overlap, \
reachability, repair, signal_mass, signal_tail, splice
    """

    after: tuple[str, ...] = AFTER
    during: tuple[str, ...] = ()
    every_steps: Steps = 20
    prompts: Data | None = None
    retention_limit: Rows = 100
    depths_tokens: tuple[Tokens, ...] = (8, 24, 48)
    microscope: CountOrZero = 40

    def __post_init__(self) -> None:
        at_least_one(self, "every_steps", "retention_limit")
        for key in ("after", "during"):
            names: tuple[str, ...] = getattr(self, key)
            for name in names:
                if name not in KINDS:
                    raise ConfigError(f"{key}: no probe {name!r}; {nearest(name, KINDS)}")
                if names.count(name) > 1:
                    raise ConfigError(f"{key}: {name!r} is listed twice")
        for name in self.during:
            if not KINDS[name].cheap:
                raise ConfigError(
                    f"during: {name!r} is too dear to run while an arm trains; list it in `after`. "
                    f"Cheap: {', '.join(CHEAP)}"
                )
        if self.microscope < 0:
            raise ConfigError(f"microscope must be 0 (off) or more, found {self.microscope}")
        if list(self.depths_tokens) != sorted({d for d in self.depths_tokens if d > 0}):
            raise ConfigError(
                f"depths_tokens must rise and begin above 0, found {list(self.depths_tokens)}"
            )


def completion_tokens(drift: Drift | None, target_tokens: int | None) -> int:
    """The most tokens of a probe's completions: drift's, else the target task's.

    >>> completion_tokens(None, 64), completion_tokens(Drift(WorldDocuments(), max_new_tokens=8), 64)
    (64, 8)
    """
    return drift.max_new_tokens if drift else target_tokens or DEFAULT_TOKENS


def prompts_of(probing: Probing | None, drift: Drift | None) -> Data | None:
    """Whose prompts they are: the probes' own, else drift's.

    >>> prompts_of(Probing(), Drift(WorldDocuments(limit=3), max_new_tokens=8))
    WorldDocuments(limit=3, world_seed=0)
    """
    if probing and probing.prompts is not None:
        return probing.prompts
    return drift.prompts if drift else None


def check_probes(probing: Probing, drift: Drift | None, target_tokens: int | None) -> None:
    """Refuse probes that have no prompts to complete, and cuts that no completion reaches."""
    data = prompts_of(probing, drift)
    if data is None:
        raise ConfigError(
            "probes.prompts: say which prompts (there is no `drift` to take them from)"
        )
    if isinstance(data, WorldDocuments):
        inherited = (
            ""
            if probing.prompts is not None
            else "those of `drift`, which stand in, are documents: "
        )
        raise ConfigError(
            f"probes.prompts: {inherited}documents have no prompt to complete; give problems, gsm8k or a "
            "JSON-lines file"
        )
    tokens = completion_tokens(drift, target_tokens)
    cut: Sequence[str] = [name for name in CUTTING if name in probing.after]
    deepest = max(probing.depths_tokens, default=0)
    if cut and not 0 < deepest < tokens:
        raise ConfigError(
            f"probes.depths_tokens: {cut[0]} cuts completions of at most {tokens} tokens, so depths lie "
            f"between 1 and {tokens - 1}, found {list(probing.depths_tokens)}"
        )
