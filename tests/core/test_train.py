"""The loop: every method runs through it, repeats under its seed, and resumes to the bit."""

from __future__ import annotations

import copy
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from enumerable import ONE, A, B, probabilities, prompt, tiny

from statewise.arms import (
    Arm,
    Budget,
    Stream,
    Term,
    anchored_grpo,
    continuation_opd,
    grpo,
    gspo,
    iw_sft,
    opd,
    policies,
    sampled_opd,
    self_distillation,
    sequence_kd,
    sft,
)
from statewise.data import Prompts, WorldProblems
from statewise.errors import ConfigError, RunError
from statewise.gradient import accumulate_gradient, student_logprobs
from statewise.objectives import ClippedSurrogate, CrossEntropy, KLTeacherStudent
from statewise.policy import Lora, Policy
from statewise.rewards import ExactAnswer
from statewise.sources import Dataset, Learner
from statewise.supervision import GroupAdvantage, OwnActions, TeacherDistribution
from statewise.train import (
    learning_rate,
    make_optimizer,
    passes_over,
    roll_out,
    train,
    with_old_logprobs,
)
from statewise.trajectory import Sampling

# peft 0.21 asks transformers 5.23 for a property under its old name; nothing of ours is involved.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PROMPTS = Prompts(
    [
        prompt(*tokens, name=f"p{i}", reference="ab#### 1")
        for i, tokens in enumerate([(A,), (B, A), (ONE, B, A), (B,), (A, ONE)])
    ]
)
TEACHER = tiny(9, name="teacher:mild", dtype=torch.float32)


def budget(**options) -> Budget:
    given = {"learning_rate": 1e-2, "steps": 6, "schedule": "linear", "weight_decay": 0.01}
    return Budget(**(given | options))


def methods(**options) -> dict[str, Arm]:
    spend = budget(**options)
    twice = budget(**({"passes": 2, "minibatches": 2} | options))
    return {
        "sft": Arm.of("sft", sft(), PROMPTS, spend, prompts_per_step=2),
        "opd": Arm.of(
            "opd",
            opd(
                teacher=TEACHER,
                max_new_tokens=5,
            ),
            PROMPTS,
            spend,
            prompts_per_step=2,
        ),
        "continuation": Arm.of(
            "continuation",
            continuation_opd(
                teacher=TEACHER,
                max_new_tokens=5,
                branch_tokens=3,
            ),
            PROMPTS,
            spend,
            prompts_per_step=2,
        ),
        "grpo": Arm.of(
            "grpo",
            grpo(
                max_new_tokens=5,
                samples_per_prompt=4,
            ),
            PROMPTS,
            twice,
            prompts_per_step=2,
        ),
        "iw_sft": Arm.of(
            "iw_sft",
            iw_sft(
                reference=TEACHER,
            ),
            PROMPTS,
            spend,
            prompts_per_step=2,
        ),
        "sampled_opd": Arm.of(
            "sampled",
            sampled_opd(
                teacher=TEACHER,
                max_new_tokens=5,
                clip=1.0,
            ),
            PROMPTS,
            spend,
            prompts_per_step=2,
        ),
        "gspo": Arm.of(
            "gspo",
            gspo(
                max_new_tokens=5,
                samples_per_prompt=4,
            ),
            PROMPTS,
            twice,
            prompts_per_step=2,
        ),
        "anchored_grpo": Arm.of(
            "anchored",
            anchored_grpo(
                max_new_tokens=5,
                samples_per_prompt=4,
                anchor=TEACHER,
            ),
            PROMPTS,
            twice,
            prompts_per_step=2,
        ),
        "two streams": Arm(
            "both",
            (
                Stream(PROMPTS, Dataset(), (Term(OwnActions(), CrossEntropy()),), 2, share=0.5),
                Stream(
                    PROMPTS,
                    Learner(5),
                    (Term(TeacherDistribution(TEACHER), KLTeacherStudent()),),
                    1,
                ),
            ),
            spend,
        ),
    }


METHODS = list(methods())


def student(seed: int = 0, *, dtype: torch.dtype = torch.float32, lora: bool = False) -> Policy:
    policy = tiny(seed, dtype=dtype)
    return policy.with_adapter(Lora(rank=2, dropout=0.1), seed=0) if lora else policy


def weights(policy: Policy) -> list[torch.Tensor]:
    return [p.detach().clone() for p in policy.module.parameters()]


def run(arm: Arm, policy: Policy, *, seed: int = 0) -> list[dict[str, float]]:
    return [r.figures for r in train(arm, policy, make_optimizer(policy, arm.budget), seed=seed)]


# ---- repeating and resuming ---------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_contract_every_method_runs_moves_and_repeats_under_its_seed(name):
    arm = methods(steps=3)[name]
    first, second, other = student(), student(), student()
    rows = run(arm, first)
    assert len(rows) == 3
    assert all(math.isfinite(v) for r in rows for v in r.values())
    assert any(map(lambda a, b: not torch.equal(a, b), weights(first), weights(student())))
    assert run(arm, second) == rows
    assert all(map(torch.equal, weights(first), weights(second)))
    assert run(arm, other, seed=1) != rows
    assert not all(map(torch.equal, weights(first), weights(other)))


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize(
    ("dtype", "lora"), [(torch.float32, False), (torch.float64, False), (torch.float32, True)]
)
def test_three_steps_and_three_more_are_six_steps_to_the_bit(name, dtype, lora):
    """With dropout in the adapter, so that its noise must come back too."""
    arm = methods()[name]
    whole = student(dtype=dtype, lora=lora)
    rows = run(arm, whole)

    begun = student(dtype=dtype, lora=lora)
    optimizer = make_optimizer(begun, arm.budget)
    loop = train(arm, begun, optimizer, seed=0)
    first = [r.figures for r in itertools.islice(loop, 3)]
    loop.close()
    saved = copy.deepcopy((begun.module.state_dict(), optimizer.state_dict()))

    torch.manual_seed(12345)  # whatever happened in between
    torch.rand(7)
    resumed = student(seed=5, dtype=dtype, lora=lora)
    resumed.module.load_state_dict(saved[0])
    optimizer = make_optimizer(resumed, arm.budget)
    optimizer.load_state_dict(saved[1])
    loop = train(arm, resumed, optimizer, seed=0, start=3)
    second = [r.figures for r in loop]
    assert first + second == rows
    assert all(map(torch.equal, weights(resumed), weights(whole)))
    assert resumed.version == whole.version == 6


def test_a_resumed_student_signs_its_tokens_with_its_true_version(monkeypatch):
    arm, owners = methods()["opd"], []
    label = TeacherDistribution.label

    def spy(self, trajectories):
        owners.append(trajectories[0].owners[1])
        return label(self, trajectories)

    monkeypatch.setattr(TeacherDistribution, "label", spy)
    policy = student()
    list(train(arm, policy, make_optimizer(policy, arm.budget), seed=0, start=3))
    assert owners == ["student@3", "student@4", "student@5"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_the_caller_does_between_steps_to_the_generator_changes_nothing(dtype):
    arm = methods(steps=3)["grpo"]
    plain, disturbed = student(dtype=dtype, lora=True), student(dtype=dtype, lora=True)
    rows = run(arm, plain)
    found = []
    for r in train(arm, disturbed, make_optimizer(disturbed, arm.budget), seed=0):
        torch.manual_seed(77)
        np.random.default_rng().random(3)
        found.append(r.figures)
    assert found == rows


# ---- the step -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_vanishing_learning_rate_moves_nothing(name):
    policy = student(dtype=torch.float64)
    before = weights(policy)
    run(methods(learning_rate=1e-30, steps=2)[name], policy)
    assert all(map(torch.equal, before, weights(policy)))


@pytest.mark.parametrize(("warmup", "rate"), [(0, 1e-2), (4, 2.5e-3)])
def test_an_update_is_one_step_of_adamw_on_the_clipped_gradient(warmup, rate):
    """By hand: the first AdamW step is `-lr * g / (|g| + eps)` after `p *= 1 - lr * decay`."""
    arm = methods(schedule="constant", warmup_steps=warmup, max_grad_norm=1e-3, weight_decay=0.1)[
        "sft"
    ]
    policy, twin = student(dtype=torch.float64), student(dtype=torch.float64)
    part = roll_out(arm.streams[0], twin, seed=0, step=0, place=0)
    accumulate_gradient(twin, [part], tokens_per_microbatch=1000)
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in twin.module.parameters()))
    scale = 1e-3 / (norm + 1e-6)
    (first,) = itertools.islice(train(arm, policy, make_optimizer(policy, arm.budget), seed=0), 1)
    assert first.figures["grad_norm"] == pytest.approx(norm)
    assert first.figures["learning_rate"] == rate
    for p, t in zip(policy.module.parameters(), twin.module.parameters(), strict=True):
        g = t.grad * scale
        decay = 0.1 if t.ndim >= 2 else 0.0
        expected = t.detach() * (1 - rate * decay) - rate * g / (g.abs() + 1e-8)
        torch.testing.assert_close(p.detach(), expected, rtol=0, atol=1e-10)


def test_training_raises_the_likelihood_of_the_gold_completions():
    rows = run(methods(steps=30, schedule="constant")["sft"], student())
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]


def test_grpo_raises_the_expected_reward():
    """The exact probability that a completion holds the marked answer, by listing."""
    arm = methods(steps=20, schedule="constant")["grpo"]
    policy = student(6, dtype=torch.float64)

    def worth() -> float:
        every = [probabilities(policy, p.token_ids, Sampling()) for p in PROMPTS.items]
        return sum(p for listed in every for y, p in listed.items() if ONE in y) / len(every)

    before = worth()
    run(arm, policy)
    assert worth() > before + 0.2


def test_the_student_rests_in_evaluation_mode_between_steps_and_counts_its_version():
    policy = student()
    arm = methods(steps=2)["opd"]
    versions = []
    for r in train(arm, policy, make_optimizer(policy, arm.budget), seed=0):
        versions.append((r.step, policy.version))
        assert not policy.module.training
        assert all(p.grad is None for p in policy.module.parameters())
        assert r.seconds > 0
    assert versions == [(1, 1), (2, 2)]


# ---- passes and minibatches ---------------------------------------------------------------------


def grouped(temperature: float = 0.5) -> Stream:
    return Stream(
        PROMPTS,
        Learner(5, samples_per_prompt=4, temperature=temperature),
        (Term(GroupAdvantage(ExactAnswer()), ClippedSurrogate(), normaliser="sequence"),),
        2,
    )


@pytest.mark.parametrize(("passes", "minibatches"), [(1, 1), (2, 1), (1, 4), (3, 2), (2, 3)])
def test_every_pass_uses_every_row_once_in_near_equal_parts(passes, minibatches):
    spend = budget(passes=passes, minibatches=minibatches)
    part = roll_out(grouped(), student(), seed=0, step=0, place=0)
    updates = list(passes_over([part], spend, seed=0, step=0))
    assert len(updates) == passes * minibatches
    place = {id(t): i for i, t in enumerate(part.trajectories)}
    for k in range(passes):
        mine = updates[k * minibatches : (k + 1) * minibatches]
        seen = [place[id(t)] for (u,) in mine for t in u.trajectories]
        assert sorted(seen) == list(range(8))
        sizes = [len(u.trajectories) for (u,) in mine]
        assert max(sizes) - min(sizes) <= 1
        for (u,) in mine:
            for t, value in zip(u.trajectories, u.labels[0].values, strict=True):
                assert value == part.labels[0].values[place[id(t)]], "a label left its row"


def test_passes_come_in_other_orders():
    part = roll_out(grouped(), student(), seed=0, step=0, place=0)
    one, two = passes_over([part], budget(passes=2), seed=0, step=0)
    assert [id(t) for t in one[0].trajectories] != [id(t) for t in two[0].trajectories]


def test_updates_are_counted_and_a_minibatch_without_rows_is_none():
    arm = methods(steps=1, passes=3, minibatches=2)["grpo"]
    (figures,) = run(arm, student())
    assert figures["updates"] == 6
    assert figures["tokens_trained"] == 3 * figures["tokens_sampled"]
    lone = Arm.of("lone", sft(), PROMPTS, budget(steps=1, minibatches=3), prompts_per_step=2)
    (figures,) = run(lone, student())
    assert figures["updates"] == 2


def test_the_ratio_starts_at_1_at_the_temperature_of_sampling():
    policy, stream = student(dtype=torch.float64), grouped()
    fresh = roll_out(stream, policy, seed=0, step=0, place=0)
    held = with_old_logprobs(fresh, policy, budget(passes=2))
    assert held.old_logprobs is not None
    for t, old in zip(held.trajectories, held.old_logprobs, strict=True):
        # Sampling wrote down what training recomputes: one distribution on both sides.
        np.testing.assert_allclose(
            old[t.prompt_tokens :], t.behaviour_logprobs[t.prompt_tokens :], rtol=0, atol=1e-6
        )
    plain = accumulate_gradient(policy, [fresh], tokens_per_microbatch=1000)
    want = [p.grad.clone() for p in policy.module.parameters()]
    policy.module.zero_grad()
    again = accumulate_gradient(policy, [held], tokens_per_microbatch=1000)
    assert again["loss"] == pytest.approx(plain["loss"], abs=1e-6)
    for p, g in zip(policy.module.parameters(), want, strict=True):
        torch.testing.assert_close(p.grad, g, rtol=0, atol=1e-6)


def test_old_logprobs_belong_to_the_start_of_the_updates_and_stay():
    """A second pass at a real learning rate is not a second first pass."""
    rate = {"steps": 1, "learning_rate": 5e-2}
    once, twice = (
        run(methods(passes=n, minibatches=1, **rate)["grpo"], student())[0] for n in (1, 2)
    )
    still = run(methods(passes=2, minibatches=1, steps=1, learning_rate=1e-30)["grpo"], student())[
        0
    ]
    assert still["loss"] == pytest.approx(once["loss"], abs=1e-6)
    assert abs(twice["loss"] - once["loss"]) > 1e-3
    part = roll_out(grouped(), student(), seed=0, step=0, place=0)
    spend = budget(passes=2)
    policy = student()
    held = with_old_logprobs(part, policy, spend)
    before = student_logprobs(policy, part.trajectories, tokens_per_microbatch=1000)
    for minibatch in passes_over([held], spend, seed=0, step=0):
        for t, old in zip(minibatch[0].trajectories, minibatch[0].old_logprobs, strict=True):
            index = next(i for i, x in enumerate(part.trajectories) if x is t)
            np.testing.assert_array_equal(old, before[index])


@pytest.mark.parametrize(("passes", "minibatches", "asked"), [(1, 1, 0), (1, 2, 2), (2, 1, 2)])
def test_every_update_but_a_lone_one_has_old_logprobs(monkeypatch, passes, minibatches, asked):
    """The second minibatch meets a policy that the first has moved."""
    seen = []

    def spy(policy, minibatch, **rest):
        seen.append(minibatch[0].old_logprobs is not None)
        return accumulate_gradient(policy, minibatch, **rest)

    monkeypatch.setattr("statewise.train.accumulate_gradient", spy)
    run(methods(steps=1, passes=passes, minibatches=minibatches)["grpo"], student())
    assert seen == [asked > 0] * (passes * minibatches)


def test_progress_is_the_share_of_the_steps_that_are_done(monkeypatch):
    arm, seen = methods(steps=4)["opd"], []
    walk = Learner.__call__

    def spy(self, prompts, *, progress, **rest):
        seen.append(progress)
        return walk(self, prompts, progress=progress, **rest)

    monkeypatch.setattr(Learner, "__call__", spy)
    run(arm, student())
    assert seen == [0.0, 0.25, 0.5, 0.75]


def test_old_logprobs_are_taken_only_where_a_term_needs_them():
    stream = methods()["opd"].streams[0]
    part = roll_out(stream, student(), seed=0, step=0, place=0)
    assert with_old_logprobs(part, student(), budget()) is part


# ---- the student as its own teacher -------------------------------------------------------------


def own_teacher(policy: Policy, context: str, **options) -> Arm:
    teacher = policy.view("teacher:student")
    return Arm.of(
        "self",
        self_distillation(context=context, teacher=teacher, max_new_tokens=5),
        PROMPTS,
        budget(**options),
        prompts_per_step=2,
    )


def test_a_live_teacher_in_the_students_own_context_would_teach_nothing():
    """Which is why that is refused; a context that adds nothing gives loss 0 and gradient 0."""
    policy = student(dtype=torch.float64)
    rows = run(own_teacher(policy, "{question}", steps=2, weight_decay=0.0), policy)
    assert max(abs(r["loss"]) for r in rows) < 1e-14
    assert max(r["grad_norm"] for r in rows) < 1e-12


def test_a_live_teacher_moves_with_the_student_and_is_charged_apart():
    policy = student()
    arm = own_teacher(policy, "{question}{demonstration}", steps=2)
    (teacher,) = policies(arm)
    rows = run(arm, policy)
    assert all(r["loss"] > 1e-6 for r in rows)
    assert all(map(torch.equal, weights(policy), weights(teacher)))
    for r in rows:
        assert r["teacher_tokens"] > r["tokens_sampled"] > 0, "it reads a longer prompt"
    assert teacher.tokens_written == 0


# ---- figures ------------------------------------------------------------------------------------


def test_the_figures_of_a_step_count_what_was_done():
    (figures,) = run(methods(steps=1)["opd"], student())
    source = methods()["opd"].streams[0]
    rows = roll_out(source, student(), seed=0, step=0, place=0).trajectories
    written = sum(len(t.completion_ids) for t in rows)
    assert figures["tokens_sampled"] == figures["tokens_trained"] == written
    assert figures["teacher_tokens"] == sum(map(len, rows))
    assert figures["completion_tokens_mean"] == written / 2
    assert figures["stopped_share"] == sum(t.stopped for t in rows) / 2
    (figures,) = run(methods(steps=1)["sft"], student())
    assert figures["tokens_sampled"] == figures["teacher_tokens"] == 0
    assert figures["tokens_trained"] == 2 * 4


def test_a_teachers_own_tokens_and_a_second_pass_are_counted_too():
    arm = Arm.of(
        "kd",
        sequence_kd(teacher=TEACHER, max_new_tokens=5),
        PROMPTS,
        budget(steps=1),
        prompts_per_step=2,
    )
    (figures,) = run(arm, student())
    rows = roll_out(arm.streams[0], student(), seed=0, step=0, place=0).trajectories
    written = sum(len(t.completion_ids) for t in rows)
    assert figures["tokens_sampled"] == figures["tokens_trained"] == written
    assert figures["teacher_tokens"] == sum(map(len, rows))
    (figures,) = run(methods(steps=1, passes=2)["sft"], student())
    assert figures["tokens_trained"] == 2 * 2 * 4


def test_every_step_draws_other_prompts_and_other_tokens():
    parts = [roll_out(grouped(), student(), seed=0, step=step, place=0) for step in (0, 1)]
    seen = [{t.prompt.id for t in part.trajectories} for part in parts]
    assert seen[0].isdisjoint(seen[1])
    lone = replace(grouped(), prompts=Prompts([PROMPTS.items[0]]))
    parts = [roll_out(lone, student(), seed=0, step=step, place=0) for step in (0, 1)]
    tokens = [[t.token_ids.tolist() for t in part.trajectories] for part in parts]
    assert tokens[0] != tokens[1]


def test_dropout_is_on_in_training_and_another_one_at_every_step():
    arm = Arm.of(
        "sft",
        sft(),
        Prompts([PROMPTS.items[2]]),
        budget(steps=3, learning_rate=1e-30, weight_decay=0.0),
        prompts_per_step=1,
    )
    policy = student(lora=True)
    with torch.no_grad():
        for name, parameter in policy.trainable_parameters():
            if "lora_B" in name:  # 0 in a fresh adapter: dropout would show nowhere
                parameter.fill_(0.5)
    policy.module.eval()
    whole = roll_out(arm.streams[0], policy, seed=0, step=0, place=0)
    resting = accumulate_gradient(policy, [whole], tokens_per_microbatch=100)["loss"]
    policy.module.zero_grad()
    losses = [figures["loss"] for figures in run(arm, policy)]
    assert len({*losses, resting}) == 4


def test_streams_draw_prompts_and_tokens_apart():
    stream = grouped()
    one, two = (roll_out(stream, student(), seed=0, step=0, place=i) for i in (0, 1))
    assert {t.group_id for t in one.trajectories}.isdisjoint(t.group_id for t in two.trajectories)
    first = [t.token_ids.tolist() for t in one.trajectories]
    assert first != [t.token_ids.tolist() for t in two.trajectories]
    orders = [
        [
            roll_out(stream, student(), seed=0, step=s, place=i).trajectories[0].prompt.id
            for s in range(5)
        ]
        for i in (0, 1)
    ]
    assert orders[0] != orders[1]
    # The run's seed moves the tokens even where the prompts are the same.
    lone = replace(stream, prompts=Prompts([PROMPTS.items[0]]))
    here, there = (roll_out(lone, student(), seed=s, step=0, place=0) for s in (0, 1))
    tokens = [[t.token_ids.tolist() for t in part.trajectories] for part in (here, there)]
    assert tokens[0] != tokens[1]


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1, 1, 1, 1, 1]),
        ("linear", [0.5, 1, 1, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1, 1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125)]),
    ],
)
def test_schedules_by_hand(schedule, expected):
    spend = Budget(1.0, steps=6, schedule=schedule, warmup_steps=2)
    rates = [learning_rate(spend, step, 6) for step in range(6)]
    np.testing.assert_allclose(rates, expected, rtol=0, atol=1e-12)


def test_weight_decay_falls_on_matrices_alone():
    policy = student()
    decayed, free = make_optimizer(policy, budget(weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    assert all(p.ndim >= 2 for p in decayed["params"])
    assert all(p.ndim == 1 for p in free["params"])
    total = len(decayed["params"]) + len(free["params"])
    assert total == len(policy.trainable_parameters())


# ---- what must not go on silently ---------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_student_that_diverges_stops_before_it_is_written_over(value):
    arm = methods(steps=3)["sft"]
    policy = student()
    with torch.no_grad():
        policy.head_weight()[0][0, 0] = value
    before = weights(policy)
    with pytest.raises(RunError, match=r"'sft' diverged at step 1: loss .*learning_rate"):
        run(arm, policy)
    assert all(
        torch.equal(a.nan_to_num(), b.nan_to_num())
        for a, b in zip(before, weights(policy), strict=True)
    )


def test_a_gradient_that_is_no_number_stops_too_though_the_loss_is_one():
    arm, policy = methods(steps=1)["sft"], student()
    policy.trainable_parameters()[0][1].register_hook(lambda g: g * math.nan)
    before = weights(policy)
    with pytest.raises(RunError, match=r"diverged at step 1: loss \d.*, gradient norm nan"):
        run(arm, policy)
    assert all(map(torch.equal, before, weights(policy)))


def test_a_minibatch_without_states_is_no_update_and_enters_no_mean():
    # Two rows dealt to three minibatches: one is empty.
    arm = methods(steps=1, minibatches=3)["sft"]
    (figures,) = run(arm, student())
    assert figures["updates"] == 2
    (other,) = run(methods(steps=1, minibatches=2)["sft"], student())
    assert figures["loss"] == pytest.approx(other["loss"], rel=1e-5)


def test_two_streams_log_their_rewards_apart():
    stream = methods(steps=1)["grpo"].streams[0]
    both = Arm("both", (stream, stream), budget(steps=1))
    (figures,) = run(both, student())
    assert {"stream0.reward_mean", "stream1.reward_mean"} <= set(figures)


def test_an_arm_that_is_not_bound_says_so():
    arm = Arm.of(
        "opd",
        opd(teacher=TEACHER, max_new_tokens=4),
        WorldProblems("prompts"),
        budget(steps=1),
        prompts_per_step=1,
    )
    with pytest.raises(ConfigError, match="bind the arm first"):
        run(arm, student())
