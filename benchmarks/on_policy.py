"""One step that samples and then trains: what the parts `opd` and `grpo` share.

A step is timed whole: prompts, sampling, teacher or reward, gradient, optimiser. Both sides sample at temperature 1.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import Any

from benchmarks import peer_trl, workload
from benchmarks.harness import OURS, Contender, Options, Run, Setting, Work, now
from statewise.arms import Arm
from statewise.policy import Policy
from statewise.train import make_optimizer, train


@dataclass(frozen=True)
class Size:
    """Prompts of a step, samples of each, tokens of a sample; steps of a round beside the one that warms up."""

    prompts: int
    each: int
    new_tokens: int
    steps: int
    pool: int
    """Different prompts that steps draw from."""

    @property
    def rows(self) -> int:
        """Samples of a step."""
        return self.prompts * self.each


def ours(
    make: Callable[[Policy, Setting], Arm], size: Size, teachers: int, options: Options
) -> Contender:
    """`make` builds the bound arm for a student; each round is a fresh call of `train`."""

    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        student = workload.policy(options, precision=setting["precision"])
        arm = make(student, setting)

        def run(seed: int) -> Work:
            steps = train(arm, student, make_optimizer(student, arm.budget), seed=seed)
            next(steps)
            began = now(options.device)
            figures = [row.figures for row in steps]
            seconds = now(options.device) - began
            tokens = sum(f["tokens_trained"] for f in figures)
            return work(
                len(figures), seconds, tokens, size, setting["precision"], teachers, options
            )

        yield run

    return Contender(OURS, [{"precision": p} for p in ("bf16", "fp32")], opens)


def theirs(
    name: str,
    make: Callable[[Any, str, Setting], Any],
    size: Size,
    teachers: int,
    options: Options,
) -> Contender:
    """`make` builds the trainer in a folder; settings are micro-batches and precision, as TRL has them."""

    @contextlib.contextmanager
    def opens(setting: Setting) -> Iterator[Run]:
        trl = peer_trl.require()
        with peer_trl.folder() as place, peer_trl.quiet():
            trainer = make(trl, place, setting)
            clock = peer_trl.Clock(options.device)
            trainer.add_callback(clock)
            peer_trl.watch_completions(trainer, clock)

        def run(seed: int) -> Work:
            steps, seconds, tokens = peer_trl.train(trainer, clock)
            precision = "bf16" if setting["bf16"] else "fp32"
            return work(steps, seconds, tokens, size, precision, teachers, options)

        yield run

    microbatches = [m for m in (256, 128, 64, 32, 16) if m <= size.rows] or [size.rows]
    settings = [
        {"microbatch": microbatch, "bf16": bf16, "cache": cache}
        for bf16 in (True, False)
        for cache in ("dynamic", "static")
        for microbatch in microbatches[:3]
    ]
    return Contender(name, settings, opens)


def arguments(
    place: str, setting: Setting, size: Size, options: Options, **more: Any
) -> dict[str, Any]:
    """What both of TRL's sampling trainers are told."""
    return peer_trl.common(
        options,
        place,
        max_steps=size.steps + 1,
        per_device_train_batch_size=setting["microbatch"],
        gradient_accumulation_steps=size.rows // setting["microbatch"],
        max_completion_length=size.new_tokens,
        temperature=1.0,
        top_p=1.0,
        top_k=0,
        bf16=setting["bf16"],
        cache_implementation="static" if setting["cache"] == "static" else None,
        gradient_checkpointing=False,
        **more,
    )


def work(
    steps: int,
    seconds: float,
    tokens: float,
    size: Size,
    precision: str,
    teachers: int,
    options: Options,
) -> Work:
    """Steps done; the least operations are those of a rollout and an update of samples of the mean length."""
    cost = workload.cost(options)
    prompt = _prompt_tokens(size, options.device)
    mean = max(1, round(tokens / steps / size.rows))
    lengths = [mean] * size.rows
    flops = cost.rollout([prompt] * size.prompts, lengths, shared=size.each > 1)
    flops += cost.training([prompt + mean] * size.rows, mean * size.rows, teachers=teachers)
    return Work(
        steps,
        seconds,
        flops=flops * steps,
        dtype=precision,
        details={
            "completion_tokens_mean": tokens / steps / size.rows,
            "tokens_per_second": tokens / seconds,
        },
    )


@cache
def _prompt_tokens(size: Size, device: str) -> int:
    reader = workload.policy(Options(device=device), trainable=False)
    items = workload.problems(reader, size.pool, max_new_tokens=size.new_tokens).items
    return round(fmean(len(item.token_ids) for item in items))
