"""Objectives that speak of whole rows while they see chunks of states.

The gradient of a loss of a row's mean log-ratio `m = sum_t w_t x_t / sum_t w_t` needs the *value* of
`m` at every state and nothing else of the row: `d f(m) = f'(m) sum_t w_t dx_t / sum_t w_t`. So the
value comes from a pass without gradient (the head alone, over hidden states that are there
anyway), and each state then brings its own share of the gradient.
"""

from __future__ import annotations

from typing import Literal, Protocol, TypeGuard, runtime_checkable

from jaxtyping import Float, Int

from statewise.lazy import torch
from statewise.signals import Signal
from statewise.trajectory import States


@runtime_checkable
class ReadsRows(Protocol):
    """An objective that wants `states.row_log_ratio`: the row's mean or sum of `log_ratios`."""

    reads_rows: bool

    @property
    def over(self) -> Literal["mean", "sum"]:
        """What is taken of a row's log-ratios, over the states that the term speaks of."""
        ...

    def log_ratios(self, states: States, signal: Signal) -> Float[torch.Tensor, " N"]:
        """The log-ratio of each action, from `states.logprobs`; no gradient."""
        ...


def reads_rows(objective: object) -> TypeGuard[ReadsRows]:
    """True where the objective asks for the row pass.

    >>> from statewise.objectives import CrossEntropy, SequenceRatio
    >>> reads_rows(SequenceRatio()), reads_rows(CrossEntropy())
    (True, False)
    """
    return getattr(objective, "reads_rows", False)


def row_log_ratios(
    objective: ReadsRows, states: States, signal: Signal, weights: Float[torch.Tensor, " N"]
) -> Float[torch.Tensor, " N"]:
    """What `objective` takes of each state's row, over the states where the term speaks (weight not 0).

    A row may hold states of other terms: those are no part of this one's mean, sum or count.

    mean  `sum_t w_t x_t / sum_t w_t`
    sum   `sum_t x_t`, each state once: the likelihood ratio of these tokens

    >>> from dataclasses import replace
    >>> from statewise.testing import states
    >>> from statewise.objectives import SequenceRatio
    >>> from statewise.signals import Advantages
    >>> seen = states(1, 2, 3, old=[-1.0, -1.0, -1.0])
    >>> seen = replace(seen, logprobs=torch.tensor([-1.5, -2.0, -9.0]))
    >>> weights, told = torch.tensor([0.5, 0.5, 0.0]), Advantages(torch.ones(3))
    >>> [row_log_ratios(SequenceRatio(over=over), seen, told, weights).tolist() for over in ("mean", "sum")]
    [[-0.75, -0.75, -0.75], [-1.5, -1.5, -1.5]]
    """
    spoken = weights != 0
    # Where the term does not speak a log-ratio need not exist: 0 times nan is nan.
    ratios = torch.where(spoken, objective.log_ratios(states, signal), 0.0)
    if objective.over == "sum":
        return row_sums(ratios, states.row)
    return row_means(ratios, weights, states.row)


def row_means(
    values: Float[torch.Tensor, " N"],
    weights: Float[torch.Tensor, " N"],
    row: Int[torch.Tensor, " N"],
) -> Float[torch.Tensor, " N"]:
    """The weighted mean of `values` over each state's row; 0 in a row that weighs nothing.

    >>> row = torch.tensor([0, 0, 1])
    >>> row_means(torch.tensor([1.0, 4.0, 5.0]), torch.tensor([2.0, 1.0, 1.0]), row).tolist()
    [2.0, 2.0, 5.0]
    """
    top, bottom = (row_sums(x.to(values.dtype), row) for x in (values * weights, weights))
    return torch.where(bottom == 0, 0.0, top / bottom)


def row_sums(
    values: Float[torch.Tensor, " N"], row: Int[torch.Tensor, " N"]
) -> Float[torch.Tensor, " N"]:
    """The sum of `values` over each state's row.

    >>> row_sums(torch.tensor([1.0, 4.0, 5.0]), torch.tensor([0, 0, 1])).tolist()
    [5.0, 5.0, 5.0]
    """
    rows = int(row.max()) + 1
    return values.new_zeros(rows).index_add_(0, row, values)[row]


def or_now(states: States, now: Float[torch.Tensor, " N"]) -> Float[torch.Tensor, " N"]:
    """`old_logprobs`, and where the policy has not moved since the rollout, those of now.

    >>> from statewise.testing import states
    >>> now = torch.tensor([-1.0])
    >>> or_now(states(1), now).tolist(), or_now(states(1, old=[-2.0]), now).tolist()
    ([-1.0], [-2.0])
    """
    return torch.where(states.old_logprobs.isnan(), now.detach(), states.old_logprobs)
