"""What an arm remembers: averaged and live teachers, stores, and a resume to the bit."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from enumerable import ONE, A, B, prompt, tiny

from statewise.arms import (
    Arm,
    Budget,
    Stream,
    Term,
    bind,
    blended_opd,
    grpo,
    iterative_sft,
    opd,
    prefix_reset_rl,
    with_replay,
)
from statewise.config import from_plain, to_plain
from statewise.data import Prompts
from statewise.errors import ConfigError
from statewise.memory import memories
from statewise.objectives import KLStudentTeacher
from statewise.policy import LIVE, Ema, Lora, Policy, PolicyLike, PolicyRef
from statewise.sources import Learner, Schedule
from statewise.supervision import TeacherDistribution
from statewise.train import make_optimizer, train

# peft 0.21 asks transformers 5.23 for a property under its old name; nothing of ours is involved.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")

PROMPTS = Prompts(
    [
        prompt(*tokens, name=f"p{i}", reference="ab#### 1")
        for i, tokens in enumerate([(A,), (B, A), (ONE, B, A), (B,), (A, ONE)])
    ]
)
TEACHER = tiny(9, name="teacher:mild", dtype=torch.float32)
BUDGET = Budget(1e-2, steps=8, weight_decay=0.01, passes=2, minibatches=2)
OPD = {"max_new_tokens": 5}
RL = OPD | {"samples_per_prompt": 4}
ARMS = {
    "ema": Arm.of("ema", opd(teacher=Ema(0.7), **OPD), PROMPTS, BUDGET, prompts_per_step=4),
    "two averages": Arm(
        "two",
        (
            Stream(
                PROMPTS,
                Learner(5),
                tuple(
                    Term(TeacherDistribution(t), KLStudentTeacher(), 0.5)
                    for t in (Ema(0.5), Ema(0.9), Ema(0.5))
                ),
                4,
            ),
        ),
        BUDGET,
    ),
    "replay": Arm.of(
        "r",
        with_replay(opd(teacher=TEACHER, **OPD), share=0.5, age_limit=3),
        PROMPTS,
        BUDGET,
        prompts_per_step=4,
    ),
    "replayed rl": Arm.of(
        "g", with_replay(grpo(**RL), share=0.5, capacity=5), PROMPTS, BUDGET, prompts_per_step=4
    ),
    "replayed filter": Arm.of(
        "i",
        with_replay(iterative_sft(**RL), share=Schedule(0.0, 1.0), age_limit=4),
        PROMPTS,
        BUDGET,
        prompts_per_step=4,
    ),
    "replayed resets": Arm.of(
        "p",
        with_replay(prefix_reset_rl(teacher=TEACHER, **RL), share=0.5, age_limit=2),
        PROMPTS,
        BUDGET,
        prompts_per_step=4,
    ),
    "blend with an average": Arm.of(
        "b", blended_opd(teacher=Ema(0.8), epsilon=0.1, **OPD), PROMPTS, BUDGET, prompts_per_step=4
    ),
}


def student(seed: int = 0, *, lora: bool = False) -> Policy:
    policy = tiny(seed, dtype=torch.float32)
    return policy.with_adapter(Lora(rank=2, dropout=0.1), seed=0) if lora else policy


def bound(arm: Arm, policy: Policy) -> Arm:
    """Every average of one decay is one policy, as a study binds them."""
    averages: dict[Ema, Policy] = {}

    def find(ref):
        if isinstance(ref, Ema):
            if ref not in averages:
                averages[ref] = policy.average(ref)
            return averages[ref]
        return policy.view(f"teacher:{LIVE}")

    return bind(arm, find, lambda stream: stream.prompts)


def weights(policy: Policy) -> list[torch.Tensor]:
    return [p.detach().clone() for p in policy.module.parameters()]


def run(arm: Arm, policy: Policy, *, start: int = 0, optimizer=None):
    optimizer = optimizer or make_optimizer(policy, arm.budget)
    return [r.figures for r in train(arm, policy, optimizer, seed=0, start=start)]


# ---- resume -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", ARMS)
def test_four_steps_and_four_more_are_eight_steps_to_the_bit(name, lora, tmp_path):
    whole = student(lora=lora)
    arm = bound(ARMS[name], whole)
    rows = run(arm, whole)
    assert any(r["updates"] for r in rows)

    begun = student(lora=lora)
    first_arm = bound(ARMS[name], begun)
    optimizer = make_optimizer(begun, BUDGET)
    loop = train(first_arm, begun, optimizer, seed=0)
    first = [r.figures for r in itertools.islice(loop, 4)]
    loop.close()
    saved = copy.deepcopy((begun.module.state_dict(), optimizer.state_dict()))
    for part, memory in memories(first_arm).items():
        memory.save_state(tmp_path / part)

    resumed = student(5, lora=lora)
    resumed.module.load_state_dict(saved[0])
    resumed.version = 4
    second_arm = bound(ARMS[name], resumed)
    optimizer = make_optimizer(resumed, BUDGET)
    optimizer.load_state_dict(saved[1])
    for part, memory in memories(second_arm).items():
        memory.restore_state(tmp_path / part)
    assert first + run(second_arm, resumed, start=4, optimizer=optimizer) == rows
    assert all(map(torch.equal, weights(resumed), weights(whole)))


@pytest.mark.parametrize("name", ["ema", "replay", "replayed rl"])
def test_without_its_memory_a_resumed_run_is_another(name):
    """What the test above would not see if nothing were remembered."""
    whole = student()
    rows = run(bound(ARMS[name], whole), whole)
    begun = student()
    optimizer = make_optimizer(begun, BUDGET)
    loop = train(bound(ARMS[name], begun), begun, optimizer, seed=0)
    first = [r.figures for r in itertools.islice(loop, 4)]
    loop.close()
    forgetful = bound(ARMS[name], begun)
    assert first + run(forgetful, begun, start=4, optimizer=optimizer) != rows


@pytest.mark.parametrize("name", ARMS)
def test_a_bound_arm_that_runs_again_begins_anew(name):
    first = student()
    arm = bound(ARMS[name], first)
    rows = run(arm, first)
    assert run(arm, student()) == rows


def test_lag_is_reported_where_the_past_is_replayed():
    arm = replace(ARMS["replay"])
    rows = run(bound(arm, student()), student())
    assert rows[0]["lag_versions_max"] == 0
    assert max(r["lag_versions_max"] for r in rows) in (2, 3)
    assert all(r["lag_versions_mean"] <= 1.5 for r in rows)
    plain = student()
    assert "lag_versions_max" not in run(bound(ARMS["ema"], plain), plain)[0]


# ---- averages -----------------------------------------------------------------------------------


def test_an_average_by_hand():
    """`0.75 * a + 0.25 * b`, then once more towards c."""
    policy = tiny(0)
    average = policy.average(Ema(0.75))
    (name, p), *_ = policy.trainable_parameters()
    own = dict(average.module.named_parameters())[name]
    a = p.detach().clone()
    with torch.no_grad():
        p.add_(4.0)
    average.follow(policy)
    torch.testing.assert_close(own, a + 1.0, rtol=0, atol=1e-12)
    average.follow(policy)
    torch.testing.assert_close(own, a + 1.0 + 0.75, rtol=0, atol=1e-12)
    average.begin(policy)
    assert torch.equal(own, p)
    assert not any(q.requires_grad for q in average.module.parameters())


def test_an_average_follows_every_update_and_signs_with_the_students_version(monkeypatch):
    policy = student()
    arm = bound(ARMS["ema"], policy)
    average = arm.streams[0].terms[0].supervision.teacher
    expected = weights(policy)
    updates, follow = 0, Policy.follow

    def spy(self, other):
        nonlocal updates, expected
        follow(self, other)
        if self is average:
            updates += 1
            expected = [e.lerp(p, 0.3) for e, p in zip(expected, weights(other), strict=True)]

    monkeypatch.setattr(Policy, "follow", spy)
    loop = train(arm, policy, make_optimizer(policy, BUDGET), seed=0)
    versions = [average.version for _ in loop]
    assert versions == list(range(8))
    assert updates == 8 * 4
    assert all(map(torch.equal, expected, weights(average)))
    assert not all(map(torch.equal, weights(policy), weights(average)))


def test_an_average_stays_where_a_minibatch_moved_nobody():
    """One row dealt to two minibatches: the second is empty, and no update."""
    policy = student()
    begun = weights(policy)
    spend = replace(BUDGET, steps=1, passes=1, minibatches=2)
    arm = Arm.of("ema", opd(teacher=Ema(0.7), **OPD), PROMPTS, spend, prompts_per_step=1)
    arm = bound(arm, policy)
    run(arm, policy)
    average = arm.streams[0].terms[0].supervision.teacher
    once = [b.lerp(p, 0.3) for b, p in zip(begun, weights(policy), strict=True)]
    for expected, found in zip(once, weights(average), strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)


def test_a_frozen_teacher_neither_moves_nor_leaves_anything_in_a_checkpoint(tmp_path):
    policy, before = student(), weights(TEACHER)
    arm = bound(
        Arm.of("plain", opd(teacher=TEACHER, **OPD), PROMPTS, BUDGET, prompts_per_step=4), policy
    )
    run(arm, policy)
    assert all(map(torch.equal, before, weights(TEACHER)))
    for part, memory in memories(arm).items():
        memory.save_state(tmp_path / part)
    assert list(tmp_path.iterdir()) == []


def test_only_the_adapter_of_an_average_is_saved(tmp_path):
    from safetensors.torch import load_file

    policy = student(lora=True)
    policy.average(Ema(0.9)).save_state(tmp_path / "state-0")
    names = load_file(tmp_path / "state-0" / "average.safetensors")
    assert names
    assert all("lora" in name for name in names)


def test_a_view_is_the_live_student_under_another_name_and_counts_for_itself():
    policy = student()
    view = policy.view(f"teacher:{LIVE}")
    assert view.module is policy.module
    assert view.owner == "teacher:student@0"
    view.complete(
        [PROMPTS.items[0].token_ids], sampling=Learner(1).sampling, max_new_tokens=1, seeds=[0]
    )
    assert (view.tokens_written, policy.tokens_written) == (1, 0)


def test_an_average_is_a_value_in_a_study_file():
    for ref, plain in ((Ema(0.9), {"kind": "ema", "decay": 0.9}), (PolicyRef("mild"), "mild")):
        assert to_plain(ref) == plain
        assert from_plain(PolicyLike, plain) == ref
    told = from_plain(TeacherDistribution, {"teacher": {"decay": 0.99}})
    assert told.teacher == Ema(0.99)
    for decay in (0.0, 1.0, -0.1, 2.0):
        with pytest.raises(ConfigError, match="decay"):
            Ema(decay)
