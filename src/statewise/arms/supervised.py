"""Methods with labels: gold tokens on dataset states, and tokens that earned it."""

from __future__ import annotations

from statewise.arms.arm import Arm, Budget, Stream, Term
from statewise.data import Data, Prompts
from statewise.objectives import CrossEntropy, DynamicFineTuning, ImportanceWeighted
from statewise.policy import PolicyLike, PolicyRef
from statewise.rewards import ExactAnswer, Reward
from statewise.sources import Dataset, Filtered, Learner, Teacher
from statewise.supervision import OwnActions, ReferenceActions


def sft(name: str, prompts: Data | Prompts, budget: Budget, *, prompts_per_step: int) -> Arm:
    """Supervised fine-tuning: dataset states, gold tokens, cross-entropy (2605.22731, eq. 5)."""
    term = Term(OwnActions(), CrossEntropy())
    return Arm(name, (Stream(prompts, Dataset(), (term,), prompts_per_step),), budget)


def dft(name: str, prompts: Data | Prompts, budget: Budget, *, prompts_per_step: int) -> Arm:
    """Dynamic fine-tuning: cross-entropy weighed by the token's own probability (2508.05629)."""
    term = Term(OwnActions(), DynamicFineTuning())
    return Arm(name, (Stream(prompts, Dataset(), (term,), prompts_per_step),), budget)


def iw_sft(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    prompts_per_step: int,
    reference: PolicyLike = PolicyRef("base"),
) -> Arm:
    """Importance-weighted fine-tuning: cross-entropy weighed by pi / pi_ref, clipped (2507.12856)."""
    term = Term(ReferenceActions(reference), ImportanceWeighted())
    return Arm(name, (Stream(prompts, Dataset(), (term,), prompts_per_step),), budget)


def pretraining(
    name: str, documents: Data | Prompts, budget: Budget, *, prompts_per_step: int
) -> Arm:
    """Pretraining is supervised fine-tuning over documents."""
    return sft(name, documents, budget, prompts_per_step=prompts_per_step)


def rejection_sft(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    sampler: PolicyLike = PolicyRef("base"),
    reward: Reward = ExactAnswer(),
    threshold: float = 1.0,
) -> Arm:
    """Rejection fine-tuning: a frozen policy's samples that are correct, cross-entropy (arXiv 2308.01825)."""
    source = Filtered(Teacher(sampler, max_new_tokens, samples_per_prompt), reward, threshold)
    term = Term(OwnActions(), CrossEntropy())
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)


def iterative_sft(
    name: str,
    prompts: Data | Prompts,
    budget: Budget,
    *,
    max_new_tokens: int,
    samples_per_prompt: int,
    prompts_per_step: int,
    reward: Reward = ExactAnswer(),
    threshold: float = 1.0,
) -> Arm:
    """Iterative fine-tuning: the learner's own correct samples, cross-entropy (arXiv 2203.14465, without restarts).

    A round is a step: its rollout serves `budget.passes` passes of `budget.minibatches` updates.
    """
    source = Filtered(Learner(max_new_tokens, samples_per_prompt), reward, threshold)
    term = Term(OwnActions(), CrossEntropy())
    return Arm(name, (Stream(prompts, source, (term,), prompts_per_step),), budget)
