"""On-policy audit: are states that pass for on-policy really the policy's own?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from statewise.errors import DataError
from statewise.gradient import student_logprobs
from statewise.policy import Policy
from statewise.probes.clusters import linear_mean
from statewise.stats import Estimate
from statewise.trajectory import Trajectory, student_version


@dataclass(frozen=True, slots=True)
class Audit:
    """What the sampler said of its tokens against what the policy says of them now."""

    gap: Estimate
    """Mean over tokens of `|log pi - log mu|`, nats: 0 where sampler and trainer are one."""
    largest_gap: float
    k3: Estimate
    """`r - 1 - log r` over tokens, `r = pi / mu`: `kl(mu || pi)` per state, nats."""
    chi2: Estimate
    """`chi^2(pi || mu)` of whole completions, self-normalised: `mean w^2 / (mean w)^2 - 1`."""
    ess_share: float
    """Effective sample size over completions, `(sum w)^2 / (M sum w^2)`: 1 where all weigh alike."""
    version_lag: Estimate | None
    """Mean over tokens of the policy's version minus that of the student that chose the token; None
    where no student chose one."""
    unknown: float
    """Share of completion tokens without a behaviour log-prob: left out above."""


def on_policy_audit(policy: Policy, rollouts: Sequence[Trajectory]) -> Audit:
    """Sampler against trainer: log-prob gap, k3, chi^2, effective sample size, version lag.

    `r = pi(a|s) / mu(a|s)` by token and `w = product of r` by completion, both under the sampling
    transform. k3 is unbiased for `kl(mu || pi)` and never negative (Schulman, 2020, "Approximating KL
    divergence"). chi^2 and the effective sample size are self-normalised (bias of order 1/M) and rest
    on the largest weights: with few completions chi^2 comes out too small, at most M - 1. Its error,
    clustered by prompt, is that of the delta method. Cost: one forward pass of the policy.

    Source: Kong (1992) for the effective sample size, which is `1 / (1 + chi^2)`.
    Raises DataError where no token has a behaviour log-prob, and where top-p or top-k cut the
    distribution (tokens that the trainer knows nothing of make every ratio wrong).
    """
    for t in rollouts:
        if t.sampling is not None and not t.sampling.is_full:
            raise DataError(
                f"prompt {t.prompt.id!r}: sampled under {t.sampling}, which has no ratio to the whole "
                "distribution; draw the sample at a temperature above 0 without top-p and top-k"
            )
    known = [np.isfinite(t.behaviour_logprobs) & _completion(t) for t in rollouts]
    marked = [
        t.with_weights(mask.astype(np.float32)) for t, mask in zip(rollouts, known, strict=True)
    ]
    count, tokens = sum(int(m.sum()) for m in known), sum(len(t.completion_ids) for t in rollouts)
    if count == 0:
        raise DataError("no token of the sample has a behaviour log-prob: nobody sampled it")
    logprobs = student_logprobs(policy, marked, tokens_per_microbatch=16384)
    ratios = [
        (mine[mask] - t.behaviour_logprobs[mask]).astype(np.float64)
        for mine, t, mask in zip(logprobs, rollouts, known, strict=True)
    ]
    log_r = np.concatenate(ratios)
    prompts = [
        t.prompt.id for t, mask in zip(rollouts, known, strict=True) for _ in range(mask.sum())
    ]
    whole = [(t.prompt.id, r.sum()) for t, r in zip(rollouts, ratios, strict=True) if len(r)]
    log_w = np.array([value for _, value in whole])
    # Relative to the largest: a weight that overflows says nothing of the others.
    w = np.exp(log_w - log_w.max())
    rows = [prompt for prompt, _ in whole]
    mean, squares = linear_mean(w, rows), linear_mean(w**2, rows)
    # chi^2 + 1 = m2 / m1^2: two quotients in a row.
    ratio = squares / mean / mean
    chi2 = ratio.estimate("chi^2")
    return Audit(
        gap=linear_mean(np.abs(log_r), prompts).estimate("nats"),
        largest_gap=float(np.abs(log_r).max()),
        k3=linear_mean(np.expm1(log_r) - log_r, prompts).estimate("nats per state"),
        chi2=Estimate(
            chi2.value - 1.0,
            chi2.stderr,
            len(w),
            "chi^2",
            None if chi2.low is None else chi2.low - 1.0,
            None if chi2.high is None else chi2.high - 1.0,
        ),
        ess_share=float(1.0 / chi2.value),
        version_lag=_lag(policy, rollouts),
        unknown=1.0 - count / tokens,
    )


def _lag(policy: Policy, rollouts: Sequence[Trajectory]) -> Estimate | None:
    lags, prompts = [], []
    for t in rollouts:
        versions = [student_version(owner) for owner in t.owners]
        for code in t.owner_codes[t.prompt_tokens :]:
            if (version := versions[code]) is not None:
                lags.append(float(policy.version - version))
                prompts.append(t.prompt.id)
    return linear_mean(np.array(lags), prompts).estimate("updates") if lags else None


def _completion(trajectory: Trajectory) -> np.ndarray:
    inside = np.arange(len(trajectory)) >= trajectory.prompt_tokens
    inside[:1] = False
    return inside
