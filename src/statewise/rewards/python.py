"""A user's own rewards, from a file or a module."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from statewise.errors import ConfigError
from statewise.trajectory import Prompt, Trajectory
from statewise.user_code import defined, faults_of, load, number_of


@dataclass(frozen=True)
class PythonReward:
    """`function(prompt, completion, **arguments) -> float`. Raises ConfigError for what is no finite number."""

    kind: ClassVar[str] = "python"
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    def __call__(self, prompt: Prompt, completion: str) -> float:
        found = load(self.function, self.sha256)(prompt, completion, **self.arguments)
        return number_of(self.function, found, f"a completion of {prompt.id!r}")


@dataclass(frozen=True)
class PythonTokenReward:
    """`function(trajectory, **arguments) -> one float a completion token`, the stop token included.

    Raises ConfigError for another number of them, and for what is no finite number.
    """

    kind: ClassVar[str] = "python"
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    def __call__(self, trajectory: Trajectory) -> Float32[np.ndarray, " L"]:
        found = load(self.function, self.sha256)(trajectory, **self.arguments)
        tokens, where = (
            len(trajectory.completion_ids),
            f"the completion of {trajectory.prompt.id!r}",
        )
        with faults_of(self.function, "gave what is no list of numbers:"):
            values = [number_of(self.function, value, f"a token of {where}") for value in found]
        if len(values) != tokens:
            raise ConfigError(
                f"{self.function} must give {tokens} finite numbers, one per token, for {where}; found "
                f"{len(values)}{defined(self.function)}"
            )
        return np.array(values, np.float32)
