"""Continuous batching: rows that finish leave, rows that wait take their places.

What a row draws is a function of its seed and its place in the row, so which rows share a batch
changes nothing but the rounding of matrix products. That is why nothing here depends on time:
the same call makes the same batches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from statewise.rollout.forward import prefill, step
from statewise.rollout.llama import Decoder, Matrix
from statewise.rollout.request import Completion, Prefix, Request
from statewise.rollout.sampling import choose
from statewise.rollout.slots import Slots
from statewise.rollout.stops import STOP_STRING_EVERY, first_stop
from statewise.seeding import uniforms
from statewise.trajectory import pad

PREFILL_TOKENS = 1024
"""Most positions that are read at once: a bound on memory, and small enough for the caches."""
SHARED_TOKENS = 8
"""Fewest tokens that all prefixes must begin with for these to be read once for all."""
REFILL_SHARE = 8
"""Waiting rows are let in when one place in so many is free: reading one prompt alone is slow."""


class Batch:
    """The rows in flight, in places `0..count-1`, and what they have written."""

    def __init__(
        self,
        decoder: Decoder,
        head: Matrix,
        prefixes: Sequence[Prefix],
        waiting: Sequence[int],
        request: Request,
        places: int,
    ) -> None:
        self.decoder, self.head = decoder, head
        self.prefixes, self.request = prefixes, request
        self.waiting = deque(waiting)
        self.places = min(places, len(waiting))
        limits = [request.max_new_tokens[i] for i in waiting]
        most = max(len(prefixes[i]) + n for i, n in zip(waiting, limits, strict=True))
        self.slots = Slots.reserve(decoder, self.places, most)
        device = decoder.embedding.device
        self.width = max(limits)

        def numbers(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        self.count = 0
        self.rows = [-1] * self.places
        self.tokens = numbers(self.places)
        self.lengths = numbers(self.places)
        self.written = numbers(self.places)
        self.limits = numbers(self.places)
        self.token_ids = numbers(self.places, self.width)
        self.logprobs = numbers(self.places, self.width, dtype=torch.float32)
        self.draws = numbers(self.places, self.width, dtype=torch.float64)
        self.read = numbers(self.places, decoder.embedding.shape[1], dtype=decoder.stream)
        """The hidden state after each row's prefix: rows with an equal prefix begin there."""
        self.is_stop = numbers(head.weight.shape[0], dtype=torch.bool)
        self.is_stop[[i for i in request.stop_token_ids if i < len(self.is_stop)]] = True
        self.shared = common_tokens([prefixes[i] for i in waiting])
        self.opening: list[Tensor] | None = None

    def run(self) -> Iterator[tuple[int, Completion]]:
        """Every row's completion, as it ends."""
        while self.count or self.waiting:
            free = self.places - self.count
            if self.waiting and (self.count == 0 or free * REFILL_SHARE >= self.places):
                self.admit(min(free, len(self.waiting)))
            else:
                rows = slice(0, self.count)
                self.slots.fit(self.count, int(self.lengths[rows].max()) + 1)
                hidden = step(self.decoder, self.slots, self.tokens[rows], self.lengths[rows])
                self.lengths[rows] += 1
                self.write(rows, hidden)
            yield from self.retire()

    def admit(self, count: int) -> None:
        """Read the prefixes of the next rows, each distinct one once, and draw their first tokens."""
        first, last = self.count, self.count + count
        members: dict[bytes, list[int]] = {}
        for place in range(first, last):
            row = self.rows[place] = self.waiting.popleft()
            members.setdefault(self.prefixes[row].tobytes(), []).append(place)
            limit = self.request.max_new_tokens[row]
            self.lengths[place] = len(self.prefixes[row])
            self.limits[place] = limit
            if self.request.sampling.temperature > 0:
                draws = uniforms(limit, self.request.seeds[row])
                self.draws[place, :limit] = torch.from_numpy(draws)
        self.written[first:last] = 0
        self.slots.fit(first, int(self.lengths[:last].max()))
        known = {self.prefixes[self.rows[p]].tobytes(): p for p in range(first)}
        fresh = [places for key, places in members.items() if key not in known]
        self._read([places[0] for places in fresh])
        for key, places in members.items():
            source = known.get(key, places[0])
            targets = [p for p in places if p != source]
            if targets:
                at = torch.tensor(targets, device=self.tokens.device)
                of = torch.full_like(at, source)
                self.slots.copy(of, at, len(self.prefixes[self.rows[source]]))
                self.read[at] = self.read[of]
        self.count = last
        self.write(slice(first, last), self.read[first:last])

    def _read(self, places: Sequence[int]) -> None:
        """Prefill these places, in stretches of at most `PREFILL_TOKENS` padded positions."""
        prefixes = {p: self.prefixes[self.rows[p]] for p in places}
        self._begin(places, prefixes)
        order = sorted(places, key=lambda p: len(prefixes[p]))
        while order:
            rest = len(prefixes[order[-1]]) - self.shared
            width = min(rest, PREFILL_TOKENS)
            these = [order.pop() for _ in range(min(len(order), PREFILL_TOKENS // width))]
            for start in range(self.shared, self.shared + rest, width):
                # Longest first: those that still have something to read stand in front.
                left = [p for p in these if len(prefixes[p]) > start]
                self._stretch(left, [prefixes[p] for p in left], start, width)

    def _begin(self, places: Sequence[int], prefixes: Mapping[int, Prefix]) -> None:
        """Give these places what all prefixes begin with, which is read once."""
        if not self.shared or not places:
            return
        if self.opening is None:
            head = prefixes[places[0]][: self.shared]
            for start in range(0, self.shared, PREFILL_TOKENS):
                self._stretch(places[:1], [head], start, PREFILL_TOKENS)
            self.opening = self.slots.opening(places[0], self.shared)
        self.slots.begin(torch.tensor(places, device=self.tokens.device), self.opening)

    def _stretch(
        self, places: Sequence[int], prefixes: Sequence[Prefix], start: int, width: int
    ) -> None:
        """Read tokens `start..start+width-1` of prefixes; note the hidden states of those that end."""
        at = torch.tensor(places, device=self.tokens.device)
        ends = torch.tensor([len(p) - start for p in prefixes], device=at.device)
        pieces = torch.from_numpy(pad([p[start : start + width] for p in prefixes], 0))
        self.read[at[ends <= width]] = prefill(
            self.decoder, self.slots, at, pieces.to(at.device).long(), start, ends
        )

    def write(self, rows: slice, hidden: Float[Tensor, "M D"]) -> None:
        """Draw one token for each of these rows and write it down."""
        logits = self.head(hidden)
        at = (torch.arange(rows.start, rows.stop, device=logits.device), self.written[rows])
        actions, logprobs = choose(logits, self.request.sampling, self.draws[at])
        self.token_ids[at] = actions
        self.logprobs[at] = logprobs.float()
        self.tokens[rows] = actions
        self.written[rows] += 1

    def retire(self) -> Iterator[tuple[int, Completion]]:
        """Rows that have ended give up their places, and the last rows move into these."""
        live = slice(0, self.count)
        stopped = self.is_stop[self.tokens[live]]
        ended = stopped | (self.written[live] >= self.limits[live])
        look = ended
        if self.request.stop_strings:
            look = ended | (self.written[live] % STOP_STRING_EVERY == 0)
        gone = set()
        for place in look.nonzero().squeeze(1).tolist():
            count, stop = int(self.written[place]), bool(stopped[place])
            token_ids = self.token_ids[place, :count].cpu().numpy().astype(np.int32)
            cut = first_stop(token_ids.tolist(), self.request)
            if cut is None and not ended[place]:
                continue
            logprobs = self.logprobs[place, : cut or count].cpu().numpy().copy()
            gone.add(place)
            done = Completion(token_ids[:cut], logprobs, stop or cut is not None)
            yield self.rows[place], done
        if gone:
            self._close_gaps(gone)

    def _close_gaps(self, gone: set[int]) -> None:
        kept = self.count - len(gone)
        targets = sorted(p for p in gone if p < kept)
        sources = [p for p in range(kept, self.count) if p not in gone]
        self.count = kept
        if not targets:
            return
        device = self.tokens.device
        to, of = torch.tensor(targets, device=device), torch.tensor(sources, device=device)
        self.slots.copy(of, to, int(self.lengths[of].max()))
        for state in (
            self.tokens,
            self.lengths,
            self.written,
            self.limits,
            self.token_ids,
            self.logprobs,
            self.draws,
            self.read,
        ):
            state[to] = state[of]
        for target, source in zip(targets, sources, strict=True):
            self.rows[target] = self.rows[source]


def common_tokens(prefixes: Sequence[Prefix]) -> int:
    """How many tokens all prefixes begin with, 0 where sharing them is not worth its trouble.

    A token is left to every prefix: what is shared gives no hidden state.

    >>> few_shot = np.arange(20, dtype=np.int32)
    >>> common_tokens([few_shot, np.append(few_shot[:12], np.int32(0))])
    12
    >>> common_tokens([few_shot, few_shot]), common_tokens([few_shot, few_shot[:3]])
    (0, 0)
    """
    first = prefixes[0]
    if all(np.array_equal(first, other) for other in prefixes):
        return 0  # one prefix is read once as it is
    shared = min(map(len, prefixes)) - 1
    for other in prefixes:
        differs = np.flatnonzero(first[:shared] != other[:shared])
        shared = int(differs[0]) if len(differs) else shared
    return shared if shared >= SHARED_TOKENS else 0
