"""Log-probs of given continuations: every token that requests share is read once.

Requests are laid out as trees (`statewise.evaluate.trees`): the choices of a question share the question,
equal requests share everything, and the head runs on the places of the continuations only. A model that
cannot read a tree (`Policy.reads_trees`) reads each text in a row of its own.
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
from statewise.evaluate.trees import Tree, plant
from statewise.policy import Policy
from statewise.trajectory import pad

logger = logging.getLogger(__name__)

LOGIT_ENTRIES = 1 << 25
"""Largest block of logits, in entries: 128 MiB in float32."""

Pair = tuple[Sequence[int], Sequence[int]]
"""Token ids of a context and of the continuation to score."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What is read of a batch of rows: N states, and T targets at them.

    A state is (`row`, `column`) and is projected once, however many targets are read there.
    `state` indexes the N states and ascends; `request` says whom a target belongs to.
    """

    row: Int[np.ndarray, " N"]
    column: Int[np.ndarray, " N"]
    state: Int[np.ndarray, " T"]
    target: Int[np.ndarray, " T"]
    request: Int[np.ndarray, " T"]


def score(
    policy: Policy, pairs: Sequence[Pair], *, tokens_per_batch: int
) -> list[tuple[float, bool]]:
    """Log-prob of each continuation in nats, and whether greedy decoding would produce it.

    A text longer than the policy's context is cut from the left. A continuation without tokens is certain:
    0 nats. Raises DataError for one that does not fit the context alone.
    """
    texts = share_texts(pairs, policy.context_tokens)
    if not texts:  # nothing but continuations without tokens
        return [(0.0, True)] * len(pairs)
    # In ascending order a text stands behind those that it shares most with.
    order = sorted(texts)
    members = [texts[text] for text in order]
    tails = [max(len(pairs[request][1]) for request in requests) for requests in members]
    trees = plant(order, tails, share=policy.reads_trees)
    trees.sort(key=lambda tree: -len(tree.token_ids))
    logprobs = np.zeros(len(pairs))
    greedy = np.ones(len(pairs), dtype=bool)
    with policy.frozen():
        for batch in batches([len(tree.token_ids) for tree in trees], tokens_per_batch):
            plan = plan_batch(trees[batch], members, pairs)
            for targets, target_logprobs, is_greedy in _read(policy, trees[batch], plan):
                # `.at`: a request has as many entries as its continuation has tokens.
                np.add.at(logprobs, plan.request[targets], target_logprobs)
                np.logical_and.at(greedy, plan.request[targets], is_greedy)
    return list(zip(logprobs.tolist(), greedy.tolist(), strict=True))


def share_texts(pairs: Sequence[Pair], context_tokens: int) -> dict[tuple[int, ...], list[int]]:
    """Indices of requests by the tokens that the model must read for them: all but the last.

    >>> share_texts([([1, 2], [7]), ([1, 2], [8]), ([1, 2], [8, 9])], context_tokens=2)
    {(1, 2): [0, 1], (2, 8): [2]}
    """
    texts: dict[tuple[int, ...], list[int]] = {}
    cut = 0
    for index, (context, continuation) in enumerate(pairs):
        if not continuation:
            continue
        if len(continuation) > context_tokens:
            raise DataError(
                f"continuation {index} has {len(continuation)} tokens and the policy reads {context_tokens}; "
                "shorten the task's choices, or evaluate a model with a longer context"
            )
        whole = (*context, *continuation)
        cut += len(whole) > context_tokens + 1
        texts.setdefault(whole[-(context_tokens + 1) : -1], []).append(index)
    if cut:
        logger.warning(
            "%d of %d texts exceed %d tokens: cut from the left", cut, len(pairs), context_tokens
        )
    return texts


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


def plan_batch(
    trees: Sequence[Tree], members: Sequence[Sequence[int]], pairs: Sequence[Pair]
) -> Plan:
    """What to read where; `members` lists the requests of a text, whose continuations end behind it.

    >>> pairs = [([1, 2, 3], [7]), ([1, 2], [3, 8]), ([1], [9])]
    >>> trees = plant([(1,), (1, 2, 3)], tails=[1, 2])
    >>> plan = plan_batch(trees, [[2], [0, 1]], pairs)
    >>> list(zip(plan.row.tolist(), plan.column.tolist()))
    [(0, 0), (0, 1), (0, 2)]
    >>> list(zip(plan.state.tolist(), plan.target.tolist(), plan.request.tolist()))
    [(0, 9, 2), (1, 3, 1), (2, 7, 0), (2, 8, 1)]
    """
    longest = max(len(tree.token_ids) for tree in trees)
    places: list[np.ndarray] = []
    targets: list[int] = []
    requests: list[int] = []
    for row, tree in enumerate(trees):
        for text, tail in tree.tails:
            at = row * longest + tail
            for request in members[text]:
                continuation = pairs[request][1]
                places.append(at[len(at) - len(continuation) :])
                targets += continuation
                requests += [request] * len(continuation)
    states, state = np.unique(np.concatenate(places), return_inverse=True)
    order = np.argsort(state, kind="stable")
    row, column = np.divmod(states, longest)
    return Plan(row, column, state[order], np.array(targets)[order], np.array(requests)[order])


def _read(
    policy: Policy, trees: Sequence[Tree], plan: Plan
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Runs of targets with their log-probs and whether each is the most probable token."""
    device = policy.device

    def tensor(rows: Sequence[np.ndarray]) -> Tensor:
        return torch.as_tensor(pad(rows, 0), device=device)

    token_ids = tensor([tree.token_ids for tree in trees])
    lengths = torch.tensor([len(tree.token_ids) for tree in trees], device=device)
    if all(tree.is_chain for tree in trees):
        hidden = policy.hidden(token_ids, lengths)
    else:
        depth, end = tensor([tree.depth for tree in trees]), tensor([tree.end for tree in trees])
        hidden = policy.hidden_of_trees(token_ids, lengths, depth, end)
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
        logprob = policy.finite(logprob)
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
