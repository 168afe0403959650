"""What is said at each state: advantages by hand, and the contract of every supervision."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from enumerable import EOS, ONE, A, B, ids, prompt, row, tiny, tokenizer
from kinds import EVERY_SUPERVISION, OPEN, bound, named
from tokenizers.processors import TemplateProcessing

from statewise.arms.pairing import gives
from statewise.errors import ConfigError, DataError
from statewise.rewards import ExactAnswer, Outcome, PythonReward, PythonTokenReward
from statewise.signals import Actions, Advantages, Labels, Reference
from statewise.supervision import (
    Context,
    GroupAdvantage,
    LeaveOneOut,
    ProcessReward,
    PythonSupervision,
    RewardBaseline,
    TeacherDistribution,
    TeacherLogRatio,
    TeacherMixture,
)
from statewise.supervision.advantage import spread
from statewise.supervision.log_ratio import returns_to_go
from statewise.trajectory import Sampling, Segment, gather_states

TEACHER = tiny(1, name="teacher:mild")
OTHER = tiny(2, name="teacher:other")
TOLD = TeacherDistribution(TEACHER)
SUPERVISIONS = [bound(s, mild=TEACHER, other=OTHER) for s in EVERY_SUPERVISION]
RIGHT, WRONG = (ONE, EOS), (A, B, EOS)


def samples(*plan: tuple[str, tuple[int, ...]]):
    start = prompt(A, reference="#### 1")
    return [
        row(start, sampled(*tokens), group=group, sampling=Sampling()) for group, tokens in plan
    ]


def sampled(*tokens: int) -> Segment:
    """Tokens of the student, each drawn with log-prob -1."""
    return Segment("student@0", ids(*tokens), np.full(len(tokens), -1, np.float32))


def own(states):
    """The same states with log-prob -1 under the student for each action."""
    return replace(states, logprobs=-torch.ones(len(states)))


def test_group_advantage_by_hand_divides_by_the_sample_deviation():
    """Rewards 1, 0, 0, 0: mean 1/4, deviation with n - 1 is sqrt(3/4 / 3) = 1/2."""
    rows = samples(("g", RIGHT), ("g", WRONG), ("g", WRONG), ("g", WRONG))
    labels = GroupAdvantage(ExactAnswer()).label(rows)
    expected = [0.75 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001, -0.25 / 0.5001]
    np.testing.assert_allclose(labels.values, expected, rtol=1e-6)
    assert labels.figures == {"reward_mean": 0.25, "silent_group_share": 0.0}


def test_group_advantage_without_scale_is_the_centred_reward():
    rows = samples(("g", RIGHT), ("g", WRONG), ("g", WRONG), ("g", RIGHT))
    labels = GroupAdvantage(ExactAnswer(), scale="none").label(rows)
    assert labels.values.tolist() == [0.5, -0.5, -0.5, 0.5]


def test_equal_prompts_in_two_groups_are_compared_within_their_group_alone():
    rows = samples(("g0", RIGHT), ("g1", WRONG), ("g0", WRONG), ("g1", WRONG))
    labels = GroupAdvantage(ExactAnswer()).label(rows)
    one = 0.5 / (math.sqrt(0.5) + 1e-4)
    np.testing.assert_allclose(labels.values, [one, 0, -one, 0], rtol=1e-6)
    assert labels.figures == {"reward_mean": 0.25, "silent_group_share": 0.5}


def test_a_group_of_equal_rewards_says_nothing():
    labels = GroupAdvantage(ExactAnswer()).label(samples(("g", RIGHT), ("g", RIGHT)))
    assert labels.values.tolist() == [0, 0]


def test_a_group_of_one_is_refused():
    rows = samples(("g0", RIGHT), ("g0", WRONG), ("g1", WRONG))
    with pytest.raises(DataError, match="group 'g1' has one sample"):
        GroupAdvantage(ExactAnswer()).label(rows)


def test_a_fault_of_the_reward_stops_the_run():
    rows = [row(prompt(A, name="bare"), Segment("student@0", ids(ONE)), group="g")] * 2
    with pytest.raises(DataError, match="'bare'"):
        GroupAdvantage(ExactAnswer()).label(rows)


def test_every_state_of_a_completion_gets_its_advantage():
    rows = samples(("g", RIGHT), ("g", WRONG))
    supervision = GroupAdvantage(ExactAnswer(), scale="none")
    states = gather_states(rows)
    found = supervision.signal(states, supervision.label(rows))
    assert found.values.tolist() == [0.5] * 2 + [-0.5] * 3


def test_the_teachers_distribution_is_read_at_the_state_and_not_beside_it():
    rows = samples(("g", RIGHT), ("g", WRONG))
    states = gather_states(rows)
    signal = TeacherDistribution(TEACHER, temperature=2.0).signal(states, Labels.none(2))
    found = signal.logprobs()
    for n in range(len(states)):
        prefix = states.token_ids[states.row[n], : states.column[n]][None]
        logits = TEACHER.module(input_ids=prefix).logits[0, -1].detach()
        torch.testing.assert_close(found[n], (logits / 2).log_softmax(-1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("supervision", SUPERVISIONS, ids=named)
def test_contract_one_label_a_trajectory_and_a_signal_of_the_declared_type(supervision):
    rows = samples(("g", RIGHT), ("g", WRONG), ("h", WRONG), ("h", WRONG))
    labels = supervision.label(rows)
    assert isinstance(labels, Labels)
    assert labels.values.shape == (4,)
    assert labels.values.dtype == np.float32
    states = own(gather_states(rows))
    signal = supervision.signal(states, labels)
    assert isinstance(signal, gives(supervision))
    assert all(not t.requires_grad for t in tensors(signal))


@pytest.mark.parametrize("supervision", SUPERVISIONS, ids=named)
def test_contract_a_chunk_of_a_signal_is_the_signal_at_a_chunk(supervision):
    rows = samples(("g", RIGHT), ("g", WRONG))
    states = own(gather_states(rows))
    whole = supervision.signal(states, supervision.label(rows))
    part = whole.at(slice(1, 4))
    if isinstance(whole, Advantages):
        assert part.values.tolist() == whole.values.tolist()[1:4]
    elif isinstance(whole, Reference):
        assert part.logprobs.tolist() == whole.logprobs.tolist()[1:4]
    elif isinstance(whole, Actions):
        assert part == whole
    else:
        student = torch.randn(len(states), 4, dtype=torch.float64).log_softmax(-1)
        for chunk, all_of_it in zip(
            part.compare(student[1:4]), whole.compare(student), strict=True
        ):
            # Some processors' products of fewer rows sum in another order.
            torch.testing.assert_close(chunk, all_of_it[1:4], rtol=0, atol=1e-12)


def test_a_chunk_shares_the_teachers_head():
    states = gather_states(samples(("g", RIGHT), ("g", WRONG)))
    whole = TeacherDistribution(TEACHER).signal(states, Labels.none(2))
    assert whole.at(slice(1, 4)).head is whole.head, "the head was copied"


# ---- advantages ---------------------------------------------------------------------------------


def test_leave_one_out_by_hand_is_the_centred_reward_times_n_over_n_minus_1():
    """Rewards 1, 0, 0, 1 of 4: the others' mean is 1/3 or 2/3."""
    rows = samples(("g", RIGHT), ("g", WRONG), ("g", WRONG), ("g", RIGHT))
    found = LeaveOneOut(ExactAnswer()).label(rows)
    np.testing.assert_allclose(found.values, [2 / 3, -2 / 3, -2 / 3, 2 / 3], rtol=1e-6)
    centred = GroupAdvantage(ExactAnswer(), scale="none").label(rows)
    np.testing.assert_allclose(found.values, centred.values * 4 / 3, rtol=1e-6)
    assert found.figures == centred.figures
    with pytest.raises(DataError, match="one sample"):
        LeaveOneOut(ExactAnswer()).label(rows[:1])


def by_length(prompt, completion):
    return len(completion) / 2


def test_a_group_is_silent_where_every_advantage_is_0_and_not_where_one_is():
    """Rewards 0, 1/2, 1: the one in the middle is the mean. The other group's are all 1/2."""
    plan = [("g", (EOS,)), ("g", (A, EOS)), ("g", (A, B, EOS)), ("h", (A,)), ("h", (B,))]
    found = GroupAdvantage(PythonReward(f"{__file__}:by_length"), scale="none").label(
        samples(*plan)
    )
    assert found.values.tolist() == [-0.5, 0.0, 0.5, 0.0, 0.0]
    assert found.figures == {"reward_mean": 0.5, "silent_group_share": 0.5}


def always(prompt, completion, value):
    return value


@pytest.mark.parametrize("n", [2, 3, 4, 6, 7, 8, 10, 49])
@pytest.mark.parametrize("value", [0.1, 0.7, -1.1, 1e-9, 1 / 3])
def test_equal_rewards_say_nothing_whatever_their_value_and_number(value, n):
    """A mean of n equal numbers is their value only but for rounding: 3 times 0.1 has the mean 0.10000000000000002."""
    rows = samples(*[("g", (A,) * (i % 4) + (EOS,)) for i in range(n)])
    reward = PythonReward(f"{__file__}:always", {"value": value})
    for supervision in (
        GroupAdvantage(reward),
        GroupAdvantage(reward, scale="none"),
        LeaveOneOut(reward),
    ):
        found = supervision.label(rows)
        assert not found.values.any()
        assert found.figures == {"reward_mean": value, "silent_group_share": 1.0}
    baseline = RewardBaseline(reward).label(rows)
    assert not baseline.values.any()
    assert baseline.figures == {"reward_mean": value}
    paid = np.float32(value)
    found = ProcessReward(Outcome(reward), baseline=float(paid)).label(rows)
    assert not any(line[1:].any() for line in found.per_token)
    assert found.figures == {"reward_mean": float(paid)}
    assert spread(np.full(n, value)) == 0.0


def nearly(prompt, completion):
    return 0.1 if completion else 0.1 + 2e-17 + 1e-16


def test_rewards_that_differ_by_the_last_bit_are_not_silent():
    """Silence is decided by the rewards, not by what is left of their differences in float32."""
    rows = samples(("g", (EOS,)), ("g", (A, EOS)))
    found = GroupAdvantage(PythonReward(f"{__file__}:nearly"), scale="none").label(rows)
    assert found.figures["silent_group_share"] == 0.0


def not_a_number(prompt, completion, value):
    return value


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_users_reward_that_is_no_number_is_a_fault_and_no_score(value):
    reward = PythonReward(f"{__file__}:not_a_number", {"value": value})
    with pytest.raises(
        ConfigError, match=r"not_a_number gave (nan|inf) \(float\) for a completion of 'p'"
    ):
        reward(prompt(A), "a")


@pytest.mark.parametrize(
    ("baseline", "expected"), [("mean", [0.75, -0.25]), (0.5, [0.5, -0.5]), (0.0, [1.0, 0.0])]
)
def test_reward_baseline_by_hand_is_of_the_rollout_and_not_of_the_group(baseline, expected):
    rows = samples(("g0", RIGHT), ("g1", WRONG), ("g2", WRONG), ("g3", WRONG))
    found = RewardBaseline(ExactAnswer(), baseline).label(rows)
    assert found.values.tolist()[:2] == expected
    assert found.figures == {"reward_mean": 0.25}


def test_process_rewards_are_paid_to_the_tokens_before_them_and_not_after():
    """Rewards 0, 0, 1 at discount 1/2; the prompt's token is no state."""
    rows = samples(("g", (A, ONE, EOS)), ("g", (B, EOS)))
    supervision = ProcessReward(Outcome(ExactAnswer()), discount=0.5, baseline=0.125)
    labels = supervision.label(rows)
    assert labels.values.tolist() == [1.0, 0.0]
    assert labels.figures == {"reward_mean": 0.5}
    states = gather_states(rows)
    found = supervision.signal(states, labels).values.tolist()
    assert found == [0.125, 0.375, 0.875, -0.125, -0.125]
    other = supervision.signal(gather_states(rows[1:]), labels.select([1])).values.tolist()
    assert other == [-0.125, -0.125], "a micro-batch read another trajectory's labels"


def every_token(trajectory, worth=1.0):
    return [worth * t for t in range(len(trajectory.completion_ids))]


def test_a_users_token_reward_and_its_arguments():
    rows = samples(("g", (A, ONE, EOS)))
    reward = PythonTokenReward(f"{__file__}:every_token", {"worth": 2.0})
    labels = ProcessReward(reward).label(rows)
    assert labels.per_token[0].tolist() == [0.0, 6.0, 6.0, 4.0]
    with pytest.raises(ConfigError, match=r"every_token gave nan \(float\) for a token"):
        PythonTokenReward(f"{__file__}:every_token", {"worth": float("nan")})(rows[0])


# ---- teachers -----------------------------------------------------------------------------------


def teacher_logprobs(policy, states, n: int, temperature: float = 1.0) -> torch.Tensor:
    prefix = states.token_ids[states.row[n], : states.column[n]][None]
    return (policy.module(input_ids=prefix).logits[0, -1].detach() / temperature).log_softmax(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_the_log_ratio_is_taken_at_the_temperature_of_sampling(temperature):
    made = row(prompt(A), sampled(B, ONE, EOS), sampling=Sampling(temperature))
    states = gather_states([made])
    found = TeacherLogRatio(TEACHER).signal(own(states), Labels.none(1)).values
    for n, token in enumerate((B, ONE, EOS)):
        expected = teacher_logprobs(TEACHER, states, n, temperature)[token] + 1
        assert found[n].item() == pytest.approx(expected.item(), abs=1e-12)


def test_the_log_ratio_is_clipped_token_by_token_and_then_summed_to_the_end():
    states = own(gather_states([row(prompt(A), sampled(B, ONE, EOS), sampling=Sampling())]))
    none = Labels.none(1)
    plain = TeacherLogRatio(TEACHER).signal(states, none).values
    assert plain.abs().max() > 0.25
    cut = plain.clamp(-0.25, 0.25)
    clipped = TeacherLogRatio(TEACHER, clip=0.25).signal(states, none).values
    assert torch.equal(clipped, cut)
    whole = TeacherLogRatio(TEACHER, clip=0.25, discount=1.0).signal(states, none).values
    np.testing.assert_allclose(whole, [cut.sum(), cut[1] + cut[2], cut[2]], rtol=0, atol=1e-15)


def test_returns_to_go_by_hand():
    """Two rows; between the states of the first lies a token without weight, which counts as 0."""
    rows = [
        row(prompt(A), sampled(B, A), Segment("dataset", ids(A), weight=0.0), sampled(ONE)),
        row(prompt(B, A), sampled(B, EOS)),
    ]
    states = gather_states(rows)
    rewards = torch.tensor([1.0, -2.0, 4.0, 8.0, 16.0])
    found = returns_to_go(rewards, states, 0.5).tolist()
    assert found == [1 - 1 + 0.5, -2 + 1, 4, 8 + 8, 16]
    assert torch.equal(returns_to_go(rewards, states, 0.0), rewards)


def test_a_log_ratio_is_clipped_on_both_sides():
    states = own(gather_states([row(prompt(A), sampled(B, ONE, A, A, EOS), sampling=Sampling())]))
    plain = TeacherLogRatio(TEACHER).signal(states, Labels.none(1)).values
    assert plain.min() < -0.1
    assert plain.max() > 0.1
    found = TeacherLogRatio(TEACHER, clip=0.1).signal(states, Labels.none(1)).values
    assert (found.min(), found.max()) == (-0.1, 0.1)


def test_the_log_ratio_of_a_token_that_nobody_sampled_is_refused():
    made = row(prompt(A), sampled(B), Segment("dataset", ids(ONE, EOS)))
    with pytest.raises(DataError, match="2 of 3 states have no behaviour log-prob"):
        TeacherLogRatio(TEACHER).signal(own(gather_states([made])), Labels.none(1))


def test_the_log_ratio_is_to_the_student_and_not_to_who_sampled():
    """Equal gaps to a sampler of log-probs -1 and -3; without the student's own there is nothing to compare."""
    logprobs = np.array([-1.0, -3.0], np.float32)
    made = row(prompt(A), Segment("student@0", ids(B, EOS), logprobs), sampling=Sampling())
    states = gather_states([made])
    found = TeacherLogRatio(TEACHER).signal(own(states), Labels.none(1)).values
    told = [teacher_logprobs(TEACHER, states, n)[t] for n, t in enumerate((B, EOS))]
    np.testing.assert_allclose(found, [t.item() + 1 for t in told], rtol=0, atol=1e-12)
    with pytest.raises(DataError, match="2 of 2 states have none: fill in"):
        TeacherLogRatio(TEACHER).signal(states, Labels.none(1))


def test_a_privileged_teacher_reads_its_own_prompt_and_the_same_completion():
    """Prompts and completions of different lengths, so that a wrong shift reads another token."""
    rows = [
        row(prompt(A, reference="ab#### 1"), sampled(B, EOS)),
        row(prompt(B, A, A, reference="b"), sampled(ONE, A, EOS)),
    ]
    told = TeacherDistribution(TEACHER, context=Context("b{question}{demonstration}"))
    states, labels = gather_states(rows), told.label(rows)
    assert [r.tolist() for r in labels.rows] == [
        [B, A, A, B, ONE, B, EOS],
        [B, B, A, A, B, ONE, A, EOS],
    ]
    found = told.signal(states, labels).logprobs()
    for n in range(len(states)):
        i = int(states.row[n])
        seen = int(states.column[n]) - rows[i].prompt_tokens
        start = len(labels.rows[i]) - len(rows[i].completion_ids)
        prefix = torch.tensor(labels.rows[i][: start + seen][None].astype(np.int64))
        logits = TEACHER.module(input_ids=prefix).logits[0, -1].detach()
        torch.testing.assert_close(found[n], logits.log_softmax(-1), rtol=0, atol=1e-12)


def test_a_privileged_prompt_begins_as_the_tokenizer_begins_every_text():
    begins = tokenizer()
    begins.backend_tokenizer.post_processor = TemplateProcessing(
        single="b $A", special_tokens=[("b", B)]
    )
    teacher = tiny(1, name="teacher:mild", tokenizer=begins)
    told = Context("{question}#### 1").ids(prompt(A), teacher)
    assert told.tolist() == [B, A, ONE]


def test_a_privileged_row_that_the_teacher_cannot_read_is_refused_with_the_count():
    short = tiny(1, name="teacher:short", context=6)
    rows = samples(("g", RIGHT), ("g", WRONG), ("g", (A, A, B, EOS)))
    told = TeacherDistribution(short, context=Context("{question}ab{demonstration}"))
    assert len(told.label(rows[:1]).rows[0]) == 6
    with pytest.raises(DataError, match=r"2 of 3 rows .* exceed the 6 tokens .* longest has 8"):
        told.label(rows)


@pytest.mark.parametrize(
    ("template", "says"), [("{question} {gold}", "gold"), ("{question", "format string")]
)
def test_a_context_that_cannot_be_filled_is_refused(template, says):
    with pytest.raises(ConfigError, match=says):
        Context(template)


def test_a_context_needs_what_it_names():
    bare = row(prompt(A, name="bare"), sampled(B))
    with pytest.raises(DataError, match=r"'bare'.*demonstration"):
        TeacherDistribution(TEACHER, context=OPEN).label([bare])
    with pytest.raises(DataError, match=r"'bare'.*answer"):
        TeacherDistribution(TEACHER, context=Context("{answer}")).label([bare])


@pytest.mark.parametrize(
    "make",
    [
        lambda: TeacherDistribution(TEACHER, top_k=0),
        lambda: TeacherDistribution(TEACHER, support="student"),
        lambda: TeacherDistribution(TEACHER, temperature=0.0),
        lambda: TeacherMixture((), ()),
        lambda: TeacherMixture((TOLD,), (0.5, 0.5)),
        lambda: TeacherMixture((TOLD, TOLD), (0.5, 0.4)),
        lambda: TeacherMixture((TOLD, TOLD), (1.5, -0.5)),
        lambda: TeacherMixture((replace(TOLD, top_k=1), TOLD), (0.5, 0.5)),
        lambda: TeacherLogRatio(TEACHER, clip=0.0),
        lambda: TeacherLogRatio(TEACHER, discount=1.5),
        lambda: ProcessReward(Outcome(ExactAnswer()), discount=-0.1),
    ],
)
def test_values_that_mean_nothing_are_refused(make):
    with pytest.raises(ConfigError):
        make()


def test_a_users_supervision_that_gives_another_signal_than_it_declares_is_refused():
    lies = PythonSupervision("kinds:Ones", "actions")
    states = gather_states(samples(("g", RIGHT)))
    with pytest.raises(ConfigError, match="gave Advantages"):
        lies.signal(states, Labels.none(1))


def tensors(signal) -> list[torch.Tensor]:
    values = (getattr(signal, name) for name in type(signal).__slots__)
    return [v for v in values if isinstance(v, torch.Tensor)]
