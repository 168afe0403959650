"""The loop. Every arm runs through these lines: roll out, update.

`train` is a generator of rows. Where rows go, when a dev curve is measured and when a checkpoint
is written is the caller's business: between two rows the student and the optimiser are at rest.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn.utils import clip_grad_norm_

from statewise.arms import Arm, Budget, Stream, policies
from statewise.data import Prompts
from statewise.errors import ConfigError, DivergedError
from statewise.gradient import Rollout, accumulate_gradient, student_logprobs
from statewise.memory import memories
from statewise.policy import Policy
from statewise.ranks import world_size
from statewise.seeding import permutation, seed_for
from statewise.sources import Replay
from statewise.sources.shares import realised_shares
from statewise.trajectory import Trajectory, student_version


@dataclass(frozen=True, slots=True)
class Row:
    """One step. `figures` repeat exactly under the same seed; `seconds` do not."""

    step: int
    figures: dict[str, float]
    seconds: float
    first_rows: Sequence[Trajectory] = ()
    """What the first step trained on: how training ended is judged by it. Of a later step nothing."""


def make_optimizer(student: Policy, budget: Budget) -> torch.optim.AdamW:
    """AdamW over what may train; weight decay on matrices only."""
    parameters = [p for _, p in student.trainable_parameters()]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": budget.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    betas = (budget.adam_beta1, budget.adam_beta2)
    return torch.optim.AdamW(groups, lr=budget.learning_rate, betas=betas, fused=True)


def train(
    arm: Arm, student: Policy, optimizer: torch.optim.Optimizer, *, seed: int, start: int = 0
) -> Iterator[Row]:
    """Run `arm` from step `start`; yield a row after each step.

    Every draw is a function of `(seed, step)`, so a run that continues at `start` with the saved
    student and optimiser, and the restored `memories` of the arm, gives the rows that it would have
    given uninterrupted. A run that starts at 0 forgets what the arm's parts remember of another.

    Raises ConfigError where torch.distributed runs several processes, and DivergedError where it diverges.
    """
    if world_size() > 1:
        raise ConfigError(
            f"train runs in one process, found {world_size()} ranks: each would walk the same prompts; write a "
            "loop of your own with accumulate_gradient and ranks.sum_gradients"
        )
    budget, steps, teachers = arm.budget, arm.steps, list(policies(arm.streams))
    followers = [teacher for teacher in teachers if teacher.decay is not None]
    if start == 0:
        for part in memories(arm).values():
            part.begin(student)
    for step in range(start, steps):
        # A student that was loaded to resume signs its tokens as the one that was saved.
        for policy in (student, *followers):
            policy.version = step
        began, before = time.perf_counter(), _meter(student, teachers)
        torch.manual_seed(seed_for(seed, "dropout", step))
        rollouts = [
            roll_out(stream, student, seed=seed, step=step, place=i, progress=step / steps)
            for i, stream in enumerate(arm.streams)
        ]
        if budget.passes * budget.minibatches > 1:
            rollouts = [with_old_logprobs(rollout, student, budget) for rollout in rollouts]
        rate = learning_rate(budget, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        student.module.train()
        updates = []
        for minibatch in passes_over(rollouts, budget, seed=seed, step=step):
            figures = accumulate_gradient(
                student, minibatch, tokens_per_microbatch=budget.tokens_per_microbatch
            )
            norm = clip_grad_norm_(
                [p for _, p in student.trainable_parameters()], budget.max_grad_norm
            )
            if not (math.isfinite(figures["loss"]) and math.isfinite(norm)):
                raise DivergedError(
                    f"arm {arm.name!r} diverged at step {step + 1}: loss {figures['loss']:g}, gradient norm "
                    f"{float(norm):g}; lower budget.learning_rate or budget.max_grad_norm"
                )
            if figures["states"]:
                optimizer.step()
                for teacher in followers:
                    teacher.follow(student)
            optimizer.zero_grad(set_to_none=True)
            updates.append(figures | {"grad_norm": float(norm)})
        student.module.eval()
        student.version = step + 1
        yield Row(
            step + 1,
            {"learning_rate": rate}
            | _summary(updates)
            | _describe(rollouts, budget, step)
            | {key: value - before[key] for key, value in _meter(student, teachers).items()},
            time.perf_counter() - began,
            [t for rollout in rollouts for t in rollout.trajectories] if step == 0 else [],
        )


def roll_out(
    stream: Stream, student: Policy, *, seed: int, step: int, place: int, progress: float = 0.0
) -> Rollout:
    """One step's trajectories of a stream, labelled."""
    if not isinstance(stream.prompts, Prompts):
        raise ConfigError(
            f"the stream names prompts ({stream.prompts.kind}) that are not loaded: bind the arm first"
        )
    prompts = stream.prompts.batch(
        step, stream.prompts_per_step, seed=seed_for(seed, "prompts", place)
    )
    drawn = seed_for(seed, "rollout", place, step)
    trajectories = stream.source(prompts, student=student, seed=drawn, progress=progress)
    return Rollout(
        stream,
        trajectories,
        [term.supervision.label(trajectories) for term in stream.terms],
        figures=realised_shares(
            stream.source,
            trajectories,
            prompts=len(prompts),
            version=student.version,
            seed=drawn,
            progress=progress,
        ),
    )


def with_old_logprobs(rollout: Rollout, student: Policy, budget: Budget) -> Rollout:
    """The rollout with the log-probs of the policy that is about to move, where a term needs them."""
    if not any("old_logprobs" in term.objective.reads for term in rollout.stream.terms):
        return rollout
    old = student_logprobs(
        student, rollout.trajectories, tokens_per_microbatch=budget.tokens_per_microbatch
    )
    return replace(rollout, old_logprobs=old)


def passes_over(
    rollouts: Sequence[Rollout], budget: Budget, *, seed: int, step: int
) -> Iterator[list[Rollout]]:
    """`passes` times, each rollout in a new order, split into `minibatches` near-equal parts."""
    for index in range(budget.passes):
        orders = [
            permutation(len(rollout.trajectories), seed, "pass", step, index, place).tolist()
            for place, rollout in enumerate(rollouts)
        ]
        for k in range(budget.minibatches):
            yield [
                rollout.select(order[k :: budget.minibatches])
                for rollout, order in zip(rollouts, orders, strict=True)
            ]


def learning_rate(budget: Budget, step: int, steps: int) -> float:
    """Linear warm-up, then constant, linear to 0 or half a cosine to 0.

    >>> budget = Budget(learning_rate=1.0, steps=10, schedule="linear", warmup_steps=2)
    >>> [learning_rate(budget, step, 10) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    if step < budget.warmup_steps:
        return budget.learning_rate * (step + 1) / budget.warmup_steps
    left = 1 - (step - budget.warmup_steps) / max(1, steps - budget.warmup_steps)
    match budget.schedule:
        case "constant":
            return budget.learning_rate
        case "linear":
            return budget.learning_rate * left
        case "cosine":
            return budget.learning_rate * (1 - math.cos(math.pi * left)) / 2


def _summary(updates: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean loss and gradient norm over a step's updates; a minibatch without states is none."""
    made = [update for update in updates if update["states"]]
    count = max(1, len(made))
    caps = {}
    for key in ("importance_capped_share", "importance_removed_share"):
        if told := [update[key] for update in made if key in update]:
            caps[key] = sum(told) / len(told)
    return caps | {
        "loss": sum(u["loss"] for u in made) / count,
        "grad_norm": sum(u["grad_norm"] for u in made) / count,
        "updates": len(made),
    }


def _meter(student: Policy, teachers: Sequence[Policy]) -> dict[str, int]:
    """Tokens written by anyone, and tokens read or written by teachers, since the policies exist."""
    return {
        "tokens_sampled": student.tokens_written + sum(t.tokens_written for t in teachers),
        "teacher_tokens": sum(t.tokens_read + t.tokens_written for t in teachers),
    }


def _describe(rollouts: Sequence[Rollout], budget: Budget, step: int) -> dict[str, float | int]:
    """What the step's trajectories were; a token trained in two passes counts twice.

    `taught_share` is the share of trajectories with a supervised state; a lag is the number of
    versions by which the student that wrote a trajectory is older than the one that learns from it.
    """
    every = [t for rollout in rollouts for t in rollout.trajectories]
    figures = {
        "tokens_trained": budget.passes * sum(t.supervised_tokens for t in every),
        "completion_tokens_mean": sum(len(t) - t.prompt_tokens for t in every) / len(every),
        "stopped_share": sum(t.stopped for t in every) / len(every),
        "taught_share": sum(t.supervised_tokens > 0 for t in every) / len(every),
    }
    # Only a replay trains on its own past; the student of a stored sample is another run's.
    replays = [rollout for rollout in rollouts if isinstance(rollout.stream.source, Replay)]
    if lags := [lag for r in replays for t in r.trajectories if (lag := _lag(t, step)) is not None]:
        figures |= {"lag_versions_mean": sum(lags) / len(lags), "lag_versions_max": max(lags)}
    for place, rollout in enumerate(rollouts):
        stream = f"stream{place}." if len(rollouts) > 1 else ""
        for said in (rollout.figures, *(label.figures for label in rollout.labels)):
            figures |= {f"{stream}{key}": value for key, value in said.items()}
    return figures


def _lag(trajectory: Trajectory, step: int) -> int | None:
    """Versions since the student wrote in a trajectory; None where it wrote nothing."""
    versions = [v for name in trajectory.owners if (v := student_version(name)) is not None]
    return step - min(versions) if versions else None
