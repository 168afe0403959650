"""Where padding, the off-by-one and provenance begin and end; every number here is by hand."""

from __future__ import annotations

import numpy as np
import torch
from enumerable import EOS, ONE, A, B, ids, prompt, row

from statewise.trajectory import Sampling, Segment, gather_states, origins, pad

SAMPLED = Sampling(temperature=0.5)


def mixed_row():
    """Two prompt tokens, two by the student, two by the teacher."""
    return row(
        prompt(A, B),
        Segment("student@7", ids(ONE, B), np.array([-0.5, -1.5], np.float32), weight=0.0),
        Segment("teacher:mild@3", ids(A, EOS), np.array([-0.25, -2.0], np.float32), weight=0.5),
        sampling=SAMPLED,
    )


def test_assemble_writes_down_every_token_with_its_owner_weight_and_logprob():
    made = mixed_row()
    assert made.token_ids.tolist() == [A, B, ONE, B, A, EOS]
    assert made.owners == ("prompt", "student@7", "teacher:mild@3")
    assert made.owner_codes.tolist() == [0, 0, 1, 1, 2, 2]
    assert made.weights.tolist() == [0, 0, 0, 0, 0.5, 0.5]
    assert np.isnan(made.behaviour_logprobs[:2]).all()
    assert made.behaviour_logprobs[2:].tolist() == [-0.5, -1.5, -0.25, -2.0]
    assert (made.prompt_tokens, made.supervised_tokens, len(made)) == (2, 2, 6)
    assert made.completion_ids.tolist() == [ONE, B, A, EOS]
    dtypes = [made.token_ids, made.weights, made.owner_codes, made.behaviour_logprobs]
    assert [a.dtype for a in dtypes] == [np.int32, np.float32, np.int16, np.float32]


def test_a_segment_without_logprobs_says_that_nobody_knows_them():
    made = row(prompt(A), Segment("dataset", ids(B, EOS)))
    assert np.isnan(made.behaviour_logprobs).all()


def test_two_segments_of_one_owner_share_a_code():
    made = row(prompt(A), Segment("dataset", ids(B)), Segment("dataset", ids(EOS), weight=0.0))
    assert made.owners == ("prompt", "dataset")
    assert made.owner_codes.tolist() == [0, 1, 1]


def test_origins_name_who_wrote_the_prefix_not_who_chose_the_token():
    assert origins(mixed_row()) == [
        "prompt",
        "prompt",
        "prompt",
        "student",
        "student",
        "student+teacher",
    ]


def test_the_state_before_a_token_is_the_prefix_that_ends_just_before_it():
    a = mixed_row()
    b = row(prompt(B), Segment("dataset", ids(A, ONE, EOS)))
    old = [np.arange(6, dtype=np.float32), np.arange(10, 14, dtype=np.float32)]
    states = gather_states([a, b], old_logprobs=old)
    assert states.row.tolist() == [0, 0, 1, 1, 1]
    assert states.column.tolist() == [4, 5, 1, 2, 3]
    assert states.action_ids.tolist() == [A, EOS, A, ONE, EOS]
    assert states.weights.tolist() == [0.5, 0.5, 1, 1, 1]
    assert states.behaviour_logprobs[:2].tolist() == [-0.25, -2.0]
    assert states.behaviour_logprobs[2:].isnan().all()
    assert states.old_logprobs.tolist() == [4, 5, 11, 12, 13]
    assert states.temperature.tolist() == [0.5, 0.5, 1, 1, 1]
    assert [states.owners[code] for code in states.owner_codes] == ["teacher"] * 2 + ["dataset"] * 3
    assert states.lengths.tolist() == [6, 4]
    for n in range(len(states)):
        made = (a, b)[states.row[n]]
        prefix = states.token_ids[states.row[n], : states.column[n]]
        assert prefix.tolist() == made.token_ids[: states.column[n]].tolist()
        assert made.token_ids[states.column[n]] == states.action_ids[n]


def test_prompt_tokens_are_never_supervised():
    states = gather_states([mixed_row(), row(prompt(A, B, A), Segment("dataset", ids(EOS)))])
    assert all(
        column >= (2, 3)[which] for which, column in zip(states.row, states.column, strict=True)
    )


def test_column_0_is_never_supervised_whatever_its_weight():
    made = row(prompt(A, B), Segment("dataset", ids(EOS)))
    made = made.with_weights(np.ones(3, np.float32))
    states = gather_states([made])
    assert states.column.tolist() == [1, 2]
    assert made.weights.tolist() == [1, 1, 1], "the trajectory itself was changed"


def test_padding_is_no_state():
    short, long = (row(prompt(A), Segment("dataset", ids(*[B] * n))) for n in (1, 5))
    states = gather_states([short, long])
    assert states.row.tolist() == [0, 1, 1, 1, 1, 1]


def test_a_weight_of_0_is_no_state_and_rows_without_states_are_allowed():
    silent = row(prompt(A), Segment("student@0", ids(B, EOS), weight=0.0))
    assert len(gather_states([silent])) == 0


def test_without_old_logprobs_the_policy_has_not_moved_since():
    assert gather_states([mixed_row()]).old_logprobs.isnan().all()


def test_a_chunk_of_states_keeps_every_column_in_step():
    states = gather_states([mixed_row(), row(prompt(B), Segment("dataset", ids(A, ONE, EOS)))])
    part = states.at(slice(1, 4))
    for name in ("row", "column", "action_ids", "weights", "temperature", "owner_codes"):
        assert getattr(part, name).tolist() == getattr(states, name)[1:4].tolist()
    for name in ("behaviour_logprobs", "old_logprobs"):
        whole = getattr(states, name)[1:4]
        torch.testing.assert_close(getattr(part, name), whole, equal_nan=True)
    assert part.token_ids is states.token_ids


def test_owned_by_reads_roles_and_versions_do_not_split_them():
    a = row(prompt(A), Segment("teacher:mild@1", ids(B)))
    b = row(prompt(A), Segment("teacher:stress@9", ids(B)), Segment("student@2", ids(EOS)))
    states = gather_states([a, b])
    assert states.owned_by(["teacher"]).tolist() == [True, True, False]
    assert states.owned_by(["student", "dataset"]).tolist() == [False, False, True]
    assert states.owned_by([]).tolist() == [False] * 3


def test_pad_keeps_the_type_and_fills_the_right():
    padded = pad([ids(1, 2, 3), ids(4)], 0)
    assert padded.dtype == np.int32
    assert padded.tolist() == [[1, 2, 3], [4, 0, 0]]
