"""Log-probs of given continuations: batched by tokens, each prefix read once.

Requests that ask the model to read the same tokens share a row. That is always so for choices of
one token (the four letters of an MMLU question), and the head runs on the positions of the
continuations only: of a prompt of 600 tokens and a letter, one.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from statewise.errors import DataError
from statewise.policy import Policy
from statewise.trajectory import pad

logger = logging.getLogger(__name__)

LOGIT_ENTRIES = 1 << 25
"""Largest block of logits, in entries: 128 MiB in float32."""

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a context and of the continuation to score."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """One batch: some rows, N states in them, T targets that are read at those states.

    A state is (`row`, `column`) and is projected once, however many targets are read there.
    `state` indexes the N states and ascends; `request` says whom a target belongs to.
    """

    rows: list[np.ndarray]
    row: Int[np.ndarray, " N"]
    column: Int[np.ndarray, " N"]
    state: Int[np.ndarray, " T"]
    target: Int[np.ndarray, " T"]
    request: Int[np.ndarray, " T"]


def score(
    policy: Policy, pairs: Sequence[Pair], *, tokens_per_batch: int
) -> list[tuple[float, bool]]:
    """Log-prob of each continuation in nats, and whether greedy decoding would produce it.

    A row longer than the policy's context is cut from the left. Raises DataError for a continuation
    that is empty or does not fit the context alone.
    """
    rows = share_rows(pairs, policy.context_tokens)
    order = sorted(rows, key=lambda ids: (-len(ids), ids))
    logprobs = np.zeros(len(pairs))
    greedy = np.ones(len(pairs), dtype=bool)
    with policy.frozen():
        for batch in batches([len(ids) for ids in order], tokens_per_batch):
            plan = plan_batch(
                [(ids, [(i, pairs[i][1]) for i in rows[ids]]) for ids in order[batch]]
            )
            for targets, target_logprobs, is_greedy in _read(policy, plan):
                # `.at`: a request has as many entries as its continuation has tokens.
                np.add.at(logprobs, plan.request[targets], target_logprobs)
                np.logical_and.at(greedy, plan.request[targets], is_greedy)
    return list(zip(logprobs.tolist(), greedy.tolist(), strict=True))


def share_rows(pairs: Sequence[Pair], context_tokens: int) -> dict[tuple[int, ...], list[int]]:
    """Indices of requests by the tokens that the model must read for them: all but the last.

    >>> share_rows([([1, 2], [7]), ([1, 2], [8]), ([1, 2], [8, 9])], context_tokens=2)
    {(1, 2): [0, 1], (2, 8): [2]}
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    cut = 0
    for index, (context, continuation) in enumerate(pairs):
        if not 0 < len(continuation) <= context_tokens:
            raise DataError(
                f"continuation {index} has {len(continuation)} tokens; the policy can score 1 to "
                f"{context_tokens} (none: the tokenizer merged the text into its context)"
            )
        whole = (*context, *continuation)
        cut += len(whole) > context_tokens + 1
        rows.setdefault(whole[-(context_tokens + 1) : -1], []).append(index)
    if cut:
        logger.warning(
            "%d of %d texts exceed %d tokens: cut from the left", cut, len(pairs), context_tokens
        )
    return rows


def batches(lengths: Sequence[int], tokens: int) -> Iterator[slice]:
    """Cut rows, longest first, into runs of at most `tokens` tokens, padding included.

    >>> list(batches([5, 4, 4, 1], tokens=10))
    [slice(0, 2, None), slice(2, 4, None)]
    >>> list(batches([30, 2], tokens=10))  # a row alone may exceed it
    [slice(0, 1, None), slice(1, 2, None)]
    """
    start = 0
    while start < len(lengths):
        stop = min(len(lengths), start + max(1, tokens // lengths[start]))
        yield slice(start, stop)
        start = stop


def plan_batch(batch: Sequence[tuple[Sequence[int], Sequence[tuple[int, Sequence[int]]]]]) -> Plan:
    """Lay out rows, each with its (request, continuation)s; a continuation ends behind its row.

    >>> plan = plan_batch([([1, 2, 3], [(0, [7]), (1, [3, 8])]), ([4], [(2, [9])])])
    >>> list(zip(plan.row.tolist(), plan.column.tolist()))
    [(0, 1), (0, 2), (1, 0)]
    >>> list(zip(plan.state.tolist(), plan.target.tolist(), plan.request.tolist()))
    [(0, 3, 1), (1, 7, 0), (1, 8, 1), (2, 9, 2)]
    """
    row: list[int] = []
    column: list[int] = []
    targets: list[tuple[int, int, int]] = []
    for place, (ids, members) in enumerate(batch):
        depth = max(len(continuation) for _, continuation in members)
        row += [place] * depth
        column += range(len(ids) - depth, len(ids))
        for request, continuation in members:
            first = len(row) - len(continuation)
            targets += [(first + k, int(token), request) for k, token in enumerate(continuation)]
    targets.sort(key=lambda target: target[0])
    state, target, request = np.array(targets, np.int64).T
    rows = [np.array(ids, np.int64) for ids, _ in batch]
    return Plan(rows, np.array(row), np.array(column), state, target, request)


def _read(policy: Policy, plan: Plan) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Runs of targets with their log-probs and whether each is the most probable token."""
    device = policy.device
    lengths = torch.tensor([len(row) for row in plan.rows], device=device)
    hidden = policy.hidden(torch.as_tensor(pad(plan.rows, 0), device=device), lengths)
    row, column = (
        torch.as_tensor(plan.row, device=device),
        torch.as_tensor(plan.column, device=device),
    )
    states = hidden[row, column]
    chunk = max(1, LOGIT_ENTRIES // policy.head_weight()[0].shape[0])
    for start in range(0, len(states), chunk):
        low, high = np.searchsorted(plan.state, (start, start + chunk))
        logprob, is_greedy = target_logprobs(
            policy.head(states[start : start + chunk]),
            torch.as_tensor(plan.state[low:high] - start, device=device),
            torch.as_tensor(plan.target[low:high], device=device),
        )
        yield slice(int(low), int(high)), logprob.double().cpu().numpy(), is_greedy.cpu().numpy()


def target_logprobs(
    logits: Float[Tensor, "N V"], state: Int[Tensor, " T"], target: Int[Tensor, " T"]
) -> tuple[Float[Tensor, " T"], Bool[Tensor, " T"]]:
    """The log-prob of `target` at its state, and whether it is the largest logit there.

    log softmax(logits[state])[target] = logits[state, target] - logsumexp(logits[state])

    >>> logits = torch.tensor([[0.25, 0.75]]).log()
    >>> logprob, greedy = target_logprobs(logits, torch.tensor([0, 0]), torch.tensor([0, 1]))
    >>> logprob.exp(), greedy
    (tensor([0.2500, 0.7500]), tensor([False,  True]))
    """
    chosen = logits[state, target] - logits.logsumexp(-1)[state]
    return chosen, logits.argmax(-1)[state] == target
