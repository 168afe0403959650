"""What is said at each state: advantages by hand, and the contract of every supervision."""

from __future__ import annotations

import math
from typing import get_type_hints

import numpy as np
import pytest
import torch
from enumerable import EOS, ONE, A, B, ids, prompt, row, tiny

from statewise.errors import DataError
from statewise.rewards import ExactAnswer
from statewise.signals import Labels
from statewise.supervision import GroupAdvantage, OwnActions, TeacherDistribution
from statewise.trajectory import Sampling, Segment, gather_states

TEACHER = tiny(1, name="teacher:mild")
SUPERVISIONS = [OwnActions(), TeacherDistribution(TEACHER), GroupAdvantage(ExactAnswer())]
RIGHT, WRONG = (ONE, EOS), (A, B, EOS)


def samples(*plan: tuple[str, tuple[int, ...]]):
    start = prompt(A, reference="#### 1")
    return [
        row(start, Segment("student@0", ids(*tokens)), group=group, sampling=Sampling())
        for group, tokens in plan
    ]


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
    values = torch.as_tensor(supervision.label(rows).values)[states.row]
    assert supervision.signal(states, values).values.tolist() == [0.5] * 2 + [-0.5] * 3


def test_the_teachers_distribution_is_read_at_the_state_and_not_beside_it():
    rows = samples(("g", RIGHT), ("g", WRONG))
    states = gather_states(rows)
    signal = TeacherDistribution(TEACHER, temperature=2.0).signal(states, torch.zeros(len(states)))
    found = signal.logprobs()
    for n in range(len(states)):
        prefix = states.token_ids[states.row[n], : states.column[n]][None]
        logits = TEACHER.module(input_ids=prefix).logits[0, -1].detach()
        torch.testing.assert_close(found[n], (logits / 2).log_softmax(-1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("supervision", SUPERVISIONS, ids=lambda s: s.kind)
def test_contract_one_label_a_trajectory_and_a_signal_of_the_declared_type(supervision):
    rows = samples(("g", RIGHT), ("g", WRONG), ("h", WRONG), ("h", WRONG))
    labels = supervision.label(rows)
    assert isinstance(labels, Labels)
    assert labels.values.shape == (4,)
    assert labels.values.dtype == np.float32
    states = gather_states(rows)
    signal = supervision.signal(states, torch.as_tensor(labels.values)[states.row])
    assert type(signal) is get_type_hints(type(supervision).signal)["return"]
    assert all(not t.requires_grad for t in tensors(signal))


@pytest.mark.parametrize("supervision", SUPERVISIONS, ids=lambda s: s.kind)
def test_contract_a_chunk_of_a_signal_is_the_signal_at_a_chunk(supervision):
    rows = samples(("g", RIGHT), ("g", WRONG))
    states = gather_states(rows)
    labels = torch.as_tensor(supervision.label(rows).values)[states.row]
    whole = supervision.signal(states, labels)
    part = whole.at(slice(1, 4))
    if isinstance(supervision, TeacherDistribution):
        assert torch.equal(part.logprobs(), whole.logprobs()[1:4])
        assert part.head is whole.head, "the head was copied"
    elif isinstance(supervision, GroupAdvantage):
        assert part.values.tolist() == whole.values.tolist()[1:4]
    else:
        assert part == whole


def tensors(signal) -> list[torch.Tensor]:
    values = (getattr(signal, name) for name in type(signal).__slots__)
    return [v for v in values if isinstance(v, torch.Tensor)]
