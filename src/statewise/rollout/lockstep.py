"""Batched decoding with a log-prob for every token and a seed for every row.

What public samplers get wrong, and this one is built around: the stop token is part of the
completion; the log-prob is that of the distribution that was sampled from; a row's tokens depend on
its own seed and prefix, never on who shares its batch.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from statewise.rollout.cache import keep_rows, reserve_cache, rows_can_go
from statewise.rollout.request import NOTHING, Completion, Prefix, Reader, Request, longest_first
from statewise.rollout.sampling import choose
from statewise.rollout.stops import STOP_STRING_EVERY, first_stop
from statewise.seeding import uniforms
from statewise.trajectory import pad


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


def reads(reader: Reader) -> bool:
    """Whether the policy's cache can be cut to some of its rows, and padding on the left be masked."""
    if "past_key_values" not in inspect.signature(reader.trunk.forward).parameters:
        return False
    return rows_can_go(reserve_cache(reader.trunk.config, 1))  # pyright: ignore[reportArgumentType]


@torch.inference_mode()
def decode(reader: Reader, prefixes: Sequence[Prefix], request: Request) -> list[Completion]:
    """Continue every prefix until it stops or meets its limit.

    Rows are decoded `max_rows` at a time, longest limit and prefix first; rows that finish leave
    the batch at once.
    """
    order = longest_first(prefixes, request)
    completions = [NOTHING] * len(prefixes)
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
        _decode_batch(reader, [prefixes[row.index] for row in rows], rows, request)
        for row in rows:
            completions[row.index] = Completion(
                np.array(row.token_ids, np.int32), np.array(row.logprobs, np.float32), row.stopped
            )
    return completions


def _decode_batch(
    reader: Reader,
    prefixes: Sequence[Prefix],
    rows: Sequence[_Row],
    request: Request,
) -> None:
    """Decode one batch, left-padded so that every row's next token falls in the same column."""
    device = next(reader.trunk.parameters()).device
    longest = max(map(len, prefixes))
    token_ids = torch.as_tensor(pad([p[::-1] for p in prefixes], 0)).flip(1).long().to(device)
    lengths = torch.tensor([len(p) for p in prefixes], device=device)
    mask = torch.ones(
        len(prefixes), longest + max(r.limit for r in rows), dtype=torch.long, device=device
    )
    mask[:, :longest] = torch.arange(longest, device=device) >= (longest - lengths)[:, None]
    guide = request.guide
    readers = [reader] if guide is None else [reader, guide.reader]
    caches = [reserve_cache(r.trunk.config, mask.shape[1]) for r in readers]  # pyright: ignore[reportArgumentType]
    positions = (mask[:, :longest].cumsum(1) - 1).clamp(min=0)
    live, width = list(rows), longest
    while live:
        hidden = [
            r.trunk(
                input_ids=token_ids,
                attention_mask=mask[:, :width],
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, -1]
            for r, cache in zip(readers, caches, strict=True)
        ]
        logits = reader.head(hidden[0])
        if guide is not None:
            logits = guide.bend(logits, guide.reader.head(hidden[1]))
        depth = len(live[0].token_ids)
        draws = torch.tensor(np.array([row.draws[depth] for row in live]), device=device)
        actions, logprobs = choose(logits, request.sampling, draws)
        for row, action, logprob in zip(live, actions.tolist(), logprobs.tolist(), strict=True):
            row.token_ids.append(action)
            row.logprobs.append(logprob)
            row.stopped = action in request.stop_token_ids
        if request.stop_strings:
            for row in live:
                due = row.finished or len(row.token_ids) % STOP_STRING_EVERY == 0
                if due and (cut := first_stop(row.token_ids, request)) is not None:
                    del row.token_ids[cut:], row.logprobs[cut:]
                    row.stopped = True
        kept = [i for i, row in enumerate(live) if not row.finished]
        token_ids, positions, width = actions[:, None], positions[:, -1:] + 1, width + 1
        if len(kept) < len(live):
            live = [live[i] for i in kept]
            if live:
                for cache in caches:
                    keep_rows(cache, kept)
                token_ids, positions, mask = token_ids[kept], positions[kept], mask[kept]
