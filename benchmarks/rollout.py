"""Rollouts at temperature 1 with log-probs: 256 prompts, and 16 prompts in groups of 16.

A sampled token counts up to and including the stop token; what a batch computes for rows that have
ended does not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from benchmarks import workload
from benchmarks.harness import OURS, Comparison, Contender, Options, Run, Setting, Target, Work, now
from benchmarks.peer_hf import generate, generate_batch, rollout_work
from benchmarks.peer_vllm import vllm
from statewise.trajectory import Sampling

NEW_TOKENS = 100


def comparisons(options: Options) -> list[Comparison]:
    """Distinct prompts, then groups."""
    prompts, each = (4, 2) if options.quick else (256, 16)
    new_tokens = 4 if options.quick else NEW_TOKENS
    groups = max(1, prompts // each)
    return [
        _comparison(
            f"rollouts, {prompts} prompts", prompts, 1, new_tokens, options,
            (Target("transformers generate", 3.0, 2.5), Target("vLLM", 2.0, 1.5)),
        ),
        _comparison(
            f"rollouts, {groups} prompts × group {each}", groups, each, new_tokens, options,
            (Target("transformers generate", 4.0, 3.0),),
        ),
    ]  # fmt: skip


def _comparison(
    name: str, count: int, each: int, new_tokens: int, options: Options, targets: tuple[Target, ...]
) -> Comparison:
    reader = workload.policy(options, trainable=False)
    items = workload.problems(reader, count, max_new_tokens=new_tokens).items
    rows = workload.ids(items)
    contenders = [_ours(items, each, new_tokens, options)]
    if options.peers:
        contenders += [f(rows, each, new_tokens, options) for f in (generate, generate_batch, vllm)]
    return Comparison(
        name,
        "tokens/s",
        "higher",
        contenders,
        targets,
        {
            "prompts": count,
            "samples_per_prompt": each,
            "prompt_tokens_mean": sum(map(len, rows)) / len(rows),
            "max_new_tokens": new_tokens,
            "temperature": 1.0,
        },
    )


def _ours(items: Any, each: int, new_tokens: int, options: Options) -> Contender:
    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        policy = workload.policy(options, precision=setting["precision"], trainable=False)

        def run(seed: int) -> Work:
            began = now(options.device)
            rollout = policy.sample(
                items,
                samples_per_prompt=each,
                sampling=Sampling(),
                max_new_tokens=new_tokens,
                seed=seed,
            )
            seconds = now(options.device) - began
            lengths = [len(row) - row.prompt_tokens for row in rollout]
            return rollout_work(
                [len(item.token_ids) for item in items],
                lengths,
                seconds,
                setting["precision"],
                options,
            )

        yield run

    return Contender(OURS, [{"precision": p} for p in workload.PRECISIONS], opens)
