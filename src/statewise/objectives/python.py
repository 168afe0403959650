"""A user's own objective."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from jaxtyping import Float

from statewise.errors import ConfigError
from statewise.lazy import torch
from statewise.signals import Signal, Takes
from statewise.trajectory import States
from statewise.user_code import defined, load


@dataclass(frozen=True)
class PythonObjective:
    """`function(logits, states, signal, **arguments) -> loss per state`, from a file or a module.

    `takes` says which signal it is for; a supervision that gives another is refused as the arm is
    built. The function is pure: no mask, no reduction, nothing of other states.
    Raises ConfigError where it returns anything but one value a state.
    """

    kind: ClassVar[str] = "python"
    function: str
    takes: Takes
    arguments: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    @property
    def reads(self) -> tuple[str, ...]:
        """A function of advantages may have a ratio to the old policy."""
        return ("old_logprobs",) if self.takes == "advantages" else ()

    def __call__(
        self, logits: Float[torch.Tensor, "N V"], states: States, signal: Signal
    ) -> Float[torch.Tensor, " N"]:
        values = load(self.function, self.sha256)(logits, states, signal, **self.arguments)
        right = isinstance(values, torch.Tensor) and values.is_floating_point()
        if not right or values.shape != (len(states),):
            found = type(values).__name__
            if isinstance(values, torch.Tensor):
                found = f"{tuple(values.shape)} of {values.dtype}"
            raise ConfigError(
                f"{self.function} must return one loss a state, a tensor of ({len(states)},) of floats, found "
                f"{found}{defined(self.function)}"
            )
        return values
