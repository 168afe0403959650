"""The blend: its bound at every prefix, the largest exponent, lockstep decoding, its two ends."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from enumerable import CONTEXT, EOS, ONE, A, B, blended_step, completions, prompt, tiny

from statewise.errors import ConfigError, ModelError
from statewise.sources import Blended, Learner, Schedule, Teacher
from statewise.sources.blended import blend
from statewise.trajectory import student_version

STUDENT, TEACHER = tiny(0, version=7), tiny(1, name="teacher:mild", version=3)
EPSILONS = [1e-4, 0.01, 0.05, 0.3, 2.0]
PREFIXES = sorted({y[:t] for y in completions() for t in range(len(y))})


def divergence(log_p: torch.Tensor, log_q: torch.Tensor) -> torch.Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def logits_at(policy, prefixes) -> torch.Tensor:
    """From whole rows, one prefix at a time."""
    with torch.no_grad():
        rows = [policy.module(input_ids=torch.tensor([[A, *p]])).logits[0, -1] for p in prefixes]
    return torch.stack(rows)


@pytest.mark.parametrize("temperature", [1.0, 0.6, 1.7])
@pytest.mark.parametrize("epsilon", EPSILONS)
def test_the_bound_holds_at_every_prefix_and_no_larger_exponent_keeps_it(epsilon, temperature):
    own, told = logits_at(STUDENT, PREFIXES), logits_at(TEACHER, PREFIXES)
    found = blend(own, told, epsilon=epsilon, temperature=temperature)
    mu, pi_s, pi_t = ((x / temperature).log_softmax(-1) for x in (found, own, told))
    kl = divergence(mu, pi_s)
    assert (kl <= epsilon + 1e-12).all()
    whole = divergence(pi_t, pi_s) <= epsilon
    torch.testing.assert_close(mu[whole], pi_t[whole], rtol=0, atol=1e-10)
    # Elsewhere the bound is met: the divergence grows with b, so a larger b would break it.
    assert ((kl - epsilon).abs()[~whole] < 1e-9).all()
    # On the path between the two: (log mu - log pi_S) is b (log pi_T - log pi_S) plus a constant.
    slope = (pi_t - pi_s) - (pi_t - pi_s).mean(-1, keepdim=True)
    moved = (mu - pi_s) - (mu - pi_s).mean(-1, keepdim=True)
    b = (moved * slope).sum(-1, keepdim=True) / (slope**2).sum(-1, keepdim=True)
    torch.testing.assert_close(moved, b * slope, rtol=0, atol=1e-9)
    assert ((b >= 0) & (b <= 1 + 1e-9)).all()
    further = (pi_s + (b + 1e-5) * slope).log_softmax(-1)
    assert (divergence(further, pi_s)[~whole] > epsilon).all()


def test_the_cases_hold_both_whole_and_partial_blends():
    own, told = (logits_at(p, PREFIXES).log_softmax(-1) for p in (STUDENT, TEACHER))
    kl = divergence(told, own)
    assert float(kl.min()) < 0.3 < float(kl.max()) < 2.0


@pytest.mark.parametrize("size", [4, 1000])
def test_a_wide_vocabulary_and_float32_logits_keep_the_bound(size):
    draw = torch.Generator().manual_seed(0)
    own, told = (torch.randn(64, size, generator=draw) * 4 for _ in range(2))
    mu = blend(own, told, epsilon=0.01).log_softmax(-1)
    kl = divergence(mu, own.double().log_softmax(-1))
    assert (kl <= 0.01 + 1e-12).all()
    assert (kl > 0.01 - 1e-6).all()


def rows_of(source, *, seed: int = 0, progress: float = 0.0):
    return source([prompt(A), prompt(B, ONE, A)], student=STUDENT, seed=seed, progress=progress)


@pytest.mark.parametrize("architecture", ["qwen3", "gpt2"])
def test_behaviour_logprobs_are_those_of_the_blend(architecture):
    """Rows of unlike lengths that end at unlike times: both caches must keep the same rows."""
    student, teacher = (tiny(i, architecture=architecture) for i in (0, 1))
    source = Blended(teacher, 0.08, 10, samples_per_prompt=12, temperature=1.3)
    rows = source([prompt(A), prompt(B, ONE, A)], student=student, seed=3)
    assert len({len(r) for r in rows}) > 5
    for made in rows:
        for column in range(made.prompt_tokens, len(made)):
            exact = blended_step(student, teacher, made.token_ids[:column], 0.08, 1.3)
            token = int(made.token_ids[column])
            assert made.behaviour_logprobs[column] == pytest.approx(float(exact[token]), abs=1e-6)


def test_no_room_is_the_learner_and_all_room_the_teacher():
    ends = ((0.0, Learner(6, 8)), (np.inf, Teacher(TEACHER, 6, 8)))
    for epsilon, same in ends:
        blends, plain = rows_of(Blended(TEACHER, float(epsilon), 6, 8)), rows_of(same)
        for x, y in zip(blends, plain, strict=True):
            assert x.token_ids.tolist() == y.token_ids.tolist()
            assert (x.stopped, x.group_id, x.completion) == (y.stopped, y.group_id, y.completion)
            np.testing.assert_allclose(x.behaviour_logprobs, y.behaviour_logprobs, atol=1e-6)


def test_the_blend_owns_its_tokens_and_carries_the_students_version():
    for made in rows_of(Blended(TEACHER, 0.1, 4)):
        assert made.owners == ("prompt", "blend:student@7+teacher:mild@3")
        assert student_version(made.owners[1]) == 7
        assert made.completion_ids[-1] == EOS or len(made.completion_ids) == 4


def test_the_bound_follows_its_schedule():
    falling = Blended(TEACHER, Schedule(0.4, 0.1), 6, 4)
    for progress, epsilon in ((0.0, 0.4), (0.5, 0.25)):
        still = Blended(TEACHER, epsilon, 6, 4)
        for x, y in zip(rows_of(falling, progress=progress), rows_of(still), strict=True):
            assert x.token_ids.tolist() == y.token_ids.tolist()
            np.testing.assert_array_equal(x.behaviour_logprobs, y.behaviour_logprobs)


def test_the_guide_reads_what_is_written_and_writes_nothing():
    student, guide = tiny(0), tiny(1)
    rows = Blended(guide, 0.1, 5)([prompt(A), prompt(B, ONE)], student=student, seed=0)
    written = sum(len(r.completion_ids) for r in rows)
    assert (student.tokens_written, student.tokens_read) == (written, 3)
    assert (guide.tokens_written, guide.tokens_read) == (0, 3 + written)


def test_a_row_ends_where_either_context_does():
    small = tiny(1, name="teacher:small", context=8)
    source = Blended(small, 0.1, CONTEXT, 20)
    assert max(len(r) for r in source([prompt(A)], student=STUDENT, seed=0)) == 8


def test_other_widths_and_impossible_settings_are_refused():
    wide = tiny(1, vocabulary=6)
    with pytest.raises(ModelError, match="6 for the teacher"):
        rows_of(Blended(wide, 0.1, 4))
    for options in ({"epsilon": -0.1}, {"epsilon": 0.1, "temperature": 0.0}):
        with pytest.raises(ConfigError):
            Blended(TEACHER, max_new_tokens=4, **options)
