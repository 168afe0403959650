"""Prompt -> Trajectory -> States: the three forms of one item.

Shape letters, everywhere in the package: `M` trajectories, `L` tokens, `N` states, `V` vocabulary,
`D` width, `K` top-k.

A *state* is a prefix: the prompt and the tokens generated so far. It is never stored as an object
of its own. State `n` of a batch is `token_ids[row[n], :column[n]]`, and `action_ids[n]` is the token
that was chosen there. Who chose each token is written down when it is chosen, never inferred from
its id.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int, Int16, Int32

from statewise.errors import ConfigError
from statewise.lazy import torch

PROMPT = "prompt"
DATASET = "dataset"
_STUDENT_VERSION = re.compile(r"(?:blend:)?student@(\d+)")


@dataclass(frozen=True, slots=True)
class Sampling:
    """The transform from the model's logits to the distribution that tokens were drawn from.

    `temperature` 0 is greedy. `top_p` 1 and `top_k` 0 leave the distribution whole. A behaviour
    log-prob is the log-prob under *this* distribution, not under the full softmax.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < math.inf:
            raise ConfigError(f"temperature must be 0 or more and finite, found {self.temperature}")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p must be above 0 and at most 1, found {self.top_p}")
        if self.top_k < 0:
            raise ConfigError(f"top_k must be 0 (off) or more, found {self.top_k}")

    @property
    def is_full(self) -> bool:
        """True where every token keeps a positive probability, so that ratios are defined."""
        return self.temperature > 0 and self.top_p >= 1 and self.top_k == 0


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One item to continue.

    `reference` is the gold completion as text (for GSM8K the worked solution): supervised learning
    trains on it and a reward reads the final answer from it. None where there is none.
    """

    id: str
    text: str
    token_ids: Int32[np.ndarray, " L"]
    reference: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Trajectory:
    """A prompt and the tokens that followed, with the provenance of every token.

    Arrays run over the whole row, prompt tokens first:
        token_ids           [L] int32
        weights             [L] float32   supervision weight of the state *before* the token; 0 = none
        owner_codes         [L] int16     index into `owners`
        behaviour_logprobs  [L] float32   nats, under `sampling`; nan = unknown, or another transform
    `owners` names who chose the tokens: `prompt`, `dataset`, `student@7`, `teacher:stress@300`,
    `blend:student@7+teacher:stress@300` (a distribution between the two, which is neither).
    `group_id` is unique per occurrence of a prompt in a rollout: equal prompts never merge.
    `stopped` is True where the completion ended by its own stop token and was not cut.
    """

    prompt: Prompt
    group_id: str
    token_ids: Int32[np.ndarray, " L"]
    weights: Float32[np.ndarray, " L"]
    owner_codes: Int16[np.ndarray, " L"]
    owners: tuple[str, ...]
    behaviour_logprobs: Float32[np.ndarray, " L"]
    sampling: Sampling | None
    completion: str
    stopped: bool

    def __len__(self) -> int:
        return len(self.token_ids)

    @property
    def prompt_tokens(self) -> int:
        """Number of tokens of the prompt."""
        return len(self.prompt.token_ids)

    @property
    def completion_ids(self) -> Int32[np.ndarray, " L"]:
        """Token ids after the prompt, the stop token included."""
        return self.token_ids[self.prompt_tokens :]

    @property
    def supervised_tokens(self) -> int:
        """Number of states with a weight other than 0."""
        return int(np.count_nonzero(self.weights))

    def everywhere(self) -> Trajectory:
        """The same tokens with weight 1 at every state of the completion."""
        weights = np.ones(len(self), np.float32)
        weights[: self.prompt_tokens] = 0.0
        return self.with_weights(weights)

    def with_weights(self, weights: Float32[np.ndarray, " L"]) -> Trajectory:
        """The same tokens under other supervision weights."""
        return replace(self, weights=weights)


@dataclass(frozen=True, slots=True, eq=False)
class Segment:
    """A run of tokens that one owner chose: what trajectories are assembled from."""

    owner: str
    token_ids: Int32[np.ndarray, " L"]
    logprobs: Float32[np.ndarray, " L"] | None = None
    weight: float = 1.0


def assemble(
    prompt: Prompt,
    group_id: str,
    segments: Sequence[Segment],
    *,
    completion: str,
    stopped: bool,
    sampling: Sampling | None = None,
) -> Trajectory:
    """Join a prompt and the segments that follow it. Prompt tokens weigh 0.

    >>> ids = lambda *xs: np.array(xs, dtype=np.int32)
    >>> prompt = Prompt("p0", "1+1=", ids(5, 6))
    >>> row = assemble(prompt, "g0", [Segment("student@0", ids(7), weight=0.0),
    ...                               Segment("teacher:mild@3", ids(8, 2))], completion="2", stopped=True)
    >>> row.token_ids.tolist(), row.weights.tolist()
    ([5, 6, 7, 8, 2], [0.0, 0.0, 0.0, 1.0, 1.0])
    >>> [row.owners[code] for code in row.owner_codes]
    ['prompt', 'prompt', 'student@0', 'teacher:mild@3', 'teacher:mild@3']
    """
    owners = tuple(dict.fromkeys((PROMPT, *(segment.owner for segment in segments))))
    parts = [Segment(PROMPT, prompt.token_ids, None, 0.0), *segments]
    return Trajectory(
        prompt=prompt,
        group_id=group_id,
        token_ids=np.concatenate([part.token_ids for part in parts]).astype(np.int32),
        weights=np.concatenate([np.full(len(p.token_ids), p.weight, np.float32) for p in parts]),
        owner_codes=np.concatenate(
            [np.full(len(p.token_ids), owners.index(p.owner), np.int16) for p in parts]
        ),
        owners=owners,
        behaviour_logprobs=np.concatenate(
            [
                np.full(len(p.token_ids), np.nan, np.float32) if p.logprobs is None else p.logprobs
                for p in parts
            ]
        ).astype(np.float32),
        sampling=sampling,
        completion=completion,
        stopped=stopped,
    )


def role(owner: str) -> str:
    """The role of an owner: `teacher:stress@300` and `teacher:mild@0` are both `teacher`.

    >>> [role(owner) for owner in ("prompt", "dataset", "student@7", "teacher:stress@300")]
    ['prompt', 'dataset', 'student', 'teacher']
    """
    return owner.split("@")[0].split(":")[0]


def student_version(owner: str) -> int | None:
    """The version of the student that had a part in choosing a token; None where it had none.

    >>> [student_version(owner) for owner in ("student@7", "blend:student@7+teacher:mild@3", "dataset")]
    [7, 7, None]
    """
    match = _STUDENT_VERSION.match(owner)
    return None if match is None else int(match[1])


def origins(trajectory: Trajectory) -> list[str]:
    """Who owns the prefix of each state: the roles that wrote the completion so far, in order.

    The prompt is always given, so it does not count: the state at depth 0 is `prompt`.

    >>> ids = lambda *xs: np.array(xs, dtype=np.int32)
    >>> row = assemble(Prompt("p0", "1+1=", ids(5)), "g0",
    ...                [Segment("student@0", ids(7, 9)), Segment("teacher:mild@3", ids(8, 2))],
    ...                completion="", stopped=True)
    >>> origins(row)
    ['prompt', 'prompt', 'student', 'student', 'student+teacher']
    """
    names, seen = [], ()
    for position, code in enumerate(trajectory.owner_codes):
        names.append("+".join(seen) or PROMPT)
        name = role(trajectory.owners[code])
        if position >= trajectory.prompt_tokens and name not in seen:
            seen = (*seen, name)
    return names


@dataclass(frozen=True, slots=True, eq=False)
class States:
    """The N supervised states of one micro-batch. No padding survives in here.

    `behaviour_logprobs` belong to who sampled; `old_logprobs` to the policy at the start of this
    rollout's updates (nan = it has not moved since). `temperature` is that of the sampling
    transform, 1 where the tokens were not sampled. `owner_codes` index `owners`, which here are
    roles (`dataset`, `student`, `teacher`).

    Two fields are nan unless a term asks for them, and never carry a gradient: `logprobs` of the
    actions under the student as it is now (at `temperature`), and `row_log_ratio`, the mean
    or sum of the log-ratio that the term's objective names, over the states of the row that the term
    speaks of.
    """

    token_ids: Int[torch.Tensor, "M L"]
    lengths: Int[torch.Tensor, " M"]
    row: Int[torch.Tensor, " N"]
    column: Int[torch.Tensor, " N"]
    action_ids: Int[torch.Tensor, " N"]
    weights: Float[torch.Tensor, " N"]
    behaviour_logprobs: Float[torch.Tensor, " N"]
    old_logprobs: Float[torch.Tensor, " N"]
    temperature: Float[torch.Tensor, " N"]
    owner_codes: Int[torch.Tensor, " N"]
    owners: tuple[str, ...]
    logprobs: Float[torch.Tensor, " N"]
    row_log_ratio: Float[torch.Tensor, " N"]

    def __len__(self) -> int:
        return len(self.row)

    def at(self, chunk: slice) -> States:
        """The states of one chunk, in order; `token_ids` and `lengths` stay whole."""
        return replace(
            self,
            row=self.row[chunk],
            column=self.column[chunk],
            action_ids=self.action_ids[chunk],
            weights=self.weights[chunk],
            behaviour_logprobs=self.behaviour_logprobs[chunk],
            old_logprobs=self.old_logprobs[chunk],
            temperature=self.temperature[chunk],
            owner_codes=self.owner_codes[chunk],
            logprobs=self.logprobs[chunk],
            row_log_ratio=self.row_log_ratio[chunk],
        )

    def owned_by(self, roles: Sequence[str]) -> Bool[torch.Tensor, " N"]:
        """True at the states whose action one of `roles` chose."""
        wanted = [code for code, name in enumerate(self.owners) if name in roles]
        return torch.isin(self.owner_codes, torch.tensor(wanted, device=self.owner_codes.device))


def pad(rows: Sequence[np.ndarray], fill: float | int) -> np.ndarray:
    """Right-pad rows of one dtype into [M, L]; the only padding there is.

    >>> pad([np.array([1, 2]), np.array([3])], fill=0).tolist()
    [[1, 2], [3, 0]]
    """
    out = np.full((len(rows), max(map(len, rows))), fill, dtype=rows[0].dtype)
    for target, row in zip(out, rows, strict=True):
        target[: len(row)] = row
    return out


def gather_states(
    trajectories: Sequence[Trajectory],
    *,
    old_logprobs: Sequence[Float32[np.ndarray, " _"]] | None = None,
    device: torch.device | str = "cpu",
) -> States:
    """The supervised states of `trajectories`: where padding and the off-by-one begin and end.

    The state before token `column` is the prefix `[:column]`, so a model that maps position `j`
    to the prediction of token `j + 1` is read at `column - 1`. A token at column 0 has no prefix
    and is never supervised.

    >>> ids = lambda *xs: np.array(xs, dtype=np.int32)
    >>> a = assemble(Prompt("a", "", ids(5, 6)), "g0", [Segment("dataset", ids(7, 2))],
    ...              completion="", stopped=True)
    >>> b = assemble(Prompt("b", "", ids(5)), "g1", [Segment("dataset", ids(2))],
    ...              completion="", stopped=True)
    >>> states = gather_states([a, b])
    >>> list(zip(states.row.tolist(), states.column.tolist(), states.action_ids.tolist()))
    [(0, 2, 7), (0, 3, 2), (1, 1, 2)]
    """
    roles = tuple(dict.fromkeys(role(name) for t in trajectories for name in t.owners))
    role_codes = [np.array([roles.index(role(n)) for n in t.owners]) for t in trajectories]
    owner_codes = pad([c[t.owner_codes] for c, t in zip(role_codes, trajectories, strict=True)], 0)
    if old_logprobs is None:
        old_logprobs = [np.full(len(t), np.nan, np.float32) for t in trajectories]
    token_ids = pad([t.token_ids for t in trajectories], 0)
    weights = pad([t.weights for t in trajectories], 0.0)
    weights[:, 0] = 0.0
    row, column = weights.nonzero()
    temperatures = [t.sampling.temperature if t.sampling else 1.0 for t in trajectories]

    def tensor(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        return torch.as_tensor(array, dtype=dtype).to(device)

    def at_states(rows: Sequence[np.ndarray]) -> torch.Tensor:
        return tensor(pad(rows, np.nan)[row, column], torch.float32)

    unknown = torch.full((len(row),), float("nan"), device=device)
    return States(
        token_ids=tensor(token_ids, torch.long),
        lengths=tensor(np.array([len(t) for t in trajectories]), torch.long),
        row=tensor(row, torch.long),
        column=tensor(column, torch.long),
        action_ids=tensor(token_ids[row, column], torch.long),
        weights=tensor(weights[row, column], torch.float32),
        behaviour_logprobs=at_states([t.behaviour_logprobs for t in trajectories]),
        old_logprobs=at_states(old_logprobs),
        temperature=tensor(np.array(temperatures, np.float32)[row], torch.float32),
        owner_codes=tensor(owner_codes[row, column], torch.long),
        owners=roles,
        logprobs=unknown,
        row_log_ratio=unknown,
    )
