"""What can be said at N states: the contract between supervision (axis 2) and objective (axis 3).

The *type* of a signal decides which objectives accept it. A signal covers the N states of a
micro-batch; `at(chunk)` is the same signal at a chunk of them, which is all that an objective sees.

    Actions       the visited action is the label
    Advantages    how much better than expected it was
    Reference     the visited action is the label, and what a reference gave it
    Distribution  a teacher's next-token distribution: TeacherHidden (one teacher), Mixture
                  (several), TopK (either, on K tokens and the tail)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from jaxtyping import Float, Float32, Int, Int32

from statewise.lazy import torch
from statewise.logits import LogitsTransform
from statewise.trajectory import States, pad

CHUNK_ELEMENTS = 1 << 24
"""Largest `[states, vocabulary]` tensor that exists at a time (64 MiB in float32)."""
CACHE_ELEMENTS = 1 << 20
"""Where more states would fit, as many as stay in a processor's cache (4 MiB in float32)..."""
FEWEST_STATES = 128
"""...but no fewer than this: a matrix product of fewer rows waits for memory."""

Support = Literal["teacher", "student", "union"]


@dataclass(frozen=True, slots=True, eq=False)
class Labels:
    """What a supervision said of a whole rollout, and figures worth logging.

    `values` holds one number a trajectory. `per_token`, where it is given, says more: one number a
    token, prompt tokens included. `rows`, where given, are what a teacher reads in place of the
    student's rows: another prompt, the same completion.
    """

    values: Float32[np.ndarray, " M"]
    figures: Mapping[str, float] = field(default_factory=dict)
    per_token: Sequence[Float32[np.ndarray, " _"]] | None = None
    rows: Sequence[Int32[np.ndarray, " _"]] | None = None

    @classmethod
    def none(cls, count: int) -> Labels:
        """Labels of a supervision that prepares nothing."""
        return cls(np.zeros(count, np.float32))

    def select(self, indices: Sequence[int]) -> Labels:
        """The labels of these trajectories alone; figures stay with the whole rollout."""
        return Labels(
            self.values[list(indices)],
            per_token=None if self.per_token is None else [self.per_token[i] for i in indices],
            rows=None if self.rows is None else [self.rows[i] for i in indices],
        )

    def at(self, states: States) -> Float[torch.Tensor, " N"]:
        """The number at each state: its token's where there is one, else its trajectory's."""
        device = states.row.device
        if self.per_token is None:
            return torch.as_tensor(self.values, device=device)[states.row]
        return torch.as_tensor(pad(self.per_token, 0.0), device=device)[states.row, states.column]


@dataclass(frozen=True, slots=True)
class Actions:
    """The visited action is itself the label."""

    def at(self, chunk: slice) -> Actions:
        """The same signal at a chunk of the states."""
        return self


@dataclass(frozen=True, slots=True, eq=False)
class Advantages:
    """How much better than expected the visited action was, in units of the reward (or scaled)."""

    values: Float[torch.Tensor, " N"]

    def at(self, chunk: slice) -> Advantages:
        """The same signal at a chunk of the states."""
        return Advantages(self.values[chunk])


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """The visited action is the label; a reference policy gave it these log-probs, nats."""

    logprobs: Float[torch.Tensor, " N"]

    def at(self, chunk: slice) -> Reference:
        """The same signal at a chunk of the states."""
        return Reference(self.logprobs[chunk])


@dataclass(frozen=True, slots=True, eq=False)
class TeacherHidden:
    """The teacher's whole next-token distribution, kept as hidden states and projected by chunk.

    Storing `[N, D]` and a head in place of `[N, V]` is what keeps a full-vocabulary divergence
    affordable: the `[N, V]` tensor of a batch never exists.

    >>> told = TeacherHidden(torch.tensor([[2.0, 0.0]]), torch.eye(2), temperature=2.0)
    >>> [round(p, 3) for p in told.logprobs().exp()[0].tolist()]    # e / (e + 1)
    [0.731, 0.269]
    """

    hidden: Float[torch.Tensor, "N D"]
    head: Float[torch.Tensor, "V D"]
    bias: Float[torch.Tensor, " V"] | None = None
    temperature: float = 1.0
    transform: LogitsTransform = LogitsTransform()
    """What the teacher does to its logits behind the head."""

    @property
    def width(self) -> int:
        """Tokens that the teacher can say."""
        return len(self.head)

    def at(self, chunk: slice) -> TeacherHidden:
        """The same signal at a chunk of the states."""
        return replace(self, hidden=self.hidden[chunk])

    def logprobs(self) -> Float[torch.Tensor, "N V"]:
        """Log-probabilities over the vocabulary, nats, float32 (float64 stays float64)."""
        logits = self._logits(slice(None))
        if self.temperature != 1:
            logits /= self.temperature
        return logits.log_softmax(-1)

    def compare(
        self, student: Float[torch.Tensor, "N V"]
    ) -> tuple[Float[torch.Tensor, "N S"], Float[torch.Tensor, "N S"]]:
        """The student's and the teacher's log-probs over what both can say: the vocabulary."""
        return shared(student, self.logprobs())

    def of_actions(
        self, action_ids: Int[torch.Tensor, " N"], temperature: Float[torch.Tensor, " N"]
    ) -> Float[torch.Tensor, " N"]:
        """`log pi_T(a_n | s_n)` at each state's own temperature, nats; chunk by chunk."""
        size = max(1, CHUNK_ELEMENTS // len(self.head))
        parts = []
        for start in range(0, len(action_ids), size):
            chunk = slice(start, start + size)
            logits = self._logits(chunk) / temperature[chunk, None]
            parts.append(logits.log_softmax(-1).gather(-1, action_ids[chunk, None]).squeeze(-1))
        return torch.cat(parts)

    def _logits(self, chunk: slice) -> Float[torch.Tensor, "N V"]:
        return self.transform(_project(self.hidden[chunk], self.head, self.bias))


@dataclass(frozen=True, slots=True, eq=False)
class Mixture:
    """Several teachers as one distribution: `sum_i w_i pi_i(. | s)`, a mixture of probabilities.

    >>> one, two = (TeacherHidden(torch.tensor([p]).log(), torch.eye(2)) for p in ([0.8, 0.2], [0.4, 0.6]))
    >>> [round(p, 3) for p in Mixture((one, two), (0.25, 0.75)).logprobs().exp()[0].tolist()]
    [0.5, 0.5]
    """

    parts: tuple[TeacherHidden, ...]
    weights: tuple[float, ...]

    @property
    def width(self) -> int | None:
        """Tokens that every teacher can say; None where they differ."""
        widths = {part.width for part in self.parts}
        return widths.pop() if len(widths) == 1 else None

    def at(self, chunk: slice) -> Mixture:
        """The same signal at a chunk of the states."""
        return replace(self, parts=tuple(part.at(chunk) for part in self.parts))

    def logprobs(self) -> Float[torch.Tensor, "N V"]:
        """`log sum_i w_i pi_i`, nats."""
        parts = [
            part.logprobs() + float(np.log(w))
            for part, w in zip(self.parts, self.weights, strict=True)
        ]
        return torch.stack(parts).logsumexp(0)

    def compare(
        self, student: Float[torch.Tensor, "N V"]
    ) -> tuple[Float[torch.Tensor, "N S"], Float[torch.Tensor, "N S"]]:
        """As of one teacher."""
        return shared(student, self.logprobs())


@dataclass(frozen=True, slots=True, eq=False)
class TopK:
    """A distribution on K of its tokens, with everything else in one more: the tail.

    `support` says whose K likeliest tokens they are. `union` takes the teacher's K and then the
    student's K likeliest of the others: 2K different tokens that hold both top K. The tail keeps a
    divergence a divergence (0 only for equal buckets, never negative); dropping or renormalising it
    does not. Merging tokens can only lower a divergence, so this is a lower bound of the whole one.
    """

    whole: TeacherHidden | Mixture
    k: int
    support: Support

    def at(self, chunk: slice) -> TopK:
        """The same signal at a chunk of the states."""
        return replace(self, whole=self.whole.at(chunk))

    def covers(self, width: int) -> bool:
        """True where so many tokens are chosen that no tail is left."""
        return self.k * (2 if self.support == "union" else 1) >= width

    def compare(
        self, student: Float[torch.Tensor, "N V"]
    ) -> tuple[Float[torch.Tensor, "N S"], Float[torch.Tensor, "N S"]]:
        """Log-probs of student and teacher on the chosen tokens and the tail, `S = K + 1`.

        With as many tokens as the vocabulary has there is no tail, and `S = V`.

        >>> student = torch.tensor([[0.1, 0.2, 0.3, 0.4]]).log()
        >>> teacher = TeacherHidden(torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log(), torch.eye(4))
        >>> def shown(support):    # the student's and the teacher's probabilities
        ...     both = TopK(teacher, 1, support).compare(student)
        ...     return [[round(p, 3) for p in x.exp()[0].tolist()] for x in both]
        >>> shown("teacher")    # token 0, and the tail
        [[0.1, 0.9], [0.4, 0.6]]
        >>> shown("student")    # token 3, and the tail
        [[0.4, 0.6], [0.1, 0.9]]
        >>> shown("union")      # tokens 0 and 3, and the tail
        [[0.1, 0.4, 0.5], [0.4, 0.1, 0.5]]
        """
        student, teacher = self.whole.compare(student)
        if self.covers(student.shape[-1]):
            return student, teacher
        chosen = (student if self.support == "student" else teacher).topk(self.k).indices
        if self.support == "union":
            others = student.detach().scatter(-1, chosen, -torch.inf)
            chosen = torch.cat([chosen, others.topk(self.k).indices], -1)
        return with_tail(student, chosen), with_tail(teacher, chosen)


def with_tail(
    logprobs: Float[torch.Tensor, "N V"], ids: Int[torch.Tensor, "N K"]
) -> Float[torch.Tensor, "N K+1"]:
    """Log-probs of `ids`, and in the last place the log of all other probability.

    The tail is summed, not taken as 1 minus the rest: where the rest is nearly 1, that difference
    is rounding.

    >>> logprobs = torch.tensor([[0.5, 0.3, 0.1, 0.1]]).log()
    >>> [round(p, 3) for p in with_tail(logprobs, torch.tensor([[1, 0]])).exp()[0].tolist()]
    [0.3, 0.5, 0.2]
    """
    tail = logprobs.scatter(-1, ids, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.cat([logprobs.gather(-1, ids), tail], -1)


def shared(
    student: Float[torch.Tensor, "N V"], teacher: Float[torch.Tensor, "N W"]
) -> tuple[Float[torch.Tensor, "N S"], Float[torch.Tensor, "N S"]]:
    """Both over the ids that both have, renormalised.

    Equal encodings may come with heads of different width (151,936 and 152,064 in one family of
    models): the surplus rows stand for no token.

    >>> wide, narrow = torch.tensor([[0.4, 0.4, 0.2]]).log(), torch.tensor([[0.3, 0.7]]).log()
    >>> [[round(p, 3) for p in x.exp()[0].tolist()] for x in shared(wide, narrow)]
    [[0.5, 0.5], [0.3, 0.7]]
    """
    width = min(student.shape[-1], teacher.shape[-1])
    if student.shape[-1] == teacher.shape[-1]:
        return student, teacher
    return student[:, :width].log_softmax(-1), teacher[:, :width].log_softmax(-1)


def _project(
    hidden: Float[torch.Tensor, "N D"],
    head: Float[torch.Tensor, "V D"],
    bias: Float[torch.Tensor, " V"] | None,
) -> Float[torch.Tensor, "N V"]:
    logits = torch.nn.functional.linear(hidden, head, bias)
    return logits.float() if logits.dtype in (torch.bfloat16, torch.float16) else logits


Distribution = TeacherHidden | Mixture | TopK
Signal = Actions | Advantages | Reference | TeacherHidden | Mixture | TopK

Takes = Literal["actions", "advantages", "reference", "distribution"]
SIGNALS: dict[str, tuple[type, ...]] = {
    "actions": (Actions,),
    "advantages": (Advantages,),
    "reference": (Reference,),
    "distribution": (TeacherHidden, Mixture, TopK),
}
"""The signals by the names that a user's own supervision or objective declares."""
