"""Every kind of method can be checked as it is written, and none of them fails where nothing is wrong."""

from __future__ import annotations

from dataclasses import replace

import pytest

from statewise.arms import (
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
    ours = {"prompts_per_step": 4}
    sampled = ours | {"max_new_tokens": 8}
    grouped = sampled | {"samples_per_prompt": 2, "reward": length}
    learner = opd("opd", PROMPTS, BUDGET, teacher=BASE, **sampled)
    hot = replace(learner.streams[0].terms[0].supervision, temperature=2.0)
    term = replace(learner.streams[0].terms[0], supervision=hot)
    return {
        "iw_sft": iw_sft("arm", PROMPTS, BUDGET, **ours),
        "documents": sft("arm", WorldDocuments(limit=20), BUDGET, **ours),
        "rehearsal": with_rehearsal(
            sft("arm", PROMPTS, BUDGET, **ours), WorldDocuments(limit=20), prompts_per_step=2
        ),
        "rejection": rejection_sft(
            "arm", PROMPTS, BUDGET, **(grouped | {"threshold": 1.0, "samples_per_prompt": 1})
        ),
        "teacher_at_temperature_2": replace(
            learner, streams=(replace(learner.streams[0], terms=(term,)),)
        ),
        "ema": opd("arm", PROMPTS, BUDGET, teacher=Ema(0.9), objective=JSD(), **sampled),
        "topk": topk_opd("arm", PROMPTS, BUDGET, teacher=BASE, top_k=4, support="union", **sampled),
        "sampled_opd": sampled_opd("arm", PROMPTS, BUDGET, teacher=BASE, clip=1.0, **sampled),
        "self": self_distillation("arm", PROMPTS, BUDGET, context="{question} {answer}", **sampled),
        "continuation": continuation_opd(
            "arm", PROMPTS, BUDGET, teacher=BASE, branch_tokens=4, **sampled
        ),
        "offline": offline_kd("arm", PROMPTS, ADAPTER, teacher=BASE, **sampled),
        "gkd": gkd("arm", PROMPTS, BUDGET, teacher=BASE, **sampled),
        "blended": blended_opd("arm", PROMPTS, BUDGET, teacher=BASE, epsilon=0.1, **sampled),
        "replay": with_replay(learner, share=0.5, age_limit=2),
        "anchored": anchored_grpo("arm", PROMPTS, BUDGET, **grouped),
        "adapter_grpo": dr_grpo("arm", PROMPTS, ADAPTER, **grouped),
        "gspo": gspo("arm", PROMPTS, BUDGET, **grouped),
        "reset": prefix_reset_rl("arm", PROMPTS, BUDGET, **grouped),
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
