"""`statewise plan`: what a claim could see, against the statistics that will judge it; what a study takes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from statewise import stats
from statewise.claims.claim import BASE, Exceeds, Forgets, Retains, Unexplained
from statewise.claims.controls import EarlyStop, Interpolation, Match
from statewise.claims.power import Assumed, Size, Spread, learned, plan_claims, scales_of
from statewise.cli.main import main
from statewise.cli.tables.plan import plan_text
from statewise.errors import ConfigError
from statewise.jobs.compare_runs import likeness, look_at
from statewise.jobs.costs import (
    ArmCost,
    Seconds,
    _curve,
    _elapsed,
    measure_costs,
    sizes,
)
from statewise.study.spec import Study, read_study
from statewise.yaml12 import load_yaml

ROLES = {"gsm": "target", "mmlu": "retention", "truth": "retention"}
SIZES = {"gsm": Size(1000, 1000), "mmlu": Size(2000, 2000), "truth": Size(2000, 500)}


def test_one_checkpoint_meets_the_published_figures():
    """Science: 0.056, 0.040 and 0.028 at discordance 0.2, two-sided; one-sided at 0.025 is the same."""
    for n, expected in ((500, 0.056), (1000, 0.040), (2000, 0.028)):
        claim = Exceeds(name="c", text="t", arm="a", over=("base",), unit="items", primary=False)
        (found,) = plan_claims([claim], ROLES, SIZES | {"gsm": Size(n, n)}, 1, Assumed())
        # One-sided at 0.05: (1.645 + .842) sqrt(.2/n)
        assert found.smallest_detectable == pytest.approx(2.4865 * (0.2 / n) ** 0.5, rel=1e-3)
        assert found.smallest_detectable == pytest.approx(expected * 2.4865 / 2.8016, abs=5e-4)
        assert found.seeds_needed is None
        assert found.items_needed == pytest.approx((2.4865 / 0.03) ** 2 * 0.2, rel=0.002)  # 1374


def test_many_seeds_leave_the_items_alone():
    # S -> many, i^2 = .2 shared: V -> .2/1000, whatever the seeds
    (few, many) = (
        max(s.stderr for s in scales_of(Spread(0.0, (0.2,), (0.0,), False), seeds, [1000.0]))
        for seeds in (2, 200)
    )
    assert few == many == pytest.approx((0.2 / 1000) ** 0.5)


def simulate(
    spread: Spread, effect: float, seeds: int, n: int, alpha: float, repeats: int
) -> float:
    """Share of simulated studies whose one-sided p of "at most 0" is at most alpha."""
    rng, seen = np.random.default_rng(8), 0
    for _ in range(repeats):
        table = (
            effect
            + rng.normal(0, spread.seeds**0.5, (seeds, 1))
            + rng.normal(0, spread.items[0] ** 0.5, (1, n))
            + rng.normal(0, spread.rest[0] ** 0.5, (seeds, n))
        )
        seen += (stats.p_above(stats.crossed_effect([table])) or 0) <= alpha
    return seen / repeats


@pytest.mark.parametrize(
    ("spread", "seeds", "n"),
    [
        (Spread(1e-4, (0.1,), (0.1,), False), 3, 1000),
        (Spread(4e-4, (0.2,), (0.01,), False), 3, 1000),
        (Spread(1e-6, (0.2,), (0.0,), False), 3, 500),
    ],
)
def test_the_effect_that_is_planned_for_is_seen_8_times_in_10(spread, seeds, n):
    """600 studies: within 4 standard errors of 0.8, and 0.04 below, for the wider scale is judged by."""
    scales = scales_of(spread, seeds, [float(n)])
    size = max(stats.detectable_beyond(s.stderr, s.df, 0.05) for s in scales)
    power = simulate(spread, size, seeds, n, 0.05, 600)
    assert 0.69 <= power <= 0.87


@pytest.mark.parametrize("kind", ["retains", "exceeds"])
def test_all_comparisons_of_a_claim_pass_8_times_in_10(kind):
    """2,000 studies of two comparisons on 1,000 items each, 0.2 of them differ, one checkpoint a side.

    At a true chance of 0.8 fewer hits than the bound come 1 time in 10,000. With a power of 0.8 for each
    comparison both would pass 0.64 of the time.
    """
    sized = {name: Size(1000, 1000) for name in ROLES}
    if kind == "retains":
        claim = Retains(name="c", text="t", arm="a", unit="items", primary=False)
    else:
        claim = Exceeds(name="c", text="t", arm="a", over=("b", "d"), unit="items", primary=False)
    (plan,) = plan_claims([claim], ROLES, sized, 1, Assumed())
    size = plan.smallest_detectable
    assert size is not None
    # By hand: z .05 = 1.6449; each of two parts misses 1 in 10, each of four tests 1 in 20.
    z = 1.6449 + (1.6449 if kind == "retains" else 1.2816)
    assert size == pytest.approx(z * (0.2 / 1000) ** 0.5, rel=1e-3)
    true = 0.0 if kind == "retains" else size
    rng, seen, repeats = np.random.default_rng(17), 0, 2000
    odds = [0.1 + true / 2, 0.8, 0.1 - true / 2]
    for table in rng.choice([1.0, 0.0, -1.0], (repeats, 2, 1000), p=odds):
        parts = [stats.item_effect([row]) for row in table]
        test, margin = (stats.p_equivalent, size) if kind == "retains" else (stats.p_above, 0.0)
        seen += all((test(part, margin) or 0) <= 0.05 for part in parts)
    assert binom.cdf(seen, repeats, 0.8) >= 1e-4


def test_what_is_needed_is_enough_and_one_less_is_not():
    claim = Exceeds(name="c", text="t", arm="a", over=("b",), primary=False)
    (rival,) = plan_claims([claim], ROLES, SIZES, 3, Assumed())
    # Two arms' seeds of 0.01 at 3 seeds: (t' at 2 df) .0141/sqrt(3) is beyond 0.03 whatever the items.
    assert (rival.items_needed, rival.note) == (
        None,
        "no number of items decides it at 3 seeds and no number of seeds decides it at the study's items",
    )
    claim = replace(claim, over=("base",))
    (now,) = plan_claims([claim], ROLES, SIZES, 3, Assumed())
    assert now.smallest_detectable is not None
    assert now.items_needed is not None
    assert now.aim == 0.03
    for items, enough in ((now.items_needed, True), (now.items_needed - 20, False)):
        (then,) = plan_claims([claim], ROLES, SIZES | {"gsm": Size(items, items)}, 3, Assumed())
        assert (then.smallest_detectable <= 0.03) is enough  # pyright: ignore[reportOptionalOperand]
    quiet = Assumed(discordance=0.05)  # with 0.2 no number of seeds makes up for 1,000 items
    assert now.seeds_needed is None
    assert now.note == "no number of seeds decides it at the study's items"
    (few,) = plan_claims([claim], ROLES, SIZES, 3, quiet)
    assert few.seeds_needed is not None
    for seeds, enough in ((few.seeds_needed, True), (few.seeds_needed - 1, False)):
        (then,) = plan_claims([claim], ROLES, SIZES, seeds, quiet)
        assert (then.smallest_detectable <= 0.03) is enough  # pyright: ignore[reportOptionalOperand]


def test_a_pair_of_seeds_and_items_decides_and_neither_may_be_less():
    """Where no number of either alone does (the claim above), one pair does, and it is the least."""
    claim = Exceeds(name="c", text="t", arm="a", over=("b",), primary=False)

    def plan(seeds, items, available=None):
        sizes = SIZES | {"gsm": Size(items, items, available)}
        (found,) = plan_claims([claim], ROLES, sizes, seeds, Assumed())
        return found

    def decides(seeds, items):
        return plan(seeds, items).smallest_detectable <= 0.03

    for available in (None, 1_000_000):
        found = plan(3, 1000, available)
        assert found.pair.available == (available or 1000)
        assert decides(found.pair.seeds, found.pair.items)
        assert not decides(found.pair.seeds, round(0.99 * found.pair.items))
        # With a million items the fewest seeds count; with 1,000 there are too few for any number of seeds.
        assert decides(found.pair.seeds - 1, available or 1000) is False
    assert (found.pair.items > 1000) is True
    text = " ".join(plan_text("x", (plan(3, 1000),), None, Assumed()).split())
    assert "decide it, but its tasks hold 1,000: take larger tasks" in text
    assert f"{found.pair.seeds} × {found.pair.items:,}" in plan_text("x", (found,), None, Assumed())
    assert "--discordance" in text
    assert "--seed-sd" in text
    assert "--run RUN" in text


def test_seeds_that_differ_too_much_are_not_made_up_for_by_items():
    claim = Forgets(name="c", text="t", arm="a", primary=False)
    (found,) = plan_claims([claim], ROLES, SIZES, 3, Assumed(discordance=0.05, seed_sd=0.05))
    assert found.items_needed is None
    assert found.note == "no number of items decides it at 3 seeds"
    assert found.seeds_needed is not None
    (alone,) = plan_claims([claim], ROLES, SIZES, 1, Assumed())
    assert (alone.smallest_detectable, alone.items_needed) == (None, None)
    assert alone.note.startswith("one seed cannot speak about a method")


def test_every_comparison_has_a_say_in_what_is_needed():
    """`mmlu`: a learned spread over seeds that no items make up for. `truth`: few clusters, quiet seeds."""
    rng = np.random.default_rng(5)
    rows = []
    for task, n, moved in (("mmlu", 400, 0.02), ("truth", 50, 0.0)):
        shared = rng.normal(0, 0.3, n)
        for seed, at in enumerate((-moved, 0.0, moved)):
            for arm, values in (("a", shared + at + rng.normal(0, 0.05, n)), ("base", np.zeros(n))):
                rows += [
                    {"task": task, "item_id": f"{i:03d}", "arm": arm, "seed": seed}
                    | {"decoding": "choices", "score": value}
                    for i, value in enumerate(values)
                    if arm == "a" or seed == 0
                ]
    sized = {"gsm": Size(9, 9), "mmlu": Size(400, 400), "truth": Size(50, 50)}
    claim = Retains(name="c", text="t", arm="a", margin=0.04, primary=False)

    def plan(roles: dict[str, str]):
        return plan_claims([claim], roles, sized, 3, Assumed(), pd.DataFrame(rows))[0]

    mmlu, truth = (plan({name: "retention"}) for name in ("mmlu", "truth"))
    assert (mmlu.smallest_detectable or 0) < (truth.smallest_detectable or 0)
    assert (mmlu.items_needed, truth.items_needed is None) == (None, False)
    both = plan({"mmlu": "retention", "truth": "retention"})
    assert both.comparison == "a on truth"
    assert both.items_needed is None
    assert "a on mmlu: no number of items decides it at 3 seeds" in both.note


def test_the_part_that_needs_most_is_named():
    """Against b two arms' seeds differ, against the base one's: more of everything, and of seeds 1,000 items'."""
    claim = Exceeds(name="c", text="t", arm="a", over=("base", "b"), primary=False)
    quiet = Assumed(discordance=0.02, seed_sd=0.004)
    (both,) = plan_claims([claim], ROLES, SIZES, 3, quiet)
    needs = []
    for rival in claim.over:
        alone = replace(claim, over=(rival, rival))  # two comparisons as well, hence as much power
        (plan,) = plan_claims([alone], ROLES, SIZES, 3, quiet)
        needs.append((plan.items_needed, plan.seeds_needed))
    assert both.comparison == "a vs b"
    assert (both.items_needed, both.seeds_needed) == needs[1]
    assert needs[0][0] < needs[1][0]
    # The base's own seeds do not vary, on whichever side it stands.
    ((one,), (other,)) = (
        plan_claims([replace(claim, arm=arm, over=(over,))], ROLES, SIZES, 3, quiet)
        for arm, over in (("a", "base"), ("base", "a"))
    )
    assert one.smallest_detectable == other.smallest_detectable


def test_no_advice_goes_below_two_clusters_of_a_task():
    claim = Forgets(name="c", text="t", arm="a", unit="items", primary=False)
    easy = Assumed(discordance=0.001, beyond=3.0)
    (plan,) = plan_claims([claim], ROLES, SIZES, 1, easy)
    # Two of 500 clusters of `truth` are 8 of its 2,000 items; of `mmlu` as large a share: 16 of 4,000.
    assert plan.items_needed == 16
    (lone,) = plan_claims([claim], ROLES, SIZES | {"truth": Size(5, 1)}, 1, easy)
    assert lone.smallest_detectable is None
    assert "a single item, or cluster of items" in lone.note


def test_primary_claims_share_their_error_and_the_worst_part_speaks():
    claims = [
        Exceeds(name="a", text="t", arm="x", over=("base", "y")),
        Retains(name="b", text="t", arm="x"),
        Forgets(name="c", text="t", arm="x", primary=False),
    ]
    found = {plan.name: plan for plan in plan_claims(claims, ROLES, SIZES, 3, Assumed())}
    assert [round(p.level, 3) for p in found.values()] == [0.95, 0.95, 0.9]
    # Against an arm that trains, two arms' seeds vary; of two tasks the one with fewer clusters is the worse.
    assert found["a"].comparison == "x vs y"
    assert found["b"].comparison == "x on truth"
    assert (found["b"].items, found["b"].clusters, found["b"].aim) == (2000, 500, 0.0)
    assert (found["c"].items, found["c"].clusters) == (4000, 2500)
    few = Unexplained(name="d", text="t", drift="update_norm", methods={"m": ("x", "y")})
    (last,) = plan_claims([few], ROLES, SIZES, 3, Assumed())
    assert "needs 6 methods x 4 doses x 2 seeds" in last.note


def test_variances_are_learned_from_a_run():
    """Planted: s 0.02, i^2 0.15, e^2 0.05, 12 seeds and 2,000 items."""
    rng = np.random.default_rng(3)
    shared = rng.normal(0, 0.15**0.5, 2000)
    frames = []
    for seed in range(12):
        d = rng.normal(0, 0.02) + shared + rng.normal(0, 0.05**0.5, 2000)
        for arm, values in (("a", d), ("base", np.zeros(2000))):
            if arm == "a" or seed == 0:
                frames.append(
                    pd.DataFrame(
                        {
                            "task": "gsm",
                            "item_id": [f"{i:04d}" for i in range(2000)],
                            "arm": arm,
                            "seed": seed,
                            "decoding": "greedy",
                            "score": values,
                        }
                    )
                )
    scores = pd.concat(frames, ignore_index=True)
    found = learned(scores, "a", "base", ["gsm"])
    assert found is not None
    assert found.items[0] == pytest.approx(0.15, rel=0.1)
    assert found.rest[0] == pytest.approx(0.05, rel=0.1)
    assert found.seeds**0.5 == pytest.approx(0.02, rel=0.6)  # 12 seeds: chi-square on 11 degrees
    first = scores[scores["seed"] == 0]
    assert learned(first, "a", "base", ["gsm"]) is None
    checkpoint = learned(first, "a", "base", ["gsm"], "items")  # i^2 + e^2 = 0.2 of one seed
    assert checkpoint is not None
    assert checkpoint.items[0] == pytest.approx(0.2, rel=0.1)
    claim = Exceeds(name="c", text="t", arm="a", over=("base",))
    (plan,) = plan_claims([claim], ROLES, SIZES, 3, Assumed(), scores)
    assert plan.assumed.startswith("from the run: items 0.198, seeds 0.020")
    (odd,) = plan_claims([claim], ROLES, SIZES, 3, Assumed(), scores, {"a": ["base"]})
    assert odd.assumed.startswith("from the run (differs in that run: base): items 0.198")
    (other,) = plan_claims([replace(claim, arm="z")], ROLES, SIZES, 3, Assumed(), scores)
    assert other.assumed.startswith("assumed: items 0.200, seeds 0.010")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"discordance": 0.0}, "--discordance"),
        ({"seed_sd": -1.0}, "--seed-sd"),
        ({"beyond": 0.0}, "--beyond"),
    ],
)
def test_assumptions_that_mean_nothing_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        Assumed(**values)


# ---- time and memory --------------------------------------------------------------------------------


def test_items_and_clusters_are_counted():
    tasks = {task.key: task for task in read_study("pocket").tasks}
    found = sizes(list(tasks.values()))
    assert found["pocket_gsm"] == Size(1000, 1000, 1000)
    assert found["pocket_truthfulqa_mc1"].clusters < found["pocket_truthfulqa_mc1"].items == 2000
    few = sizes([replace(tasks["pocket_mmlu"], limit=7)])
    assert few["pocket_mmlu"] == Size(7, 7, 2000)


def test_time_on_workers_by_hand(tiny_study):
    """mild 10 s, its student 20 s, alone 5 s; 1 s to evaluate each and the base; one seed, two workers."""
    names = ("mild_sft", "opd_from_mild", "grpo")
    nulls = (
        Interpolation("between", ("base", "mild_sft"), "grpo"),
        EarlyStop("early", "mild_sft", "grpo", by="update_norm"),
    )
    study = replace(
        tiny_study, arms=tuple(tiny_study.arm(n) for n in names), claims=(), nulls=nulls
    )
    arms = [
        ArmCost(n, 1, Seconds(s, 2 * s), "") for n, s in zip(names, (10.0, 20.0, 5.0), strict=True)
    ]
    found = _elapsed(study, arms, Seconds(1.0, 1.0), 2, {})
    # Work: base 1, mild 11, student 21, grpo 6, interpolation 1, early 11 = 51; longest chain 10 + 20 + 1 = 31.
    assert found.low == max(51 / 2, 31)
    # High: 1 + 21 + 41 + 11 + 1 + 21 = 96; chain 61: 96/2 + 61/2.
    assert found.high == 96 / 2 + 61 / 2
    alone = _elapsed(study, arms, Seconds(1.0, 1.0), 1, {})
    assert alone == Seconds(51.0, 96.0)
    # Jobs that a run has timed: mild's measuring 4 for 1, probing 2 more, the early stop 3 for 10 to 20.
    jobs = {
        ("measure", "mild_sft"): Seconds(4.0, 4.0),
        ("probe", "mild_sft"): Seconds(2.0, 2.0),
        ("train", "early"): Seconds(3.0, 3.0),
    }
    known = _elapsed(study, arms, Seconds(1.0, 1.0), 1, jobs)
    assert known == Seconds(51.0 + 3 + 2 - 7, 96.0 + 3 + 2 - 17)


def test_a_probe_measures_and_writes_nothing(tiny_study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arms = (tiny_study.arm("opd_from_mild"), tiny_study.arm("mild_sft"))
    study = replace(tiny_study, arms=arms, claims=())
    found = measure_costs(study, steps=2, workers=0)
    first = found.arms[0]
    assert (first.arm, first.steps, first.source) == ("opd_from_mild", 5, "2 steps measured here")
    assert 0 < first.training.low <= first.training.high
    assert found.elapsed.low >= first.training.low + found.evaluation.low
    assert found.memory_gib is not None
    assert found.memory_gib > 0.05
    assert found.left_out == ("drift", "loading and saving")
    assert list(tmp_path.iterdir()) == []
    # 5 steps, a point every 3: before the first, at 3 and at 5.
    assert _curve(study, 5, Seconds(1.0, 2.0)) == Seconds(3.0, 6.0)


def test_what_a_run_has_timed_is_read_and_what_is_other_there_is_said(
    probed_study, probed_run, tmp_path
):
    place = tmp_path / "run"
    shutil.copytree(probed_run.root, place)
    study, stored = replace(probed_study, claims=()), load_yaml(place / "study.yaml")
    wanted = {}
    for name in (BASE, *study.names):
        rows = [(job, 10.0 * i + len(name)) for i, job in enumerate(("train", "measure", "probe"))]
        rows = rows[name == BASE :]
        text = "".join(json.dumps({"job": job, "seconds": s}) + "\n" for job, s in rows)
        (place / "arms" / name / "seed-0" / "jobs.timing.jsonl").write_text(text)
        wanted[name] = sum(s for _, s in rows)

    def costs(plan: Study):
        found = measure_costs(plan, steps=1, workers=0, seen=look_at(plan, place))
        return found, [arm.source.replace(str(place), "RUN") for arm in found.arms]

    found, sources = costs(study)
    assert sources == ["1 seeds of RUN"] * 3
    assert [arm.training.low for arm in found.arms] == [len(arm.name) for arm in study.arms]
    assert found.elapsed.low == pytest.approx(sum(wanted.values()))
    assert (found.left_out, found.memory_gib) == ((), None)
    text = " ".join(plan_text("x", (), found, Assumed()).split())
    assert "Memory: unknown: arms that were read from the run were not executed" in text
    # Another teacher, another machine: said. Another arm: measured here.
    mild = study.arm("mild_sft")
    other = replace(mild, budget=replace(mild.budget, learning_rate=0.5))
    environment = place / "environment.json"
    begun = json.loads(environment.read_text())
    begun["environments"][0]["cores"] = 4096
    environment.write_text(json.dumps(begun))
    arms = (other, study.arm("opd_from_mild"))
    found, sources = costs(replace(study, arms=arms, nulls=()))
    assert sources == [
        "1 steps measured here",
        "1 seeds of RUN, its steps alone; other there: mild_sft (budget.learning_rate), hardware: cores",
    ]
    assert found.left_out == (
        "drift",
        "probes while arms train",
        "probes at the end",
        "loading and saving",
    )
    begun["models"]["base"] = "another"
    assert likeness(study, stored, begun).differences("grpo") == ["base"]
    assert likeness(replace(study, match=Match("updates", 3.0), nulls=()), stored, begun).match


def test_the_command_prints_a_table_and_json(capsys):
    assert main(["plan", "pocket", "--steps", "0"]) == 0
    text = capsys.readouterr().out
    assert "stress_forgets" in text
    assert "Assumed where no run says better: 0.2 of items differ" in " ".join(text.split())
    assert "a regression of forgetting on drift needs" in " ".join(text.split())
    assert (
        main(["plan", "pocket", "--steps", "0", "--json", "--seeds", "8", "--discordance", "0.1"])
        == 0
    )
    found = json.loads(capsys.readouterr().out)
    assert found["costs"] is None
    assert {claim["seeds"] for claim in found["claims"]} == {8}
    assert found["assumed"]["discordance"] == 0.1
    assert main(["plan", "pocket", "--steps", "0", "--run", "nowhere"]) == 2
    assert "is no run folder" in capsys.readouterr().err
