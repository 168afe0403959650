"""Methods that learn from labels: gold tokens at dataset states, and sampled tokens that a reward accepts."""

from __future__ import annotations

from statewise.arms.arm import Method, Term
from statewise.limits import Number, Samples, Tokens
from statewise.objectives import CrossEntropy, DynamicFineTuning, ImportanceWeighted
from statewise.policy import PolicyLike, PolicyRef
from statewise.rewards import ExactAnswer, Reward
from statewise.sources import Dataset, Filtered, Learner, Teacher
from statewise.supervision import OwnActions, ReferenceActions


def sft() -> Method:
    """Supervised fine-tuning: dataset states, gold tokens, cross-entropy (2605.22731, eq. 5)."""
    return Method(Dataset(), (Term(OwnActions(), CrossEntropy()),))


def dft() -> Method:
    """Dynamic fine-tuning: cross-entropy weighted by the token's own probability (2508.05629)."""
    return Method(Dataset(), (Term(OwnActions(), DynamicFineTuning()),))


def iw_sft(reference: PolicyLike = PolicyRef("base")) -> Method:
    """Importance-weighted fine-tuning: cross-entropy weighted by pi / pi_ref, clipped (2507.12856)."""
    return Method(Dataset(), (Term(ReferenceActions(reference), ImportanceWeighted()),))


def pretraining() -> Method:
    """Pretraining is supervised fine-tuning on documents."""
    return sft()


def rejection_sft(
    *,
    max_new_tokens: Tokens,
    samples_per_prompt: Samples,
    sampler: PolicyLike = PolicyRef("base"),
    reward: Reward = ExactAnswer(),
    threshold: Number = 1.0,
) -> Method:
    """Rejection fine-tuning: a frozen policy's correct samples, cross-entropy (arXiv 2308.01825)."""
    source = Filtered(Teacher(sampler, max_new_tokens, samples_per_prompt), reward, threshold)
    return Method(source, (Term(OwnActions(), CrossEntropy()),))


def iterative_sft(
    *,
    max_new_tokens: Tokens,
    samples_per_prompt: Samples,
    reward: Reward = ExactAnswer(),
    threshold: Number = 1.0,
) -> Method:
    """Iterative fine-tuning: the learner's own correct samples, cross-entropy (arXiv 2203.14465, without restarts).

    A round is a step: its rollout serves `budget.passes` passes of `budget.minibatches` updates.
    """
    source = Filtered(Learner(max_new_tokens, samples_per_prompt), reward, threshold)
    return Method(source, (Term(OwnActions(), CrossEntropy()),))
