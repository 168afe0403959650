"""Splice matrix: one policy writes the first tokens, another goes on to the end.

It tells bad states from bad local behaviour. A teacher whose *own* continuations fail but who repairs
the student's prefixes is a teacher whose failures are failures of the states it visits (P3).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from statewise.errors import ConfigError
from statewise.policy import Policy
from statewise.probes.clusters import Linear, linear_mean
from statewise.seeding import seed_for
from statewise.stats import Estimate
from statewise.trajectory import Prompt, Sampling, Trajectory

Score = Callable[[Prompt, str], float]
"""What a completion of a prompt is worth: any reward of a study, or a function of one's own."""


@dataclass(frozen=True, slots=True, eq=False)
class Splice:
    """`first` writes `depth_tokens`, `second` the rest."""

    first: str
    second: str
    depth_tokens: int
    score: Estimate
    """Mean reward; a completion that ended before the cut is scored as it is."""
    open: float
    """Share of the prefixes that had not ended at the cut."""
    scores: Float[np.ndarray, " M"]
    """Reward of each completion, prompt by prompt, in the same order in every cell."""


@dataclass(frozen=True, slots=True, eq=False)
class SpliceMatrix:
    """Every pair of policies at every depth, and what the states alone are worth."""

    cells: tuple[Splice, ...]
    states: Mapping[str, Estimate]
    """`first>second@c`: score of `second` after `first`'s prefixes, minus after its own."""
    behaviour: Mapping[str, Estimate]
    """`first>second@c`: score of `second` after `first`'s prefixes, minus that of `first` after them."""


def splice_matrix(
    policies: Mapping[str, Policy],
    prompts: Sequence[Prompt],
    reward: Score,
    *,
    depths_tokens: Sequence[int],
    max_new_tokens: int,
    sampling: Sampling | None = None,
    samples_per_prompt: int = 1,
    seed: int = 0,
) -> SpliceMatrix:
    """`V[A, B, c] = E[reward of A's first c tokens and B's rest]` for all pairs, on the same prompts.

    Monte Carlo over prompts and samples: unbiased, error clustered by prompt. Contrasts pair the
    prompts. A's prefixes of all depths are cut from one rollout; continuations are drawn anew, also
    where A = B, so that every cell is an average of the same kind. At equal seeds a prefix and its
    continuation depend on nothing but the place of the prompt: the matrix grows without changing.
    `sampling` None is temperature 1. Cost: one rollout a policy, and one continuation a pair and
    depth: `P + P^2 * depths` rollouts a prompt.

    Source: the project's own, the direct test of P3 (Nie, 2026, arXiv 2605.22731, section 3).
    Raises ConfigError for a depth below 1 or beyond the limit.
    """
    check_depths(depths_tokens, max_new_tokens)
    how = Sampling() if sampling is None else sampling
    rollouts = {
        name: policy.sample(
            prompts,
            samples_per_prompt=samples_per_prompt,
            sampling=how,
            max_new_tokens=max_new_tokens,
            seed=seed_for(seed, "splice"),
        )
        for name, policy in policies.items()
    }
    cells: dict[tuple[str, str, int], Splice] = {}
    for first, written in rollouts.items():
        for second, policy in policies.items():
            for depth in depths_tokens:
                scores = continued(
                    policy, written, reward, depth, how, max_new_tokens, seed_for(seed, depth)
                )
                cells[first, second, depth] = Splice(
                    first,
                    second,
                    depth,
                    _mean(scores, written).estimate("reward"),
                    float(np.mean([is_open(t, depth) for t in written])),
                    scores,
                )

    def contrast(a: tuple[str, str, int], b: tuple[str, str, int]) -> Estimate:
        differences = cells[a].scores - cells[b].scores
        return _mean(differences, rollouts[a[0]]).estimate("reward")

    pairs = [key for key in cells if key[0] != key[1]]
    return SpliceMatrix(
        tuple(cells.values()),
        states={f"{a}>{b}@{c}": contrast((a, b, c), (b, b, c)) for a, b, c in pairs},
        behaviour={f"{a}>{b}@{c}": contrast((a, b, c), (a, a, c)) for a, b, c in pairs},
    )


def is_open(rollout: Trajectory, depth_tokens: int) -> bool:
    """True where the completion has a state at this depth: it neither ended nor was cut before."""
    return len(rollout.completion_ids) > depth_tokens


def continued(
    policy: Policy,
    rollouts: Sequence[Trajectory],
    reward: Score,
    depth_tokens: int,
    sampling: Sampling,
    max_new_tokens: int,
    seed: int,
) -> Float[np.ndarray, " M"]:
    """Reward of each rollout's first tokens and the policy's own continuation, to the common limit.

    A rollout that ended before the cut keeps its own end.
    """
    places = [i for i, t in enumerate(rollouts) if is_open(t, depth_tokens)]
    prefixes = [rollouts[i].token_ids[: rollouts[i].prompt_tokens + depth_tokens] for i in places]
    rests = policy.complete(
        prefixes,
        sampling=sampling,
        max_new_tokens=max_new_tokens - depth_tokens,
        seeds=[seed_for(seed, "rest", i) for i in places],
    )
    texts = [t.completion for t in rollouts]
    for i, rest in zip(places, rests, strict=True):
        begun = rollouts[i].completion_ids[:depth_tokens]
        texts[i] = policy.completion_text(np.concatenate([begun, rest.token_ids]).astype(np.int32))
    return np.array(
        [reward(t.prompt, text) for t, text in zip(rollouts, texts, strict=True)], np.float64
    )


def check_depths(depths_tokens: Sequence[int], max_new_tokens: int) -> None:
    """Refuse a cut that leaves nothing before or behind it."""
    for depth in depths_tokens:
        if not 1 <= depth < max_new_tokens:
            raise ConfigError(
                f"a cut must lie between 1 and max_new_tokens - 1 = {max_new_tokens - 1}, found {depth}"
            )


def _mean(scores: np.ndarray, rollouts: Sequence[Trajectory]) -> Linear:
    return linear_mean(scores, [t.prompt.id for t in rollouts])
