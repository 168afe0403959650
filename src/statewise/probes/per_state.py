"""Numbers at every state of stored trajectories, under one policy or two: what most probes read.

Each policy's trunk runs once over every row; heads run on chunks of states, so that no
`[tokens, vocabulary]` tensor of a batch exists and every divergence is exact over the vocabulary.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int

from statewise.errors import DataError
from statewise.gradient import chunks, microbatches
from statewise.lazy import torch
from statewise.objectives.divergence import entropy, kl
from statewise.policy import Policy
from statewise.signals import shared
from statewise.trajectory import Trajectory, gather_states


@runtime_checkable
class Measure(Protocol):
    """From the log-probs of policy and reference and the actions to numbers by name, `[N]` each."""

    def __call__(
        self,
        own: Float[torch.Tensor, "N V"],
        reference: Float[torch.Tensor, "N V"],
        action_ids: Int[torch.Tensor, " N"],
        /,
    ) -> Mapping[str, torch.Tensor]: ...


@dataclass(frozen=True, slots=True, eq=False)
class Visited:
    """The states of some trajectories and numbers there, by trajectory and then by depth.

    `row` indexes the trajectories, `depth` counts the tokens of the completion before the state,
    `action_ids` are the tokens that were chosen there, `prompts` the prompts' ids.
    """

    row: Int[np.ndarray, " N"]
    depth: Int[np.ndarray, " N"]
    action_ids: Int[np.ndarray, " N"]
    prompts: tuple[str, ...]
    values: Mapping[str, Float[np.ndarray, " N"]]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, name: str) -> Float[np.ndarray, " N"]:
        return self.values[name]


@dataclass(frozen=True, slots=True, eq=False)
class PerState:
    """What one policy, or two, make of every state; nats, under the full softmax.

    The fields after `greedy` compare with the reference and are None without one. `margin` is the
    log-prob of the likeliest token minus that of the second; `greedy` is 1 where the action is the
    likeliest token, else 0.
    """

    row: Int[np.ndarray, " N"]
    depth: Int[np.ndarray, " N"]
    action_ids: Int[np.ndarray, " N"]
    prompts: tuple[str, ...]
    logprob: Float[np.ndarray, " N"]
    entropy: Float[np.ndarray, " N"]
    margin: Float[np.ndarray, " N"]
    greedy: Float[np.ndarray, " N"]
    reference_logprob: Float[np.ndarray, " N"] | None = None
    reference_entropy: Float[np.ndarray, " N"] | None = None
    reference_margin: Float[np.ndarray, " N"] | None = None
    reference_greedy: Float[np.ndarray, " N"] | None = None
    kl_policy_reference: Float[np.ndarray, " N"] | None = None
    """`kl(policy || reference)`."""
    kl_reference_policy: Float[np.ndarray, " N"] | None = None
    """`kl(reference || policy)`."""

    def __len__(self) -> int:
        return len(self.row)


def visit(
    policy: Policy,
    reference: Policy | None,
    trajectories: Sequence[Trajectory],
    measure: Measure,
    *,
    tokens_per_microbatch: int = 16384,
) -> Visited:
    """Apply `measure` to the two policies' log-probs at every state of every completion.

    Weights play no part: a state counts whether it was supervised or not. Without a reference the
    policy stands in both places. Cost: one forward pass of each policy over all tokens, no gradient.
    Raises DataError where there is no state.
    """
    told = reference if reference is not None and reference is not policy else None
    whole = [t.everywhere() for t in trajectories]
    rows, columns, actions = [], [], []
    found: dict[str, list[np.ndarray]] = {}
    with contextlib.ExitStack() as modes:
        modes.enter_context(policy.frozen())
        if told is not None:
            modes.enter_context(told.frozen())
        for indices in microbatches(whole, tokens_per_microbatch):
            states = gather_states([whole[i] for i in indices], device=policy.device)
            if len(states) == 0:
                continue
            at = (states.token_ids, states.lengths, states.row, states.column - 1)
            mine = policy.hidden_at(*at)
            theirs = None if told is None else told.hidden_at(*at)
            for chunk in chunks(len(states), policy):
                own = policy.head(mine[chunk]).log_softmax(-1)
                other = own
                if told is not None and theirs is not None:
                    own, other = shared(own, told.head(theirs[chunk]).log_softmax(-1))
                policy.finite(own)
                if told is not None:
                    told.finite(other)
                numbers = measure(own, other, states.action_ids[chunk])
                for name, values in numbers.items():
                    found.setdefault(name, []).append(values.double().cpu().numpy())
            rows.append(np.array(indices)[states.row.cpu().numpy()])
            columns.append(states.column.cpu().numpy())
            actions.append(states.action_ids.cpu().numpy())
    if not rows:
        raise DataError("the sample holds no state: its completions are empty")
    row, column = np.concatenate(rows), np.concatenate(columns)
    order = np.lexsort((column, row))
    row, starts = row[order], np.array([t.prompt_tokens for t in trajectories])
    return Visited(
        row=row,
        depth=column[order] - starts[row],
        action_ids=np.concatenate(actions)[order],
        prompts=tuple(trajectories[i].prompt.id for i in row),
        values={name: np.concatenate(parts)[order] for name, parts in found.items()},
    )


def per_state(
    policy: Policy,
    trajectories: Sequence[Trajectory],
    reference: Policy | None = None,
    *,
    tokens_per_microbatch: int = 16384,
) -> PerState:
    """Log-prob of the action, entropy, top-1 margin, and both divergences, at every state.

    Exact over the vocabulary; nothing is estimated. Cost: one forward pass of each policy.
    """
    found = visit(
        policy,
        reference,
        trajectories,
        _alone if reference is None else _compared,
        tokens_per_microbatch=tokens_per_microbatch,
    )
    return PerState(found.row, found.depth, found.action_ids, found.prompts, **found.values)


def row_sums(table: PerState | Visited, values: Float[np.ndarray, " N"], rows: int) -> np.ndarray:
    """Sums over the states of each trajectory, `[M]`; 0 for one that has none."""
    out = np.zeros(rows)
    np.add.at(out, table.row, values)
    return out


def _of(own: torch.Tensor, action_ids: torch.Tensor, prefix: str) -> dict[str, torch.Tensor]:
    best = own.topk(2, -1).values
    logprob = own.gather(-1, action_ids[:, None]).squeeze(-1)
    return {
        f"{prefix}logprob": logprob,
        f"{prefix}entropy": entropy(own),
        f"{prefix}margin": best[:, 0] - best[:, 1],
        f"{prefix}greedy": logprob >= best[:, 0],
    }


def _alone(
    own: torch.Tensor, _other: torch.Tensor, action_ids: torch.Tensor
) -> dict[str, torch.Tensor]:
    return _of(own, action_ids, "")


def _compared(
    own: torch.Tensor, other: torch.Tensor, action_ids: torch.Tensor
) -> dict[str, torch.Tensor]:
    return (
        _of(own, action_ids, "")
        | _of(other, action_ids, "reference_")
        | {"kl_policy_reference": kl(own, other), "kl_reference_policy": kl(other, own)}
    )
