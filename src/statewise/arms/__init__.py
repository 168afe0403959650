"""A method is one choice on each axis; an arm trains by a method, on prompts, within a budget.

There is no `if method ==` anywhere in the package. The functions of `supervised`, `distillation`
and `reinforcement` are the methods: each returns a `Method`, the source and the terms of a loss. Those of
`variants` make a method from another. docs/methods.md is their table, made by calling them.
"""

from statewise.arms.arm import Arm, Budget, Method, Stream, Term
from statewise.arms.binding import bind, bind_arm, only_in_contexts, parts, policies, references
from statewise.arms.distillation import (
    blended_opd,
    continuation_opd,
    entropy_gated_opd,
    gkd,
    jsd_opd,
    offline_kd,
    opd,
    sampled_opd,
    self_distillation,
    sequence_kd,
    topk_opd,
)
from statewise.arms.reinforcement import (
    anchored_grpo,
    cispo,
    dapo,
    dr_grpo,
    grpo,
    gspo,
    length_reward,
    negative_advantage,
    prefix_reset_rl,
    reinforce,
    rl_with_opd,
    rloo,
)
from statewise.arms.supervised import (
    dft,
    iterative_sft,
    iw_sft,
    pretraining,
    rejection_sft,
    sft,
)
from statewise.arms.variants import (
    with_anchor,
    with_importance,
    with_rehearsal,
    with_replay,
    with_retention_anchor,
)

__all__ = [
    "Arm",
    "Budget",
    "Method",
    "Stream",
    "Term",
    "anchored_grpo",
    "bind",
    "bind_arm",
    "blended_opd",
    "cispo",
    "continuation_opd",
    "dapo",
    "dft",
    "dr_grpo",
    "entropy_gated_opd",
    "gkd",
    "grpo",
    "gspo",
    "iterative_sft",
    "iw_sft",
    "jsd_opd",
    "length_reward",
    "negative_advantage",
    "offline_kd",
    "only_in_contexts",
    "opd",
    "parts",
    "policies",
    "prefix_reset_rl",
    "pretraining",
    "references",
    "reinforce",
    "rejection_sft",
    "rl_with_opd",
    "rloo",
    "sampled_opd",
    "self_distillation",
    "sequence_kd",
    "sft",
    "topk_opd",
    "with_anchor",
    "with_importance",
    "with_rehearsal",
    "with_replay",
    "with_retention_anchor",
]
