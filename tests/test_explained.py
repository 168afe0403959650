"""How much drift explains: the regression by hand, what it refuses, and the claim that rests on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from statewise import stats
from statewise.claims.claim import Claim, Forgets, Unexplained, check
from statewise.claims.drift_regression import Explanation
from statewise.claims.verdicts import Verdict, decide
from statewise.config import from_plain, to_plain
from statewise.errors import ConfigError, DataError
from statewise.stats.explained import held_out_errors, r_squared

NAMES = [f"method{m}" for m in range(6)]
DOSES = (0.1, 0.2, 0.3, 0.4)


def tables(values: np.ndarray) -> dict[str, np.ndarray]:
    return dict(zip(NAMES, values, strict=True))


def drift_of(rng: np.random.Generator) -> np.ndarray:
    """[6 methods, 4 doses, 2 seeds]."""
    return np.array(DOSES)[None, :, None] * rng.uniform(0.5, 1.5, (6, 1, 1)) + rng.normal(
        0, 0.01, (6, 4, 2)
    )


# ---- by hand ----------------------------------------------------------------------------------------


def test_a_method_off_the_line_of_the_others_by_hand():
    # Methods A (0,0) (1,1), B (2,2) (3,3), C (0,3) (1,3): one dose, two seeds.
    x = np.array([[[0.0, 1.0]], [[2.0, 3.0]], [[0.0, 1.0]]])
    y = np.array([[[0.0, 1.0]], [[2.0, 3.0]], [[3.0, 3.0]]])
    line, mean = held_out_errors(x, y, np.ones(x.shape, bool))
    # C: the line of A and B is y = x: errors 3 and 2, (9 + 4)/2. Mean of A and B 1.5: 2.25.
    assert line[2] == pytest.approx(6.5)
    assert mean[2] == pytest.approx(2.25)
    # A: B and C: x 2,3,0,1 y 2,3,3,3: slope -.2 (Sxy = .5*-.75 + 1.5*.25 - 1.5*.25 - .5*.25 = -.5; Sxx = 5),
    # -.1; intercept 2.75 + .15 = 2.9: predicts 2.9 and 2.8, errors 2.9^2 and 1.8^2.
    assert line[0] == pytest.approx((2.9**2 + 1.8**2) / 2)
    assert mean[0] == pytest.approx((2.75**2 + 1.75**2) / 2)


def test_what_is_left_out_takes_no_part():
    x = np.array([[[0.0], [9.0]], [[1.0], [1.0]], [[2.0], [2.0]]])
    kept = np.ones(x.shape, bool)
    kept[0, 1] = False
    y = x.copy()
    y[0, 1] = -100.0  # a destroyed dose
    line, mean = held_out_errors(x, y, kept)
    assert line == pytest.approx([0, 0, 0])
    assert mean[0] == pytest.approx(1.5**2)
    assert r_squared(x, y, kept) == pytest.approx(1.0)
    assert r_squared(x, y, np.ones(x.shape, bool)) < 0.99


def test_drift_that_is_forgetting_explains_it_and_drift_that_is_not_does_not():
    rng = np.random.default_rng(0)
    x = drift_of(rng)
    whole = stats.explained(tables(x), tables(2 * x + 1 + rng.normal(0, 1e-3, x.shape)))
    assert whole.skill > 0.99
    assert whole.r2 > 0.99
    assert whole.p_permutation == pytest.approx(1 / 720)
    assert (whole.methods, whole.doses, whole.seeds) == (6, 4, 2)
    assert whole.log_error.n_clusters == 6
    assert whole.rmse_held_out < 0.01 < whole.rmse_of_mean
    # A method's own offset, and drift that knows nothing of it.
    offset = rng.normal(0, 1.0, (6, 1, 1))
    none = stats.explained(tables(x), tables(offset + rng.normal(0, 0.01, x.shape)))
    assert none.skill < 0.2
    assert none.p_permutation is not None
    assert none.p_permutation > 0.05


def test_one_destroyed_arm_makes_a_line_of_any_drift():
    rng = np.random.default_rng(3)
    x, y = drift_of(rng), rng.normal(0, 0.01, (6, 4, 2))
    x[:, 3], y[:, 3] = x[:, 3] + 5, y[:, 3] + 1  # every method's last dose is stress
    stress = {name: [False, False, False, True] for name in NAMES}
    found = stats.explained(tables(x), tables(y), stress)
    assert found.r2 > 0.9
    assert found.skill > 0.9
    assert found.r2_without_stress is not None
    assert found.r2_without_stress < 0.4
    assert found.without_stress is not None
    assert found.without_stress.value > np.log(0.6)  # log(1 - skill)


def test_too_little_spread_is_refused():
    rng = np.random.default_rng(1)
    x = drift_of(rng)
    with pytest.raises(DataError, match="has 5 methods with at least 4 doses of at least 2 seeds"):
        stats.explained(dict(list(tables(x).items())[:5]), dict(list(tables(x).items())[:5]))
    with pytest.raises(DataError, match="6 methods with at least 3 doses"):
        stats.explained(tables(x[:, :3]), tables(x[:, :3]))
    with pytest.raises(DataError, match=r"of at least 1 seed$"):
        stats.explained(tables(x[:, :, :1]), tables(x[:, :, :1]))
    with pytest.raises(DataError, match="nothing to explain"):
        stats.explained(tables(x), tables(np.zeros(x.shape)))
    with pytest.raises(DataError, match="as many doses"):
        stats.explained(tables(x), tables(x) | {NAMES[0]: x[0, :3]})


def test_the_permutation_p_is_uniform_where_drift_and_forgetting_are_strangers():
    """Under the null a p of at most 0.1 comes 1 time in 10: bounds are 4 standard errors of 300 draws."""
    rng = np.random.default_rng(5)
    small = 0
    for _ in range(300):
        x, own = rng.normal(0, 1, (6, 1, 1)), rng.normal(0, 1, (6, 1, 1))
        noise = rng.normal(0, 0.1, (2, 6, 4, 2))
        p = stats.explained(tables(x + noise[0]), tables(own + noise[1])).p_permutation
        assert p is not None
        small += p <= 0.1
    assert abs(small / 300 - 0.1) < 4 * (0.09 / 300) ** 0.5


# ---- noise is unexplained by anything ---------------------------------------------------------------

DESIGNS = 60
"""Of each world."""
World = Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]


def spread_drift(rng: np.random.Generator, seeds: int) -> np.ndarray:
    return np.exp(rng.normal(size=(6, 4, 1))) * np.exp(0.1 * rng.normal(size=(6, 4, seeds)))


def nobody_forgets(rng: np.random.Generator, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    return spread_drift(rng, seeds), 0.004 * rng.normal(size=(6, 4, seeds))


def one_arm_forgets(rng: np.random.Generator, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = nobody_forgets(rng, seeds)
    y[0, 3] += 0.2
    return x, y


def law(slope: float, error_of_drift: float) -> World:
    """Forgetting is `slope` times the true drift, and drift is measured with an error."""

    def draw(rng: np.random.Generator, seeds: int) -> tuple[np.ndarray, np.ndarray]:
        true = np.array([0.1, 0.5, 1.0, 2.0])[:, None] * np.exp(0.3 * rng.normal(size=(6, 1, 1)))
        true = np.broadcast_to(true, (6, 4, 1))
        moved = true * np.exp(error_of_drift * rng.normal(size=(6, 4, seeds)))
        return moved, slope * true + 0.004 * rng.normal(size=(6, 4, seeds))

    return draw


def strangers(rng: np.random.Generator, seeds: int) -> tuple[np.ndarray, np.ndarray]:
    """Forgetting is real, well measured, and has nothing to do with drift."""
    lost = 0.05 * rng.gamma(2, size=(6, 4, 1)) + 0.006 * rng.normal(size=(6, 4, seeds))
    return spread_drift(rng, seeds), lost


def outcomes(world: World, seeds: int = 3, margin: float = 0.5) -> Counter[str]:
    rng, found = np.random.default_rng(7), Counter()
    for _ in range(DESIGNS):
        x, y = world(rng, seeds)
        e = stats.explained(tables(x), tables(y), permutations=False)
        explanation = Explanation(e, 1000)
        p = explanation.p_unexplained(margin)
        explains = stats.p_below(e.log_error, np.log(1 - margin * e.measured.ceiling))
        found["unexplained"] += p is not None and p <= 0.05
        found["explained"] += explains is not None and explains <= 0.05
    return found


@pytest.mark.parametrize(
    "world",
    [
        nobody_forgets,
        one_arm_forgets,
        law(0.05, 0.0),
        law(0.05, 0.7),
        law(0.005, 0.0),
        law(0.002, 0.0),
    ],
    ids=["nobody", "one arm", "a law", "drift measured badly", "a small law", "a tiny law"],
)
def test_where_drift_is_the_law_or_nobody_forgets_it_is_not_called_unexplained(world: World):
    """Noise alone was "unexplained" in 95 designs of 100."""
    assert outcomes(world)["unexplained"] <= 0.05 * DESIGNS


def test_forgetting_that_has_nothing_to_do_with_drift_is_found_to_be_unexplained():
    """4,000 designs: 0.82. A law that is measured well is found as often as ever."""
    assert outcomes(strangers)["unexplained"] >= 0.6 * DESIGNS
    assert outcomes(law(0.05, 0.0))["explained"] == DESIGNS


def test_a_share_is_of_what_noise_leaves_to_explain():
    """An interval that clears the margin as it stands, and not of what could have been explained."""
    rng = np.random.default_rng(1)
    x, y = law(0.05, 0.2)(rng, 3)
    y = y + 0.01 * rng.normal(size=(6, 4, 1))
    found = stats.explained(tables(x), tables(y), permutations=False)
    raw, of_ceiling = found.interval(0.05), found.interval_of_ceiling(0.05)
    assert raw is not None
    assert of_ceiling is not None
    assert found.measured.ceiling < 0.97
    assert of_ceiling[1] == pytest.approx(raw[1] / found.measured.ceiling)
    between = (raw[1] + of_ceiling[1]) / 2
    p = Explanation(found, 1000).p_unexplained(min(between, 0.999))
    assert p is not None
    assert p > 0.05


def test_what_was_measured_too_poorly_is_said():
    rng = np.random.default_rng(0)
    x, y = nobody_forgets(rng, 3)
    found = stats.explained(tables(x), tables(y), permutations=False)
    assert found.log_error.scales == ()
    assert found.measured.forgetting < 0.8
    assert "forgetting has a reliability of 0." in (found.measured.too_poor or "")
    # Seeds that agree to the last digit because they share the luck of the items.
    alike = np.repeat(0.004 * rng.normal(size=(6, 4, 1)), 3, axis=2)
    assert stats.explained(tables(x), tables(alike), permutations=False).measured.forgetting == 1.0
    shared = stats.explained(
        tables(x), tables(alike), permutations=False, item_variance=0.004**2
    ).measured
    assert shared.forgetting < 0.5
    assert shared.too_poor is not None
    # One arm that forgets is one method's: without it there is nothing.
    x, y = one_arm_forgets(rng, 3)
    one = stats.explained(tables(x), tables(y), permutations=False).measured
    assert "of all methods but 'method0' has a reliability of" in (one.too_poor or "")
    # What differs is sure and too small to matter.
    x, y = strangers(rng, 3)
    small = stats.explained(tables(x), tables(y / 20), permutations=False, least_range=0.03)
    assert small.measured.forgetting > 0.8
    assert "no more than 0.03" in (small.measured.too_poor or "")


def test_items_that_all_seeds_share_are_an_error_of_the_arm():
    """Binary scores of one accuracy, seeds that agree item by item: 0.21/400 in each arm, about the arms' mean."""
    rng = np.random.default_rng(3)
    scores = (rng.random((24, 1, 400)) < 0.7).astype(float)
    found = stats.shared_item_variance([np.repeat(scores, 2, axis=1)])
    assert found == pytest.approx(0.21 / 400, rel=0.1)
    # Seeds with luck of their own share none of it, and two tasks of it count for a quarter each.
    own = (rng.random((24, 2, 400)) < 0.7).astype(float)
    assert stats.shared_item_variance([own]) < 0.05 * 0.21 / 400
    assert stats.shared_item_variance([np.repeat(scores, 2, axis=1)] * 2) == pytest.approx(
        found / 2
    )


# ---- the claim --------------------------------------------------------------------------------------

ROLES = {"mmlu": "retention", "truth": "retention", "gsm": "target"}
ARMS = {m: tuple(f"{m}_{d}" for d in range(4)) for m in ("sft", "opd", "one", "rl", "kd", "dpo")}


def claim(**values: Any) -> Unexplained:
    given = {"name": "c", "text": "t", "drift": "kl_to_base", "methods": ARMS}
    return Unexplained(**(given | values))


def test_what_no_run_could_settle_is_refused_when_the_study_is_read() -> None:
    roles = {"mmlu": "retention"}
    check(claim(), roles)
    check(claim(drift="update_norm"), roles, drift=False)
    with pytest.raises(ConfigError, match=r"claims\.c\.drift: kl_to_base is measured on drift's"):
        check(claim(), roles, drift=False)
    unequal = ARMS | {"kd": (*ARMS["kd"], "kd_4")}
    with pytest.raises(
        ConfigError, match=r"claims\.c\.methods: .* as many doses of each, .* 5 of kd"
    ):
        check(claim(methods=unequal), roles)
    # Too few methods say so in the verdict, whatever their doses.
    check(claim(methods={"sft": ("a", "b"), "rl": ("c",)}), roles)


def runs(
    loss: Any, drift: Any, seeds: int = 2, items: int = 100
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Exact scores: an arm loses its share of the items of both retention tasks, and drifts as told."""
    rows, moved = [], []
    for m, arms in [("base", ("base",)), *ARMS.items()]:
        for d, arm in enumerate(arms):
            for seed in range(1 if m == "base" else seeds):
                lost = 0 if m == "base" else round(items * loss(list(ARMS).index(m), d, seed))
                rows += [
                    {
                        "task": task,
                        "item_id": f"{i:03d}",
                        "arm": arm,
                        "seed": seed,
                        "decoding": "choices",
                        "score": float(i >= lost),
                    }
                    for task in ("mmlu", "truth")
                    for i in range(items)
                ]
                if m != "base":
                    value = drift(list(ARMS).index(m), d, seed)
                    moved += [(arm, seed, "kl_to_base", value), (arm, seed, "update_norm", 7.0)]
    frame = pd.DataFrame(moved, columns=pd.Index(("arm", "seed", "measure", "value")))
    return pd.DataFrame(rows), frame


def one(asked: Claim, scores: pd.DataFrame, drifts: pd.DataFrame | None) -> Verdict:
    return decide([asked], scores, ROLES, drifts=drifts)[0]


def proportional(m: int, d: int, seed: int) -> float:
    return 0.05 * (d + 1) + 0.02 * m + 0.01 * seed


def test_a_drift_that_explains_contradicts_the_claim():
    scores, drifts = runs(
        proportional, lambda m, d, s: 3 * proportional(m, d, s) + 0.01 * ((m + 2 * d + s) % 3)
    )
    found = one(claim(), scores, drifts)
    assert found.verdict == "contradicted"
    assert 0.9 < (found.effect or 0) < 1.1
    assert (found.n_seeds, found.n_clusters, found.n_items) == (2, 6, 200)
    assert "kl(student || base) explains a share of +1.0" in found.sentence
    assert "of what a perfect line could have explained" in found.sentence
    assert "a share of +0.9" in found.sentence
    assert found.parts == ()


def test_a_drift_that_says_nothing_of_forgetting_supports_it():
    wild = np.random.default_rng(2).permutation(6)
    scores, drifts = runs(
        lambda m, d, s: 0.1 * wild[m] + 0.01 * d,
        lambda m, d, s: 1.0 + 0.3 * d + 0.01 * s + 0.05 * m,
    )
    found = one(claim(), scores, drifts)
    assert found.verdict == "supported"
    assert found.high is not None
    assert found.high < 0.5
    assert found.p is not None
    assert found.p <= 0.05


def test_a_line_that_stress_alone_draws_does_not_contradict():
    noise = np.random.default_rng(4)
    table = noise.integers(0, 8, (6, 4)) / 100

    def loss(m: int, d: int, s: int) -> float:
        return 0.8 if d == 3 else table[m, d]

    def drift(m: int, d: int, s: int) -> float:
        return 50.0 + m if d == 3 else 1.0 + 0.1 * ((m * 3 + d * 5) % 7) + 0.01 * s

    scores, drifts = runs(loss, drift)
    stress = tuple(arms[3] for arms in ARMS.values())
    found = one(claim(stress=stress), scores, drifts)
    assert found.low is not None
    assert found.low > 0.5
    assert found.verdict == "undecided"
    assert "but not without the stress arms" in found.sentence


def test_a_design_without_spread_is_undecided_and_said():
    scores, drifts = runs(proportional, proportional)
    few = {"sft": ARMS["sft"], "rl": ARMS["rl"][:1]}
    found = one(claim(methods=few), scores, drifts)
    assert (found.verdict, found.effect, found.p) == ("undecided", None, None)
    assert found.sentence.startswith(
        "A regression of forgetting on drift needs 6 methods x 4 doses x 2 seeds"
    )
    assert one(claim(), scores, None).sentence.startswith("No kl(student || base) was measured")
    short = scores[~((scores["arm"] == "rl_2") & (scores["seed"] == 1))]
    assert "at least 1 seed" in one(claim(), short, drifts).sentence
    assert (
        one(claim(), scores[scores["arm"] != "kd_0"], drifts).sentence
        == "No results of kd_0 yet. Undecided."
    )


def test_forgetting_that_does_not_differ_is_said_and_not_a_failure():
    """Only the runs of sft differ: without it, as the jackknife asks, there is nothing to explain."""
    scores, drifts = runs(
        lambda m, d, s: 0.1 * d if m == 0 else 0.1, lambda m, d, s: 1 + d + 0.1 * m + 0.01 * s
    )
    found = one(claim(), scores, drifts)
    assert (found.verdict, found.effect) == ("undecided", None)
    assert found.sentence == (
        "Claim c: forgetting is the same in every run of all methods but 'sft', so there is nothing for drift to "
        "explain. Undecided."
    )
    # Stress alone makes a difference.
    scores, drifts = runs(
        lambda m, d, s: 0.5 + 0.01 * m if d == 3 else 0.1,
        lambda m, d, s: 1 + d + 0.1 * m + 0.01 * s,
    )
    found = one(claim(stress=tuple(arms[3] for arms in ARMS.values())), scores, drifts)
    assert "of all methods, without the stress arms, so" in found.sentence


def test_seeds_that_agree_on_lucky_items_leave_the_claim_undecided():
    """Every arm is right with chance 0.7, its seeds item by item alike: what differs is the items' luck."""
    rng = np.random.default_rng(6)
    scores, drifts = runs(lambda m, d, s: 0.0, lambda m, d, s: 1.0 + 0.3 * d + 0.1 * m + 0.01 * s)
    for arm in sorted(set(scores["arm"]) - {"base"}):
        for task in ("mmlu", "truth"):
            rows = (scores["arm"] == arm) & (scores["task"] == task)
            right = (rng.random(100) < 0.7).astype(float)
            scores.loc[rows, "score"] = np.tile(right, int(rows.sum()) // 100)
    found = one(claim(), scores, drifts)
    assert (found.verdict, found.effect, found.p) == ("undecided", None, None)
    assert found.sentence.startswith(
        "Whether kl(student || base) explains forgetting cannot be decided here: forgetting has a reliability of 0."
    )
    # Asked for more than there is: the arms lie within 0.3 of each other.
    wide = one(claim(least_range=0.4), scores, drifts)
    assert "no more than 0.4" in wide.sentence


def test_the_drift_that_is_named_is_the_one_that_is_read():
    scores, drifts = runs(proportional, proportional)
    found = one(claim(drift="update_norm"), scores, drifts)  # the same 7.0 everywhere
    assert found.effect == pytest.approx(0.0, abs=1e-9)
    assert "the norm of the update" in found.sentence


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"methods": {}}, "claims.c.methods: names no arm"),
        ({"methods": {"a": ("x", "y"), "b": ("x",)}}, "'x' is listed twice"),
        (
            {"stress": ("sft_9",)},
            "claims.c.stress: 'sft_9' is not a dose of its methods; did you mean",
        ),
        ({"margin": 1.0}, "claims.c.margin: a share below 1"),
        ({"least_range": -0.1}, "claims.c.least_range: -0.1 is not a number >= 0"),
        ({"unit": "items"}, "claims.c.unit"),
    ],
)
def test_claims_that_mean_nothing_are_refused(values: dict[str, Any], message: str):
    scores, drifts = runs(proportional, proportional, items=10)
    with pytest.raises(ConfigError, match=message):
        one(claim(**values), scores, drifts)


def test_it_survives_the_study_file_and_shares_the_family():
    claims = (claim(stress=("sft_3",)), Forgets(name="f", text="t", arm="sft_3"))
    assert from_plain(tuple[Claim, ...], to_plain(claims), "claims") == claims
    scores, drifts = runs(
        proportional, lambda m, d, s: proportional(m, d, s) + 0.01 * ((m + 2 * d) % 3)
    )
    found = decide(claims, scores, ROLES, drifts=drifts)
    # The second is supported at half the level; the first is left with the whole of it.
    assert [round(v.level, 3) for v in found] == [0.9, 0.95]
    assert found[0].p_adjusted is not None
