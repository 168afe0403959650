"""What can be said at N states: the contract between supervision (axis 2) and objective (axis 3).

The *type* of a signal decides which objectives accept it. A signal covers the N states of a
micro-batch; `at(chunk)` is the same signal at a chunk of them, which is all that an objective sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What a supervision said of a whole rollout: one value a trajectory, and figures worth logging."""

    values: Float32[np.ndarray, " M"]
    figures: Mapping[str, float] = field(default_factory=dict)

    @classmethod
    def none(cls, count: int) -> Labels:
        """Labels of a supervision that prepares nothing."""
        return cls(np.zeros(count, np.float32))


@dataclass(frozen=True, slots=True)
class Actions:
    """The visited action is itself the label."""

    def at(self, chunk: slice) -> Actions:
        """The same signal at a chunk of the states."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Advantages:
    """How much better than expected the visited action was, in units of the reward (or scaled)."""

    values: Float[Tensor, " N"]

    def at(self, chunk: slice) -> Advantages:
        """The same signal at a chunk of the states."""
        return Advantages(self.values[chunk])


@dataclass(frozen=True, slots=True, eq=False)
class TeacherHidden:
    """The teacher's whole next-token distribution, kept as hidden states and projected by chunk.

    Storing `[N, D]` and a head in place of `[N, V]` is what keeps a full-vocabulary divergence
    affordable: the `[N, V]` tensor of a batch never exists.
    """

    hidden: Float[Tensor, "N D"]
    head: Float[Tensor, "V D"]
    bias: Float[Tensor, " V"] | None = None
    temperature: float = 1.0

    def at(self, chunk: slice) -> TeacherHidden:
        """The same signal at a chunk of the states."""
        return TeacherHidden(self.hidden[chunk], self.head, self.bias, self.temperature)

    def logprobs(self) -> Float[Tensor, "N V"]:
        """Log-probabilities over the vocabulary, nats, float32 (float64 stays float64)."""
        logits = torch.nn.functional.linear(self.hidden, self.head, self.bias)
        if logits.dtype in (torch.bfloat16, torch.float16):
            logits = logits.float()
        return (logits / self.temperature).log_softmax(-1)


Signal = Actions | Advantages | TeacherHidden
