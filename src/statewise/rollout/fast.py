"""The fast engine: Llama-like decoders by hand-written forward, a static cache, continuous batching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain, groupby

import torch

from statewise.cpu_shards import (
    MOST_THREADS,
    SMALL_WEIGHT_BYTES,
    is_small,
    one_per_core,
    partition_groups,
)
from statewise.rollout.batch import Batch
from statewise.rollout.llama import Decoder, read_decoder, read_matrix
from statewise.rollout.request import NOTHING, Completion, Prefix, Reader, Request, longest_first

ROWS_PER_WORKER = 16
"""Fewest rows for which a core of its own pays."""


def decode(reader: Reader, prefixes: Sequence[Prefix], request: Request) -> list[Completion]:
    """Continue every prefix. Raises UnlikeError where the policy is no Llama-like decoder.

    On a CPU the rows of a small model are dealt to one worker a core: no operation of a decoding
    step is large enough to be worth splitting.
    """
    completions = [NOTHING] * len(prefixes)
    order = longest_first(prefixes, request)
    if not order:
        return completions
    longest = max(len(prefixes[i]) + request.max_new_tokens[i] for i in order)
    reader = in_fastest_type(reader)
    # Each matrix gets its type as it is read; the caller's autocast would round what is made of them.
    apart = partial(torch.autocast, next(reader.trunk.parameters()).device.type, enabled=False)
    with torch.inference_mode(), apart():
        decoder = read_decoder(reader, longest)
        head = read_matrix(reader.embedding, reader.autocast)
    workers = workers_for(decoder, len(order), min(torch.get_num_threads(), request.max_rows))
    places = request.max_rows // workers

    def work(rows: Sequence[int]) -> list[tuple[int, Completion]]:
        with torch.inference_mode(), apart():  # the caller's modes reach this thread, and no worker
            return list(Batch(decoder, head, prefixes, rows, request, places).run())

    shards = [order] if workers == 1 else partition(order, prefixes, request, workers)
    done = one_per_core(shards, work)
    for row, completion in chain.from_iterable(done):
        completions[row] = completion
    return completions


def in_fastest_type(reader: Reader) -> Reader:
    """The policy as it decodes fastest: a small model on a CPU keeps its weights' own type.

    There a step is many small operations, each with a cast before it: a model of 0.9 M parameters trains
    faster in bf16 where the processor has units for it, and samples slower.
    """
    return replace(reader, autocast=None) if is_small(reader.trunk) else reader


def workers_for(decoder: Decoder, rows: int, threads: int) -> int:
    """How many threads decode a share of the rows each."""
    large = decoder.weight_bytes > SMALL_WEIGHT_BYTES
    if decoder.embedding.device.type != "cpu" or large:
        return 1
    return max(1, min(threads, MOST_THREADS, rows // ROWS_PER_WORKER))


def partition(
    order: Sequence[int], prefixes: Sequence[Prefix], request: Request, count: int
) -> list[list[int]]:
    """The rows in near-equal parts by tokens to write; rows with an equal prefix are a group."""
    groups = [list(rows) for _, rows in groupby(order, key=lambda i: prefixes[i].tobytes())]
    return [rows for rows in partition_groups(groups, request.max_new_tokens, count) if rows]
