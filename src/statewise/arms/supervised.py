"""Methods on dataset states, with gold tokens."""

from __future__ import annotations

from statewise.arms.arm import Arm, Budget, Stream, Term
from statewise.data import Data, Prompts
from statewise.objectives import CrossEntropy, DynamicFineTuning, ImportanceWeighted
from statewise.policy import Policy, PolicyRef
from statewise.sources import Dataset
from statewise.supervision import OwnActions, ReferenceActions


def sft(name: str, prompts: Data | Prompts, budget: Budget, *, prompts_per_step: int) -> Arm:
    """Supervised fine-tuning: dataset states, gold tokens, cross-entropy (eq. 5)."""
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
    reference: PolicyRef | Policy = PolicyRef("base"),
) -> Arm:
    """Importance-weighted fine-tuning: cross-entropy weighed by pi / pi_ref, clipped (2507.12856)."""
    term = Term(ReferenceActions(reference), ImportanceWeighted())
    return Arm(name, (Stream(prompts, Dataset(), (term,), prompts_per_step),), budget)


def pretraining(
    name: str, documents: Data | Prompts, budget: Budget, *, prompts_per_step: int
) -> Arm:
    """Pretraining is supervised fine-tuning over documents."""
    return sft(name, documents, budget, prompts_per_step=prompts_per_step)
