"""What a policy asks of an engine, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32
from torch import Tensor, nn

from statewise.logits import LogitsTransform
from statewise.trajectory import Sampling

Prefix = Int32[np.ndarray, " _"]
Bend = Callable[[Float[Tensor, "M V"], Float[Tensor, "M V"]], Float[Tensor, "M V"]]
"""From the logits of the policy and of its guide to those that are sampled from."""


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
class Reader:
    """A policy as an engine sees it.

    `trunk` is the decoder of `causal_lm` (ids to hidden states), `head` maps `[M, D]` to logits
    `[M, V]` by the matrix of `embedding` and then `logits`. `autocast` is the type of the policy's forward passes
    where it is not that of its weights.
    """

    causal_lm: nn.Module
    trunk: nn.Module
    head: Callable[[Tensor], Tensor]
    embedding: nn.Module
    autocast: torch.dtype | None = None
    logits: LogitsTransform = LogitsTransform()


@dataclass(frozen=True, slots=True, eq=False)
class Guide:
    """A second policy that reads every row in lockstep and bends the logits before a token is drawn.

    `bend` maps the logits of both policies, `[M, V]` each, to those that the sampling transform is
    applied to. An engine that cannot read two policies at once refuses a request that has a guide.
    """

    reader: Reader
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

    def __post_init__(self) -> None:
        if self.stop_strings and self.to_text is None:
            raise ValueError("stop strings need `to_text`")


Engine = Callable[[Reader, Sequence[Prefix], Request], list[Completion]]
"""Continues every prefix until it stops or meets its limit. The order of the rows is kept."""

NOTHING = Completion(np.empty(0, np.int32), np.empty(0, np.float32), stopped=False)
"""What a row with a limit of 0 adds."""


def longest_first(prefixes: Sequence[Prefix], request: Request) -> list[int]:
    """The rows that may write, longest limit and prefix first; equal prefixes stand together.

    Raises ValueError for a prefix without tokens: there is no state to sample from.
    """
    if not all(map(len, prefixes)):
        raise ValueError("a prefix has no tokens, so there is nothing to continue")
    return sorted(
        (i for i in range(len(prefixes)) if request.max_new_tokens[i] > 0),
        key=lambda i: (request.max_new_tokens[i], len(prefixes[i]), prefixes[i].tobytes()),
        reverse=True,
    )
