"""The sampler against the trainer: the same token, the same weights, one log-prob."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from statewise.check.finding import Found, Line, Skip, graded, small, worse
from statewise.check.subject import Subject, owner_policies, sampled
from statewise.gradient import Rollout, student_logprobs
from statewise.policy import Policy, Precision
from statewise.trajectory import Trajectory

NAME = "sampler gap"
MEAN: dict[Precision, tuple[float, float]] = {"fp32": (1e-4, 0.01), "bf16": (0.02, 0.1)}
"""Mean gap in nats up to which the check passes, and beyond which it fails."""
LARGEST: dict[Precision, tuple[float, float]] = {"fp32": (1e-2, 0.2), "bf16": (0.5, 2.0)}
"""The same of the largest gap. A clip of 0.2 on a ratio is a gap of 0.18 nats: a sampler that is as far
off by itself has used up the trust region before the first update."""


def sampler_gap(subject: Subject, rollouts: Sequence[Rollout]) -> Found:
    """`|log pi_sampler(a|s) - log pi_trainer(a|s)|` over sampled tokens, at the study's own temperature.

    Each policy's tokens against that policy, in the precision of the budget. Rows that were drawn
    greedily or from a cut distribution are left out: their log-probs are of another distribution.
    """
    rows = [t for r in sampled(rollouts) for t in r.trajectories]
    rows = [t for t in rows if t.sampling is not None and t.sampling.is_full]
    budget = subject.arm.budget
    gaps = [
        gap
        for owner, policy in owner_policies(subject).items()
        for gap in _gaps(policy, owner, rows, budget.tokens_per_microbatch)
    ]
    if not gaps:
        return Skip(NAME, "no token is sampled by a policy from its whole distribution")
    every = np.concatenate(gaps)
    mean, largest = float(every.mean()), float(every.max())
    temperatures = sorted({t.sampling.temperature for t in rows if t.sampling})
    (mean_pass, mean_fail), (top_pass, top_fail) = MEAN[budget.precision], LARGEST[budget.precision]
    status = worse(
        graded(mean, warn_above=mean_pass, fail_above=mean_fail),
        graded(largest, warn_above=top_pass, fail_above=top_fail),
    )
    return Line(
        status,
        NAME,
        f"mean {small(mean)}, largest {small(largest)} nats (limits {small(mean_pass)}, {small(top_pass)}); "
        f"{len(every):,} tokens, temperature {', '.join(f'{t:g}' for t in temperatures)}, {budget.precision}",
        ""
        if status == "pass"
        else "look for a model whose cached pass differs from its whole one (positions, sliding window, dropout); "
        "in bf16, sample and train in fp32 to see what is rounding, or give the term an `importance`",
        {"mean_nats": mean, "max_nats": largest, "tokens": len(every)},
    )


def _gaps(
    policy: Policy, owner: str, rows: Sequence[Trajectory], tokens_per_microbatch: int
) -> Iterator[np.ndarray]:
    """The gaps at a policy's own tokens, one array a row."""
    masked = []
    for row in rows:
        own = np.array([name == owner for name in row.owners])[row.owner_codes]
        mask = own & np.isfinite(row.behaviour_logprobs)
        if mask.any():
            masked.append(row.with_weights(mask.astype(np.float32)))
    if not masked:
        return
    found = student_logprobs(policy, masked, tokens_per_microbatch=tokens_per_microbatch)
    for row, logprobs in zip(masked, found, strict=True):
        at = row.weights != 0
        yield np.abs(logprobs[at].astype(np.float64) - row.behaviour_logprobs[at])
