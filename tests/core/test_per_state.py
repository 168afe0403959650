"""Numbers per state, clustered errors, and the probes that only aggregate them.

In the enumerable world every number has another way to be had: probabilities of all completions. A test
that compares exactly cannot raise a false alarm; one that samples says its rate.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from enumerable import (
    EOS,
    ONE,
    A,
    B,
    completion_logits,
    completions,
    ids,
    probabilities,
    prompt,
    row,
    tabular,
    tiny,
)

from statewise.errors import ConfigError, DataError
from statewise.probes.clusters import clustered_mean, depth_bins, linear_mean
from statewise.probes.exposure import exposure_gap
from statewise.probes.fidelity import teacher_fidelity
from statewise.probes.forgetting import forgetting_law, sequence_kl
from statewise.probes.locality import locality_matrix, update_locality
from statewise.probes.overlap import overlap
from statewise.probes.per_state import per_state, row_sums
from statewise.probes.reachability import _lowest, reachability
from statewise.probes.signal_mass import signal_mass
from statewise.probes.signal_tail import signal_tail
from statewise.stats import Estimate
from statewise.trajectory import Sampling, Segment

EVERY = completions()
FULL = Sampling()


def listed(start=(A,), name="p", those=EVERY, sampling: Sampling | None = FULL):
    made = prompt(*start, name=name)
    return [row(made, Segment("student@0", ids(*y)), sampling=sampling) for y in those]


def exact(policy, start=(A,), those=EVERY) -> list[np.ndarray]:
    """Log-probs over the vocabulary at each state of each completion, from whole rows."""
    with torch.no_grad():
        return [
            lines.log_softmax(-1).numpy() for lines in completion_logits(policy, [*start], those)
        ]


def sampled(policy, count: int, *, seed: int, start=(A,), prompts: int = 1):
    """Rollouts on `prompts` prompts that read alike and are different items."""
    items = [prompt(*start, name=f"p{i}") for i in range(prompts)]
    return policy.sample(
        items, samples_per_prompt=count, sampling=FULL, max_new_tokens=4, seed=seed
    )


# ---- per state ----------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens_per_microbatch", [5, 100_000])
def test_every_number_is_that_of_the_whole_distribution(tokens_per_microbatch):
    policy, reference = tabular(0), tabular(1)
    rows = listed()
    table = per_state(policy, rows, reference, tokens_per_microbatch=tokens_per_microbatch)
    mine, theirs = np.concatenate(exact(policy)), np.concatenate(exact(reference))
    actions = np.concatenate([np.array(y) for y in EVERY])
    at = np.arange(len(actions))
    np.testing.assert_array_equal(table.action_ids, actions)
    np.testing.assert_array_equal(table.row, np.repeat(at[: len(EVERY)], [len(y) for y in EVERY]))
    np.testing.assert_array_equal(table.depth, np.concatenate([range(len(y)) for y in EVERY]))
    expected = {
        "logprob": mine[at, actions],
        "reference_logprob": theirs[at, actions],
        "entropy": -(np.exp(mine) * mine).sum(-1),
        "reference_entropy": -(np.exp(theirs) * theirs).sum(-1),
        "margin": np.sort(mine)[:, -1] - np.sort(mine)[:, -2],
        "reference_margin": np.sort(theirs)[:, -1] - np.sort(theirs)[:, -2],
        "greedy": (mine.argmax(-1) == actions).astype(float),
        "kl_policy_reference": (np.exp(mine) * (mine - theirs)).sum(-1),
        "kl_reference_policy": (np.exp(theirs) * (theirs - mine)).sum(-1),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(getattr(table, name), values, atol=1e-12, err_msg=name)


def test_unsupervised_states_count_and_prompts_do_not():
    made = row(
        prompt(A, B, name="p"),
        Segment("student@0", ids(A), weight=0.0),
        Segment("teacher:x@0", ids(B, EOS)),
    )
    table = per_state(tiny(0), [made])
    assert table.depth.tolist() == [0, 1, 2]
    assert table.kl_policy_reference is None


def test_a_sample_without_states_is_refused():
    with pytest.raises(DataError, match="holds no state"):
        per_state(tiny(0), [row(prompt(A), Segment("student@0", ids()))])


# ---- clustered errors ---------------------------------------------------------------------------


def test_a_clustered_interval_covers_and_a_naive_one_would_not():
    """400 samples of 30 prompts, 1 to 5 states each: nominal 0.95, accepted 0.92 to 0.98.

    Binomial tails at that coverage: false alarm below 2 %.
    """
    held = naive = 0
    for repeat in range(400):
        rng = np.random.default_rng(repeat)
        sizes = rng.integers(1, 6, 30)
        prompts = np.repeat([f"p{i}" for i in range(30)], sizes)
        values = np.repeat(rng.normal(size=30), sizes) + 0.3 * rng.normal(size=sizes.sum())
        found = clustered_mean(values, list(prompts), "nats")
        held += found.low <= 0 <= found.high
        naive += abs(values.mean()) <= 1.96 * values.std(ddof=1) / len(values) ** 0.5
    assert 0.92 <= held / 400 <= 0.98
    assert naive / 400 < 0.85


def test_a_clustered_error_by_hand():
    """Mean 3 of (1, 3) and (5): the clusters' sums of residuals over 3 states are -2/3 and 2/3."""
    found = clustered_mean(np.array([1.0, 3.0, 5.0]), ["a", "a", "b"], "nats")
    assert found.value == 3.0
    assert found.stderr == pytest.approx((2 / 1 * (4 / 9 + 4 / 9)) ** 0.5)


def test_a_difference_on_shared_prompts_is_paired():
    # Two prompts; b = a - (1, 3): the difference is 2, its parts (1 - 2)/2 and (3 - 2)/2.
    a = linear_mean(np.array([10.0, 50.0]), ["p", "q"])
    b = linear_mean(np.array([9.0, 47.0]), ["p", "q"])
    found = (a - b).estimate("nats")
    assert found.value == 2.0
    assert found.stderr == pytest.approx((2 * (0.25 + 0.25)) ** 0.5)
    apart = linear_mean(np.array([9.0, 47.0]), ["r", "s"])
    # By hand: parts +-10 and +-9.5 over 4 clusters: sqrt(4/3 * (200 + 180.5)).
    assert (a - apart).estimate("nats").stderr == pytest.approx((4 / 3 * 380.5) ** 0.5)


def test_a_quotient_has_the_error_of_the_delta_method():
    a = linear_mean(np.array([2.0, 4.0]), ["p", "q"])
    b = linear_mean(np.array([1.0, 1.5]), ["r", "s"])
    found = (a / b).estimate("ratio")
    # 3 / 1.25 = 2.4; parts: +-0.5 / 1.25 = 0.4 and 2.4 * +-0.125 / 1.25 = 0.24.
    assert found.value == pytest.approx(2.4)
    assert found.stderr == pytest.approx((4 / 3 * 2 * (0.4**2 + 0.24**2)) ** 0.5)
    # On the logarithm, t_{.975, 3} = 3.182: a factor exp(3.182 se / 2.4) either way, never below 0.
    factor = math.exp(3.1824463 * found.stderr / 2.4)
    assert found.low == pytest.approx(2.4 / factor)
    assert found.high == pytest.approx(2.4 * factor)
    with pytest.raises(DataError, match="quotient by 0"):
        a / linear_mean(np.zeros(2), ["r", "s"])


def test_equal_clusters_have_no_known_error():
    assert clustered_mean(np.full(6, 0.1), ["a", "b", "c"] * 2, "share").stderr is None


def test_values_that_are_not_finite_are_a_fault():
    with pytest.raises(DataError, match="1 of 2 states"):
        linear_mean(np.array([1.0, math.nan]), ["a", "b"])
    with pytest.raises(DataError, match="no states"):
        linear_mean(np.array([1.0]), ["a"], np.array([False]))


def test_depth_bins_refuse_edges_that_do_not_rise():
    with pytest.raises(DataError, match="begin at 0 and rise"):
        depth_bins(np.array([1]), (0, 8, 4))


# ---- locality -----------------------------------------------------------------------------------


def test_the_locality_matrix_has_the_exact_mean_of_kappa_on_each_sample():
    start, policies = tabular(0), {"one": tabular(1), "two": tabular(2)}
    samples = {"dataset": listed(those=[(A, EOS), (B, B, EOS)]), "retention": listed(start=(ONE,))}
    found = locality_matrix(policies, start, samples)
    for name, policy in policies.items():
        for sample, (s, those) in {
            "dataset": ((A,), [(A, EOS), (B, B, EOS)]),
            "retention": ((ONE,), EVERY),
        }.items():
            mine = np.concatenate(exact(policy, s, those))
            theirs = np.concatenate(exact(start, s, those))
            kappa = (np.exp(mine) * (mine - theirs)).sum(-1).mean()
            assert found[name].moved[sample].value == pytest.approx(kappa, rel=1e-12)


def test_the_locality_index_is_1_for_one_sample_and_none_for_a_policy_that_stays():
    samples = {"a": listed(name="p") + listed((B,), name="q"), "b": listed((ONE,), name="r")}
    found = update_locality(tabular(1), tabular(0), samples, trained="a", retention="a")
    assert found.index.value == pytest.approx(1.0)
    found = update_locality(tabular(1), tabular(0), samples, trained="a", retention="b")
    assert found.index.value == pytest.approx(found.moved["a"].value / found.moved["b"].value)
    still = update_locality(tabular(0), tabular(0), samples, trained="a", retention="b")
    assert still.index is None
    assert still.moved["a"].value == 0.0
    with pytest.raises(ConfigError, match="no sample 'c' of states; known: a, b"):
        update_locality(tabular(1), tabular(0), samples, trained="c")


# ---- reachability -------------------------------------------------------------------------------


def test_reachability_by_hand():
    policy = tabular(0)
    own = listed(those=[(A, A, EOS), (A, B, EOS), (B, A, EOS)], name="own")
    taught = listed(those=[(B, A, EOS)], name="taught")
    one = {y: exact(policy, those=[y])[0] for y in [(A, A, EOS), (A, B, EOS), (B, A, EOS)]}
    means = {y: np.cumsum([line[a] for line, a in zip(lines, y, strict=True)]) / [1, 2, 3]
             for y, lines in one.items()}  # fmt: skip
    expected = []
    for t in (1, 2):  # states of depth 1 and 2; that of depth 0 is the prompt
        x = means[(B, A, EOS)][t - 1]
        others = [m[t - 1] for m in means.values()]
        expected.append(np.mean([(o < x) + 0.5 * (o == x) for o in others]))
    found = reachability(policy, taught, own)
    assert found.percentile.value == pytest.approx(np.mean(expected))
    assert found.logprob.value == pytest.approx(np.mean(means[(B, A, EOS)][:2]), abs=1e-5)
    assert found.percentile.n == 2
    assert found.beyond == 0.0


def test_states_beyond_the_own_ones_have_no_percentile():
    own, taught = listed(those=[(A, EOS)]), listed(those=[(A, B, A, EOS)])
    assert reachability(tabular(0), taught, own).beyond == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="no training state lies at a depth"):
        reachability(tabular(0), taught, listed(those=[(EOS,)]))


def test_own_states_lie_at_the_half_and_foreign_ones_below():
    """40 pairs of samples of one policy on one set of prompts: 95 % intervals hold 0.5 in 34 or more.

    At nominal coverage a binomial falls below 34 of 40 with probability 0.3 %.
    """
    policy, held = tiny(0), 0
    for repeat in range(40):
        own = sampled(policy, 2, seed=2 * repeat, prompts=30)
        taught = sampled(policy, 2, seed=2 * repeat + 1, prompts=30)
        found = reachability(policy, taught, own).percentile
        held += found.low <= 0.5 <= found.high
    assert held >= 34
    foreign = sampled(tiny(5), 2, seed=1, prompts=30)
    assert reachability(policy, foreign, own).percentile.high < 0.5


def test_the_lowest_ranks_of_states_of_one_law_are_five_in_a_hundred_exactly():
    """Whichever of n + 1 states of one law is asked: the mean over all is 0.05, for few and many, ties or none."""
    for pooled in (
        np.arange(3.0),
        np.arange(6.0),
        np.arange(65.0),
        np.arange(65.0) // 7,
        np.zeros(5),
    ):
        found = [
            _lowest(np.delete(pooled, i), pooled[i : i + 1], np.ones((1, len(pooled) - 1), bool))[0]
            for i in range(len(pooled))
        ]
        assert np.mean(found) == pytest.approx(0.05, abs=1e-12)
    nothing = _lowest(np.zeros(2), np.zeros(1), np.zeros((1, 2), bool))
    assert np.isnan(nothing).all()


def test_states_of_ones_own_prompt_are_no_rank_to_compare_with():
    """A prompt decides its state alone: each one's twin is its own, and the rank among the others is uniform."""
    values = np.arange(10.0)
    others = ~np.eye(10, dtype=bool)
    assert _lowest(values, values, others).mean() == pytest.approx(0.05)
    assert _lowest(values, values, np.ones((10, 10), bool)).mean() < 0.04


def test_hardly_visited_is_five_in_a_hundred_for_own_states_of_a_sampled_policy():
    """40 pairs of samples of one policy on 12 prompts; counted below the 5th percentile it was 0.11."""
    policy = tiny(0)
    starts = [tuple(int(x) for x in np.base_repr(i, 3).zfill(4)) for i in range(12)]

    def drawn(seed: int):
        items = [prompt(*start, name=f"p{i}") for i, start in enumerate(starts)]
        return policy.sample(items, sampling=FULL, max_new_tokens=8, seed=seed)

    found = [
        reachability(policy, drawn(2 * s), drawn(2 * s + 1)).hardly_visited.value for s in range(40)
    ]
    assert np.mean(found) == pytest.approx(0.05, abs=4 * np.std(found) / 40**0.5)
    assert np.mean(found) < 0.08


# ---- the forgetting law -------------------------------------------------------------------------


def test_sums_over_visited_states_are_the_sequence_divergence():
    """Exact: every completion, each with its probability."""
    policy, base = tabular(0), tabular(1)
    table = per_state(policy, listed(), base)
    p, q = (np.array([*probabilities(who, [A], FULL).values()]) for who in (policy, base))
    sums = row_sums(table, table.kl_policy_reference, len(EVERY))
    assert (p * sums).sum() == pytest.approx((p * np.log(p / q)).sum(), rel=1e-12)


def test_the_forgetting_law_estimates_both_sequence_divergences():
    """4 standard errors either way: false alarm 1e-4 in all."""
    policy, base = tiny(3), tiny(0)
    p, q = (np.array([*probabilities(who, [A], FULL).values()]) for who in (policy, base))
    found = forgetting_law(
        policy,
        base,
        base_rollouts=sampled(base, 1, seed=0, prompts=1500),
        policy_rollouts=sampled(policy, 1, seed=1, prompts=1500),
    )
    forward, backward = (q * np.log(q / p)).sum(), (p * np.log(p / q)).sum()
    assert abs(found.base_policy.value - forward) < 4 * found.base_policy.stderr
    assert abs(found.policy_base.value - backward) < 4 * found.policy_base.stderr
    # The two are told apart by far more than that.
    assert abs(forward - backward) > 8 * found.base_policy.stderr
    assert found.base_policy.n == 1500


def test_each_direction_of_the_forgetting_law_is_its_own():
    """Exact on given rows: the sampler's divergence comes first on the sampler's states."""
    policy, base = tabular(0), tabular(1)
    found = forgetting_law(policy, base, base_rollouts=listed(), policy_rollouts=listed())
    p, q = np.concatenate(exact(policy)), np.concatenate(exact(base))
    forward = (np.exp(q) * (q - p)).sum() / len(EVERY)
    backward = (np.exp(p) * (p - q)).sum() / len(EVERY)
    assert found.base_policy.value == pytest.approx(forward, rel=1e-12)
    assert found.policy_base.value == pytest.approx(backward, rel=1e-12)
    assert abs(forward - backward) > 0.01


def test_only_whole_samples_have_a_sequence_divergence():
    for sampling in (None, Sampling(0.7), Sampling(1.0, 0.9), Sampling(0.0)):
        with pytest.raises(DataError, match="temperature 1 with no top-p"):
            sequence_kl(tabular(0), tabular(1), listed(sampling=sampling))
    assert forgetting_law(tabular(0), tabular(1)).base_policy is None


# ---- a teacher along a rollout ------------------------------------------------------------------


def test_fidelity_is_the_teachers_own_numbers_by_depth():
    teacher = tabular(1)
    lines = exact(teacher)
    found = {f.depth: f for f in teacher_fidelity(teacher, listed(), depths=(0, 1, 3))}
    assert list(found) == ["0", "1-2", "3-"]
    for name, inside in {"0": [0], "1-2": [1, 2], "3-": [3]}.items():
        at = [(line[t], y[t]) for line, y in zip(lines, EVERY, strict=True) for t in inside
              if t < len(y)]  # fmt: skip
        assert found[name].logprob.value == pytest.approx(np.mean([p[a] for p, a in at]))
        entropies = [-(np.exp(p) * p).sum() for p, _ in at]
        assert found[name].entropy.value == pytest.approx(np.mean(entropies))
        agree = np.mean([p.argmax() == a for p, a in at])
        assert found[name].agreement.value == pytest.approx(agree)
        margins = [np.sort(p)[-1] - np.sort(p)[-2] for p, _ in at]
        assert found[name].margin.value == pytest.approx(np.mean(margins))


def test_the_signal_tail_is_that_of_the_log_ratios():
    student, teacher = tabular(0), tabular(1)
    with torch.no_grad():
        teacher.module.trunk.table.mul_(4.0)
    ratios = np.concatenate(
        [(theirs - mine)[range(len(y)), list(y)]
         for mine, theirs, y in zip(exact(student), exact(teacher), EVERY, strict=True)]
    )  # fmt: skip
    size = np.abs(ratios)
    found = signal_tail(student, teacher, listed(), clip=2.0)
    assert found.mean.value == pytest.approx(ratios.mean())
    assert found.p90.value == pytest.approx(np.quantile(size, 0.9))
    assert found.largest.value == pytest.approx(size.max())
    assert found.p50.stderr is None
    assert found.above.value == pytest.approx((size > 5).mean())
    assert found.above.value > 0
    assert found.clipped.value == pytest.approx((size > 2).mean())
    assert found.removed.value == pytest.approx(np.maximum(size - 2, 0).sum() / size.sum())
    with pytest.raises(ConfigError, match="clip must be above 0"):
        signal_tail(student, teacher, listed(), clip=0.0)


def test_on_the_students_own_states_the_mean_signal_is_minus_the_divergence():
    """E over the action of log T - log S is -kl(S||T) at each state. 4 se: false alarm 6e-5."""
    student, teacher = tiny(0), tiny(2)
    rollouts = sampled(student, 1, seed=0, prompts=1500)
    found = signal_tail(student, teacher, rollouts)
    table = per_state(student, rollouts, teacher)
    gap = linear_mean(
        table.reference_logprob - table.logprob + table.kl_policy_reference, table.prompts
    ).estimate("nats")
    assert abs(gap.value) < 4 * gap.stderr
    assert found.mean.value < -4 * found.mean.stderr


def test_a_student_that_is_its_teacher_has_an_empty_signal():
    found = signal_tail(tabular(0), tabular(0), listed())
    assert found.removed.value == found.largest.value == 0.0
    with pytest.raises(DataError, match="there is no signal"):
        signal_mass(tabular(0), tabular(0), listed())


def test_signal_mass_divides_states_and_signal_among_cells():
    student, teacher = tabular(0), tabular(1)
    table = per_state(student, listed(), teacher)
    size = np.abs(table.reference_logprob - table.logprob)
    cells = signal_mass(student, teacher, listed(), entropies=(1.0,), divergences=(0.5, 1.0))
    assert sum(c.states.value for c in cells) == pytest.approx(1)
    assert sum(c.mass.value for c in cells) == pytest.approx(1)
    cell = next(c for c in cells if (c.entropy, c.divergence) == (">=1", "0.5-1"))
    held = (table.entropy >= 1) & (table.kl_policy_reference >= 0.5)
    held &= table.kl_policy_reference < 1
    assert 0 < held.mean() < 1
    assert cell.states.value == pytest.approx(held.mean())
    assert cell.mass.value == pytest.approx(size[held].sum() / size.sum())
    with pytest.raises(ConfigError, match="must rise"):
        signal_mass(student, teacher, listed(), entropies=(1.0, 0.5))


def test_a_cell_without_a_state_holds_nothing_of_the_signal():
    """No entropy over 4 tokens exceeds log 4 = 1.39 nats: everything lies in one cell of four."""
    cells = signal_mass(tabular(0), tabular(1), listed(), entropies=(1.5,), divergences=(0.0,))
    found = {(c.entropy, c.divergence): (c.states, c.mass) for c in cells}
    assert list(found) == [("<1.5", "<0"), ("<1.5", ">=0"), (">=1.5", "<0"), (">=1.5", ">=0")]
    n = found["<1.5", ">=0"][0].n
    for place, both in found.items():
        value = float(place == ("<1.5", ">=0"))
        assert both == (Estimate(value, None, n, "share"),) * 2, place


def test_overlap_by_its_definition():
    student, teacher = tabular(0), tabular(1)
    found = overlap(student, teacher, listed(), k=2)
    ratio, mass, told, gain, gap = [], [], [], [], []
    for p, q in zip(np.concatenate(exact(student)), np.concatenate(exact(teacher)), strict=True):
        both = [int(v) for v in np.argsort(p)[-2:] if v in np.argsort(q)[-2:]]
        ratio.append(len(both) / 2)
        mass.append(np.exp(p[both]).sum())
        told.append(np.exp(q[both]).sum())
        gain.append((np.exp(p[both]) * (q - p)[both]).sum() / max(1, len(both)))
        gap.append((np.exp(p) * p).sum() - (np.exp(q) * q).sum())
    assert 0 in ratio
    for field, values in [("ratio", ratio), ("student_mass", mass), ("teacher_mass", told),
                          ("advantage", gain), ("entropy_gap", gap)]:  # fmt: skip
        assert getattr(found, field).value == pytest.approx(np.mean(values)), field
    with pytest.raises(ConfigError, match="k must lie"):
        overlap(student, teacher, listed(), k=5)


# ---- exposure -----------------------------------------------------------------------------------


def test_the_exposure_gap_is_0_for_one_sample_and_exact_for_two():
    student, teacher = tabular(0), tabular(1)
    mine, theirs = [(A, A, EOS), (B, EOS)], [(A, EOS), (A, B, B, EOS)]
    same = exposure_gap(
        student, teacher, student_rollouts=listed(those=mine), teacher_rollouts=listed(those=mine)
    )
    assert same.gap.value == 0.0
    found = exposure_gap(
        student,
        teacher,
        student_rollouts=listed(those=mine),
        teacher_rollouts=listed(those=theirs),
        depths=(0, 1, 2, 3),
    )

    def divergences(those):
        return [
            (np.exp(q) * (q - p)).sum(-1)
            for p, q in zip(exact(student, those=those), exact(teacher, those=those), strict=True)
        ]

    a, b = divergences(mine), divergences(theirs)
    assert found.gap.value == pytest.approx(np.concatenate(a).mean() - np.concatenate(b).mean())
    assert [e.depth for e in found.by_depth] == ["0", "1", "2"]  # 3 is the teacher's alone
    deep = found.by_depth[2]
    assert deep.excess.value == pytest.approx(a[0][2] - b[1][2])
    assert deep.on_student.value == pytest.approx(a[0][2])


def test_the_direction_of_the_exposure_gap_is_named():
    student, teacher = tabular(0), tabular(1)
    both = {"student_rollouts": listed(), "teacher_rollouts": listed(those=[(EOS,)])}
    forward = exposure_gap(student, teacher, **both, direction="kl_student_teacher")
    swapped = exposure_gap(teacher, student, **both, direction="kl_teacher_student")
    assert forward.gap.value == pytest.approx(swapped.gap.value)
    assert forward.gap.value != pytest.approx(exposure_gap(student, teacher, **both).gap.value)
