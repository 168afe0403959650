"""One step of GRPO: 16 prompts, 16 samples each, an exact-answer reward, the clipped surrogate, one update."""

from __future__ import annotations

from typing import Any

from benchmarks import on_policy, peer_trl, workload
from benchmarks.harness import Comparison, Options, Setting, Target
from statewise import arms
from statewise.arms import Arm, Budget
from statewise.policy import Policy
from statewise.rewards import ExactAnswer

PEER = "TRL GRPOTrainer"


def comparisons(options: Options) -> list[Comparison]:
    """One step size."""
    size = on_policy.Size(2, 2, 4, 1, 8) if options.quick else on_policy.Size(16, 16, 100, 2, 512)
    contenders = [on_policy.ours(lambda student, _: _arm(student, size), size, 0, options)]
    if options.peers:
        contenders.append(
            on_policy.theirs(
                PEER, lambda trl, place, s: _trainer(trl, place, s, size, options), size, 0, options
            )
        )
    return [
        Comparison(
            f"GRPO step, {size.prompts} × {size.each}",
            "s/step",
            "lower",
            contenders,
            (Target(PEER, 3.0, 2.5),),
            {
                "prompts": size.prompts,
                "samples_per_prompt": size.each,
                "max_new_tokens": size.new_tokens,
            },
        )
    ]


def _arm(student: Policy, size: on_policy.Size) -> Arm:
    return Arm.of(
        "grpo",
        arms.grpo(max_new_tokens=size.new_tokens, samples_per_prompt=size.each),
        workload.problems(student, size.pool, max_new_tokens=size.new_tokens),
        Budget(peer_trl.LEARNING_RATE, steps=size.steps + 1),
        prompts_per_step=size.prompts,
    )


def _trainer(trl: Any, place: str, setting: Setting, size: on_policy.Size, options: Options) -> Any:
    reader = workload.policy(options, trainable=False)
    prompts = workload.problems(reader, size.pool, max_new_tokens=size.new_tokens).items
    by_text = {prompt.text: prompt for prompt in prompts}
    exact = ExactAnswer()

    def reward(prompts: list[str], completions: list[str], **_: Any) -> list[float]:
        return [exact(by_text[p], c) for p, c in zip(prompts, completions, strict=True)]

    return trl.GRPOTrainer(
        model=workload.model(options),
        reward_funcs=reward,
        args=trl.GRPOConfig(
            **on_policy.arguments(
                place, setting, size, options, num_generations=size.each, loss_type="grpo", beta=0.0
            )
        ),
        train_dataset=peer_trl.rows({"prompt": [p.text for p in prompts]}),
        processing_class=peer_trl.tokenizer(options),
    )
