"""Methods with a reward, and the null method without one, at learner states."""

from __future__ import annotations

from statewise.arms.anchor import anchor_term
from statewise.arms.arm import Method, Term
from statewise.limits import NotNegative, Number, Positive, Samples, Share, Tokens
from statewise.objectives import (
    Cispo,
    ClippedSurrogate,
    KLStudentTeacher,
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
    TeacherLogRatio,
)


def grpo(
    *,
    max_new_tokens: Tokens,
    samples_per_prompt: Samples,
    reward: Reward = ExactAnswer(),
    clip: Share = 0.2,
) -> Method:
    """GRPO: learner states, group advantage of a reward, clipped surrogate (arXiv 2402.03300, eq. 3).

    Without the KL term to a reference; add one as a second term, as `anchored_grpo` does. Dividing each
    completion by its own length adds a pull towards length, `-r grad E[1/T]` times a factor (see "What a
    policy gradient pulls towards" in docs/methods.md); `dr_grpo` has none.
    """
    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip, clip), normaliser="sequence")
    return Method(Learner(max_new_tokens, samples_per_prompt), (term,))


def dr_grpo(
    *,
    max_new_tokens: Tokens,
    samples_per_prompt: Samples,
    reward: Reward = ExactAnswer(),
    clip: Share = 0.2,
) -> Method:
    """Dr.GRPO: no division by the group's spread, none by the completion's length (2503.20783)."""
    term = Term(
        GroupAdvantage(reward, scale="none"),
        ClippedSurrogate(clip, clip),
        normaliser="constant",
        constant_tokens=float(max_new_tokens),
    )
    return Method(Learner(max_new_tokens, samples_per_prompt), (term,))


def dapo(
    *,
    max_new_tokens: Tokens,
    samples_per_prompt: Samples,
    reward: Reward = ExactAnswer(),
    clip_low: Share = 0.2,
    clip_high: NotNegative = 0.28,
) -> Method:
    """DAPO's loss: clip-higher, every token the same (2503.14476), without its dynamic sampling and its penalty
    for overlong completions.
    """
    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip_low, clip_high), normaliser="token")
    return Method(Learner(max_new_tokens, samples_per_prompt), (term,))


def gspo(
    *,
    max_new_tokens: Tokens,
    samples_per_prompt: Samples,
    reward: Reward = ExactAnswer(),
    objective: SequenceRatio = SequenceRatio(),
) -> Method:
    """GSPO: one ratio per completion, clipped (2507.18071)."""
    term = Term(GroupAdvantage(reward), objective, normaliser="sequence")
    return Method(Learner(max_new_tokens, samples_per_prompt), (term,))


def cispo(
    *,
    max_new_tokens: Tokens,
    samples_per_prompt: Samples,
    reward: Reward = ExactAnswer(),
    objective: Cispo = Cispo(),
) -> Method:
    """CISPO: the clipped ratio is a weight, so no token loses its gradient (2506.13585)."""
    term = Term(GroupAdvantage(reward), objective, normaliser="token")
    return Method(Learner(max_new_tokens, samples_per_prompt), (term,))


def rloo(
    *, max_new_tokens: Tokens, samples_per_prompt: Samples, reward: Reward = ExactAnswer()
) -> Method:
    """RLOO: the others of the group are the baseline, the whole completion one action (2402.14740).

    The log-probs of a completion are summed, not averaged: `constant` with 1 token.
    """
    term = Term(LeaveOneOut(reward), Reinforce(), normaliser="constant", constant_tokens=1.0)
    return Method(Learner(max_new_tokens, samples_per_prompt), (term,))


def reinforce(
    *, max_new_tokens: Tokens, samples_per_prompt: Samples = 1, reward: Reward = ExactAnswer()
) -> Method:
    """REINFORCE with the rollout's mean reward as baseline (Williams, 1992)."""
    term = Term(RewardBaseline(reward), Reinforce(), normaliser="constant", constant_tokens=1.0)
    return Method(Learner(max_new_tokens, samples_per_prompt), (term,))


def anchored_grpo(
    *,
    max_new_tokens: Tokens,
    samples_per_prompt: Samples,
    reward: Reward = ExactAnswer(),
    clip: Share = 0.2,
    anchor: PolicyLike = PolicyRef("base"),
    coefficient: Number = 0.04,
) -> Method:
    """GRPO with `kl(student||anchor)` as a second term: the divergence itself, no sampled estimate (2402.03300)."""
    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip, clip), normaliser="sequence")
    anchored = anchor_term(term, anchor, KLStudentTeacher(), coefficient)
    return Method(Learner(max_new_tokens, samples_per_prompt), (term, anchored))


def rl_with_opd(
    *,
    teacher: PolicyLike,
    max_new_tokens: Tokens,
    samples_per_prompt: Samples,
    reward: Reward = ExactAnswer(),
    clip: Share = 0.2,
    ratio_clip: Positive = 1.0,
    coefficient: Number = 0.1,
) -> Method:
    """A reward and a teacher at once: two advantages of the same tokens, the second one weighted."""
    log_ratio = TeacherLogRatio(teacher, clip=ratio_clip)
    surrogate = ClippedSurrogate(clip, clip)
    terms = (
        Term(GroupAdvantage(reward), surrogate, normaliser="sequence"),
        Term(log_ratio, surrogate, coefficient=coefficient, normaliser="sequence"),
    )
    return Method(Learner(max_new_tokens, samples_per_prompt), terms)


def negative_advantage(
    *, max_new_tokens: Tokens, samples_per_prompt: Samples = 1, clip: Share = 0.2
) -> Method:
    """The null without teacher and reward: every sampled token becomes a little less likely (2608.31046).

    Sums over tokens have one divisor, `max_new_tokens` as in Dr.GRPO: a rule, not a tuned number. The
    expected gradient is therefore 0 while the policy has not moved since it sampled, and all effects are
    chance and drift. Divided by the completion's own length it is a reward for length: `length_reward`.
    """
    term = Term(
        ConstantAdvantage(-1.0),
        ClippedSurrogate(clip, clip),
        normaliser="constant",
        constant_tokens=float(max_new_tokens),
    )
    return Method(Learner(max_new_tokens, samples_per_prompt), (term,))


def length_reward(
    *, max_new_tokens: Tokens, samples_per_prompt: Samples = 1, clip: Share = 0.2
) -> Method:
    """A reward for long completions: advantage -1 everywhere, divided by each completion's own length.

    Its expected gradient raises `-E[1/T]`. It looks like a null and is not one: if a base answers too
    briefly, this gains on the target without teacher and reward. Compare with it if a method divides
    by length (GRPO), and with `negative_advantage` for the null.
    """
    term = Term(ConstantAdvantage(-1.0), ClippedSurrogate(clip, clip), normaliser="sequence")
    return Method(Learner(max_new_tokens, samples_per_prompt), (term,))


def prefix_reset_rl(
    *,
    max_new_tokens: Tokens,
    samples_per_prompt: Samples,
    teacher: PolicyLike | None = None,
    probability: Scheduled = 0.5,
    reward: Reward = ExactAnswer(),
    clip: Share = 0.2,
) -> Method:
    """RL with resets: the learner continues gold or teacher prefixes, group advantage (arXiv 2306.11816)."""
    source = PrefixReset(
        max_new_tokens, teacher, probability, samples_per_prompt=samples_per_prompt
    )
    term = Term(GroupAdvantage(reward), ClippedSurrogate(clip, clip), normaliser="sequence")
    return Method(source, (term,))
