"""Probes that compare samples or weights, or that sample themselves."""

from __future__ import annotations

import itertools
from dataclasses import replace
from math import comb

import numpy as np
import pytest
import torch
from enumerable import (
    EOS,
    ONE,
    A,
    B,
    completions,
    gradient_of,
    ids,
    logprobs,
    probabilities,
    prompt,
    row,
    step_logprobs,
    tabular,
    tiny,
)
from test_per_state import EVERY, FULL, listed, sampled
from test_probes import adapted

from statewise.arms import Stream, Term
from statewise.data import Prompts
from statewise.errors import ConfigError, DataError, ModelError
from statewise.gradient import Rollout
from statewise.objectives import CrossEntropy
from statewise.probes.audit import on_policy_audit
from statewise.probes.behaviour import behaviour, pass_at_k, retained
from statewise.probes.c2st import two_sample_classifier
from statewise.probes.coverage import diversity, precision_recall
from statewise.probes.drift import drift_between, lexical_jaccard, plain_distances
from statewise.probes.geometry import update_geometry
from statewise.probes.interference import block_jackknife, gradient_geometry
from statewise.probes.repair import repair_curve
from statewise.probes.splice import splice_matrix
from statewise.rewards import ExactAnswer, final_answer
from statewise.signals import Labels
from statewise.sources import Dataset
from statewise.supervision import OwnActions
from statewise.trajectory import Sampling, Segment

REWARD = ExactAnswer()


def worth(_prompt, text: str) -> float:
    """1 for a marked answer anywhere."""
    return float("#### 1" in text)


def solved(y) -> float:
    return float(ONE in y)


def value(policy, prefix, budget: int) -> float:
    """`V(prefix)` with at most `budget` more tokens, by listing."""
    if budget == 0:
        return solved(prefix)
    whole = probabilities(policy, [A, *prefix], FULL, horizon=budget)
    return sum(p * solved((*prefix, *rest)) for rest, p in whole.items())


# ---- splice and repair --------------------------------------------------------------------------


def spliced(first, second, depth: int) -> float:
    """The exact score of a cell: a listing of prefixes, each continued by listing."""
    total, seen = 0.0, {}
    for y, p in probabilities(first, [A], FULL).items():
        seen[y[:depth]] = seen.get(y[:depth], 0.0) + p
    for prefix, p in seen.items():
        ended = EOS in prefix
        total += p * (solved(prefix) if ended else value(second, prefix, 4 - depth))
    return total


def test_the_splice_matrix_is_that_of_the_listing():
    """Eight cells and four contrasts within 4 standard errors: false alarm below 1e-3."""
    policies = {"s": tiny(0), "t": tiny(4)}
    items = [prompt(A, name=f"p{i}") for i in range(800)]
    found = splice_matrix(policies, items, worth, depths_tokens=(1, 2), max_new_tokens=4, seed=3)
    truth = {}
    for cell in found.cells:
        key = cell.first, cell.second, cell.depth_tokens
        truth[key] = spliced(policies[key[0]], policies[key[1]], key[2])
        assert abs(cell.score.value - truth[key]) < 4 * cell.score.stderr, key
    assert len(truth) == 8
    assert max(truth.values()) - min(truth.values()) > 0.1
    for name, e in found.states.items():
        first, second = name.split("@")[0].split(">")
        depth = int(name.split("@")[1])
        states = truth[first, second, depth] - truth[second, second, depth]
        assert abs(e.value - states) < 4 * e.stderr, name
        local = truth[first, second, depth] - truth[first, first, depth]
        found_local = found.behaviour[name]
        assert abs(found_local.value - local) < 4 * found_local.stderr, name


def test_a_cell_does_not_change_when_the_matrix_grows():
    items = [prompt(A, name=f"p{i}") for i in range(20)]
    settings = {"depths_tokens": (1,), "max_new_tokens": 4, "seed": 0}
    small = splice_matrix({"s": tiny(0)}, items, worth, **settings)
    large = splice_matrix({"s": tiny(0), "t": tiny(4)}, items, worth, **settings)
    assert small.cells[0].scores.tolist() == large.cells[0].scores.tolist()


def test_a_completion_that_ended_before_the_cut_keeps_its_end():
    policy = tiny(0)
    items = [prompt(A, name=f"p{i}") for i in range(50)]
    (cell,) = splice_matrix(
        {"s": policy},
        items,
        lambda _, text: float(text == ""),
        depths_tokens=(3,),
        max_new_tokens=4,
    ).cells
    # An empty text is a stop at once, whoever would go on.
    ended = probabilities(policy, [A], FULL)[(EOS,)]
    assert abs(cell.score.value - ended) < 4 * (ended * (1 - ended) / 50) ** 0.5
    assert 0 < cell.open < 1


def test_the_repair_curve_is_the_gap_of_values_at_the_students_states():
    """6 numbers within 4 standard errors: false alarm 4e-4."""
    student, teacher = tiny(0), tiny(4)
    rollouts = sampled(student, 1, seed=1, prompts=1200)
    curve = repair_curve(
        student, teacher, rollouts, worth, depths_tokens=(1, 2), max_new_tokens=4, seed=7
    )
    for point in curve:
        c = point.depth_tokens
        reached = {}
        for y, p in probabilities(student, [A], FULL).items():
            if len(y) > c:
                reached[y[:c]] = reached.get(y[:c], 0.0) + p
        total = sum(reached.values())
        exact = [
            sum(p * value(policy, y, 4 - c) for y, p in reached.items()) / total
            for policy in (teacher, student)
        ]
        assert abs(point.teacher.value - exact[0]) < 4 * point.teacher.stderr
        assert abs(point.student.value - exact[1]) < 4 * point.student.stderr
        assert abs(point.gain.value - (exact[0] - exact[1])) < 4 * point.gain.stderr
        assert abs(exact[0] - exact[1]) > 0.02


def test_cuts_must_leave_something_on_both_sides():
    for depth in (0, 4):
        with pytest.raises(
            ConfigError, match="a cut must lie between 1 and max_new_tokens - 1 = 3"
        ):
            splice_matrix(
                {"s": tiny(0)}, [prompt(A)], worth, depths_tokens=(depth,), max_new_tokens=4
            )
    with pytest.raises(DataError, match="no rollout reaches"):
        repair_curve(
            tiny(0), tiny(1), listed(those=[(EOS,)]), worth, depths_tokens=(2,), max_new_tokens=4
        )


# ---- the audit ----------------------------------------------------------------------------------


def scored(policy, those, *, sampling=FULL, version: int = 0):
    """Trajectories of listed completions with the policy's exact log-probs as behaviour."""
    return [
        row(
            prompt(A, name=f"p{i}"),
            Segment(
                f"student@{version}",
                ids(*y),
                np.array(step_logprobs(policy, [A], y, sampling), np.float32),
            ),
            sampling=sampling,
        )
        for i, y in enumerate(those)
    ]


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_policys_own_samples_pass_the_audit(temperature):
    policy = tabular(0)
    found = on_policy_audit(policy, scored(policy, EVERY, sampling=Sampling(temperature)))
    assert found.largest_gap < 1e-5  # behaviour log-probs are float32
    assert found.k3.value < 1e-9
    assert found.ess_share == pytest.approx(1.0, abs=1e-5)
    assert found.chi2.value == pytest.approx(0.0, abs=1e-5)
    assert found.version_lag.value == 0.0
    assert found.unknown == 0.0


def test_the_audit_of_another_policys_samples():
    policy, sampler = tabular(0), tabular(1)
    policy.version = 5
    rows = scored(sampler, EVERY, version=2)
    found = on_policy_audit(policy, rows)
    log_r = [
        np.subtract(step_logprobs(policy, [A], y, FULL), step_logprobs(sampler, [A], y, FULL))
        for y in EVERY
    ]
    flat, w = np.concatenate(log_r), np.exp([r.sum() for r in log_r])
    assert found.gap.value == pytest.approx(np.abs(flat).mean(), abs=1e-5)
    assert found.k3.value == pytest.approx((np.exp(flat) - 1 - flat).mean(), abs=1e-5)
    assert found.ess_share == pytest.approx(w.sum() ** 2 / (len(w) * (w**2).sum()), abs=1e-5)
    assert found.chi2.value == pytest.approx((w**2).mean() / w.mean() ** 2 - 1, rel=1e-4)
    assert found.version_lag.value == 3.0


def test_k3_and_chi2_estimate_the_divergences_of_the_sampler():
    """k3 within 4 standard errors of kl(mu||pi) at mu's own states: false alarm 6e-5.

    The exact expectation of chi^2 + 1 is `sum over y of pi^2 / mu`.
    """
    sampler, policy = tiny(0), tiny(2)
    rollouts = sampled(sampler, 1, seed=3, prompts=3000)
    found = on_policy_audit(policy, rollouts)
    mu, pi = (np.array([*probabilities(who, [A], FULL).values()]) for who in (sampler, policy))
    lengths = np.array([len(y) for y in completions()])
    exact = (mu * np.log(mu / pi)).sum() / (mu * lengths).sum()
    assert abs(found.k3.value - exact) < 4 * found.k3.stderr
    assert abs(found.chi2.value - ((pi**2 / mu).sum() - 1)) < 4 * found.chi2.stderr


def test_the_audit_refuses_what_has_no_ratio():
    with pytest.raises(DataError, match="nobody sampled it"):
        on_policy_audit(tabular(0), listed(sampling=None))
    with pytest.raises(DataError, match="no ratio to the whole"):
        on_policy_audit(tabular(0), listed(sampling=Sampling(1.0, 0.9)))


def test_a_part_without_behaviour_is_counted_as_unknown():
    policy = tabular(0)
    (known,) = scored(policy, [(A, B, EOS)])
    gold = row(prompt(A), Segment("dataset", ids(B)), sampling=FULL)
    found = on_policy_audit(policy, [known, gold])
    assert found.unknown == pytest.approx(1 / 4)


# ---- update geometry ----------------------------------------------------------------------------


def test_geometry_of_an_adapter_of_rank_1():
    found = update_geometry(adapted(factor=0.25), tiny(0))
    # Every product is a matrix of 0.5: rank 1, all weights changed, the top 1 % holds 1 % of the mass.
    assert found.effective_rank == pytest.approx(1.0, abs=1e-6)
    assert found.changed_share == 1.0
    assert found.top_mass == pytest.approx(0.01, rel=0.05)


def test_geometry_of_one_matrix_by_hand():
    start, policy = tiny(0), tiny(0)
    name, weight = next((n, p) for n, p in policy.module.named_parameters() if "q_proj" in n)
    with torch.no_grad():
        weight[0, 0] += 3.0
        weight[1, 1] += 1.0
        weight[2, 3] += 1e-6
    found = update_geometry(policy, start)
    count = sum(p.numel() for p in policy.module.parameters())
    assert found.norm == pytest.approx(10**0.5)
    assert found.changed_share == pytest.approx(2 / count)
    assert found.top_mass == pytest.approx(1.0)
    # Singular values 3 and 1: entropy of (3/4, 1/4).
    expected = np.exp(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)))
    assert found.effective_rank == pytest.approx(expected, rel=1e-4)
    assert found.effective_rank_share == pytest.approx(expected / min(weight.shape), rel=1e-4)
    old = dict(start.module.named_parameters())[name]
    assert float((old - weight).detach().square().sum()) == pytest.approx(10)
    theta = sum(float(p.detach().square().sum()) for p in start.module.parameters()) ** 0.5
    assert found.relative_norm == pytest.approx(10**0.5 / theta)


def test_a_policy_that_stays_has_no_rank():
    found = update_geometry(tiny(0), tiny(0))
    assert found.norm == found.top_mass == found.changed_share == 0.0
    assert found.effective_rank is None


def test_models_of_other_shapes_have_no_update_between_them():
    with pytest.raises(ModelError, match="other weights than each other"):
        update_geometry(tiny(0), tiny(0, vocabulary=8))


# ---- coverage and behaviour ---------------------------------------------------------------------


def test_diversity_by_hand():
    rows = listed(those=[(A, B, EOS), (A, B, EOS), (A, A, EOS), (B, EOS)])
    found = diversity(rows, largest_n=2, depths=(1, 2, 9))
    # a b E a b E a a E b E; of the bigrams ab bE ab bE aa aE bE four differ.
    assert found.distinct == (3 / 11, 4 / 7)
    (one, first), (two, second) = found.prefix_entropy
    assert (one, two) == (1, 2)
    # Depth 1: a three times, b once; depth 2: ab twice, aa, bE. Miller-Madow adds 1/8 and 2/8.
    assert first.value == pytest.approx(-(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) + 1 / 8)
    assert second.value == pytest.approx(min(np.log(4), 1.5 * np.log(2) + 2 / 8))
    assert found.length_tokens.value == 11 / 4
    with pytest.raises(DataError, match="has one completion"):
        diversity(listed(those=[(A, EOS)]))


def test_prefix_entropy_is_that_of_the_policy():
    """400 completions of 10 prompts: 4 standard errors, and 0.01 nats for the bias that is left."""
    policy = tiny(0)
    rollouts = sampled(policy, 400, seed=0, prompts=10)
    for depth, found in diversity(rollouts, depths=(1, 2)).prefix_entropy:
        p: dict = {}
        for y, mass in probabilities(policy, [A], FULL).items():
            p[y[:depth]] = p.get(y[:depth], 0.0) + mass
        exact = -sum(mass * np.log(mass) for mass in p.values())
        assert abs(found.value - exact) < 4 * found.stderr + 0.01
        assert found.stderr < 0.02


def test_precision_and_recall_tell_narrow_from_strange():
    rng = np.random.default_rng(0)
    prompts = [f"p{i}" for i in range(200)]
    wide = np.r_[rng.normal(size=(100, 2)), rng.normal(size=(100, 2)) + 8]
    narrow = rng.normal(size=(200, 2))
    both = {"first_prompts": prompts, "second_prompts": prompts}
    found = precision_recall(wide, narrow, **both)
    assert found.precision.value > 0.9
    assert found.recall.value < 0.6
    swapped = precision_recall(narrow, wide, **both)
    assert swapped.precision.value == found.recall.value
    assert swapped.recall.value == found.precision.value
    with pytest.raises(ConfigError, match="k must lie"):
        precision_recall(wide[:3], narrow[:3], first_prompts=[*"abc"], second_prompts=[*"abc"])
    with pytest.raises(ConfigError, match="fewer neighbours"):
        precision_recall(wide, narrow, first_prompts=["p"] * 200, second_prompts=prompts)


def test_pass_at_k_is_unbiased_where_the_plug_in_is_not():
    """Exact: every outcome of 4 draws at p = 0.3 with its binomial probability."""
    for k in (1, 2, 4):
        total = 0.0
        for c in range(5):
            one = np.array([[1.0] * c + [0.0] * (4 - c)])
            total += comb(4, c) * 0.3**c * 0.7 ** (4 - c) * pass_at_k(one, k).value
        assert total == pytest.approx(1 - 0.7**k)
    with pytest.raises(ConfigError, match="k between 1 and the 4"):
        pass_at_k(np.zeros((2, 4)), 5)


def test_behaviour_by_hand():
    rows = listed(those=[(ONE, EOS), (A, EOS)], name="p") + listed(
        those=[(A, EOS), (B, B)], name="q"
    )
    rows = [replace(r, prompt=replace(r.prompt, reference="#### 1")) for r in rows]
    rows[3] = replace(rows[3], stopped=False)
    found = behaviour(tabular(0), rows, REWARD, read_answer=final_answer, ks=(1, 2, 3))
    assert found.score.value == 0.25
    assert [(k, e.value) for k, e in found.pass_at_k] == [(1, 0.25), (2, 0.5)]
    assert found.length_tokens.value == 2.0
    assert found.not_stopped.value == 0.25
    assert found.no_answer.value == 0.75
    assert behaviour(tabular(0), rows, REWARD).no_answer is None
    with pytest.raises(DataError, match="prompts have \\[1, 2\\] completions"):
        behaviour(tabular(0), rows[:3], REWARD)


def test_retained_pairs_items():
    rng = np.random.default_rng(0)
    base = (rng.random(200) < 0.6).astype(float)
    post = base.copy()
    post[:10] = 0.0
    items = [str(i) for i in range(200)]
    found = retained(base, post, items)
    lost = base[:10].sum() / 200
    assert found.forgetting.value == pytest.approx(lost)
    assert found.ratio.value == pytest.approx(1 - lost / base.mean())
    # Few items changed, so the paired error is far below the 0.049 of two independent shares.
    assert found.forgetting.stderr < 0.02
    assert retained(np.zeros(4), np.ones(4), items[:4]).ratio is None


# ---- two samples --------------------------------------------------------------------------------


def features(count: int, seed: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.repeat(rng.normal(size=(count // 3, 4)), 3, 0) + rng.normal(size=(count, 4)) + shift


PROMPTS = [f"p{i // 3}" for i in range(90)]
BOTH = {"first_prompts": PROMPTS, "second_prompts": PROMPTS}


def test_the_classifier_raises_few_false_alarms():
    """200 pairs of samples of one law, states of a prompt alike: an interval above 0.5 in at most 5 %.

    One-sided level 2.5 %: more than 10 of 200 alarms happen by chance with probability 1 %.
    """
    alarms, values = 0, []
    for repeat in range(200):
        x, y = features(90, 2 * repeat), features(90, 2 * repeat + 1)
        found = two_sample_classifier(x, y, **BOTH, folds=3, seed=repeat).auc
        alarms += found.low > 0.5
        values.append(found.value)
    assert alarms <= 10
    assert abs(np.mean(values) - 0.5) < 0.02


def test_the_classifier_finds_a_shift_and_its_most_typical_states():
    x, y = features(90, 0), features(90, 1, shift=1.0)
    y[17] += 5.0
    found = two_sample_classifier(x, y, **BOTH, shown=3)
    assert found.auc.low > 0.5
    assert found.typical_second[0] == 17
    assert len(found.typical_first) == 3
    with pytest.raises(ConfigError, match="between 2 and the 30 prompts"):
        two_sample_classifier(x, y, **BOTH, folds=31)


def test_the_classifier_reaches_the_best_auc_of_two_policies():
    """One-hot prefixes: logistic regression can express the likelihood ratio of the two visitations."""
    policies = tiny(0), tiny(4)
    laws = []
    for policy in policies:
        law: dict = {}
        for y, p in probabilities(policy, [A], FULL).items():
            law[y[:2]] = law.get(y[:2], 0.0) + p
        laws.append(law)
    places = {prefix: i for i, prefix in enumerate(sorted({*laws[0], *laws[1]}))}
    ratio = {s: laws[1][s] / laws[0][s] for s in places}
    best = sum(
        laws[0][s] * laws[1][t] * ((ratio[t] > ratio[s]) + 0.5 * (ratio[t] == ratio[s]))
        for s, t in itertools.product(places, places)
    )
    samples = []
    for policy in policies:
        rows = sampled(policy, 1, seed=0, prompts=1500)
        one_hot = np.eye(len(places))
        samples.append(
            np.stack([one_hot[places[tuple(r.completion_ids[:2].tolist())]] for r in rows])
        )
    names = [f"p{i}" for i in range(1500)]
    found = two_sample_classifier(*samples, first_prompts=names, second_prompts=names).auc
    assert best > 0.6
    assert found.value == pytest.approx(best, abs=0.03)


def test_plain_distances_have_a_floor_and_their_level():
    """200 pairs of one law: p <= 0.05 in 2 to 9 % for both distances (binomial tails 2 % each)."""
    alarms = np.zeros(2)
    for repeat in range(200):
        rng = np.random.default_rng(repeat)
        start = rng.normal(size=(15, 1, 3)) * 3
        x, y = (start + rng.normal(size=(15, 2, 3)) for _ in range(2))
        found = plain_distances(x, y, permutations=39, seed=repeat, directions=8)
        alarms += [found.centroid.p_value <= 0.05, found.sliced_wasserstein.p_value <= 0.05]
    assert (alarms / 200 >= 0.02).all()
    assert (alarms / 200 <= 0.09).all()
    assert found.centroid.floor > 0
    moved = plain_distances(x, y + 3, permutations=39, seed=0)
    assert moved.centroid.p_value == moved.sliced_wasserstein.p_value == 1 / 40
    assert moved.centroid.value > 2 * moved.centroid.floor


def test_a_feature_that_never_changes_changes_nothing_whatever_its_value():
    """0.1 everywhere deviates by rounding alone (1.4e-17 of six): divided by that it would be all there is."""
    x, y = features(90, 0), features(90, 1, shift=0.5)

    def wider(table: np.ndarray) -> np.ndarray:
        return np.c_[table, np.full(len(table), 0.1)]

    assert 0 < wider(np.r_[x, y]).std(0)[-1] < 1e-15, "rounding does not show here"
    plain, more = (
        drift_between(*(t.reshape(30, 3, -1) for t in pair), permutations=19, seed=0)
        for pair in ((x, y), (wider(x), wider(y)))
    )
    assert more.mmd2 == pytest.approx(plain.mmd2, abs=1e-12)
    assert more.p_value == plain.p_value
    plain, more = (precision_recall(*pair, **BOTH) for pair in ((x, y), (wider(x), wider(y))))
    assert (more.precision.value, more.recall.value) == (
        plain.precision.value,
        plain.recall.value,
    )
    plain, more = (
        two_sample_classifier(*pair, **BOTH).auc.value for pair in ((x, y), (wider(x), wider(y)))
    )
    assert more == pytest.approx(plain, abs=1e-9)
    twice = plain_distances(*(wider(t).reshape(30, 3, -1) for t in (x, x)), permutations=3, seed=0)
    assert twice.centroid.value == 0


def test_jaccard_of_texts_without_words():
    assert lexical_jaccard([""], [" "]) == 1.0
    assert lexical_jaccard(["a"], ["b"]) == 0.0


# ---- gradients ----------------------------------------------------------------------------------


def learning(rows) -> list[Rollout]:
    stream = Stream(
        Prompts([r.prompt for r in rows]), Dataset(), (Term(OwnActions(), CrossEntropy()),), 1
    )
    return [Rollout(stream, rows, [Labels.none(len(rows))])]


def flat(student, rows) -> torch.Tensor:
    """The gradient of the mean negative log-prob of a token, by autograd over the listing."""
    those = [tuple(r.completion_ids.tolist()) for r in rows]
    loss = -logprobs(student, [A], those).sum() / sum(map(len, those))
    found = gradient_of(loss, student)
    return torch.cat([found[name].flatten() for name, _ in student.trainable_parameters()])


def thrice(those) -> list:
    """The same completions of three prompts that read alike: blocks that are equal."""
    return [row for i in range(3) for row in listed(those=those, name=f"p{i}")]


def test_cosines_norms_and_interference_are_those_of_autograd():
    student = tabular(0)
    those = {"dataset": [(A, B, EOS), (B, EOS)], "retention": [(A, A, A, A)]}
    g = {name: flat(student, listed(those=rows)) for name, rows in those.items()}
    before = student.module.trunk.table.grad = torch.ones_like(student.module.trunk.table)
    found = gradient_geometry(
        student,
        {name: learning(thrice(rows)) for name, rows in those.items()},
        retention="retention",
        learning_rate=0.1,
        blocks=3,
    )
    assert student.module.trunk.table.grad is before
    inner = float(g["dataset"] @ g["retention"])
    norms = {name: float(v.norm()) for name, v in g.items()}
    for name, expected in norms.items():
        assert found.norms[name].value == pytest.approx(expected, rel=1e-6)
    cosine = inner / norms["dataset"] / norms["retention"]
    assert found.cosines["dataset~retention"].value == pytest.approx(cosine, rel=1e-6)
    assert found.interference["dataset"].value == pytest.approx(-0.1 * inner, rel=1e-6)
    assert found.interference["dataset"].stderr is None  # equal blocks say nothing of an error


def test_interference_is_the_change_of_the_retention_loss():
    student = tabular(0)
    taught, kept = [(A, B, EOS)], [(A, A, A, A)]
    step = 1e-5
    found = gradient_geometry(
        student,
        {"t": learning(thrice(taught)), "r": learning(thrice(kept))},
        retention="r",
        learning_rate=step,
        blocks=3,
    )
    ((_, weight),) = student.trainable_parameters()

    def loss() -> float:
        return -float(logprobs(student, [A], kept).detach().sum()) / 4

    before = loss()
    gradient = flat(student, listed(those=taught)).view_as(weight)
    with torch.no_grad():
        weight -= step * gradient
    assert loss() - before == pytest.approx(found.interference["t"].value, rel=1e-3)


def test_nothing_is_claimed_of_a_gradient_that_is_noise():
    """Log-likelihood of a policy's own samples: the expected gradient is 0, whatever one sample says."""
    student = tiny(0)
    claims = sharp = 0
    for repeat in range(12):
        mine = sampled(student, 1, seed=3 * repeat, prompts=24)
        theirs = sampled(tiny(3), 1, seed=3 * repeat + 1, prompts=24)
        found = gradient_geometry(
            student, {"own": learning(mine), "other": learning(theirs)}, retention="other", blocks=4
        )
        hurt = found.interference["own"]
        assert found.norms["other"].value > 1 > found.norms["own"].low
        claims += found.norms["own"].low > 0
        claims += not hurt.low <= 0 <= hurt.high
        sharp += not found.cosines["own~other"].low <= 0 <= found.cosines["own~other"].high
    # Of 24 and of 12 intervals that miss in 5 %: more than these once in 500 times.
    assert claims <= 5
    assert sharp <= 3


def test_squared_norms_and_products_are_without_the_noise_of_their_blocks():
    """Blocks with noise of norm 5 about gradients of squared norms 0 and 9: means of 2,000 draws."""
    rng = np.random.default_rng(0)
    truth = np.zeros((2, 25))
    truth[1, 0] = 3.0
    found, claims = np.zeros((2000, 2)), 0
    for repeat in range(len(found)):
        blocks = truth[:, None] + rng.normal(size=(2, 4, 25))
        products = np.einsum("gbd,hcd->gbhc", blocks, blocks)
        squares = [
            block_jackknife(products, lambda g, i=i: float(g[i, i]), "squared norm") for i in (0, 1)
        ]
        found[repeat] = [square.value for square in squares]
        claims += (squares[0].low or 0.0) > 0
    error = found.std(0) / len(found) ** 0.5
    assert found.mean(0) == pytest.approx([0.0, 9.0], abs=4 * error.max())
    assert claims / len(found) < 0.03


def test_the_jackknife_knows_the_noise_of_a_cosine():
    """Errors over 24 pairs of samples of one law agree with the spread to a factor of 2."""
    student, values, errors = tabular(0), [], []
    sampler = tiny(0)
    for repeat in range(24):
        a, b = (sampled(sampler, 1, seed=10 * repeat + i, prompts=24) for i in range(2))
        found = gradient_geometry(student, {"a": learning(a), "b": learning(b)}, blocks=8)
        values.append(found.cosines["a~b"].value)
        errors.append(found.cosines["a~b"].stderr)
    assert 0.5 < np.mean(errors) / np.std(values, ddof=1) < 2


def _named(rows, name: str) -> list:
    return [replace(row, prompt=replace(row.prompt, id=name)) for row in rows]


def test_a_source_without_gradient_or_prompts_is_refused():
    student = tabular(0)
    silent = [r.with_weights(np.zeros(len(r), np.float32)) for r in listed(those=[(A, EOS)])]
    with pytest.raises(DataError, match="'a' has no gradient"):
        gradient_geometry(
            student,
            {"a": learning([r for i in range(3) for r in _named(silent, f"p{i}")])},
            blocks=3,
        )
    with pytest.raises(DataError, match="1 prompts, too few for 4 blocks"):
        gradient_geometry(student, {"a": learning(listed())})
    with pytest.raises(ConfigError, match="no source 'r'"):
        gradient_geometry(student, {"a": learning(listed())}, retention="r")
    with pytest.raises(ConfigError, match="blocks must be 3 or more, found 2"):
        gradient_geometry(student, {"a": learning(listed())}, blocks=2)
