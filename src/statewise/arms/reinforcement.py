"""Methods with a reward (and the null that has none), on learner states."""

from __future__ import annotations

from statewise.arms.anchor import anchor_term
from statewise.arms.arm import Arm, Budget, Stream, Term
from statewise.data import Data, Prompts
from statewise.objectives import (
    Cispo,
    ClippedSurrogate,
    KLStudentTeacher,
    Objective,
    Reinforce,
    SequenceRatio,
)
from statewise.policy import PolicyLike, PolicyRef
from statewise.rewards import ExactAnswer, Reward
from statewise.sources import Learner, PrefixReset, Scheduled
from statewise.supervision import (
    ConstantAdvantage,
    GroupAdvantage,
    LeaveOneOut,
    RewardBaseline,
    Supervision,
    TeacherLogRatio,
)


def grpo(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
    clip: float = 0.2,
) -> Arm:
    """GRPO: learner states, group advantage of a reward, clipped surrogate (arXiv 2402.03300, eq. 3).

    Without the KL term to a reference; add one as a second term, as `anchored_grpo` does. Dividing each
    completion by its own length adds a pull towards length, `-r grad E[1/T]` times a factor (see "What a
    policy gradient pulls towards" in docs/methods.md); `dr_grpo` has none.
    """
    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip, clip), normaliser="sequence")
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, term
    )


def dr_grpo(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
    clip: float = 0.2,
) -> Arm:
    """Dr.GRPO: no division by the group's spread, none by the completion's length (2503.20783)."""
    term = Term(
        GroupAdvantage(reward, scale="none"),
        ClippedSurrogate(clip, clip),
        normaliser="constant",
        constant_tokens=float(max_new_tokens),
    )
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, term
    )


def dapo(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
    clip_low: float = 0.2,
    clip_high: float = 0.28,
) -> Arm:
    """DAPO's loss: clip-higher, every token the same (2503.14476), without its dynamic sampling and its penalty
    for overlong completions.
    """
    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip_low, clip_high), normaliser="token")
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, term
    )


def gspo(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
    objective: SequenceRatio = SequenceRatio(),
) -> Arm:
    """GSPO: one ratio a completion, clipped (2507.18071)."""
    term = Term(GroupAdvantage(reward), objective, normaliser="sequence")
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, term
    )


def cispo(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
    objective: Cispo = Cispo(),
) -> Arm:
    """CISPO: the clipped ratio is a weight, so no token loses its gradient (2506.13585)."""
    term = Term(GroupAdvantage(reward), objective, normaliser="token")
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, term
    )


def rloo(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
) -> Arm:
    """RLOO: the others of the group are the baseline, the whole completion one action (2402.14740).

    The log-probs of a completion are summed, not averaged: `constant` with 1 token.
    """
    term = Term(LeaveOneOut(reward), Reinforce(), normaliser="constant", constant_tokens=1.0)
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, term
    )


def reinforce(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    prompts_per_step: int,
    samples_per_prompt: int = 1,
    reward: Reward = ExactAnswer(),
) -> Arm:
    """REINFORCE with the rollout's mean reward as baseline (Williams, 1992)."""
    term = Term(RewardBaseline(reward), Reinforce(), normaliser="constant", constant_tokens=1.0)
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, term
    )


def anchored_grpo(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
    clip: float = 0.2,
    anchor: PolicyLike = PolicyRef("base"),
    coefficient: float = 0.04,
) -> Arm:
    """GRPO with `kl(student||anchor)` as a second term: the divergence itself, no sampled estimate (2402.03300)."""
    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip, clip), normaliser="sequence")
    held = anchor_term(term, anchor, KLStudentTeacher(), coefficient)
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, term, held
    )


def rl_with_opd(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    teacher: PolicyLike,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
    clip: float = 0.2,
    ratio_clip: float = 1.0,
    coefficient: float = 0.1,
) -> Arm:
    """A reward and a teacher at once: two advantages of the same tokens, the second one weighed."""
    taught: Supervision = TeacherLogRatio(teacher, clip=ratio_clip)
    bounded: Objective = ClippedSurrogate(clip, clip)
    terms = (
        Term(GroupAdvantage(reward), bounded, normaliser="sequence"),
        Term(taught, bounded, coefficient=coefficient, normaliser="sequence"),
    )
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, *terms
    )


def negative_advantage(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    prompts_per_step: int,
    samples_per_prompt: int = 1,
    clip: float = 0.2,
) -> Arm:
    """The null without teacher and reward: every sampled token is a little less likely (2608.31046).

    Sums over tokens by one divisor, `max_new_tokens` as in Dr.GRPO: a rule, no number that was tried.
    So its expected gradient is 0 while the policy has not moved since it sampled, and what it does is
    chance and drift. Divided by the completion's own length it is a reward for length: `length_reward`.
    """
    term = Term(
        ConstantAdvantage(-1.0),
        ClippedSurrogate(clip, clip),
        normaliser="constant",
        constant_tokens=float(max_new_tokens),
    )
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, term
    )


def length_reward(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    prompts_per_step: int,
    samples_per_prompt: int = 1,
    clip: float = 0.2,
) -> Arm:
    """A reward for long completions: advantage -1 everywhere, divided by each completion's own length.

    Its expected gradient raises `-E[1/T]`. It passes for a null and is none: where a base answers too
    briefly it gains on the target without teacher and reward. Compare with it where a method divides
    by length (GRPO), and with `negative_advantage` for the null.
    """
    term = Term(ConstantAdvantage(-1.0), ClippedSurrogate(clip, clip), normaliser="sequence")
    return _on_policy(
        name, prompts, budget, prompts_per_step, max_new_tokens, samples_per_prompt, term
    )


def prefix_reset_rl(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    teacher: PolicyLike | None = None,
    probability: Scheduled = 0.5,
    reward: Reward = ExactAnswer(),
    clip: float = 0.2,
) -> Arm:
    """RL with resets: the learner continues gold or teacher prefixes, group advantage (arXiv 2306.11816)."""
    source = PrefixReset(
        max_new_tokens, teacher, probability, samples_per_prompt=samples_per_prompt
    )
    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip, clip), normaliser="sequence")
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def _on_policy(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    prompts_per_step: int,
    max_new_tokens: int,
    samples_per_prompt: int,
    *terms: Term,
) -> Arm:
    source = Learner(max_new_tokens=max_new_tokens, samples_per_prompt=samples_per_prompt)
    return Arm(name, (Stream(prompts, source, terms, prompts_per_step),), budget)
