"""A user's own rewards, from a file or a module."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float32

from statewise.code import load
from statewise.errors import DataError
from statewise.trajectory import Prompt, Trajectory


@dataclass(frozen=True)
class PythonReward:
    """`function(prompt, completion, **arguments) -> float`. Raises DataError for nan and infinity."""

    kind: ClassVar[str] = "python"
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    def __call__(self, prompt: Prompt, completion: str) -> float:
        value = float(load(self.function, self.sha256)(prompt, completion, **self.arguments))
        if not math.isfinite(value):
            raise DataError(f"{self.function} gave {value} for a completion of {prompt.id!r}")
        return value


@dataclass(frozen=True)
class PythonTokenReward:
    """`function(trajectory, **arguments) -> one float a completion token`, the stop token included.

    Raises DataError for another number of them, for nan and for infinity.
    """

    kind: ClassVar[str] = "python"
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    sha256: str | None = None

    def __call__(self, trajectory: Trajectory) -> Float32[np.ndarray, " L"]:
        found = load(self.function, self.sha256)(trajectory, **self.arguments)
        values = np.asarray(found, dtype=np.float32)
        tokens = len(trajectory.completion_ids)
        if values.shape != (tokens,) or not np.isfinite(values).all():
            raise DataError(
                f"{self.function} must give {tokens} finite numbers, one a token, for the completion of "
                f"{trajectory.prompt.id!r}; found shape {values.shape}"
            )
        return values
