"""Scores of given continuations, and what a harness request becomes, against the model itself."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from lm_eval.api.instance import Instance

from statewise.evaluate.harness import PolicyLM, first_part
from statewise.evaluate.isolation import undisturbed
from statewise.evaluate.scoring import score
from statewise.policy import Policy
from tests.evaluate.conftest import tiny_policy

Pair = tuple[list[int], list[int]]


def one_by_one(policy: Policy, context: list[int], continuation: list[int]) -> tuple[float, bool]:
    """Log-prob and greediness of one continuation, a token at a time, no row shared."""
    total, greedy = 0.0, True
    for k, token in enumerate(continuation):
        prefix = torch.tensor([[*context, *continuation[:k]]])
        line = policy.module(input_ids=prefix).logits[0, -1].detach().log_softmax(-1)
        total += float(line[token])
        greedy &= int(line.argmax()) == token
    return total, greedy


def likeliest(policy: Policy, context: list[int]) -> int:
    return int(policy.module(input_ids=torch.tensor([context])).logits[0, -1].argmax())


def test_continuations_of_unequal_length_that_share_a_row_are_read_at_their_own_states(
    policy: Policy,
) -> None:
    # All three ask the model to read (5, 6, 7): they are one row.
    pairs: list[Pair] = [([5, 6, 7], [8]), ([5], [6, 7, 8]), ([5, 6], [7, 9]), ([4], [5, 6])]
    for tokens in (1, 4096):
        found = score(policy, pairs, tokens_per_batch=tokens)
        for (value, greedy), (context, continuation) in zip(found, pairs, strict=True):
            exact, is_greedy = one_by_one(policy, context, continuation)
            assert value == pytest.approx(exact, abs=1e-10)
            assert greedy is is_greedy


def test_a_continuation_is_greedy_where_every_token_of_it_is(policy: Policy) -> None:
    first = likeliest(policy, [5])
    second = likeliest(policy, [5, first])
    other = (first + 1) % 100
    follows = likeliest(policy, [5, other])
    pairs: list[Pair] = [
        ([5], [first, second]),
        ([5], [first, second + 1]),
        ([5], [other, follows]),
    ]
    found = score(policy, pairs, tokens_per_batch=4096)
    assert [greedy for _, greedy in found] == [True, False, False]


def test_what_is_too_long_is_cut_from_the_left() -> None:
    policy = tiny_policy(["a b c d"] * 9, context_tokens=6)
    context, continuation = list(range(3, 12)), [7, 8]
    ((value, _),) = score(policy, [(context, continuation)], tokens_per_batch=4096)
    # Six tokens are read: the last five of the context, and the continuation but its last.
    assert value == pytest.approx(one_by_one(policy, context[-5:], continuation)[0], abs=1e-10)


def test_a_prompt_that_is_too_long_keeps_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tiny_policy(["one two three"] * 9, context_tokens=12)
    seen: list[np.ndarray] = []
    complete = policy.complete

    def spy(prefixes, **options):
        seen.extend(prefixes)
        return complete(prefixes, **options)

    monkeypatch.setattr(policy, "complete", spy)
    text = "abcdefghijklmnopqrstuvwxyz"
    request = Instance(
        "generate_until",
        doc={},
        arguments=(text, {"until": ["#"], "do_sample": False, "max_gen_toks": 4}),
        idx=0,
        metadata=("made", 0, 1),
    )
    PolicyLM(policy).generate_until([request])
    (prefix,) = seen
    assert len(prefix) == 8
    assert policy.to_text(prefix) == text[-8:]


def test_a_text_ends_before_the_first_place_of_the_earliest_term() -> None:
    assert first_part("18 Q: what Q: again", ["Q:"]) == "18 "
    assert first_part("a Q: b\n\nc", ["\n\n", "Q:"]) == "a "
    assert first_part("whole", ["Q:"]) == "whole"


def test_no_global_generator_moves() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.rand()), float(torch.rand(()))  # noqa: NPY002

    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    expected = draw()
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    with undisturbed():
        draw()
    assert draw() == expected
