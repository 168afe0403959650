"""Verdicts on planted scores: what was planted is what must come out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from statewise.claims.claim import Claim, Exceeds, Forgets, ForgetsLess, Retains
from statewise.claims.paired import differences, grid
from statewise.claims.verdicts import Verdict, decide
from statewise.config import from_plain, to_plain
from statewise.errors import ConfigError, DataError

ROLES = {"gsm": "target", "mmlu": "retention", "truth": "retention"}
TRUE = {
    "base": (0.45, 0.60, 0.60),
    "stress": (0.20, 0.35, 0.40),
    "student": (0.55, 0.59, 0.60),
    "still": (0.45, 0.60, 0.60),
}


def scores(seeds: int = 3, items: int = 2000, **true: tuple[float, float, float]) -> pd.DataFrame:
    """Item scores by fixed thresholds on a shared difficulty: pairing by item is worth much."""
    difficulty = np.random.default_rng(0).random((3, items))
    rows = []
    for arm, accuracies in (TRUE | true).items():
        for seed in range(1 if arm == "base" else seeds):
            rng = np.random.default_rng([len(arm), seed])
            for task, accuracy, level in zip(ROLES, accuracies, difficulty, strict=True):
                wobble = 0.0 if arm == "base" else rng.normal(0, 0.004)
                noise = rng.normal(0, 0.03, items)
                rows.append(
                    pd.DataFrame(
                        {
                            "task": task,
                            "item_id": [f"{i:05d}" for i in range(items)],
                            "arm": arm,
                            "seed": seed,
                            "decoding": "greedy" if task == "gsm" else "choices",
                            "score": (level + noise < accuracy + wobble).astype(float),
                        }
                    )
                )
    return pd.concat(rows, ignore_index=True)


def one(claim: Claim, frame: pd.DataFrame, **kwargs: Any) -> Verdict:
    return decide([claim], frame, ROLES, **kwargs)[0]


def named(**values: Any) -> dict[str, Any]:
    return {"name": "c", "text": "t"} | values


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (Forgets(**named(arm="stress")), "supported"),
        (Forgets(**named(arm="student")), "contradicted"),
        (Exceeds(**named(arm="student", over=("stress", "base"))), "supported"),
        (Exceeds(**named(arm="stress", over=("base",))), "contradicted"),
        (Exceeds(**named(arm="stress", over=("base", "student"))), "contradicted"),
        (Exceeds(**named(arm="still", over=("base",))), "undecided"),
        (Exceeds(**named(arm="student", over=("base",), margin=0.1)), "undecided"),
        (Exceeds(**named(arm="student", over=("stress",), task="mmlu")), "supported"),
        (Retains(**named(arm="still")), "supported"),
        (Retains(**named(arm="stress")), "contradicted"),
        (ForgetsLess(**named(arm="student", than="stress", margin=0.03)), "supported"),
        (ForgetsLess(**named(arm="stress", than="student")), "contradicted"),
    ],
)
def test_planted_effects_are_found(claim: Claim, verdict: str) -> None:
    found = one(claim, scores())
    assert found.verdict == verdict
    assert found.sentence.endswith(".")
    assert found.n_seeds == 3


def test_effect_is_the_paired_mean_by_hand() -> None:
    # base 1,1,0,0; arm seed 0: 0,1,0,0 (loss .25), seed 1: 0,0,0,0 (loss .5); truth equals base
    rows = [
        ("mmlu", "base", 0, [1, 1, 0, 0]),
        ("mmlu", "a", 0, [0, 1, 0, 0]),
        ("mmlu", "a", 1, [0, 0, 0, 0]),
        ("truth", "base", 0, [1, 0]),
        ("truth", "a", 0, [1, 0]),
        ("truth", "a", 1, [1, 0]),
    ]
    frame = pd.DataFrame(
        [
            {"task": t, "arm": arm, "seed": s, "item_id": str(i), "decoding": "choices", "score": v}
            for t, arm, s, values in rows
            for i, v in enumerate(map(float, values))
        ]
    )
    found = one(Forgets(**named(arm="a", margin=0.0)), frame)
    assert found.effect == pytest.approx(((0.25 + 0.5) / 2 + 0.0) / 2)
    assert (found.n_seeds, found.n_items) == (2, 6)


def test_one_seed_cannot_speak_about_a_method_but_can_about_checkpoints() -> None:
    frame = scores(seeds=1)
    method = one(Forgets(**named(arm="stress")), frame)
    assert method.verdict == "undecided"
    assert method.p is method.low is method.smallest_detectable_effect is None
    assert "one seed cannot speak about a method" in method.sentence
    checkpoint = one(Forgets(**named(arm="stress", unit="items")), frame)
    assert checkpoint.verdict == "supported"
    exact = one(Exceeds(**named(arm="student", over=("base",), unit="items")), frame).parts[0]
    assert exact.p_mcnemar is not None
    assert exact.p_mcnemar < 1e-6


def test_the_least_favourable_part_speaks() -> None:
    found = one(Exceeds(**named(arm="student", over=("stress", "base"))), scores())
    assert [part.name for part in found.parts] == ["vs stress", "vs base"]
    assert found.effect == found.parts[1].effect < found.parts[0].effect
    assert found.p == max(part.p or 0 for part in found.parts)


def test_every_part_must_be_seen_for_the_claim_to_be() -> None:
    """Checkpoints, hence normal: one comparison z .05 + z .8 = 2.4865, two z .05 + z .9 = 2.9264."""
    frame = scores(seeds=1)

    def sees(**values: Any) -> tuple[float, list[float]]:
        found = one(Exceeds(**named(arm="student", unit="items", primary=False, **values)), frame)
        widths = [(p.high or 0) - (p.low or 0) for p in found.parts]
        assert found.smallest_detectable_effect is not None
        return found.smallest_detectable_effect, [w / 2 / 1.64485 for w in widths]

    alone, (error,) = sees(over=("stress",))
    assert alone == pytest.approx(2.4865 * error, rel=1e-4)
    both, errors = sees(over=("base", "stress"))
    # The part that is seen worst decides, whichever speaks for the claim.
    assert both == pytest.approx(2.9264 * max(errors), rel=1e-4)
    assert errors[0] < errors[1]


def test_holm_runs_over_primary_claims_alone_and_intervals_agree() -> None:
    claims = [
        Forgets(**named(arm="stress")),
        Exceeds(**named(arm="student", over=("base",))),
        Exceeds(**named(arm="still", over=("base",))),
        Exceeds(**named(arm="student", over=("base",), primary=False)),
    ]
    found = decide(claims, scores(), ROLES)
    assert {round(v.level, 4) for v in found[:3]} == {round(1 - 0.1 / m, 4) for m in (3, 2, 1)}
    assert found[3].p_adjusted is None
    assert found[3].level == pytest.approx(0.9)
    for v in found[:3]:
        assert v.low is not None
        assert (v.low > v.margin) == ((v.p_adjusted or 0) <= 0.05) == (v.verdict == "supported")


def test_students_are_paired_with_the_teacher_of_their_own_seed() -> None:
    # the student is the teacher of the same seed plus 1: any other pairing has spread
    rows = [
        {"task": "gsm", "arm": arm, "seed": s, "item_id": str(i), "decoding": "greedy", "score": v}
        for s, level in ((0, 0.0), (1, 5.0), (2, -3.0))
        for arm, gain in (("student", 1.0), ("stress", 0.0))
        for i, v in enumerate((level + gain, level + gain + 0.5))
    ]
    frame = pd.DataFrame(rows).sample(frac=1.0, random_state=0)
    found = one(Exceeds(**named(arm="student", over=("stress",))), frame)
    # no spread at all leaves the floor of two items, 2/2, and t_{.95,2} = 2.920
    assert found.effect == 1.0
    assert (found.low, found.high) == pytest.approx((1 - 2.920, 1 + 2.920), abs=1e-3)


def by_seed(arm: str, level: dict[int, float], items: tuple[str, ...] = ("i", "j")) -> pd.DataFrame:
    """One task, one row an item and seed: the seed's level, and 10 more for the second item."""
    return pd.DataFrame(
        [
            {
                "task": "gsm",
                "arm": arm,
                "seed": s,
                "item_id": name,
                "decoding": "greedy",
                "score": v + 10 * k,
            }
            for s, v in level.items()
            for k, name in enumerate(items)
        ]
    )


def test_seeds_that_one_arm_lacks_do_not_shift_the_pairs() -> None:
    frame = pd.concat([by_seed("a", {1: 5.0, 2: 7.0}), by_seed("b", {0: 100.0, 1: 1.0, 2: 4.0})])
    found = differences(frame, "a", "b", "gsm", frozenset())
    assert found.values.tolist() == [[4.0, 4.0], [3.0, 3.0]]
    assert differences(frame, "b", "a", "gsm", frozenset()).values.tolist() == [[-4, -4], [-3, -3]]


def test_as_many_other_items_are_other_items() -> None:
    frame = pd.concat([by_seed("a", {0: 1.0}), by_seed("b", {0: 0.0}, items=("i", "k"))])
    with pytest.raises(DataError, match=r"not scored on the same items of gsm: 2 differ, .* 'j'"):
        differences(frame, "a", "b", "gsm", frozenset())


def test_samples_of_one_item_are_averaged() -> None:
    frame = scores(items=50)
    doubled = pd.concat([frame, frame], ignore_index=True)
    claim = Exceeds(**named(arm="student", over=("base",)))
    assert one(claim, doubled) == one(claim, frame)


def test_a_missing_arm_is_undecided_and_said() -> None:
    frame = scores()
    frame = frame[frame["arm"] != "stress"]
    found = one(Forgets(**named(arm="stress")), frame)
    assert (found.verdict, found.effect) == ("undecided", None)
    assert found.sentence == "No results of stress yet. Undecided."


def test_arms_scored_on_other_items_are_refused() -> None:
    frame = scores(items=20)
    frame = frame[~((frame["arm"] == "base") & (frame["item_id"] == "00003"))]
    with pytest.raises(DataError, match="same items of gsm: 1 differ, the first is '00003'"):
        one(Exceeds(**named(arm="student", over=("base",))), frame)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (Retains(**named(arm="still", margin=0.0)), "margin above 0"),
        (Forgets(**named(arm="still", margin=-0.1)), "claims.c.margin"),
        (Exceeds(**named(arm="still", over=())), "names no arm"),
        (Exceeds(**named(arm="still", over=("base",), task="mmul")), "did you mean 'mmlu'"),
    ],
)
def test_claims_that_no_data_could_decide_are_refused(claim: Claim, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        one(claim, scores(items=10))


def test_false_alarms_at_no_effect_stay_at_their_level() -> None:
    """Simulated: 0.05 nominal, one-sided, 3 seeds, found 0.04-0.06 over 400 repetitions."""
    claim, alarms = Exceeds(**named(arm="still", over=("base",), primary=False)), 0
    ids = [str(i) for i in range(60)]
    for repeat in range(400):
        rng = np.random.default_rng(repeat)
        own = rng.random(60)
        frames = [
            pd.DataFrame(
                {
                    "task": "gsm",
                    "item_id": ids,
                    "arm": arm,
                    "seed": seed,
                    "decoding": "greedy",
                    "score": (own + rng.normal(0, 0.2, 60) < 0.5).astype(float),
                }
            )
            for arm, seed in (("base", 0), ("still", 0), ("still", 1), ("still", 2))
        ]
        alarms += one(claim, pd.concat(frames, ignore_index=True)).verdict == "supported"
    assert 0.015 <= alarms / 400 <= 0.085


def test_claims_survive_the_study_file() -> None:
    claims = (
        Forgets(**named(arm="a")),
        Exceeds(**named(arm="a", over=("b", "base"), margin=0.01, primary=False)),
        ForgetsLess(**named(arm="a", than="b")),
        Retains(**named(arm="a")),
    )
    assert from_plain(tuple[Claim, ...], to_plain(claims), "claims") == claims


def test_a_borderline_claim_falls_when_it_shares_the_error_with_another() -> None:
    # per-seed differences .1, .2, .3: p = .0371 alone, .0742 as the first of two
    rows = [
        {"task": "gsm", "arm": a, "seed": s, "item_id": i, "decoding": "greedy", "score": v}
        for a, values in (("student", (0.1, 0.2, 0.3)), ("base", (0.0,)))
        for s, v in enumerate(values)
        for i in ("x", "y")
    ]
    frame, claim = pd.DataFrame(rows), Exceeds(**named(arm="student", over=("base",)))
    alone = one(claim, frame)
    assert (alone.verdict, alone.p_adjusted) == ("supported", pytest.approx(0.0371, abs=1e-4))
    for found in decide([claim, claim], frame, ROLES):
        assert (found.verdict, found.p_adjusted) == ("undecided", pytest.approx(0.0742, abs=1e-4))


def table(**arms: list[tuple[str, float]]) -> pd.DataFrame:
    """One task, `gsm`, one seed an arm; every item is (cluster, score)."""
    return pd.DataFrame(
        [
            {"task": "gsm", "arm": arm, "seed": 0, "item_id": f"{i:04d}", "cluster": cluster}
            | {"decoding": "greedy", "score": score}
            for arm, items in arms.items()
            for i, (cluster, score) in enumerate(items)
        ]
    )


@pytest.mark.parametrize(
    ("items", "sizes"),
    [
        # clusters of two: means 1, 0, .5
        ([("a", 1.0), ("a", 1.0), ("b", 0.0), ("b", 0.0), ("c", 1.0), ("c", 0.0)], "two"),
        # of 1, 3 and 2: sums 1, 2, 0 times 3/6: .5, 1, 0
        ([("a", 1.0), ("b", 1.0), ("b", 1.0), ("b", 0.0), ("c", 0.0), ("c", 0.0)], "unequal"),
    ],
)
def test_items_of_one_cluster_are_one_in_the_error_and_several_in_the_count(
    items: list[tuple[str, float]], sizes: str
) -> None:
    frame = table(student=items, base=[(cluster, 0.0) for cluster, _ in items])
    values = grid(frame, "student", "gsm")
    expected = [1.0, 0.0, 0.5] if sizes == "two" else [0.5, 1.0, 0.0]
    assert values.values.tolist() == [pytest.approx(expected)]
    assert values.n_items == 6
    found = one(Exceeds(**named(arm="student", over=("base",), unit="items")), frame)
    # mean .5; var .25 over 3 clusters, sqrt(.25/3) = .2887 (over 6 items it would be .2236)
    assert found.effect == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5 - 1.6449 * 0.28868, abs=1e-4)
    assert (found.n_items, found.n_clusters) == (6, 3)
    assert (found.parts[0].n_items, found.parts[0].n_clusters) == (6, 3)
    assert "6 items in 3 clusters" in found.sentence


def test_nothing_that_differs_on_four_items_is_no_equivalence() -> None:
    claim = Retains(**named(arm="still"))
    for items, verdict in ((4, "undecided"), (2000, "supported")):
        frame = scores(items=items)
        same = frame[frame["arm"] == "base"]
        copies = [same.assign(arm="still", seed=seed) for seed in (0, 1, 2)]
        found = one(claim, pd.concat([same, *copies], ignore_index=True))
        assert (found.effect, found.verdict) == (0.0, verdict)


def test_a_single_item_leaves_the_error_unknown_and_the_claim_undecided() -> None:
    frame = scores()
    for claim in (
        Forgets(**named(arm="stress")),
        Retains(**named(arm="still")),
        Exceeds(**named(arm="student", over=("base",), unit="items")),
    ):
        found = one(claim, frame[frame["item_id"] == "00000"])
        assert (found.verdict, found.low, found.p) == ("undecided", None, None)
        assert "single item" in found.sentence


def test_a_part_of_unknown_error_does_not_hide_the_one_that_contradicts() -> None:
    frame = scores()
    few = frame[(frame["task"] != "truth") | (frame["item_id"] == "00000")]
    found = one(Retains(**named(arm="stress")), few)
    assert found.verdict == "contradicted"
    assert found.low is not None
    assert "stress on mmlu" in found.sentence


def test_a_gain_beyond_the_margin_does_not_contradict_retention() -> None:
    found = one(Retains(**named(arm="student")), scores(student=(0.55, 0.75, 0.75)))
    assert found.verdict == "undecided"
    assert found.high is not None
    assert found.high < -found.margin
    assert "a gain beyond the margin" in found.sentence
    assert "reaches across" not in found.sentence


def test_one_of_two_comparisons_that_falls_below_at_the_full_level_alone_is_said() -> None:
    # against base 8 items won and 17 lost of 100: z = -1.82, p = .034, twice that is above .05
    mine = [1.0] * 8 + [0.0] * 17 + [1.0] * 40 + [0.0] * 35
    theirs = [0.0] * 8 + [1.0] * 17 + [1.0] * 40 + [0.0] * 35
    ids = [str(i) for i in range(100)]
    arms = {"student": mine, "base": theirs, "stress": [0.0] * 100}
    frame = table(**{arm: list(zip(ids, values, strict=True)) for arm, values in arms.items()})
    claim = Exceeds(**named(arm="student", over=("base", "stress"), unit="items"))
    found = one(claim, frame)
    assert found.verdict == "undecided"
    assert found.high is not None
    assert found.high < 0
    assert "reaches across" not in found.sentence
    assert "the level divided by 2" in found.sentence
    alone = one(Exceeds(**named(arm="student", over=("base",), unit="items")), frame)
    assert alone.verdict == "contradicted"
    assert f"McNemar's exact p of no difference {alone.parts[0].p_mcnemar:.2g}" in alone.sentence


# ---- what is said is true -----------------------------------------------------------------------


def test_a_certain_small_forgetting_contradicts_the_margin_and_not_forgetting():
    """0.02 is lost for certain, and 0.03 was asked for: "no forgetting" would be false."""
    frame = scores(items=20_000, small=(0.45, 0.58, 0.58))
    found = one(Forgets(**named(arm="small")), frame)
    assert found.verdict == "contradicted"
    assert found.low is not None
    assert found.low > 0
    assert found.asked == "a loss above 0.03"
    assert found.sentence.endswith(
        ": below the margin of 0.03, so that forgetting of 0.03 or more is excluded; a smaller one is shown: the "
        "interval lies above 0."
    )
    none = one(Forgets(**named(arm="still")), scores())
    assert none.sentence.endswith("a smaller one and none are both possible: the interval holds 0.")
    gain = one(Forgets(**named(arm="up")), scores(items=20_000, up=(0.45, 0.66, 0.66)))
    assert gain.sentence.endswith("any at all is excluded too: the interval lies below 0.")
    less = one(ForgetsLess(**named(arm="still", than="small", margin=0.05)), frame)
    assert (
        "so that less forgetting of 0.05 or more is excluded; a smaller one is shown"
        in less.sentence
    )


def test_an_effect_that_is_short_of_its_margin_is_said_to_be_there():
    found = one(Forgets(**named(arm="small")), scores(items=2000, small=(0.45, 0.566, 0.566)))
    assert found.verdict == "undecided"
    assert "there is an effect; whether it is as large as asked for is open" in found.sentence


def test_a_claim_on_generated_answers_says_how_they_were_decoded_and_what_sampling_says():
    """Greedily the student leads its teacher, at temperature 1 it trails it: both stand in the sentence."""
    frame = scores(leader=(0.55, 0.6, 0.6), teacher=(0.50, 0.6, 0.6))
    drawn = scores(leader=(0.35, 0.6, 0.6), teacher=(0.50, 0.6, 0.6))
    drawn = drawn[drawn["task"] == "gsm"].assign(decoding="sampled")
    claim = Exceeds(**named(arm="leader", over=("teacher", "base")))
    alone = one(claim, frame)
    both = one(claim, pd.concat([frame, drawn], ignore_index=True))
    assert alone.verdict == both.verdict == "supported"
    assert alone.sentence.startswith("leader vs teacher on the target, decoded greedily, is +0.0")
    assert "temperature" not in alone.sentence
    assert both.sentence.startswith(alone.sentence)
    rest = both.sentence.removeprefix(alone.sentence)
    assert rest.startswith(
        " Sampled at temperature 1 instead, which the verdict does not rest on: vs teacher −0.1"
    )
    assert rest.count("the opposite sign") == 2  # the base too: 0.45
    # Choices are no decoding of their own, and a claim on them says nothing of it.
    known = one(Exceeds(**named(arm="leader", over=("base",), task="mmlu")), frame)
    assert "decoded" not in known.sentence


def test_a_loss_on_one_task_does_not_hide_behind_a_gain_on_another():
    found = one(Forgets(**named(arm="mixed")), scores(mixed=(0.45, 0.50, 0.70)))
    assert found.verdict == "contradicted"
    assert found.sentence.startswith(
        "Forgetting of mixed against base, mean over 2 tasks (mmlu +0.09"
    ) or found.sentence.startswith("Forgetting of mixed against base, mean over 2 tasks (mmlu +0.1")
    assert ", truth −0.1" in found.sentence or ", truth −0.09" in found.sentence
