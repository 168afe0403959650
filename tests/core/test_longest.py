"""How long a row may become, by hand; and what is refused of a teacher with a prompt of its own."""

from __future__ import annotations

import numpy as np
import pytest
from enumerable import EOS, A, B, ids, prompt, row, tiny

from statewise.errors import DataError
from statewise.policy import PolicyRef
from statewise.rewards import ExactAnswer
from statewise.sources import (
    Blended,
    Continuation,
    Dataset,
    Filtered,
    Learner,
    Mixture,
    PrefixReset,
    PythonSource,
    Replay,
    Stored,
    Teacher,
    longest_completion,
)
from statewise.supervision import Context
from statewise.trajectory import Prompt, Segment
from statewise.trajectory_store import write_states


def sampled(*tokens: int) -> Segment:
    return Segment("student@0", ids(*tokens), np.full(len(tokens), -1, np.float32))


@pytest.mark.parametrize(
    ("source", "completion"),
    [
        (Dataset(), 4),  # a b #### 1 <eos>
        (Learner(max_new_tokens=3), 3),
        (Filtered(Learner(max_new_tokens=5), ExactAnswer()), 5),
        (Mixture((Learner(max_new_tokens=2), Dataset()), (0.5,)), 4),
        (Mixture((Learner(max_new_tokens=6), Dataset()), (0.5,)), 6),
        (Teacher(PolicyRef("mild"), max_new_tokens=7), 7),
        (Blended(PolicyRef("mild"), 0.1, max_new_tokens=7), 7),
        (PrefixReset(max_new_tokens=5), 8),  # all of a b #### 1, without a stop token, and 5 more
        (PrefixReset(max_new_tokens=5, high=0.5), 7),  # floor(0.5 * 4) of the gold and its stop
        (PrefixReset(max_new_tokens=5, teacher=PolicyRef("mild")), 10),
        (Continuation(PolicyRef("mild"), branch_tokens=2, max_new_tokens=8), 10),
        (Continuation(PolicyRef("mild"), branch_tokens=2, max_new_tokens=8, cut_high=0.5), 6),
        (Continuation(PolicyRef("mild"), branch_tokens=2, max_new_tokens=8, cut_high=0.0), 2),
        (PythonSource("mine.py:walk", ("student",), room_tokens=9), 9),
        (PythonSource("mine.py:walk", ("dataset",)), 4),
        (PythonSource("mine.py:walk", ("student",), ("dataset",), room_tokens=2), 4),
        (Replay(Learner(max_new_tokens=3), 0.5, age_limit=2), 3),
        (Learner(max_new_tokens=100), 31),  # the student reads 32 tokens, and 1 is the prompt
    ],
    ids=lambda value: getattr(value, "kind", value),
)
def test_a_privileged_row_is_refused_beforehand_exactly_where_it_may_overflow(source, completion):
    """The teacher's prompt is a a b a b #### 1: 6 tokens. Its own context is as long as the row, or 1 less."""
    asked, student = prompt(A, reference="ab#### 1"), tiny(0)
    assert longest_completion(source, asked, student) == completion
    told = Context("{question}ab{demonstration}")
    enough = tiny(1, name="teacher:enough", context=6 + completion)
    told.check([asked], enough, [completion])
    short = tiny(1, name="teacher:short", context=5 + completion)
    with pytest.raises(DataError, match=rf"1 of 1 rows .* the {5 + completion} tokens"):
        told.check([asked], short, [completion])
    if isinstance(source, Dataset):  # what is said beforehand is what the rollout says
        rows = source([asked], student=student, seed=0)
        assert len(told.labels(rows, enough).rows[0]) == 6 + completion
        with pytest.raises(DataError, match="1 of 1 rows"):
            told.labels(rows, short)


def test_what_a_stored_row_or_a_document_needs_is_counted_too(tmp_path):
    rows = [row(prompt(A, name="p"), sampled(B, B, B), group=g) for g in ("g", "h")]
    rows.append(row(prompt(A, name="p"), sampled(B, EOS), group="h"))
    write_states(tmp_path / "s.parquet", {"drawn": rows})
    stored, student = Stored(str(tmp_path / "s.parquet"), "drawn", samples_per_prompt=3), tiny(0)
    assert longest_completion(stored, prompt(A, name="p"), student) == 3
    assert longest_completion(stored, prompt(A, name="not stored"), student) == 0
    # A document of 3 tokens: the first becomes the prompt, and a stop token ends it.
    document = Prompt("d", "", ids(), "ab#### 1")
    assert longest_completion(Dataset(), document, student) == 3
    (walked,) = Dataset()([document], student=student, seed=0)
    assert len(walked.completion_ids) == 3
