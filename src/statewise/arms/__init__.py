"""A method is one choice on each axis, and a budget.

There is no `if method ==` anywhere in the package. The functions of `supervised`, `distillation`
and `reinforcement` are the methods: each is a line or two that says which value stands on which axis.
"""

from statewise.arms.arm import Arm, Budget, Stream, Term
from statewise.arms.binding import bind, policies, references
from statewise.arms.distillation import (
    continuation_opd,
    jsd_opd,
    opd,
    sampled_opd,
    self_distillation,
    topk_opd,
)
from statewise.arms.reinforcement import (
    anchored_grpo,
    cispo,
    dapo,
    dr_grpo,
    grpo,
    gspo,
    negative_advantage,
    reinforce,
    rl_with_opd,
    rloo,
)
from statewise.arms.supervised import dft, iw_sft, pretraining, sft

__all__ = [
    "Arm",
    "Budget",
    "Stream",
    "Term",
    "anchored_grpo",
    "bind",
    "cispo",
    "continuation_opd",
    "dapo",
    "dft",
    "dr_grpo",
    "grpo",
    "gspo",
    "iw_sft",
    "jsd_opd",
    "negative_advantage",
    "opd",
    "policies",
    "pretraining",
    "references",
    "reinforce",
    "rl_with_opd",
    "rloo",
    "sampled_opd",
    "self_distillation",
    "sft",
    "topk_opd",
]
