"""A user's own source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from statewise.errors import ConfigError, at_least_one
from statewise.limits import Samples, Tokens
from statewise.policy import Policy, PolicyLike
from statewise.trajectory import Prompt, Trajectory, role
from statewise.user_code import defined, load

Role = Literal["dataset", "student", "teacher", "blend"]


@dataclass(frozen=True)
class PythonSource:
    """`function(prompts, student=, seed=, progress=, **arguments) -> trajectories`, from a file or a module.

    `supervised` names the roles whose tokens weigh and `given` those whose tokens do not; they are
    what the pairing rules go by, so trajectories are held to them. `teacher`, where it is given, is
    bound and passed on. Every draw must come from `seed`, or a resumed run is another run.

    Raises ConfigError where the function returns anything but `samples_per_prompt` trajectories a
    prompt, or tokens of other roles than it was said to.
    """

    kind: ClassVar[str] = "python"
    function: str
    supervised: tuple[Role, ...]
    given: tuple[Role, ...] = ()
    teacher: PolicyLike | None = None
    samples_per_prompt: Samples = 1
    room_tokens: Tokens | None = None
    """Tokens of context that it needs beyond the prompt; None = those of the gold completion."""
    arguments: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    def __post_init__(self) -> None:
        at_least_one(self, "samples_per_prompt")
        if not self.supervised:
            raise ConfigError(f"{self.function}: `supervised` names no role, so nothing is taught")

    @property
    def owners(self) -> tuple[str, ...]:
        """Every role that chooses tokens."""
        return tuple(dict.fromkeys((*self.given, *self.supervised)))

    @property
    def reads_gold(self) -> bool:
        """True where gold tokens are part of its rows."""
        return "dataset" in self.owners

    def __call__(
        self, prompts: Sequence[Prompt], *, student: Policy, seed: int, progress: float = 0.0
    ) -> list[Trajectory]:
        """The user's trajectories."""
        extra = (
            self.arguments if self.teacher is None else self.arguments | {"teacher": self.teacher}
        )
        function = load(self.function, self.sha256)
        rows = function(prompts, student=student, seed=seed, progress=progress, **extra)
        wanted = len(prompts) * self.samples_per_prompt
        listed = isinstance(rows, list | tuple)
        if not listed or not all(isinstance(r, Trajectory) for r in rows) or len(rows) != wanted:
            found = f"{len(rows)} items" if listed else type(rows).__name__
            raise ConfigError(
                f"{self.function} must return a list of {self.samples_per_prompt} trajectories a prompt, "
                f"{wanted} in all, found {found}{defined(self.function)}"
            )
        for row in rows:
            self._check(row)
        return list(rows)

    def _check(self, row: Trajectory) -> None:
        roles = [role(owner) for owner in row.owners]
        written = {roles[code] for code in row.owner_codes[row.prompt_tokens :]}
        taught = {roles[code] for code in row.owner_codes[row.weights != 0]}
        if odd := (written - {*self.owners}) | (taught - {*self.supervised}):
            raise ConfigError(
                f"{self.function}: tokens of {', '.join(sorted(odd))} in a trajectory of prompt "
                f"{row.prompt.id!r}, but `supervised` says {', '.join(self.supervised)} and `given` "
                f"{', '.join(self.given) or 'nobody'}"
            )
