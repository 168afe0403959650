"""Movement and drift, against numbers computed another way."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from enumerable import EOS, ONE, A, B, ids, prompt, row, tiny

from statewise.errors import DataError, NotFiniteError
from statewise.policy import Lora, Policy
from statewise.probes import drift_between, hidden_features, mean_kl, update_norm
from statewise.probes.drift import prefixes
from statewise.trajectory import Segment

ROWS = [
    row(prompt(*start), Segment("student@0", ids(*end)))
    for start, end in (([A], [B, ONE, A]), ([B, A], [ONE]), ([ONE], [A, A]))
]


def adapted(*, factor: float) -> Policy:
    """A rank-1 adapter whose every product B A is `factor` times a matrix of ones."""
    policy = tiny(0).with_adapter(Lora(rank=1, alpha=2.0), seed=0)
    with torch.no_grad():
        for name, p in policy.trainable_parameters():
            p.fill_(factor if "lora_B" in name else 1.0)
    return policy


# ---- movement -----------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens_per_microbatch", [4, 100])
def test_mean_kl_is_the_mean_over_states_with_its_clustered_error(tokens_per_microbatch):
    policy, reference = tiny(0, dtype=torch.float64), tiny(1, dtype=torch.float64)
    sums, counts = [], []
    for made in ROWS:
        ids = torch.tensor(made.token_ids[None].astype(np.int64))
        mine, theirs = (
            p.head(p.hidden(ids, torch.tensor([len(made)]))[0]).log_softmax(-1).detach()
            for p in (policy, reference)
        )
        values = (mine.exp() * (mine - theirs)).sum(-1)[made.prompt_tokens - 1 : -1]
        sums.append(float(values.sum()))
        counts.append(len(values))
    found = mean_kl(policy, reference, ROWS, tokens_per_microbatch=tokens_per_microbatch)
    mean = sum(sums) / sum(counts)
    assert found.value == pytest.approx(mean, rel=1e-12)
    assert found.n == sum(counts)
    residuals = (np.array(sums) - mean * np.array(counts)) / np.mean(counts)
    assert found.stderr == pytest.approx(residuals.std(ddof=1) / 3**0.5, rel=1e-12)


def test_mean_kl_of_a_broken_policy_is_a_fault_and_not_0():
    broken = tiny(0)
    with torch.no_grad():
        next(broken.module.parameters()).fill_(float("nan"))
    for policy, reference in ((broken, tiny(1)), (tiny(1), broken)):
        with pytest.raises(NotFiniteError, match="not finite"):
            mean_kl(policy, reference, ROWS)


def test_update_norm_of_a_full_model_counts_every_weight():
    start, policy = tiny(0), tiny(0)
    with torch.no_grad():
        for p in policy.module.parameters():
            p.add_(0.5)
    weights = sum(p.numel() for p in policy.module.parameters())
    assert update_norm(policy, start) == pytest.approx(0.5 * weights**0.5, rel=1e-5)


def test_update_norm_of_an_adapter_is_that_of_its_products():
    policy = adapted(factor=0.25)
    sizes = [
        m.get_delta_weight("default").numel()  # pyright: ignore[reportCallIssue]
        for m in policy.module.modules()
        if hasattr(m, "get_delta_weight")
    ]
    # alpha / rank = 2, B A = 0.25: each weight of each adapted matrix gains 0.5.
    assert update_norm(policy, tiny(0)) == pytest.approx(0.5 * sum(sizes) ** 0.5, rel=1e-6)


def test_update_norm_since_an_adapter_leaves_out_what_was_there():
    assert update_norm(adapted(factor=0.25), adapted(factor=0.25)) == 0.0
    whole = update_norm(adapted(factor=0.5), tiny(0))
    assert update_norm(adapted(factor=0.5), adapted(factor=0.25)) == pytest.approx(whole / 2)


# ---- drift --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 128])
def test_a_feature_is_the_mean_of_a_states_own_hidden_states(rows):
    reader = tiny(0)
    # Beginnings of one another, in no order, twice, and one that only begins alike.
    states = [ids(A, B), ids(A, B, B, A), ids(B), ids(A), ids(A, B, B), ids(A, B), ids(A, A, B)]
    before = reader.tokens_read
    found = hidden_features(reader, states, rows=rows)
    assert reader.tokens_read - before == 4 + 3 + 1, "each beginning is read once"
    with reader.frozen():
        for state, feature in zip(states, found, strict=True):
            row = torch.tensor(state[None].astype(np.int64))
            alone = reader.hidden(row, torch.tensor([len(state)]))[0].mean(0).numpy()
            assert feature == pytest.approx(alone, abs=1e-6)


def test_the_states_of_a_completion_by_hand_without_its_stop_token():
    stopped = row(prompt(A, B), Segment("student@0", ids(B, ONE, A, EOS)))
    found = prefixes(stopped, (0.25, 0.5, 1.0))  # 0.75, 1.5 and 3 of 3 tokens, halves to even
    assert [p.tolist() for p in found] == [[A, B, B], [A, B, B, ONE], [A, B, B, ONE, A]]
    cut = row(prompt(A), Segment("student@0", ids(B, ONE)), stopped=False)
    assert [p.tolist() for p in prefixes(cut, (0.5, 1.0))] == [[A, B], [A, B, ONE]]
    empty = row(prompt(A), Segment("student@0", ids(EOS)))
    assert [p.tolist() for p in prefixes(empty, (1.0,))] == [[A]]


@pytest.mark.parametrize("rows", [1, 2, 128])
def test_features_of_a_prefix_are_its_own_mean_in_the_order_given(rows):
    reader = tiny(3)
    states = [ids(A, B), ids(ONE, A, B, A, B), ids(B), ids(A, ONE, ONE)]
    found = hidden_features(reader, states, rows=rows)
    for state, feature in zip(states, found, strict=True):
        tokens = torch.tensor(state[None].astype(np.int64))
        with torch.no_grad():
            alone = reader.hidden(tokens, torch.tensor([len(state)]))[0].mean(0)
        np.testing.assert_allclose(feature, alone.float().numpy(), rtol=0, atol=1e-6)


def test_mmd_by_hand():
    # Two prompts, one state, one coordinate. Pooled -3, 1, -1, 3: variance 5, so distances squared
    # are 16/5 (twice), 4/5 (three times), 36/5; their median is 2. h(1, 2) = k(x1, x2) + k(y1, y2)
    # - k(x1, y2) - k(y1, x2).
    x, y = np.array([-3.0, 1.0]).reshape(2, 1, 1), np.array([-1.0, 3.0]).reshape(2, 1, 1)

    def k(a: float, b: float) -> float:
        return float(np.exp(-((a - b) ** 2) / 5 / 4))

    expected = k(-3, 1) + k(-1, 3) - k(-3, 3) - k(-1, 1)
    found = drift_between(x, y, permutations=9, seed=0)
    assert found.mmd2 == pytest.approx(expected, rel=1e-12)
    biased = (2 + 2 * k(-3, 1)) / 4 + (2 + 2 * k(-1, 3)) / 4
    biased -= 2 * (k(-3, -1) + k(-3, 3) + k(1, -1) + k(1, 3)) / 4
    assert found.mmd_biased == pytest.approx(biased**0.5, rel=1e-12)
    assert found.n == 2
    # Two swaps differ, and the other has -h(1, 2): p is 1 where h is below 0, else a half, never less.
    assert found.least_p == 0.5
    assert found.p_value == (0.5 if expected > 0 else 1.0)


def test_few_prompts_give_an_exact_p_that_is_never_small():
    """Moved as far as can be: the largest of the 2^5 swaps of 6 prompts, p = 1/32 and no less."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3, 2))
    found = drift_between(x, x + 50, permutations=999, seed=0)
    assert (found.p_value, found.least_p) == (1 / 32, 1 / 32)
    many = drift_between(
        rng.normal(size=(40, 1, 2)), rng.normal(size=(40, 1, 2)), permutations=99, seed=0
    )
    assert many.least_p == 0.01


def test_the_expectation_without_drift_is_0_with_the_fitted_kernel_too():
    """All 2^5 ways to deal each prompt's two samples, equally likely under one law, their kernel fitted to them."""
    rng = np.random.default_rng(1)
    pairs = rng.normal(size=(2, 5, 2, 3)) + 3 * rng.normal(size=(1, 5, 1, 3))
    values, small = [], 0
    for swap in itertools.product((False, True), repeat=5):
        keep = np.array(swap)[:, None, None]
        x, y = np.where(keep, pairs[1], pairs[0]), np.where(keep, pairs[0], pairs[1])
        found = drift_between(x, y, permutations=99, seed=0)
        values.append(found.mmd2)
        small += found.p_value <= 0.25
    assert np.mean(values) == pytest.approx(0.0, abs=1e-12)
    assert np.std(values) > 1e-3
    assert small / 32 == 0.25  # the test is exact


def test_one_prompt_has_no_drift_and_no_p_value():
    """0 pairs: what is not a number is as large as nothing, so p would be the smallest that there is."""
    x = np.arange(4.0).reshape(1, 4, 1)
    with pytest.raises(DataError, match="there is one prompt; give two or more"):
        drift_between(x, x + 1, permutations=19, seed=0)


def test_drift_raises_no_more_false_alarms_than_its_level_and_its_mean_is_0():
    """300 pairs of samples of one law with strong prompts: nominal 0.05, accepted 0.02 to 0.09."""
    alarms, values = 0, []
    for repeat in range(300):
        rng = np.random.default_rng(repeat)
        prompts = rng.normal(size=(20, 1, 3)) * 3
        x, y = (prompts + rng.normal(size=(20, 2, 3)) for _ in range(2))
        found = drift_between(x, y, permutations=99, seed=repeat)
        alarms += found.p_value <= 0.05
        values.append(found.mmd2)
    assert 0.02 <= alarms / 300 <= 0.09
    assert abs(np.mean(values)) < 4 * np.std(values) / 300**0.5


def test_drift_finds_a_shift_that_hides_behind_the_spread_of_the_prompts():
    rng = np.random.default_rng(0)
    prompts = rng.normal(size=(60, 1, 3)) * 3
    x, y = prompts + rng.normal(size=(60, 2, 3)), prompts + 1 + rng.normal(size=(60, 2, 3))
    assert drift_between(x, y, permutations=199, seed=0).p_value == 1 / 200
