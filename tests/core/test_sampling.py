"""What is sampled, at what probability, and what is written down about it."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from enumerable import (
    CONTEXT,
    EOS,
    ONE,
    A,
    B,
    ids,
    probabilities,
    prompt,
    step_logprobs,
    tiny,
    tokenizer,
    transformed,
)
from scipy.stats import chi2

from statewise import rollout
from statewise.rollout import Completion
from statewise.rollout.sampling import choose, transform
from statewise.trajectory import Sampling

FULL = Sampling()
TRANSFORMS = [
    FULL,
    Sampling(temperature=0.7),
    Sampling(temperature=1.5, top_k=2),
    Sampling(top_p=0.8),
    Sampling(temperature=0.7, top_p=0.9, top_k=3),
]
ARCHITECTURES = ["qwen3", "gpt2"]
PREFIXES = [ids(A), ids(A, B, ONE, B, A), ids(B, ONE), ids(ONE, A, A)]
FALSE_ALARM = 1e-4  # of one chi-square test; the seed is fixed, so a pass stays a pass


def complete(
    policy, prefixes, *, sampling=FULL, limit=6, seeds=None, **options
) -> list[Completion]:
    return policy.complete(
        prefixes,
        sampling=sampling,
        max_new_tokens=limit,
        seeds=list(range(len(prefixes))) if seeds is None else seeds,
        **options,
    )


def same(left: Completion, right: Completion) -> bool:
    return (
        left.token_ids.tolist() == right.token_ids.tolist()
        and np.allclose(left.logprobs, right.logprobs, rtol=0, atol=1e-6)
        and left.stopped == right.stopped
    )


@pytest.mark.parametrize(
    ("architecture", "sampling"), [("qwen3", s) for s in TRANSFORMS] + [("gpt2", FULL)], ids=str
)
def test_completions_are_drawn_at_their_exact_probabilities(architecture, sampling):
    """Pearson's chi-square over all 121 completions, rare ones pooled; two prompt lengths at once."""
    policy, draws = tiny(seed=3, architecture=architecture), 1500
    starts = [prompt(A), prompt(B, ONE, A)]
    rows = policy.sample(
        starts, samples_per_prompt=draws, sampling=sampling, max_new_tokens=4, seed=11
    )
    for i, start in enumerate(starts):
        exact = probabilities(policy, start.token_ids, sampling)
        seen = Counter(tuple(r.completion_ids.tolist()) for r in rows[i * draws : (i + 1) * draws])
        assert all(exact[y] > 0 for y in seen), "a completion of probability 0 was drawn"
        cells = [y for y, p in exact.items() if p * draws >= 5]
        expected = np.array([exact[y] * draws for y in cells])
        observed = np.array([seen[y] for y in cells])
        rest = draws - expected.sum()
        statistic = ((observed - expected) ** 2 / expected).sum()
        statistic += (draws - observed.sum() - rest) ** 2 / rest if rest > 1e-6 else 0.0
        assert statistic < chi2.isf(FALSE_ALARM, len(cells))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("sampling", TRANSFORMS, ids=str)
def test_behaviour_logprobs_are_those_of_the_distribution_that_was_sampled(architecture, sampling):
    policy = tiny(seed=1, architecture=architecture)
    rows = policy.sample(
        [prompt(A), prompt(B, ONE, A, A)],
        samples_per_prompt=8,
        sampling=sampling,
        max_new_tokens=6,
        seed=2,
    )
    for made in rows:
        exact = step_logprobs(policy, made.prompt.token_ids, made.completion_ids, sampling)
        found = made.behaviour_logprobs[made.prompt_tokens :]
        np.testing.assert_allclose(found, exact, rtol=0, atol=1e-6)
        assert np.isnan(made.behaviour_logprobs[: made.prompt_tokens]).all()
        assert made.sampling == sampling


def test_greedy_logprobs_are_those_of_the_full_softmax():
    policy = tiny(seed=1)
    (made,) = complete(policy, [ids(A, B)], sampling=Sampling(temperature=0.0))
    np.testing.assert_allclose(
        made.logprobs, step_logprobs(policy, [A, B], made.token_ids, FULL), rtol=0, atol=1e-6
    )


def test_the_stop_token_is_an_action_with_its_owner_weight_and_logprob():
    policy = tiny(seed=0, name="student", version=7)
    rows = policy.sample(
        [prompt(A)], samples_per_prompt=64, sampling=FULL, max_new_tokens=5, seed=0
    )
    stopped = [r for r in rows if r.stopped]
    assert 5 < len(stopped) < 64, "the example must show both ends"
    for made in stopped:
        assert made.token_ids[-1] == EOS
        assert (made.completion_ids[:-1] != EOS).all()
        assert made.owners[made.owner_codes[-1]] == "student@7"
        assert made.weights[-1] == 1
        assert made.behaviour_logprobs[-1] < 0
    for made in rows:
        if not made.stopped:
            assert len(made.completion_ids) == 5
            assert EOS not in made.completion_ids
        assert EOS not in policy.to_ids(made.completion)


def test_a_stop_token_at_the_limit_is_a_stop_and_no_cut():
    policy = tiny(seed=0)
    made = complete(policy, [ids(A)] * 200, limit=3)
    last = [c for c in made if len(c.token_ids) == 3 and c.token_ids[-1] == EOS]
    assert last
    assert all(c.stopped for c in last)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("sampling", [FULL, Sampling(0.0), TRANSFORMS[-1]], ids=str)
def test_a_row_does_not_depend_on_its_batch_order_or_size(architecture, sampling, monkeypatch):
    policy = tiny(seed=5, architecture=architecture)
    prefixes, seeds = PREFIXES * 3, list(range(100, 112))
    alone = [
        complete(policy, [p], sampling=sampling, limit=12, seeds=[s])[0]
        for p, s in zip(prefixes, seeds, strict=True)
    ]
    for max_rows in (1, 3, 5, 256):
        monkeypatch.setattr("statewise.policy.policy.MAX_ROWS", max_rows)
        made = complete(policy, prefixes, sampling=sampling, limit=12, seeds=seeds)
        assert all(map(same, made, alone))
    order = [7, 2, 11, 0, 9, 4, 1, 10, 3, 8, 6, 5]
    made = complete(
        policy,
        [prefixes[i] for i in order],
        sampling=sampling,
        limit=12,
        seeds=[seeds[i] for i in order],
    )
    assert all(same(c, alone[i]) for c, i in zip(made, order, strict=True))


def test_other_seeds_give_other_rows_and_the_same_seed_the_same():
    policy = tiny()
    first = complete(policy, [ids(A)] * 8, limit=12)
    assert all(map(same, first, complete(policy, [ids(A)] * 8, limit=12)))
    other = complete(policy, [ids(A)] * 8, limit=12, seeds=range(50, 58))
    assert not all(map(same, first, other))
    assert len({tuple(c.token_ids.tolist()) for c in first}) > 1, "rows share their draws"


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_greedy_is_transformers_own_greedy(architecture):
    for seed in range(4):
        policy = tiny(seed=seed, architecture=architecture)
        made = complete(policy, PREFIXES, sampling=Sampling(0.0), limit=10)
        for prefix, completion in zip(PREFIXES, made, strict=True):
            tokens = torch.tensor(prefix[None].astype(np.int64))
            theirs = policy.module.generate(
                tokens,
                attention_mask=torch.ones_like(tokens),
                do_sample=False,
                max_new_tokens=10,
                eos_token_id=EOS,
                pad_token_id=A,
            )
            assert completion.token_ids.tolist() == theirs[0, len(prefix) :].tolist()


def test_every_row_has_its_own_limit_and_0_is_no_token():
    policy = tiny(seed=2)
    limits = [0, 1, 5, 3]
    made = complete(policy, PREFIXES, limit=limits)
    assert [len(c.token_ids) <= n for c, n in zip(made, limits, strict=True)] == [True] * 4
    assert len(made[0].token_ids) == 0
    assert not made[0].stopped
    for completion, limit in zip(made, limits, strict=True):
        assert completion.stopped or len(completion.token_ids) == limit
    whole = complete(policy, PREFIXES, limit=12)
    for completion, limit, long in zip(made, limits, whole, strict=True):
        assert completion.token_ids.tolist() == long.token_ids[:limit].tolist()


@pytest.mark.parametrize("string", ["ab", "#### 1#", "bb", "b"])
def test_a_stop_string_ends_the_row_at_the_token_that_completes_it(string):
    policy = tiny(seed=0)
    prefixes = [ids(A)] * 40
    plain = complete(policy, prefixes, limit=20)
    made = complete(policy, prefixes, limit=20, stop_strings=("never", string))
    cut = 0
    for free, ended in zip(plain, made, strict=True):
        texts = [policy.to_text(free.token_ids[:n]) for n in range(len(free.token_ids) + 1)]
        first = next((n for n, text in enumerate(texts) if string in text), None)
        if first is None:
            assert same(free, ended)
            continue
        cut += 1
        assert ended.token_ids.tolist() == free.token_ids[:first].tolist()
        np.testing.assert_allclose(ended.logprobs, free.logprobs[:first], rtol=0, atol=1e-6)
        assert ended.stopped
    assert cut > 0


def test_sampling_works_where_pad_is_eos():
    shared = tiny(seed=0, tokenizer=tokenizer(pad="<eos>"))
    plain = tiny(seed=0)
    assert shared.tokenizer.pad_token_id == shared.tokenizer.eos_token_id == EOS
    assert all(map(same, complete(shared, PREFIXES), complete(plain, PREFIXES)))
    # Stop tokens inside a prefix are tokens like any other; they are not taken for padding.
    prefix = [ids(EOS, EOS, A), ids(B)]
    made = complete(shared, prefix)
    exact = step_logprobs(shared, prefix[0], made[0].token_ids, FULL)
    np.testing.assert_allclose(made[0].logprobs, exact, rtol=0, atol=1e-6)


def test_the_stop_tokens_of_the_generation_config_stop_too():
    policy = tiny(seed=0)
    module = policy.module
    module.generation_config.eos_token_id = [EOS, B]
    both = type(policy)(module, policy.tokenizer, name="both")
    assert both.stop_token_ids == {EOS, B}
    ends = {int(c.token_ids[-1]) for c in complete(both, [ids(A)] * 40, limit=30) if c.stopped}
    assert ends == {EOS, B}


def test_the_tokenizers_eos_stops_where_the_generation_config_names_another():
    policy = tiny()
    policy.module.generation_config.eos_token_id = B  # as a chat model's end of turn
    other = type(policy)(policy.module, policy.tokenizer, name="other")
    assert other.stop_token_ids == {EOS, B}


def test_samples_of_a_prompt_and_of_equal_prompts_are_drawn_apart():
    start = prompt(A)
    rows = tiny().sample(
        [start, start], samples_per_prompt=4, sampling=FULL, max_new_tokens=8, seed=0
    )
    drawn = [tuple(r.completion_ids) for r in rows]
    assert len(set(drawn[:4])) > 1
    assert drawn[:4] != drawn[4:]


def test_samples_of_a_prompt_share_a_group_and_equal_prompts_do_not():
    policy = tiny()
    start = prompt(A)
    rows = policy.sample(
        [start, start], samples_per_prompt=3, sampling=FULL, max_new_tokens=3, seed=0
    )
    groups = [r.group_id for r in rows]
    assert groups[:3] == [groups[0]] * 3
    assert groups[3:] == [groups[3]] * 3
    assert groups[0] != groups[3]
    again = policy.sample([start], sampling=FULL, max_new_tokens=3, seed=1)
    assert again[0].group_id not in groups, "groups of two rollouts merge"


def test_sampling_leaves_the_policy_in_the_mode_it_was_in_and_without_gradients():
    policy = tiny()
    for training in (True, False):
        policy.module.train(training)
        complete(policy, PREFIXES)
        assert policy.module.training is training
    assert all(p.grad is None and p.requires_grad for p in policy.module.parameters())


def test_tokens_read_and_written_are_counted():
    policy = tiny()
    made = complete(policy, PREFIXES)
    assert policy.tokens_read == 1 + 5 + 2 + 3
    assert policy.tokens_written == sum(len(c.token_ids) for c in made)


def test_decoding_may_fill_the_context_to_its_last_token():
    policy = tiny(context=8, architecture="gpt2")
    made = complete(policy, [ids(A, B, A)] * 20, limit=5)
    assert max(len(c.token_ids) for c in made) == 5
    assert policy.context_tokens == 8
    assert tiny().context_tokens == CONTEXT


@pytest.mark.parametrize("sampling", TRANSFORMS, ids=str)
def test_transform_keeps_the_tokens_that_the_definition_keeps(sampling):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        logits = torch.randn(50, 9, dtype=torch.float64) * 2
    found = transform(logits, sampling).log_softmax(-1)
    expected = torch.stack([transformed(line, sampling) for line in logits])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_top_p_keeps_the_token_that_crosses_the_line_and_none_after_it():
    logits = torch.tensor([[0.1, 0.6, 0.3]], dtype=torch.float64).log()
    kept = [transform(logits, Sampling(top_p=p)).isfinite()[0].tolist() for p in (0.59, 0.61, 0.95)]
    assert kept == [[False, True, False], [False, True, True], [True, True, True]]
    even = transform(torch.zeros(1, 4), Sampling(top_p=0.5))  # masses of exactly 1/4
    assert int(even.isfinite().sum()) == 2


def test_choose_inverts_the_cumulative_distribution():
    logits = torch.tensor([[0.25, 0.0, 0.25, 0.5]], dtype=torch.float64).log()
    draws = [0.0, 0.2499, 0.25, 0.4999, 0.5, 1 - 2**-53]
    made = [choose(logits, FULL, torch.tensor([u], dtype=torch.float64)) for u in draws]
    assert [int(action) for action, _ in made] == [0, 0, 2, 2, 3, 3]
    assert [round(float(p.exp()), 12) for _, p in made] == [0.25, 0.25, 0.25, 0.25, 0.5, 0.5]


def test_a_token_that_fell_out_is_drawn_at_neither_end():
    """At 0 where the first token fell out, and near 1 where rounding leaves the total below 1."""
    first = torch.tensor([[0.0, 0.5, 0.5]]).log()
    assert int(choose(first, FULL, torch.zeros(1, dtype=torch.float64))[0]) == 1
    nearly = torch.tensor([1 - 2**-53], dtype=torch.float64)
    for p in np.linspace(0.5, 0.85, 50):
        last = torch.tensor([[p, 0.95 - p, 0.05]], dtype=torch.float32).log()
        assert int(choose(last, Sampling(top_k=2), nearly)[0]) < 2, p


def test_no_more_rows_are_decoded_at_a_time_than_their_keys_and_values_may_take(monkeypatch):
    policy, taken = tiny(), []
    text = policy.config
    per_token = 2 * text.num_hidden_layers * text.num_key_value_heads * text.head_dim * 8
    monkeypatch.setattr("statewise.policy.policy.CACHE_BYTES", 3 * per_token * 14)
    real = rollout.decode
    monkeypatch.setattr(rollout, "decode", lambda *a: taken.append(a[-1].max_rows) or real(*a))
    complete(policy, [ids(A, B)] * 5, limit=12)  # 14 tokens a row
    assert taken == [3]
