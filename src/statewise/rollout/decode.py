"""Batched decoding with a log-prob for every token and a seed for every row.

What public samplers get wrong, and this one is built around: the stop token is part of the
completion; the log-prob is that of the distribution that was sampled from; a row's tokens depend on
its own seed and prefix, never on who shares its batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Int32
from torch import Tensor, nn

from statewise.rollout.cache import keep_rows, reserve_cache
from statewise.seeding import uniforms
from statewise.trajectory import Sampling, pad

Bend = Callable[[Float[Tensor, "M V"], Float[Tensor, "M V"]], Float[Tensor, "M V"]]
"""From the logits of the policy and of its guide to those that are sampled from."""

STOP_STRING_EVERY = 8
"""Decode text and look for stop strings once in so many tokens: decoding costs more than a step."""


@dataclass(frozen=True, slots=True, eq=False)
class Completion:
    """The tokens that one row added to its prefix.

    `logprobs` are nats under the sampling transform (under the full softmax for greedy, where the
    transformed distribution has a single point). `stopped` is True for a completion that ended by
    a stop token or a stop string and was not cut at its limit.
    """

    token_ids: Int32[np.ndarray, " L"]
    logprobs: Float32[np.ndarray, " L"]
    stopped: bool


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """A second policy that reads every row in lockstep and bends the logits before a token is drawn.

    `bend` maps the logits of both policies, `[M, V]` each, to those that the sampling transform is
    applied to. An engine that cannot read two policies at once refuses a request that has a guide.
    """

    trunk: nn.Module
    head: Callable[[Tensor], Tensor]
    bend: Bend


@dataclass(frozen=True, slots=True, eq=False)
class Request:
    """How to continue the prefixes: one limit and one seed a row, one transform for all."""

    sampling: Sampling
    max_new_tokens: Sequence[int]
    seeds: Sequence[int]
    stop_token_ids: frozenset[int]
    stop_strings: tuple[str, ...] = ()
    to_text: Callable[[Sequence[int]], str] | None = None
    max_rows: int = 256
    guide: Guide | None = None


@dataclass(slots=True)
class _Row:
    """A row in flight: where its answer goes, and what it has produced."""

    index: int
    limit: int
    draws: np.ndarray
    token_ids: list[int]
    logprobs: list[float]
    stopped: bool = False

    @property
    def finished(self) -> bool:
        return self.stopped or len(self.token_ids) >= self.limit


@torch.inference_mode()
def decode(
    trunk: nn.Module,
    head: Callable[[Tensor], Tensor],
    prefixes: Sequence[Int32[np.ndarray, " _"]],
    request: Request,
) -> list[Completion]:
    """Continue every prefix until it stops or meets its limit.

    `trunk` is a transformers decoder (ids to hidden states), `head` maps `[M, D]` to logits
    `[M, V]`. Rows are decoded `max_rows` at a time, longest limit and prefix first; rows that
    finish leave the batch at once.
    """
    order = sorted(
        (i for i in range(len(prefixes)) if request.max_new_tokens[i] > 0),
        key=lambda i: (request.max_new_tokens[i], len(prefixes[i])),
        reverse=True,
    )
    none = Completion(np.empty(0, np.int32), np.empty(0, np.float32), stopped=False)
    completions = [none] * len(prefixes)
    for start in range(0, len(order), request.max_rows):
        rows = [
            _Row(
                index=i,
                limit=request.max_new_tokens[i],
                draws=uniforms(request.max_new_tokens[i], request.seeds[i]),
                token_ids=[],
                logprobs=[],
            )
            for i in order[start : start + request.max_rows]
        ]
        _decode_batch(trunk, head, [prefixes[row.index] for row in rows], rows, request)
        for row in rows:
            completions[row.index] = Completion(
                np.array(row.token_ids, np.int32), np.array(row.logprobs, np.float32), row.stopped
            )
    return completions


def _decode_batch(
    trunk: nn.Module,
    head: Callable[[Tensor], Tensor],
    prefixes: Sequence[np.ndarray],
    rows: Sequence[_Row],
    request: Request,
) -> None:
    """Decode one batch, left-padded so that every row's next token falls in the same column."""
    device = next(trunk.parameters()).device
    longest = max(map(len, prefixes))
    token_ids = torch.as_tensor(pad([p[::-1] for p in prefixes], 0)).flip(1).long().to(device)
    lengths = torch.tensor([len(p) for p in prefixes], device=device)
    mask = torch.ones(
        len(prefixes), longest + max(r.limit for r in rows), dtype=torch.long, device=device
    )
    mask[:, :longest] = torch.arange(longest, device=device) >= (longest - lengths)[:, None]
    guide = request.guide
    trunks = [trunk] if guide is None else [trunk, guide.trunk]
    caches = [reserve_cache(t.config, mask.shape[1]) for t in trunks]  # pyright: ignore[reportArgumentType]
    positions = (mask[:, :longest].cumsum(1) - 1).clamp(min=0)
    live, width = list(rows), longest
    while live:
        hidden = [
            read(
                input_ids=token_ids,
                attention_mask=mask[:, :width],
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            for read, cache in zip(trunks, caches, strict=True)
        ]
        logits = head(hidden[0])
        if guide is not None:
            logits = guide.bend(logits, guide.head(hidden[1]))
        depth = len(live[0].token_ids)
        draws = torch.tensor(np.array([row.draws[depth] for row in live]), device=device)
        actions, logprobs = choose(logits, request.sampling, draws)
        for row, action, logprob in zip(live, actions.tolist(), logprobs.tolist(), strict=True):
            row.token_ids.append(action)
            row.logprobs.append(logprob)
            row.stopped = action in request.stop_token_ids
        if request.stop_strings:
            for row in live:
                if row.finished or len(row.token_ids) % STOP_STRING_EVERY == 0:
                    _cut_at_stop_string(row, request)
        kept = [i for i, row in enumerate(live) if not row.finished]
        token_ids, positions, width = actions[:, None], positions[:, -1:] + 1, width + 1
        if len(kept) < len(live):
            live = [live[i] for i in kept]
            if live:
                for cache in caches:
                    keep_rows(cache, kept)
                token_ids, positions, mask = token_ids[kept], positions[kept], mask[kept]


def choose(
    logits: Float[Tensor, "M V"], sampling: Sampling, draws: Float[Tensor, " M"]
) -> tuple[Int[Tensor, " M"], Float[Tensor, " M"]]:
    """One token a row by inversion of the cumulative distribution, and its log-prob, nats.

    `draws` are uniform on [0, 1). Inversion makes a row's token a function of its own draw alone,
    so that neither batch order nor batch size changes what is sampled.

    >>> logits = torch.tensor([[0.25, 0.25, 0.5]]).log()
    >>> [choose(logits, Sampling(), torch.tensor([u]))[0].item() for u in (0.1, 0.3, 0.6)]
    [0, 1, 2]
    >>> action, logprob = choose(logits, Sampling(top_k=1), torch.tensor([0.1]))
    >>> action.item(), logprob.item()
    (2, 0.0)
    """
    logits = logits.double() if logits.dtype == torch.float64 else logits.float()
    if sampling.temperature == 0:
        logprobs = logits.log_softmax(-1)
        actions = logits.argmax(-1)
    else:
        logprobs = transform(logits, sampling).log_softmax(-1)
        cumulative = logprobs.double().exp().cumsum(-1)
        # Scaled by the realised total: rounding must not leave a draw beyond the last token.
        actions = torch.searchsorted(
            cumulative, (draws.double() * cumulative[:, -1])[:, None], right=True
        )
        actions = actions.squeeze(1).clamp(max=logits.shape[-1] - 1)
    return actions, logprobs.gather(-1, actions[:, None]).squeeze(1)


def transform(logits: Float[Tensor, "M V"], sampling: Sampling) -> Float[Tensor, "M V"]:
    """Logits after temperature, top-k and top-p; excluded tokens are -inf.

    Top-p keeps the smallest set of most probable tokens whose mass reaches `top_p`, the token that
    crosses the line included.

    >>> transform(torch.tensor([[0.5, 0.3, 0.2]]).log(), Sampling(top_p=0.7)).exp()
    tensor([[0.5000, 0.3000, 0.0000]])
    """
    logits = logits / sampling.temperature
    if sampling.top_k:
        smallest = logits.topk(min(sampling.top_k, logits.shape[-1])).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    if sampling.top_p < 1:
        ordered, indices = logits.sort(descending=True)
        mass = ordered.softmax(-1)
        excluded = (mass.cumsum(-1) - mass) >= sampling.top_p
        logits = logits.masked_fill(excluded.scatter(-1, indices, excluded), -torch.inf)
    return logits


def _cut_at_stop_string(row: _Row, request: Request) -> None:
    """End the row at the first token that completes a stop string; later tokens never happened."""
    if request.to_text is None:
        raise ValueError("stop strings need `to_text`")
    text = request.to_text(row.token_ids)
    if not any(string in text for string in request.stop_strings):
        return
    low, high = 1, len(row.token_ids)
    while low < high:
        middle = (low + high) // 2
        found = any(
            string in request.to_text(row.token_ids[:middle]) for string in request.stop_strings
        )
        low, high = (low, middle) if found else (middle + 1, high)
    del row.token_ids[low:], row.logprobs[low:]
    row.stopped = True
