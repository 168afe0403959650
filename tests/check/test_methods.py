"""Every kind of method can be checked as it is written, and none of them fails where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statewise.arms import (
    Arm,
    Budget,
    anchored_grpo,
    blended_opd,
    continuation_opd,
    dr_grpo,
    gkd,
    gspo,
    iw_sft,
    offline_kd,
    opd,
    prefix_reset_rl,
    rejection_sft,
    sampled_opd,
    self_distillation,
    sft,
    topk_opd,
    with_rehearsal,
    with_replay,
)
from statewise.data import WorldDocuments, WorldProblems
from statewise.objectives import JSD
from statewise.policy import Ema, Lora, PolicyRef
from statewise.rewards import PythonReward

BUDGET = Budget(0.01, steps=2)
ADAPTER = Budget(0.01, steps=2, adapter=Lora(rank=2), precision="bf16", minibatches=2)
PROMPTS = WorldProblems("prompts", limit=20)
BASE = PolicyRef("base")

LENGTH = "def score(prompt, completion):\n    return float(len(completion))\n"
"""A reward that a random model earns, so that groups are not silent; its scale is not 0 to 1."""


def methods(length: PythonReward):
    sampled = {"max_new_tokens": 8}
    grouped = sampled | {"samples_per_prompt": 2, "reward": length}
    learner = Arm.of("opd", opd(teacher=BASE, **sampled), PROMPTS, BUDGET, prompts_per_step=4)
    hot = replace(learner.streams[0].terms[0].supervision, temperature=2.0)
    term = replace(learner.streams[0].terms[0], supervision=hot)
    return {
        "iw_sft": Arm.of("arm", iw_sft(), PROMPTS, BUDGET, prompts_per_step=4),
        "documents": Arm.of("arm", sft(), WorldDocuments(limit=20), BUDGET, prompts_per_step=4),
        "rehearsal": Arm.of(
            "arm",
            with_rehearsal(sft(), WorldDocuments(limit=20), prompts_per_step=2),
            PROMPTS,
            BUDGET,
            prompts_per_step=4,
        ),
        "rejection": Arm.of(
            "arm",
            rejection_sft(**(grouped | {"threshold": 1.0, "samples_per_prompt": 1})),
            PROMPTS,
            BUDGET,
            prompts_per_step=4,
        ),
        "teacher_at_temperature_2": replace(
            learner, streams=(replace(learner.streams[0], terms=(term,)),)
        ),
        "ema": Arm.of(
            "arm",
            opd(teacher=Ema(0.9), objective=JSD(), **sampled),
            PROMPTS,
            BUDGET,
            prompts_per_step=4,
        ),
        "topk": Arm.of(
            "arm",
            topk_opd(teacher=BASE, top_k=4, support="union", **sampled),
            PROMPTS,
            BUDGET,
            prompts_per_step=4,
        ),
        "sampled_opd": Arm.of(
            "arm",
            sampled_opd(teacher=BASE, clip=1.0, **sampled),
            PROMPTS,
            BUDGET,
            prompts_per_step=4,
        ),
        "self": Arm.of(
            "arm",
            self_distillation(context="{question} {answer}", **sampled),
            PROMPTS,
            BUDGET,
            prompts_per_step=4,
        ),
        "continuation": Arm.of(
            "arm",
            continuation_opd(teacher=BASE, branch_tokens=4, **sampled),
            PROMPTS,
            BUDGET,
            prompts_per_step=4,
        ),
        "offline": Arm.of(
            "arm", offline_kd(teacher=BASE, **sampled), PROMPTS, ADAPTER, prompts_per_step=4
        ),
        "gkd": Arm.of("arm", gkd(teacher=BASE, **sampled), PROMPTS, BUDGET, prompts_per_step=4),
        "blended": Arm.of(
            "arm",
            blended_opd(teacher=BASE, epsilon=0.1, **sampled),
            PROMPTS,
            BUDGET,
            prompts_per_step=4,
        ),
        "replay": Arm.of(
            "arm",
            with_replay(opd(teacher=BASE, **sampled), share=0.5, age_limit=2),
            PROMPTS,
            BUDGET,
            prompts_per_step=4,
        ),
        "anchored": Arm.of("arm", anchored_grpo(**grouped), PROMPTS, BUDGET, prompts_per_step=4),
        "adapter_grpo": Arm.of("arm", dr_grpo(**grouped), PROMPTS, ADAPTER, prompts_per_step=4),
        "gspo": Arm.of("arm", gspo(**grouped), PROMPTS, BUDGET, prompts_per_step=4),
        "reset": Arm.of("arm", prefix_reset_rl(**grouped), PROMPTS, BUDGET, prompts_per_step=4),
    }


METHODS = tuple(methods(PythonReward("mine.py:score")))
MAY_WARN = {"stop token emitted", "reward"}
"""A random model writes 8 tokens and seldom stops; the reward of these tests has its own scale."""


@pytest.mark.parametrize("name", METHODS)
def test_a_method_that_is_well_does_not_fail(one, report, tmp_path, name):
    path = tmp_path / "mine.py"
    path.write_text(LENGTH)
    study = one(methods(PythonReward(f"{path}:score"))[name])
    found = report(study, items=3)
    odd = [x for x in found.lines if x.status != "pass" and x.name not in MAY_WARN]
    assert odd == []
    assert {"gradient", "padding", "micro-batch", "accumulation", "dropout"} <= {
        x.name for x in found.lines
    }
    assert len(found.items) == len(study.arms[0].streams)
    for item in found.items:
        assert any(token.weight for token in item.tokens)
        assert sum(len(run.weights) for run in item.runs) == len(item.tokens)
