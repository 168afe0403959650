"""The last resort: transformers' own `generate`, for models whose cache cannot be cut to some rows.

Recurrent and hybrid models keep a state that padding would disturb and that has no tokens to drop.
`generate` keeps it as the model wants it; rows with prefixes of one length go together, unpadded, and a
logits processor draws with our own seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GenerationConfig, LogitsProcessor, StoppingCriteria

from statewise.rollout.request import NOTHING, Completion, Prefix, Reader, Request, longest_first
from statewise.rollout.sampling import choose
from statewise.rollout.stops import STOP_STRING_EVERY, first_stop
from statewise.seeding import uniforms


class _Draw(LogitsProcessor):
    """Draws a token for every row, writes it down, and leaves `generate` no other choice."""

    def __init__(self, request: Request, draws: Float[Tensor, "M L"]) -> None:
        self.request, self.draws = request, draws
        self.actions: list[Tensor] = []
        self.logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        draws = self.draws[:, len(self.actions)]
        actions, logprobs = choose(scores, self.request.sampling, draws)
        self.actions.append(actions)
        self.logprobs.append(logprobs)
        return torch.full_like(scores, -torch.inf).scatter(1, actions[:, None], 0.0)

    def written(self) -> tuple[Int[np.ndarray, "M L"], Float[np.ndarray, "M L"]]:
        """Tokens and log-probs so far."""
        actions, logprobs = torch.stack(self.actions, 1), torch.stack(self.logprobs, 1)
        return actions.cpu().numpy().astype(np.int32), logprobs.float().cpu().numpy()


class _Ended(StoppingCriteria):
    """Which rows need no more tokens: `generate` goes on until all of them say so."""

    def __init__(self, rows: Sequence[int], request: Request, draw: _Draw) -> None:
        self.rows, self.request, self.draw = rows, request, draw

    def __call__(self, input_ids: Tensor, scores: object, **kwargs: object) -> Any:
        token_ids, logprobs = self.draw.written()
        count = token_ids.shape[1]
        full = np.array([count >= self.request.max_new_tokens[row] for row in self.rows])
        done = full | np.isin(token_ids, list(self.request.stop_token_ids)).any(1)
        if self.request.stop_strings and count % STOP_STRING_EVERY == 0:
            for place in np.flatnonzero(~done).tolist():
                row = self.rows[place]
                made = _cut(token_ids[place], logprobs[place], row, self.request)
                done[place] = made.stopped
        return torch.as_tensor(done, device=input_ids.device)


@torch.inference_mode()
def decode(reader: Reader, prefixes: Sequence[Prefix], request: Request) -> list[Completion]:
    """Continue every prefix until it stops or meets its limit, `max_rows` of one length at a time."""
    causal_lm: Any = reader.causal_lm
    completions = [NOTHING] * len(prefixes)
    order = sorted(longest_first(prefixes, request), key=lambda i: len(prefixes[i]))
    device = next(causal_lm.parameters()).device
    own, causal_lm.generation_config = causal_lm.generation_config, GenerationConfig()
    try:
        for _, group in groupby(order, key=lambda i: len(prefixes[i])):
            rows = list(group)
            for start in range(0, len(rows), request.max_rows):
                these = rows[start : start + request.max_rows]
                token_ids = torch.as_tensor(np.stack([prefixes[i] for i in these])).long()
                draw = _Draw(request, _draws(these, request).to(device))
                causal_lm.generate(
                    token_ids.to(device),
                    attention_mask=torch.ones_like(token_ids).to(device),
                    max_new_tokens=max(request.max_new_tokens[i] for i in these),
                    logits_processor=[draw],
                    stopping_criteria=[_Ended(these, request, draw)],
                )
                for row, tokens, logprobs in zip(these, *draw.written(), strict=True):
                    completions[row] = _cut(tokens, logprobs, row, request)
    finally:
        # What the model's author wishes for sampling (a penalty, a temperature) is no part of a policy.
        causal_lm.generation_config = own
    return completions


def _draws(rows: Sequence[int], request: Request) -> Float[Tensor, "M L"]:
    out = torch.zeros(len(rows), max(request.max_new_tokens[i] for i in rows), dtype=torch.float64)
    for line, row in zip(out, rows, strict=True):
        limit = request.max_new_tokens[row]
        line[:limit] = torch.from_numpy(uniforms(limit, request.seeds[row]))
    return out


def _cut(
    token_ids: Int[np.ndarray, " L"], logprobs: Float[np.ndarray, " L"], row: int, request: Request
) -> Completion:
    """The completion within what was drawn: to the first stop, or to the row's limit."""
    limit = request.max_new_tokens[row]
    ends = np.flatnonzero(np.isin(token_ids[:limit], list(request.stop_token_ids)))
    count = int(ends[0]) + 1 if len(ends) else min(limit, len(token_ids))
    cut = first_stop(token_ids[:count].tolist(), request)
    count, stopped = (count, len(ends) > 0) if cut is None else (cut, True)
    return Completion(token_ids[:count].copy(), logprobs[:count].copy(), stopped)
