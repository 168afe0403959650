"""The forgetting law: sequence divergences between base and policy, on new and on old prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from statewise.errors import DataError
from statewise.policy import Policy
from statewise.probes.clusters import linear_mean
from statewise.probes.per_state import per_state, row_sums
from statewise.stats import Estimate
from statewise.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class ForgettingLaw:
    """Divergences of whole completions between base and policy; None where nobody's rollouts were given."""

    base_policy: Estimate | None
    """`KL(base || policy)`: over the base's completions. RL's Razor calls it forward."""
    policy_base: Estimate | None
    """`KL(policy || base)`: over the policy's completions."""


def sequence_kl(sampler: Policy, other: Policy, rollouts: Sequence[Trajectory]) -> Estimate:
    """`KL(sampler || other)` of completions: `E_{y ~ sampler} sum_t kl(sampler || other)(s_t)`, nats.

    Unbiased where `rollouts` are the sampler's own at temperature 1 with nothing cut from the
    distribution; completions end at the stop token or at the rollouts' limit. Summing exact
    divergences over visited states in place of sampled log-ratios is the Rao-Blackwell form, of
    smaller variance (Amini et al., 2025, arXiv 2504.10637). Error clustered by prompt. Cost: one
    forward pass of each policy.

    Source: RL's Razor (Shenfeld et al., 2025, arXiv 2509.04259), where `KL(base || policy)` on the new
    task predicts forgetting over runs.
    Raises DataError where the rollouts were drawn under another transform, or not drawn at all.
    """
    for t in rollouts:
        if t.sampling is None or not t.sampling.is_full or t.sampling.temperature != 1:
            raise DataError(
                f"prompt {t.prompt.id!r}: the sequence divergence needs completions that were sampled at "
                f"temperature 1 with no top-p and no top-k, found {t.sampling}"
            )
    table = per_state(sampler, rollouts, other)
    assert table.kl_policy_reference is not None
    sums = row_sums(table, table.kl_policy_reference, len(rollouts))
    clusters = [t.prompt.id for t in rollouts]
    return linear_mean(sums, clusters).estimate("nats per completion")


def forgetting_law(
    policy: Policy,
    base: Policy,
    *,
    base_rollouts: Sequence[Trajectory] = (),
    policy_rollouts: Sequence[Trajectory] = (),
) -> ForgettingLaw:
    """Both sequence divergences on one set of prompts: ask it on the new task's and on retention prompts.

    Which of the four predicts forgetting is a regression over runs, and the study's affair.
    """
    return ForgettingLaw(
        sequence_kl(base, policy, base_rollouts) if base_rollouts else None,
        sequence_kl(policy, base, policy_rollouts) if policy_rollouts else None,
    )
