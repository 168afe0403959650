"""The same tokens through TRL's trainers and through ours: loss and every parameter's gradient.

Both sides run one float64 Qwen3 of two layers on the same rows; TRL's heads compute in float32
whatever they are given, so equal means to 1e-5. Where the two differ, on purpose or not, a test
says by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset as Rows
from enumerable import EOS, ONE, A, B, gradient, ids, prompt, rollout, row, tiny, tokenizer
from torch import Tensor

from statewise.arms import Stream, Term
from statewise.data import Prompts
from statewise.gradient import student_logprobs
from statewise.objectives import (
    JSD,
    Cispo,
    ClippedSurrogate,
    CrossEntropy,
    DynamicFineTuning,
    Importance,
    KLStudentTeacher,
    Reinforce,
    SequenceRatio,
)
from statewise.policy import Policy
from statewise.rewards import ExactAnswer
from statewise.sources import Dataset, Learner
from statewise.supervision import GroupAdvantage, OwnActions, TeacherDistribution
from statewise.trajectory import Sampling, Segment, Trajectory

trl: Any = pytest.importorskip(
    "trl", reason="TRL is an extra: pip install -c constraints.txt -e '.[parity]'"
)
pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # a third party's own, of which we test the numbers

TEMPERATURE = 0.5
CLOSE = 1e-5
ADVANTAGES = [1.0, -0.5, 0.75, -2.0]
PROMPTS = [(A, B), (A, B), (B,), (ONE, A, B)]
COMPLETIONS = [(EOS,), (B, EOS), (ONE, A, B, EOS), (ONE, A)]


def rows(owner: str, temperature: float | None = None) -> list[Trajectory]:
    sampling = None if temperature is None else Sampling(temperature)
    return [
        row(prompt(*p), Segment(owner, ids(*c)), group=str(i // 2), sampling=sampling)
        for i, (p, c) in enumerate(zip(PROMPTS, COMPLETIONS, strict=True))
    ]


def padded(those: Sequence[Sequence[int]], *, left: bool) -> tuple[Tensor, Tensor]:
    """Tokens and mask; TRL pads prompts on the left and completions on the right."""
    width = max(map(len, those))
    empty = [[0] * (width - len(t)) for t in those]
    tokens = [[*e, *t] if left else [*t, *e] for t, e in zip(those, empty, strict=True)]
    ones = [[1] * len(t) for t in those]
    mask = [[*e, *o] if left else [*o, *e] for o, e in zip(ones, empty, strict=True)]
    return torch.tensor(tokens), torch.tensor(mask)


def inputs(**more: Any) -> dict[str, Any]:
    prompts, prompt_mask = padded(PROMPTS, left=True)
    completions, mask = padded(COMPLETIONS, left=False)
    return {
        "prompt_ids": prompts,
        "prompt_mask": prompt_mask,
        "completion_ids": completions,
        "completion_mask": mask,
        "num_items_in_batch": mask.sum(),
        **more,
    }


@pytest.fixture
def common(tmp_path) -> dict[str, Any]:
    return {
        "output_dir": str(tmp_path),
        "use_cpu": True,
        "report_to": [],
        "bf16": False,
        "disable_tqdm": True,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": 4,
    }


def gradient_of_theirs(trainer: Any, loss: Tensor) -> tuple[float, dict[str, Tensor]]:
    trainer.model.zero_grad(set_to_none=True)
    loss.backward()
    found = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad(set_to_none=True)
    return float(loss.detach()), found


def assert_equal(ours: tuple[float, dict[str, Tensor]], theirs: tuple[float, dict[str, Tensor]]):
    assert ours[0] == pytest.approx(theirs[0], abs=CLOSE)
    assert_equal_gradients(ours[1], theirs[1])


def assert_equal_gradients(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert max(float(g.abs().max()) for g in ours.values()) > 1e-2, "nothing to compare"
    assert difference(ours, theirs) < CLOSE


def difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    return max(float((ours[n] - theirs[n]).abs().max()) for n in ours)


def ours(student: Policy, source, term: Term, those, *values, old=None):
    stream = Stream(Prompts([prompt(A)]), source, (term,), 1)
    return gradient(student, rollout(stream, those, *values, old=old), tokens_per_microbatch=9)


# ---- supervised ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss_type", "objective"), [("nll", CrossEntropy()), ("dft", DynamicFineTuning())]
)
def test_sft(common, loss_type, objective):
    trainer = trl.SFTTrainer(
        model=tiny(0).module,
        args=trl.SFTConfig(**common, loss_type=loss_type),
        train_dataset=Rows.from_dict(
            {"input_ids": [[A, B, EOS]] * 4, "completion_mask": [[0, 1, 1]] * 4}
        ),
        processing_class=tokenizer(pad="b"),
    )
    whole = [(*p, *c) for p, c in zip(PROMPTS, COMPLETIONS, strict=True)]
    tokens, mask = padded(whole, left=False)
    labels = tokens.masked_fill(mask == 0, -100)
    for line, p in zip(labels, PROMPTS, strict=True):
        line[: len(p)] = -100
    batch = {"input_ids": tokens, "attention_mask": mask, "labels": labels}
    loss = trainer.compute_loss(trainer.model, batch)
    assert_equal(
        ours(tiny(0), Dataset(), Term(OwnActions(), objective), rows("dataset")),
        gradient_of_theirs(trainer, loss),
    )


# ---- distillation -------------------------------------------------------------------------------


def distillation(common, beta: float, temperature: float = 1.0) -> tuple[float, dict[str, Tensor]]:
    trainer = trl.DistillationTrainer(
        model=tiny(0).module,
        teacher_model=tiny(1).module,
        args=trl.DistillationConfig(
            **common, beta=beta, temperature=temperature, max_completion_length=4
        ),
        train_dataset=Rows.from_dict({"prompt": ["a"] * 4}),
        processing_class=tokenizer(pad="b"),
    )
    loss = trainer.compute_loss(trainer.model.train(), inputs())
    return gradient_of_theirs(trainer, loss)


def distilled(objective, temperature: float = 1.0) -> tuple[float, dict[str, Tensor]]:
    told = TeacherDistribution(tiny(1, name="teacher:b"), temperature=temperature)
    return ours(tiny(0), Learner(4), Term(told, objective), rows("student@0"))


@pytest.mark.parametrize("beta", [0.0, 0.25, 0.5, 1.0])
def test_distillation(common, beta):
    assert_equal(distilled(JSD(beta)), distillation(common, beta))


def test_beta_1_is_our_kl_student_teacher(common):
    assert_equal(distilled(KLStudentTeacher()), distillation(common, 1.0))


def test_at_another_temperature_trl_tempers_both_and_we_temper_the_teacher_alone(common):
    """On purpose: the student is trained as it will be sampled. At 2 the losses are not equal."""
    loss, found = distilled(JSD(0.5), temperature=2.0)
    theirs, expected = distillation(common, 0.5, temperature=2.0)
    assert abs(loss - theirs) > 1e-2
    assert difference(found, expected) > 1e-2


# ---- policy gradients ---------------------------------------------------------------------------


def older(student: Policy, shift: float) -> list[np.ndarray]:
    """Log-probs of an older policy: the student's, moved up and down by turns."""
    now = student_logprobs(student, learner_rows(), tokens_per_microbatch=1 << 20)
    moves = [shift * (-1.0) ** (i + np.arange(len(n))) for i, n in enumerate(now)]
    return [(n + m).astype(np.float32) for n, m in zip(now, moves, strict=True)]


def learner_rows() -> list[Trajectory]:
    return rows("student@0", TEMPERATURE)


def on_completions(old: Sequence[np.ndarray]) -> Tensor:
    width = max(map(len, COMPLETIONS))
    out = torch.zeros(len(old), width, dtype=torch.float64)
    for line, values, p in zip(out, old, PROMPTS, strict=True):
        line[: len(values) - len(p)] = torch.as_tensor(values[len(p) :])
    return out


def grpo_trainer(common, module=None, **options: Any) -> Any:
    trainer = trl.GRPOTrainer(
        model=tiny(0).module if module is None else module,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=trl.GRPOConfig(
            **common,
            num_generations=2,
            max_completion_length=4,
            temperature=TEMPERATURE,
            **({"beta": 0.0} | options),
        ),
        train_dataset=Rows.from_dict({"prompt": ["a"] * 4}),
        processing_class=tokenizer(pad="b"),
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    return trainer


def grpo_loss(trainer: Any, **more: Any) -> tuple[float, dict[str, Tensor]]:
    batch = inputs(advantages=torch.tensor(ADVANTAGES), **more)
    return gradient_of_theirs(trainer, trainer.compute_loss(trainer.model, batch))


def surrogate(objective, old, **options: Any) -> tuple[float, dict[str, Tensor]]:
    source = Learner(4, samples_per_prompt=2, temperature=TEMPERATURE)
    term = Term(GroupAdvantage(ExactAnswer()), objective, **options)
    return ours(tiny(0), source, term, learner_rows(), ADVANTAGES, old=old)


LOSSES = {
    "grpo": (
        {"loss_type": "grpo", "epsilon": 0.2},
        ClippedSurrogate(),
        {"normaliser": "sequence"},
    ),
    "dr_grpo": (
        {"loss_type": "dr_grpo", "epsilon": 0.2},
        ClippedSurrogate(),
        {"normaliser": "constant", "constant_tokens": 4.0},
    ),
    "dapo": (
        {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28},
        ClippedSurrogate(0.2, 0.28),
        {"normaliser": "token"},
    ),
    "gspo": (
        {
            "loss_type": "grpo",
            "importance_sampling_level": "sequence",
            "epsilon": 0.05,
            "epsilon_high": 0.1,
        },
        SequenceRatio(0.05, 0.1),
        {"normaliser": "sequence"},
    ),
    "cispo": (  # TRL's bound is on the ratio itself, ours on its distance from 1
        {"loss_type": "cispo", "epsilon_high": 1.25},
        Cispo(clip_high=0.25),
        {"normaliser": "token"},
    ),
}


@pytest.mark.parametrize("shift", [None, 0.1, 0.4], ids=["unmoved", "inside", "clipped"])
@pytest.mark.parametrize("name", LOSSES)
def test_grpo_and_its_kin(common, name, shift):
    theirs, objective, normaliser = LOSSES[name]
    old = None if shift is None else older(tiny(0), shift)
    more = {} if old is None else {"old_per_token_logps": on_completions(old)}
    assert_equal(
        surrogate(objective, old, **normaliser), grpo_loss(grpo_trainer(common, **theirs), **more)
    )


@pytest.mark.parametrize("level", ["token", "sequence"])
@pytest.mark.parametrize("rule", ["truncate", "mask"])
def test_importance_weights_multiply_the_loss_where_trl_multiplies_it(common, rule, level):
    """TRL computes the weights while it samples with vLLM; here they are given to it, by definition."""
    student = tiny(0)
    old, behaviour = older(student, 0.1), older(student, -0.5)
    drawn = [
        type(t)(**{n: getattr(t, n) for n in t.__slots__} | {"behaviour_logprobs": b})
        for t, b in zip(learner_rows(), behaviour, strict=True)
    ]
    _, mask = padded(COMPLETIONS, left=False)
    gaps = (on_completions(old) - on_completions(behaviour)) * mask
    ratio = (gaps.sum(1, keepdim=True) if level == "sequence" else gaps).exp()
    cap = 1.2
    weight = ratio.clamp(max=cap) if rule == "truncate" else ratio * (ratio <= cap)
    trainer = grpo_trainer(common, loss_type="dapo", epsilon=0.2)
    trainer.use_vllm = trainer.vllm_importance_sampling_correction = True
    theirs = grpo_loss(
        trainer,
        old_per_token_logps=on_completions(old),
        importance_sampling_ratio=weight,
    )
    source = Learner(4, samples_per_prompt=2, temperature=TEMPERATURE)
    term = Term(
        GroupAdvantage(ExactAnswer()), ClippedSurrogate(), importance=Importance(cap, rule, level)
    )
    assert_equal(ours(student, source, term, drawn, ADVANTAGES, old=old), theirs)


def rloo_loss(common, old: Sequence[np.ndarray], **options) -> tuple[float, dict[str, Tensor]]:
    trainer = trl.RLOOTrainer(
        model=tiny(0).module,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=trl.RLOOConfig(
            **common,
            num_generations=2,
            max_completion_length=4,
            temperature=TEMPERATURE,
            beta=0.0,
            **options,
        ),
        train_dataset=Rows.from_dict({"prompt": ["a"] * 4}),
        processing_class=tokenizer(pad="b"),
    )
    trainer.model.train()
    batch = inputs(advantages=torch.tensor(ADVANTAGES), old_logps=on_completions(old).sum(1))
    return gradient_of_theirs(trainer, trainer.compute_loss(trainer.model, batch))


SUMMED = {"normaliser": "constant", "constant_tokens": 1.0}


def test_rloo_unmoved_has_the_gradient_of_ours_and_another_loss(common):
    """TRL reports `-mean A r` at r = 1, we report `-mean A log pi`: one gradient, two numbers."""
    loss, found = surrogate(Reinforce(), None, **SUMMED)
    theirs, expected = rloo_loss(common, older(tiny(0), 0.0))
    assert_equal_gradients(found, expected)
    assert theirs == pytest.approx(-np.mean(ADVANTAGES), abs=CLOSE)
    assert abs(loss - theirs) > 0.1


@pytest.mark.parametrize("shift", [0.1, 0.4])
def test_rloo_moved_clips_the_ratio_of_whole_completions(common, shift):
    """Its loss counts a completion once, ours once a state."""
    old = older(tiny(0), shift)
    _, expected = rloo_loss(common, old, epsilon=0.2, epsilon_high=0.25)
    _, found = surrogate(SequenceRatio(0.2, 0.25, over="sum"), old, **SUMMED)
    assert_equal_gradients(found, expected)


# ---- where the two differ -----------------------------------------------------------------------


def test_trls_kl_in_grpo_is_a_sampled_estimate_and_ours_the_divergence(common):
    """On purpose. k3 as a loss at the policy's own samples has the gradient of kl(ref||pi) in
    expectation, not that of kl(pi||ref) (trl#4967); ours is the latter, without a draw."""
    student, reference = tiny(0), tiny(1, name="teacher:base")
    trainer = grpo_trainer(common, loss_type="dapo")
    trainer.beta = 1.0
    told = on_completions(student_logprobs(reference, learner_rows(), tokens_per_microbatch=99))
    batch = inputs(
        advantages=torch.zeros(4), ref_per_token_logps=told.nan_to_num(), old_per_token_logps=None
    )
    theirs = gradient_of_theirs(trainer, trainer.compute_loss(trainer.model, batch))
    anchor = Term(TeacherDistribution(reference), KLStudentTeacher())
    found = ours(student, Learner(4, temperature=TEMPERATURE), anchor, learner_rows())
    assert difference(found[1], theirs[1]) > 1e-2


def test_trl_reads_left_padded_prompts_at_shifted_absolute_positions(common):
    """A fault of theirs where positions are absolute (trl#6800): GPT-2's gradient depends on padding."""
    theirs, objective, normaliser = LOSSES["dapo"]
    module = tiny(0, architecture="gpt2").module
    expected = grpo_loss(grpo_trainer(common, module=module, **theirs))[1]
    source = Learner(4, samples_per_prompt=2, temperature=TEMPERATURE)
    term = Term(GroupAdvantage(ExactAnswer()), objective, **normaliser)
    student = tiny(0, architecture="gpt2")
    _, found = ours(student, source, term, learner_rows(), ADVANTAGES)
    assert difference(found, expected) > 1e-3
