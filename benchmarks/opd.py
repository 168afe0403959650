"""One step of on-policy distillation: 64 samples of the student, `kl(student||teacher)` over the whole vocabulary."""

from __future__ import annotations

from typing import Any

from benchmarks import on_policy, peer_trl, workload
from benchmarks.harness import Comparison, Options, Setting, Target
from statewise import arms
from statewise.arms import Arm, Budget
from statewise.policy import Policy

PEER = "TRL DistillationTrainer"


def comparisons(options: Options) -> list[Comparison]:
    """One step size."""
    size = on_policy.Size(4, 1, 4, 1, 8) if options.quick else on_policy.Size(64, 1, 100, 4, 512)
    contenders = [on_policy.ours(lambda student, _: _arm(student, size, options), size, 1, options)]
    if options.peers:
        contenders.append(
            on_policy.theirs(
                PEER, lambda trl, place, s: _trainer(trl, place, s, size, options), size, 1, options
            )
        )
    return [
        Comparison(
            f"OPD step, {size.rows} samples",
            "s/step",
            "lower",
            contenders,
            (Target(PEER, 3.0, 2.0),),
            {"samples": size.rows, "max_new_tokens": size.new_tokens},
        )
    ]


def _arm(student: Policy, size: on_policy.Size, options: Options) -> Arm:
    module = workload.perturbed(workload.model(options)).requires_grad_(False)
    teacher = Policy(module, student.tokenizer, name="teacher:noisy", precision=student.precision)
    return Arm.of(
        "opd",
        arms.opd(teacher=teacher, max_new_tokens=size.new_tokens),
        workload.problems(student, size.pool, max_new_tokens=size.new_tokens),
        Budget(peer_trl.LEARNING_RATE, steps=size.steps + 1),
        prompts_per_step=size.prompts,
    )


def _trainer(trl: Any, place: str, setting: Setting, size: on_policy.Size, options: Options) -> Any:
    reader = workload.policy(options, trainable=False)
    prompts = workload.problems(reader, size.pool, max_new_tokens=size.new_tokens)
    return trl.DistillationTrainer(
        model=workload.model(options),
        teacher_model=workload.perturbed(workload.model(options)),
        # beta 1 is kl(student||teacher).
        args=trl.DistillationConfig(**on_policy.arguments(place, setting, size, options, beta=1.0)),
        train_dataset=peer_trl.rows({"prompt": [p.text for p in prompts.items]}),
        processing_class=peer_trl.tokenizer(options),
    )
